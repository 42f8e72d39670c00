"""The prior weight of a session: the same at everybody, from the signed plan and roster alone."""

import pytest
from pydantic import ValidationError

from fedapt_secure.privacy.budget import LARGEST_DELTA
from fedapt_secure.privacy.prior_weight import Contribution, prior_weight
from fedapt_secure.protocol.plan import ExpectedBudget
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import Federation, make_plan


def weight(n: int = 5, **plan: object) -> float:
    return Federation(n, **plan).configuration.prior_weight  # type: ignore[arg-type]


def expected(epsilon: float, records: int, delta: float | None = None) -> dict[str, object]:
    return {"expected": {"epsilon": epsilon, "records": records, "delta": delta}}


def test_it_follows_from_what_is_expected() -> None:
    found = weight(rounds=10, local_steps=4, **expected(2.0, 100))
    one = Contribution.of_budget(2.0, 1 / 200, 40, 100)
    assert found == prior_weight([one] * 5, participants=5, steps=40, noisy_values=3 * 2**2)
    assert 0 < found < 1


def test_the_operator_may_choose_it() -> None:
    assert weight(prior_weight=0.4) == 0.4
    assert weight(prior_weight=0.0, **expected(0.1, 10)) == 0.0
    assert weight(prior_weight=0.4, differential_privacy=False) == 0.4


def test_without_privacy_nothing_is_kept() -> None:
    assert weight(differential_privacy=False, **expected(0.1, 10)) == 0.0


def test_less_budget_keeps_more() -> None:
    found = [weight(**expected(epsilon, 50)) for epsilon in (8.0, 2.0, 0.5, 0.1)]
    assert found == sorted(found)
    assert len(set(found)) == 4
    assert weight(**expected(2.0, 50, 1e-6)) > weight(**expected(2.0, 50))


def test_whoever_sits_rounds_out_brings_less_noise_to_fewer() -> None:
    """One of each domain a round: half as many updates in a mean, each of half as many steps' noise plan."""
    everybody = weight(6, rounds=1000, **expected(2.0, 50))
    some = weight(6, rounds=1000, participation="one-per-domain", **expected(2.0, 50))
    assert some == pytest.approx(everybody, rel=0.2)


def test_all_compute_the_same_from_what_travels() -> None:
    federation = Federation(5, **expected(1.0, 80))
    read = SessionConfiguration.from_bytes(federation.configuration.to_bytes())
    assert read.prior_weight == federation.configuration.prior_weight
    assert read.hash == federation.configuration.hash


@pytest.mark.parametrize("records", [1, 20, 200])
def test_the_default_delta_is_that_of_institutions(records: int) -> None:
    assert ExpectedBudget(records=records).stated_delta == min(1 / (2 * records), LARGEST_DELTA)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prior_weight": 1.5}, "prior_weight"),
        ({"prior_weight": float("nan")}, "prior_weight"),
        ({"expected": {"epsilon": 0}}, "epsilon"),
        ({"loss_temperature": 0.0}, "loss_temperature"),
        ({"domain_loss_weight": 0.0}, "domain_loss_weight"),
        ({"learning_rate_schedule": "cosine"}, "learning_rate_schedule"),
        (
            {"prior_weight": 0.5, "method": "fedavg", "tower_values": 9, "differential_privacy": False},
            "the method fedavg knows no prior_weight",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make_plan(**fields)

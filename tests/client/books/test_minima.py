"""The policy's minima: with fewer images or persons nothing is put on record, and a changed policy holds."""

from pathlib import Path

import pytest

from fedapt_client.books.books import Books
from fedapt_client.books.ledger_events import Terms
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import PolicyRefused
from fedapt_secure.config.policy import Policy
from fedapt_secure.privacy.budget import PrivacyPlan
from fedapt_secure.privacy.unit import unit_of
from fedapt_secure.protocol.reasons import Reason, reason_of
from tests.client.books.ledgers import images
from tests.protocol.federation import Federation

CONFIGURATION = Federation(3).configuration
CASES = [
    (49, None, "minimum_records"),
    (50, None, None),
    (49, 49, "minimum_records"),
    (50, 19, "minimum_persons"),
    (50, 20, None),
]


def plan(persons: int | None) -> PrivacyPlan:
    return PrivacyPlan(
        epsilon_budget=2.0,
        delta=1e-6,
        noise_multiplier=2.0,
        sample_rate=0.5,
        max_steps=3,
        declared_records=50,
        unit=unit_of(has_subjects=persons is not None),
    )


def open_books(folder: Path, **rules: object) -> Books:
    write(folder, **rules)
    settings = ClientSettings(name="clinic-1", port=1, data="x")
    return Books(folder, settings, lambda noise, rate, steps, delta: 1.0, "gaussian-grid")


def write(folder: Path, **rules: object) -> None:
    (folder / "policy.yaml").write_text("".join(f"{name}: {value}\n" for name, value in rules.items()))


def subjects(count: int, persons: int | None) -> list[str] | None:
    return None if persons is None else [f"person {number % persons}" for number in range(count)]


@pytest.mark.parametrize("judged", [False, True], ids=["accept", "judge"])
@pytest.mark.parametrize(("count", "persons", "rule"), CASES)
@pytest.mark.parametrize("private", [True, False])
def test_fewer_than_the_default_are_refused_and_nothing_is_on_record(
    tmp_path: Path, count: int, persons: int | None, rule: str | None, private: bool, judged: bool
) -> None:
    books = open_books(tmp_path, require_differential_privacy="true" if private else "false")
    ask = books.judge if judged else books.accept
    arguments = (CONFIGURATION, plan(persons) if private else None, 50, images(*range(count)))
    if rule is None:
        ask(*arguments, subjects(count, persons))
        assert len(books.ledger.sessions) == (not judged)
        return
    with pytest.raises(PolicyRefused, match=f"policy rule {rule}: .* fewer") as caught:
        ask(*arguments, subjects(count, persons))
    assert reason_of(caught.value) is Reason.POLICY_RECORDS
    assert str(count) not in str(caught.value)  # it stands in the log
    assert "\n" not in str(caught.value)
    assert books.ledger.sessions == []


def test_a_policy_that_asks_for_more_holds_from_the_next_round_on(tmp_path: Path) -> None:
    books = open_books(tmp_path)
    books.accept(CONFIGURATION, plan(20), 20, images(*range(60)), subjects(60, 20))
    books.check_again(CONFIGURATION.session)
    for rule, enough in (("minimum_records", 60), ("minimum_persons", 20)):
        write(tmp_path, **{rule: enough})
        books.read_policy_again()
        books.check_again(CONFIGURATION.session)
        write(tmp_path, **{rule: enough + 1})
        books.read_policy_again()
        with pytest.raises(PolicyRefused) as caught:
            books.check_again(CONFIGURATION.session)
        assert caught.value.rule == rule


def test_0_asks_for_none(tmp_path: Path) -> None:
    assert (Policy().minimum_records, Policy().minimum_persons) == (50, 20)
    books = open_books(tmp_path, minimum_records=0, minimum_persons=0)
    books.accept(CONFIGURATION, plan(1), 1, images(1), ["ada"])
    (session,) = books.ledger.sessions
    assert isinstance(session.terms, Terms)

"""Which runs a comparison consists of, and what is refused with its reason instead of being run."""

from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.simulate.comparison.cases import Cases, cases_of
from fedapt_secure.simulate.comparison.wanted import CompareSettings


def cases(common: dict[str, object] | None = None, **wanted: object) -> Cases:
    return cases_of(CompareSettings(out=Path("x"), **wanted), common or {})


def test_zero_shot_is_run_once_a_seed_whatever_the_budgets() -> None:
    found = cases(methods="zero-shot,fedapt", epsilons="none,8,2", seeds="0,4", ensemble="imagenet-7")
    names = [case.name for case in found.runs]
    assert len(set(names)) == len(names) == 2 * (2 + 3)
    zero = [case for case in found.runs if case.settings.method == "zero-shot"]
    assert [(case.settings.seed, case.settings.template) for case in zero] == [
        (0, None), (0, "imagenet-7"), (4, None), (4, "imagenet-7"),
    ]  # fmt: skip
    # One split after the other: each is dealt and encoded once.
    assert [case.settings.seed for case in found.runs] == sorted(case.settings.seed for case in found.runs)
    budgets = [case.settings.epsilon for case in found.runs if case.settings.method == "fedapt"]
    assert budgets == [None, 8.0, 2.0] * 2


def test_what_cannot_be_private_is_named_with_its_reason() -> None:
    found = cases(methods="fedavg,fedapt", epsilons="none,8", seeds="1")
    assert [str(case.label) for case in found.runs] == [
        "FedAvg, no privacy", "FedAPT, no privacy", "FedAPT, ε = 8",
    ]  # fmt: skip
    (refused,) = found.not_run
    assert str(refused.label) == "FedAvg, ε = 8"
    assert "whole image tower" in refused.reason
    with pytest.raises(InvalidInput, match="nothing can be run: never under differential privacy"):
        cases(methods="fedprox", epsilons="8")


def test_options_that_rule_each_other_out_under_privacy_are_named() -> None:
    found = cases({"few_shot": 4}, methods="fedapt", epsilons="none,8")
    assert [str(case.label) for case in found.runs] == ["FedAPT, no privacy"]
    assert [str(one.label) for one in found.not_run] == ["FedAPT, ε = 8"]
    assert found.not_run[0].reason.startswith("few_shot compares images with each other")


def test_options_of_simulate_reach_every_run() -> None:
    common = {"rounds": 3, "dataset": "digits-flipped", "seed": 9, "method": "cocoop", "learning_rate": 2.0}
    found = cases(common, methods="cocoop,fedapt", epsilons="4", learning_rates={"fedapt": 0.1})
    assert {(c.settings.rounds, c.settings.dataset, c.settings.seed) for c in found.runs} == {
        (3, "digits-flipped", 0)
    }
    # A configuration's learning rate is that of its method.
    assert {c.settings.method: c.settings.learning_rate for c in found.runs} == {"cocoop": 2.0, "fedapt": 0.1}


@pytest.mark.parametrize(
    ("common", "match"),
    [
        ({"rounds": 0}, "--rounds"),
        ({"nonsense": 1}, "unknown option 'nonsense'"),
        ({"ledger": "ledgers"}, "leave out ledger"),
        ({"dataset": "pacs"}, "needs data_root"),
        ({"processes": True, "method": "x"}, "nothing can be run: .*--processes"),
    ],
)
def test_mistakes(common: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        cases(common, methods="zero-shot")

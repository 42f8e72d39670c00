"""The coordinator's process ends at every write of its store, before or after it, and is started again."""

from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.simulate.setup.federation import Federation
from tests.hostile.behaviour import FOUR
from tests.hostile.lies.restarts import CrashesAt
from tests.hostile.stage import Stage, prepare_run
from tests.hostile.truth import (
    assert_models,
    assert_nobody_honest_is_blamed,
    assert_one_set_a_model,
    contributors,
)

pytestmark = pytest.mark.integration
WRITES = 15
"""How often a session of two rounds writes its progress down; a test below holds the number."""
AT_ONCE = (1, 2, 3, 4, 5, 11)
"""A secret's offer, a round's begin, shares asked for, a sum, a round's end, a signature; `slow` has all."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return prepare_run(tmp_path_factory.mktemp("federations") / "masking", "masking", 4)


def test_how_many_writes_there_are(prepared: Federation, tmp_path: Path) -> None:
    lie = CrashesAt(10_000, done=True)
    Stage(prepared, tmp_path / "run", lie).play()
    assert lie.writes == WRITES


def cases() -> list:
    return [
        pytest.param(which, done, marks=() if which in AT_ONCE and done else pytest.mark.slow)
        for which in range(1, WRITES + 1)
        for done in (False, True)
    ]


@pytest.mark.parametrize(("which", "done"), cases())
def test_it_goes_on_with_one_sum_a_round(
    which: int, done: bool, prepared: Federation, tmp_path: Path
) -> None:
    lie = CrashesAt(which, done=done)
    ending = Stage(prepared, tmp_path / "run", lie).play()
    assert lie.crashed
    rounds = max(kept.round for kept in ending.models.values())
    assert_models(ending, FOUR, rounds)
    assert_one_set_a_model(ending)
    for name in FOUR:
        stated = [line["round"] for line in ending.lines(name, "verified_sum")]
        assert sorted(set(stated)) == stated, "one statement a round"
        spent = [line["round"] for line in ending.lines(name, "spend")]
        assert sorted(set(spent)) == spent, "one spend a round"
    ends = ending.lines(COORDINATOR, "round_ended")
    completed = [line["round"] for line in ends if line["status"] == "completed"]
    assert completed == sorted(contributors(ending)), "what was called completed is what was verified"
    judgement, report = ending.judged()
    assert judgement.verdict in (Verdict.VERIFIED, Verdict.OPEN), report
    assert_nobody_honest_is_blamed(judgement)

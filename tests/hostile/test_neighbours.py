"""The lies about sums and models where each institution has neighbours of its own: more than 64 of them."""

from pathlib import Path

import pytest

from fedapt_secure.simulate.setup.federation import Federation
from tests.hostile.liar import Lie
from tests.hostile.lies import ends, sums
from tests.hostile.stage import Stage, prepare_run
from tests.hostile.truth import assert_models, assert_nobody_honest_is_blamed, assert_one_set_a_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]
INSTITUTIONS = 66


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return prepare_run(tmp_path_factory.mktemp("federations") / "graph", "masking", INSTITUTIONS)


VICTIM = "clinic-4"


@pytest.mark.parametrize(
    ("lie", "refused", "round_"),
    [
        (Lie(), None, 2),
        (sums.ChangedSum(sums.scaled, to=(VICTIM,)), "sum check failed", 2),
        (sums.Hidden((1,), left_out=VICTIM), "two sums from one model would show an update", 0),
        (ends.CatchesUpWrong(ends.too_few_statements), "institutions state the newest model where", 2),
    ],
    ids=("nothing but the truth", "another sum to one", "the rewind", "one statement too few"),
)
def test_what_comes_of_it(
    lie: Lie, refused: str | None, round_: int, prepared: Federation, tmp_path: Path
) -> None:
    ending = Stage(prepared, tmp_path / "run", lie).play()
    assert ending.configuration.topology.neighbours < INSTITUTIONS - 1, "it is a graph"
    behind = (VICTIM,) if isinstance(lie, ends.CatchesUpWrong) else ()
    right = tuple(name for name in ending.models if name not in behind) if round_ else ()
    assert_models(ending, right, round_)
    assert_one_set_a_model(ending)
    details = [line["detail"] for name in ending.models for line in ending.lines(name, "refused")]
    assert bool(details) == (refused is not None)
    assert refused is None or any(refused in detail for detail in details)
    judgement, _ = ending.judged()
    assert_nobody_honest_is_blamed(judgement)

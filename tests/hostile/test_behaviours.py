"""Each behaviour of the table over real sockets, with what it must come to in models, logs and audit."""

import json
from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.simulate.setup.federation import Federation
from tests.hostile.behaviour import FOUR, Behaviour
from tests.hostile.stage import Ending, Stage, prepare_run
from tests.hostile.table import TABLE
from tests.hostile.truth import assert_models, assert_nobody_honest_is_blamed, assert_one_set_a_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Federation]:
    """One federation for each scheme, set up once."""
    folder = tmp_path_factory.mktemp("federations")
    return {scheme: prepare_run(folder / scheme, scheme, 4) for scheme in {row.scheme for row in TABLE}}


EVERY = 8
NAMED = ("nothing but the truth", "rewind", "hidden", "junk", "two ", "swapped", "aborted", "seal")
"""Every eighth row is among the fast tests, and what was found by attack; `slow` has the others."""


def often(place: int, row: Behaviour) -> bool:
    return place % EVERY == 0 or any(words in row.name for words in NAMED)


ROWS = [
    pytest.param(row, id=row.name, marks=() if often(place, row) else pytest.mark.slow)
    for place, row in enumerate(TABLE)
]


@pytest.mark.parametrize("row", ROWS)
def test_what_comes_of_it(row: Behaviour, prepared: dict[str, Federation], tmp_path: Path) -> None:
    ending = Stage(prepared[row.scheme], tmp_path / "run", row.lie()).play()
    assert_models(ending, row.comes.right, row.comes.rounds)
    assert_one_set_a_model(ending)
    assert_refused(ending, row)
    assert_noted(ending, row)
    assert_named(ending, row)


def assert_refused(ending: Ending, row: Behaviour) -> None:
    """Those who turn something down say why in their logs, and nobody else turns anything down."""
    for name in FOUR:
        lines = ending.lines(name, "refused")
        assert bool(lines) == (name in row.comes.refusing), (name, lines)
        if row.comes.refused is not None and lines:
            error, words = row.comes.refused
            assert any(line["error"] == error and words in line["detail"] for line in lines), (name, lines)


def assert_noted(ending: Ending, row: Behaviour) -> None:
    """It shows in the coordinator's log, unless nothing has come of it that a coordinator could see."""
    if row.comes.noted is None:
        assert row.comes.right, "an abort shows in both logs"
        return
    type, words = row.comes.noted
    lines = [json.dumps(line) for line in ending.lines(COORDINATOR, type)]
    assert any(words in line for line in lines), lines


def assert_named(ending: Ending, row: Behaviour) -> None:
    """The audit's report names it, and blames nobody who did as it should."""
    judgement, report = ending.judged()
    assert judgement.verdict is row.comes.verdict, report
    assert row.comes.named.format(session=ending.configuration.session.hex()[:8]) in report, report
    assert_nobody_honest_is_blamed(judgement, row.comes.blamed)


def test_the_table_has_many_rows_and_each_abort_a_cause() -> None:
    assert len(TABLE) >= 80
    assert len({row.name for row in TABLE}) == len(TABLE)
    for row in TABLE:
        if not row.comes.right:
            assert row.comes.noted, row.name
            assert row.comes.named, row.name
        assert bool(row.comes.refusing) == (row.comes.refused is not None), row.name

"""Every field of every line: a lie in it is found, or the field stands in the table with the reason."""

import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.findings import Verdict
from tests.audit.lies.page import PAGE, with_table
from tests.audit.lies.scenes import SCENES, Body, Falsify, Line, play
from tests.audit.lies.table import SELF_REPORTED
from tests.audit.lies.telling import (
    Field,
    Lie,
    all_fields,
    found_in,
    lies_about,
    tell,
    told_once,
)
from tests.integration import log_schema
from tests.world.consortium import scratch_folder

SHARDS, IN_THE_GATE = 120, 1
"""One lie in so many is told in the gate; ``-m slow`` tells all."""
MET_ELSEWHERE = {(COORDINATOR, "sum_refused"), ("institution", "vanished")}
"""Only a coordinator that lies to institutions has the one (`tests.hostile`); the other has no fields."""


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    logging.getLogger("fedapt_client").setLevel(logging.CRITICAL)  # of refusals operators are told
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def known(base: Path) -> tuple[Field, ...]:
    return all_fields(base)


@pytest.mark.parametrize(
    ("liar", "number"), [(liar, number) for liar, scenes in SCENES.items() for number in range(len(scenes))]
)
def test_the_scenes_are_in_order_as_long_as_nobody_lies(base: Path, liar: str, number: int) -> None:
    judgement = play(base, SCENES[liar][number], liar).judgement
    assert judgement.verdict in (Verdict.VERIFIED, Verdict.OPEN), judgement.findings


def test_every_type_of_line_and_every_field_is_there(known: tuple[Field, ...]) -> None:
    types = {(one.role, one.type) for one in known}
    for role, schema in ((COORDINATOR, log_schema.COORDINATOR), ("institution", log_schema.INSTITUTION)):
        assert {(role, type) for type in schema} - types <= MET_ELSEWHERE
        for type, names in schema.items():
            if (role, type) in MET_ELSEWHERE:
                continue
            tried = {one.path[0] for one in known if (one.role, one.type) == (role, type) and one.path}
            assert {name for name in names.split() if name[0] != "?"} <= tried, f"{role}: {type}"
    assert SELF_REPORTED.keys() <= {one.key for one in known}


def test_the_page_has_the_table() -> None:
    text = PAGE.read_text()
    assert with_table(text) == text, "run python -m tests.audit.lies.page"


@pytest.mark.parametrize(
    "shard",
    [pytest.param(n, marks=() if n < IN_THE_GATE else pytest.mark.slow) for n in range(SHARDS)],
)
def test_a_lie_is_found_or_stands_in_the_table(base: Path, known: tuple[Field, ...], shard: int) -> None:
    lies = [lie for field in known if field.key not in SELF_REPORTED for lie in lies_about(field)]
    for lie in lies[shard::SHARDS]:
        found = found_in(tell(base, lie), lie.field.liar, lie.field.type)
        assert found, f"{lie} passes: {lie.field.value!r} -> {lie.field.others[lie.number]!r}"
        assert any(one.line is not None for one in found) or lie.field.type == "log_opened", f"{lie}: {found}"


@pytest.mark.slow
def test_the_table_has_no_field_that_is_found(base: Path, known: tuple[Field, ...]) -> None:
    for field in known:
        if field.key in SELF_REPORTED:
            passes = (not found_in(tell(base, lie), field.liar, field.type) for lie in lies_about(field))
            assert any(passes), f"{field.key} is found: take it out of the table"


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=() if n < 3 else pytest.mark.slow) for n in range(40)]
)
def test_some_lies_at_once_are_found(base: Path, known: tuple[Field, ...], seed: int) -> None:
    """One that would be found by itself, and some that would not."""
    dice = random.Random(seed)
    liar = dice.choice(list(SCENES))
    mine = [one for one in known if one.liar == liar and one.scene == SCENES[liar][0]]
    proved = [one for one in mine if one.key not in SELF_REPORTED and one.type != "log_opened"]
    others = [one for one in mine if one.key in SELF_REPORTED]
    picked = [*dice.sample(proved, dice.randint(1, 3)), *dice.sample(others, dice.randint(0, 3))]
    told = [told_once(Lie(one, dice.randrange(len(one.others)))) for one in picked]
    judgement = play(base, SCENES[liar][0], liar, _all_of(told)).judgement
    assert found_in(judgement, liar, picked[0].type), [one.key for one in picked]


def _all_of(told: list[Falsify]) -> Falsify:
    def falsify(type: str, body: Body) -> list[Line]:
        for one in told:
            [(type, body)] = one(type, body)
        return [(type, body)]

    return falsify

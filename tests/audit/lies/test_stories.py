"""Whole stories, told live from the start: each passed as VERIFIED once."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.findings import Kind, Verdict
from fedapt_secure.audit.judgement import Judgement
from tests.audit.lies.scenes import INSTITUTION, PLAIN, Body, Falsify, Line, play
from tests.audit.lies.telling import epsilon
from tests.world.consortium import scratch_folder


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    logging.getLogger("fedapt_client").setLevel(logging.CRITICAL)
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _less_sampling(type: str, body: Body) -> list[Line]:
    """q = 0.01 where the session says 0.5, and the ε that goes with it."""
    if type == "session_accepted":
        plan = {**body["privacy"], "sample_rate": 0.01}
        body = {**body, "privacy": {**plan, "epsilon_planned": epsilon(plan, plan["max_steps"])}}
    if type == "spend":
        body = {**body, "sample_rate": 0.01}
        body["epsilon"] = epsilon(body, body["total_steps"])
    return [(type, body)]


def _no_steps(type: str, body: Body) -> list[Line]:
    """Releases that cost nothing."""
    return [(type, {**body, "steps": 0, "total_steps": 0, "epsilon": 0.0} if type == "spend" else body)]


def _two_releases(type: str, body: Body) -> list[Line]:
    """Two updates in each round under one spend."""
    again = {**body, "attempt": body["attempt"] + 1} if type == "released" else body
    return [(type, body), (type, again)] if type == "released" else [(type, body)]


def _the_same_release_twice(type: str, body: Body) -> list[Line]:
    return [(type, body)] * (2 if type == "released" else 1)


def _one_spend_less() -> Falsify:
    left = [True]

    def falsify(type: str, body: Body) -> list[Line]:
        if type == "spend" and left:
            left.clear()
            return []
        return [(type, body)]

    return falsify


def _another_session(type: str, body: Body) -> list[Line]:
    """No scheme, no privacy, 99 rounds, under the same hash."""
    if type == "session_started":
        plan = {**body["plan"], "secure_aggregation": "none", "differential_privacy": False, "rounds": 99}
        plain = {"secure_aggregation": "none", "differential_privacy": False, "rounds": 99}
        body = {**body, **plain, "plan": plan}
    return [(type, body)]


def _without_the_plan(type: str, body: Body) -> list[Line]:
    body = {**body, "rounds": 99, "threshold": 1} if type == "session_started" else body
    return [(type, {key: value for key, value in body.items() if key not in ("plan", "key_commitments")})]


def _a_sum_called_aborted(type: str, body: Body) -> list[Line]:
    if type == "round_ended":
        body = {**body, "status": "aborted", "contributors": [], "transcript": None}
    return [(type, body)]


STORIES: dict[str, tuple[str, Falsify, Kind, str]] = {
    "a smaller sampling rate": (INSTITUTION, _less_sampling, Kind.TERMS, "privacy.sample_rate"),
    "no steps": (INSTITUTION, _no_steps, Kind.RELEASE, "round"),
    "two releases": (INSTITUTION, _two_releases, Kind.RELEASED_TWICE, "round"),
    "one release twice": (INSTITUTION, _the_same_release_twice, Kind.RELEASED_TWICE, "round"),
    "another session": (COORDINATOR, _another_session, Kind.TERMS, "plan"),
    "no plan": (COORDINATOR, _without_the_plan, Kind.TERMS, "plan"),
    "a sum called aborted": (COORDINATOR, _a_sum_called_aborted, Kind.CALLED_ABORTED, ""),
}


@pytest.mark.parametrize("name", STORIES)
def test_it_is_violated_and_named(base: Path, name: str) -> None:
    liar, falsify, kind, field = STORIES[name]
    judgement = play(base, PLAIN, liar, falsify).judgement
    assert judgement.verdict in (Verdict.VIOLATED, Verdict.TAMPERED)
    [first, *_] = [one for one in judgement.findings if (one.party, one.kind) == (liar, kind)]
    assert first.line is not None
    assert not field or first.field == field
    assert _others_are_in_order(judgement, liar)


def test_a_spend_left_out(base: Path) -> None:
    judgement = play(base, PLAIN, INSTITUTION, _one_spend_less()).judgement
    assert {(INSTITUTION, Kind.RELEASE)} <= {(one.party, one.kind) for one in judgement.findings}
    assert _others_are_in_order(judgement, INSTITUTION)


def _others_are_in_order(judgement: Judgement, liar: str) -> bool:
    return {one.party for one in judgement.parties if one.verdict is not Verdict.VERIFIED} == {liar}

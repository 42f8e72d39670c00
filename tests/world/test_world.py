"""Two hundred random schedules, found failing ones kept, and what a world without faults looks like."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import ONE_PER_DOMAIN
from tests.support.examples import examples
from tests.world.campaign import Setting, run_schedule
from tests.world.consortium import scratch_folder
from tests.world.institution import Machine
from tests.world.operations import MAX_AMOUNT, Kind, Operation, draw_schedule, parse
from tests.world.world import World

TROUBLES = [kind for kind in Kind if kind not in (Kind.FLOW, Kind.WAIT)]


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def machine(base: Path) -> type[RuleBasedStateMachine]:
    class Worlds(RuleBasedStateMachine):
        """Hypothesis chooses the operations, and shrinks the list of a world that fails."""

        def __init__(self) -> None:
            super().__init__()
            self.world = World(base)
            self.world.__enter__()

        @rule(amount=st.integers(1, MAX_AMOUNT))
        def flow(self, amount: int) -> None:
            self.world.apply(Operation(Kind.FLOW, 0, amount))

        @rule(amount=st.integers(0, 7))
        def wait(self, amount: int) -> None:
            self.world.apply(Operation(Kind.WAIT, 0, amount))

        @rule(kind=st.sampled_from(TROUBLES), who=st.integers(0, 7), amount=st.integers(0, MAX_AMOUNT))
        def trouble(self, kind: Kind, who: int, amount: int) -> None:
            self.world.apply(Operation(kind, who, amount))

        def teardown(self) -> None:
            try:
                self.world.settle()
                self.world.check_end()
            finally:
                self.world.__exit__(None, None, None)

    return Worlds


def test_some_schedules(base: Path) -> None:
    run_state_machine_as_test(
        machine(base),
        settings=settings(
            max_examples=examples(6, 25),
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_nothing_goes_wrong(base: Path) -> None:
    with World(base, rounds=3) as world:
        world.settle()
        world.check_end(audited=True)
        assert [len(names) for names in world.watch.completed.values()] == [4, 4, 4]
        assert {host.machine for host in world.institutions.values()} == {Machine.ENDED}
        assert world.outcomes["audits: VERIFIED"] == 1


@pytest.mark.parametrize("seed", range(10))
def test_the_auditor_agrees(base: Path, seed: int) -> None:
    figures = run_schedule(base, seed, draw_schedule(seed), Setting(), audited=True)
    assert figures["audits: VERIFIED"] + figures["audits: OPEN"] == 1


@pytest.mark.parametrize("seed", range(2))
def test_a_blind_coordinator(base: Path, seed: int) -> None:
    run_schedule(base, seed, draw_schedule(seed), Setting(scheme=registry.CKKS), audited=True)


SAMPLED = Setting(institutions=6, rounds=3, participation=ONE_PER_DOMAIN)


def test_cohorts_without_trouble(base: Path) -> None:
    with World(base, institutions=6, rounds=3, participation=ONE_PER_DOMAIN) as world:
        world.settle()
        world.check_end(audited=True)
        cohorts = {number: world.configuration.round_roster(number).names for number in (1, 2, 3)}
        assert world.watch.completed == cohorts
        assert world.outcomes["audits: VERIFIED"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_cohorts_in_trouble(base: Path, seed: int) -> None:
    figures = run_schedule(base, seed, draw_schedule(seed), SAMPLED, audited=True)
    assert figures["audits: VERIFIED"] + figures["audits: OPEN"] == 1


def test_one_who_sits_out_loses_power(base: Path) -> None:
    """Whoever sits the first round out dies in the middle of it: nobody waits; it is back for its own."""
    with World(base, institutions=6, rounds=4, participation=ONE_PER_DOMAIN) as world:
        first = world.configuration.round_roster(1).names
        victims = [name for name in world.institutions if name not in first]
        while not world.watch.trained:
            world.apply(Operation(Kind.FLOW, 0, 1))
        for name in victims:
            world.institutions[name].crash(0)
        world.apply(Operation(Kind.FLOW, 0, MAX_AMOUNT))
        world.apply(Operation(Kind.FLOW, 0, MAX_AMOUNT))
        assert 1 in world.watch.completed
        world.settle()
        world.check_end(audited=True)
        assert len(world.watch.completed) == 4
        assert not [attempt for attempt in world.watch.aborted if attempt[0] == 1]


def test_a_schedule_plays_the_same_again(base: Path) -> None:
    first, second = (run_schedule(base, 7, draw_schedule(7), Setting()) for _ in range(2))
    assert first == second


FOUND = {
    # The coordinator closes a session of which too many updates are burned, is restarted, and must not go on.
    "a session that was closed stays closed": (
        30024,
        [
            ("flow", 2, 17),
            ("flow", 4, 7),
            ("flow", 4, 39),
            ("crash_at", 2, 10),
            ("flow", 0, 10),
            ("flow", 6, 16),
            ("wait", 3, 37),
            ("flow", 7, 21),
            ("coordinator_crash", 5, 13),
        ],
    ),
    "the first line of a session is lost with the power": (0, [("coordinator_crash", 0, 0)]),
    # Killed between the closed record and its process' end, and started again: it waits for another session.
    "one that has the record is started again": (
        101475,
        [
            ("flow", 4, 21),
            ("flow", 5, 10),
            ("deliver", 1, 21),
            ("flow", 5, 9),
            ("flow", 5, 12),
            ("cut_at", 3, 28),
            ("flow", 1, 36),
            ("coordinator_crash_at", 4, 19),
            ("deliver", 2, 4),
            ("flow", 2, 3),
            ("crash_at", 3, 15),
            ("wait", 7, 27),
            ("flow", 4, 18),
            ("coordinator_restart", 2, 9),
            ("wait", 2, 37),
            ("wait", 2, 21),
            ("flow", 5, 31),
        ],
    ),
    # Started again, it hears what others hold of its log before it is offered the session.
    "a held head comes before the offer": (
        306070,
        [
            ("flow", 7, 26),
            ("flow", 7, 31),
            ("crash", 1, 15),
            ("flow", 2, 18),
            ("wait", 6, 30),
            ("flow", 2, 31),
            ("crash_at", 0, 3),
            ("wait", 4, 31),
            ("flow", 7, 30),
        ],
    ),
    # The end of an earlier attempt comes again, during the next one.
    "the end of an earlier attempt is repeated": (
        30158,
        [("flow", 6, 28), ("wait", 7, 39), ("flow", 1, 25), ("repeat", 4, 8)],
    ),
    "too few had stated the last sum when one that was away came to the session's end": (
        800194,
        [
            ("flow", 1, 32),
            ("flow", 1, 39),
            ("flow", 6, 35),
            ("crash_at", 7, 4),
            ("flow", 5, 28),
            ("crash", 0, 14),
            ("wait", 6, 35),
            ("tick", 2, 28),
            ("cut", 2, 31),
            ("wait", 1, 9),
            ("flow", 6, 14),
            ("wait", 2, 7),
            ("deliver", 3, 16),
        ],
    ),
    "a coordinator that restarted had statements of an earlier sum with the newest one": (
        800194,
        [
            ("flow", 1, 32),
            ("flow", 1, 39),
            ("flow", 6, 35),
            ("crash_at", 7, 4),
            ("flow", 5, 28),
            ("wait", 0, 5),
            ("coordinator_crash", 3, 30),
            ("coordinator_restart", 0, 22),
            ("wait", 6, 36),
            ("wait", 2, 7),
        ],
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_before(base: Path, name: str) -> None:
    seed, schedule = FOUND[name]
    run_schedule(base, seed, parse(schedule), Setting(), audited=True)


def test_a_policy_mended_while_an_institution_waits_is_the_one_that_judges_the_offer(base: Path) -> None:
    schedule = [Operation(Kind.POLICY, 1, 2), Operation(Kind.CRASH, 1, 32), Operation(Kind.RESTART, 1, 1)]
    figures = run_schedule(base, 0, schedule, SAMPLED, audited=True)
    assert figures["audits: VERIFIED"] == 1
    assert not figures["refusals and failed disks"]

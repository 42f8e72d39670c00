"""Sessions over bad lines: 300 ms each way, 2 % of chunks lost with their connection, partitions.

A round may end without a sum then, and the session goes on; what was added up stays exact, see `test_chaos`.
"""

import time
from pathlib import Path

import pytest

from tests.support.chaos_world import COORDINATOR, ChaosWorld
from tests.support.faulty_link import FaultyLink
from tests.support.offices import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FULL = pytest.mark.chaos

DELAY_S, LOSS = 0.3, 0.02
FAST = {"minimum_rate_kbit_s": 100_000.0}
"""What messages take adds next to nothing to deadlines."""


def link_to(world: ChaosWorld, port: int, **faults: float) -> FaultyLink:
    return FaultyLink(port, world.office.settings.port, **faults)


@pytest.mark.parametrize("rounds", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=FULL)])
def test_delay_and_loss(tmp_path: Path, rounds: int) -> None:
    port = free_port()
    world = ChaosWorld.make(tmp_path, port=port, rounds=rounds, gather_timeout_s=10.0, phase_timeout_s=10.0)
    link = link_to(world, port, delay_s=DELAY_S, loss=LOSS)
    with link.up(), world.running():
        world.until_the_end(600)
    completed = world.check()
    attempts = world.bodies(COORDINATOR, "round_ended")
    print(
        f"delay and loss: {len(completed)} of {rounds} rounds in {len(attempts)} attempts,"
        f" {link.resets} of {link.chunks} chunks cost a connection, {link.connections} connections"
    )
    assert completed
    assert {body["round"] for body in attempts} == set(range(1, rounds + 1))
    assert link.resets if rounds > 2 else link.chunks, "the line was bad"


@pytest.mark.parametrize("seconds", [pytest.param(6, marks=pytest.mark.slow), pytest.param(30, marks=FULL)])
def test_everybody_is_cut_off_for_a_while(tmp_path: Path, seconds: int) -> None:
    """Longer than a phase's deadline: the coordinator ends the attempt, and begins anew."""
    port = free_port()
    world = ChaosWorld.make(tmp_path, port=port, rounds=3, gather_timeout_s=5.0, phase_timeout_s=2.0, **FAST)
    link = link_to(world, port, delay_s=0.05)
    with link.up(), world.running():
        world.until(lambda: world.bodies(COORDINATOR, "phase"), "a round is under way")
        link.cut()
        time.sleep(seconds)  # how long the partition lasts is what is tried here
        late = world.bodies(COORDINATOR, "late")
        link.mend()
        world.until_the_end()
    completed = world.check()
    assert late, "the deadline passed while the line was cut"
    print(f"partition of {seconds} s: {len(completed)} of 3 rounds")
    assert len(completed) >= 2, "at most the round that was cut has no sum"


@pytest.mark.slow  # twenty seconds of waiting
def test_one_is_cut_off_for_a_while(tmp_path: Path) -> None:
    """The three others go on without it, and it is back for the next round."""
    port = free_port()
    world = ChaosWorld.make(tmp_path, port=None, rounds=4, gather_timeout_s=5.0, phase_timeout_s=2.0, **FAST)
    world.dial("clinic-3", port)
    link = link_to(world, port, delay_s=0.05)
    with link.up(), world.running():
        world.until(lambda: {"round": 1, "phase": "share"} in world.bodies(COORDINATOR, "phase"), "round 1")
        link.cut()
        world.until(lambda: world.bodies(COORDINATOR, "late"), "the deadline passes")
        link.mend()
        world.until_the_end()
    completed = world.check()
    assert set(completed) == {1, 2, 3, 4}
    assert "clinic-3" in completed[4]

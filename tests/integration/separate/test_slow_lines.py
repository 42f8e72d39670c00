"""Sessions over slow lines: real processes and TLS, and a line on which an update takes many a deadline.

A transfer that moves is not cut; who stands still is, as `test_bad_links` has it.
"""

import json
from pathlib import Path

import pytest

from tests.support.chaos_party import STDERR
from tests.support.chaos_world import COORDINATOR, ChaosWorld
from tests.support.faulty_link import FaultyLink
from tests.support.offices import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

BYTES_PER_S = 100_000.0
PHASE_TIMEOUT_S = 0.5
SHAPE = {"text_width": 4096, "context_tokens": 8}
"""With two classes 65,536 values and some: 262 kB, which take two and a half seconds, each way."""


@pytest.mark.slow  # twenty seconds of waiting
def test_a_round_completes_though_its_update_takes_many_a_deadline(tmp_path: Path) -> None:
    port = free_port()
    world = ChaosWorld.make(
        tmp_path, port=port, rounds=2, round_timeout_s=2.0, phase_timeout_s=PHASE_TIMEOUT_S, **SHAPE
    )
    assert 4 * world.plan.shape.size / BYTES_PER_S > 4 * PHASE_TIMEOUT_S
    link = FaultyLink(port, world.office.settings.port, bytes_per_s=BYTES_PER_S)
    with link.up(), world.running():
        world.until_the_end(200)
    completed = world.check()
    ended = world.bodies(COORDINATOR, "round_ended")
    assert set(completed) == {1, 2}
    assert [body["status"] for body in ended] == ["completed", "completed"], "at the first attempt each"
    assert not world.bodies(COORDINATOR, "late")
    assert not [body for body in ended if body["dropped"]]


@pytest.mark.slow  # seconds of waiting
def test_the_operator_is_told_that_such_rounds_take_long(tmp_path: Path) -> None:
    world = ChaosWorld.make(tmp_path, rounds=1, round_timeout_s=2.0, **SHAPE)
    with world.running():
        world.until_the_end(200)
    lines = [json.loads(line) for line in (world.home(COORDINATOR) / STDERR).read_text().splitlines()]
    (said,) = [line for line in lines if line.get("event") == "slow_rounds"]
    assert "on a line of minimum_rate_kbit_s 128 that takes" in json.dumps(said)

"""How far one institution can move a sum: beyond its own clip, not beyond what all may add up to."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fedapt_crypto.errors import RoundAborted, SumCheckFailed
from fedapt_crypto.fixed_point import FixedPoint
from tests.crypto.secagg.harness import World

MARK = 3.25
"""Stands in the poisoner's update, and in nobody else's."""


def poisoned(monkeypatch: pytest.MonkeyPatch, value: Callable[[FixedPoint], int]) -> World:
    """A round in which one institution's program writes what it likes in place of its encoded update."""
    encode = FixedPoint.encode_into

    def encode_into(self: FixedPoint, vector: NDArray[np.floating], words: NDArray[np.uint32]) -> int:
        clipped = encode(self, vector, words)
        if vector[0] == MARK:
            words.view(np.int32)[:] = value(self)
        return clipped

    world = World(5)
    for name, update in world.updates.items():
        update[:] = MARK if name == "clinic-3" else 0.0
    world.institutions = {name: world.institution(name, world.context) for name in world.identities}
    monkeypatch.setattr(FixedPoint, "encode_into", encode_into)
    return world


def test_it_moves_a_sum_beyond_its_own_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees its update, so nobody can see that it is too large."""
    world = poisoned(monkeypatch, lambda fixed: 5 * fixed.limit)
    world.run()
    assert world.aggregate is not None
    fixed = world.context.fixed_point
    assert float(world.aggregate.total.max()) == 5 * fixed.limit * fixed.resolution > 5 * world.clip


@pytest.mark.parametrize("sign", [1, -1])
def test_what_all_together_cannot_add_up_to_is_refused(monkeypatch: pytest.MonkeyPatch, sign: int) -> None:
    world = poisoned(monkeypatch, lambda fixed: sign * (5 * fixed.limit + 1))
    with pytest.raises(RoundAborted, match="SumCheckFailed"):
        world.run()
    assert isinstance(world.refusals["clinic-1"], SumCheckFailed)
    assert all(machine.aggregate is None for machine in world.institutions.values())

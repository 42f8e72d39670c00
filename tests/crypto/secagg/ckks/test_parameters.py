"""What fits under the modulus, and what is refused before anything starts."""

import subprocess
import sys

import numpy as np
import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import flooding, messages, packing, parameters
from fedapt_crypto.secagg.ckks.parameters import (
    KAPPA_BITS,
    LARGEST_SUM,
    MAX_INSTITUTIONS,
    MAX_PIECES,
    MIN_INSTITUTIONS,
    SCALE,
    UNIT,
    VALUES_PER_PIECE,
    check_round,
    pieces_of,
)
from tests.crypto.secagg.ckks.attack import largest_prime
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, make_context, make_parties


@pytest.mark.parametrize(("values", "pieces"), [(1, 1), (2044, 1), (2045, 2), (1_000_000, 490)])
def test_pieces(values: int, pieces: int) -> None:
    assert pieces_of(values) == pieces


@pytest.mark.parametrize("length", [1, 2044, 2045, 1_000_000])
def test_an_update_stays_within_33_bytes_a_value_and_one_piece(length: int) -> None:
    assert messages.max_update_bytes(length) <= 33 * length + 75_000


class TestCapacity:
    @pytest.mark.parametrize("participants", range(MIN_INSTITUTIONS, MAX_INSTITUTIONS + 1))
    def test_no_sum_can_wrap(self, participants: int) -> None:
        room = (largest_prime() - 1) // 2 / SCALE  # of a coefficient, in slots
        largest = participants * FixedPoint(participants, 1.0).limit
        assert largest <= LARGEST_SUM
        assert LARGEST_SUM * UNIT < 512 < room
        assert participants << KAPPA_BITS - 1 <= 2**30, "κ stays below that"
        error = 9 * flooding.slot_error(participants)
        assert error < 1e-3 < packing.TOLERANCE
        assert room - 1 < 2 * LARGEST_SUM * UNIT, "twice as large would be too close"

    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.parametrize("clip", [1e-3, 4.0, 1e6])
    def test_the_largest_sum_there_can_be(self, sign: int, clip: float) -> None:
        world = World(3, registry.CKKS, clip=clip)
        for name in world.updates:
            world.updates[name][:] = sign * 4 * 2**30 * clip  # the array the machine holds
        world.run()
        fixed = world.context.fixed_point
        end = sign * 3 * fixed.limit * fixed.resolution
        assert np.abs(world.aggregate.total - end).max() <= world.error_bound
        assert all(machine.saturated == world.length for machine in world.institutions.values())

    def test_a_clip_range_without_integers_is_refused_before_it_starts(self) -> None:
        world = World(5, registry.CKKS)
        context = make_context(world.roster, world.length, clip=2.0**60)
        with pytest.raises(InvalidInput, match="cannot be integers under ckks"):
            world.institution("clinic-1", context)
        with pytest.raises(InvalidInput, match="cannot be integers under ckks"):
            registry.coordinator_round(
                registry.CKKS, context, world.roster, COORDINATOR_IDENTITY, group=world.public
            )

    def test_numbers_out_of_range(self) -> None:
        roster, _ = make_parties(3)
        check_round(make_context(roster, MAX_PIECES * VALUES_PER_PIECE))
        for change in ({"vector_length": MAX_PIECES * VALUES_PER_PIECE + 1}, {"participants": 2}):
            with pytest.raises(InvalidInput):
                check_round(make_context(roster, 5, **change))
        with pytest.raises(InvalidInput):
            check_round(make_context(roster, 5, participants=65, clip=0.1))


def test_without_tenseal_there_is_one_clear_line(monkeypatch) -> None:
    roster, _ = make_parties(3)
    monkeypatch.setattr(parameters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install 'fedapt-secure\[ckks\]'"):
        registry.coordinator_round(registry.CKKS, make_context(roster, 3), roster, COORDINATOR_IDENTITY)


def test_the_scheme_needs_a_group() -> None:
    roster, _ = make_parties(3)
    with pytest.raises(InvalidInput, match="needs the session's group secret"):
        registry.coordinator_round(registry.CKKS, make_context(roster, 3), roster, COORDINATOR_IDENTITY)


def test_naming_the_schemes_does_not_import_tenseal() -> None:
    code = "import sys, fedapt_crypto.secagg.registry; sys.exit('tenseal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

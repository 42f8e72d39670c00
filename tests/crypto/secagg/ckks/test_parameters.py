"""What fits under the modulus, and that packing puts values and check values where both sides look."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import messages, packing, parameters
from fedapt_crypto.secagg.ckks.parameters import (
    CAPACITY,
    KAPPA_LIMIT,
    KAPPA_SLOTS,
    MAX_PIECES,
    SLOTS,
    VALUES_PER_PIECE,
    check_round,
    gain,
    pieces_of,
)
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, make_context, make_parties


@pytest.mark.parametrize(("values", "pieces"), [(1, 1), (2044, 1), (2045, 2), (1_000_000, 490)])
def test_pieces(values: int, pieces: int) -> None:
    assert pieces_of(values) == pieces


@pytest.mark.parametrize("length", [1, 2044, 2045, 1_000_000])
def test_an_update_stays_within_33_bytes_a_value_and_one_piece(length: int) -> None:
    assert messages.max_update_bytes(length) <= 33 * length + 75_000


class TestCapacity:
    @pytest.mark.parametrize("participants", [3, 5, 64])
    def test_the_edge(self, participants: int) -> None:
        edge = CAPACITY / participants
        assert gain(participants, edge) == 1
        assert gain(participants, 1.0) == edge
        with pytest.raises(InvalidInput, match="could wrap"):
            gain(participants, np.nextafter(edge, np.inf))

    def test_check_values_count_too(self) -> None:
        assert gain(int(CAPACITY / KAPPA_LIMIT), 1e-3) > 0
        with pytest.raises(InvalidInput, match="could wrap"):
            gain(int(CAPACITY / KAPPA_LIMIT) + 1, 1e-3)

    @pytest.mark.parametrize("sign", [-1, 1])
    @pytest.mark.parametrize("clip", [4.0, CAPACITY / 3])
    def test_the_largest_sum_there_can_be_is_exact(self, sign: int, clip: float) -> None:
        world = World(3, registry.CKKS, clip=clip)
        for name in world.updates:
            world.updates[name][:] = sign * 2 * clip  # the array the machine holds: clipped, all alike
        world.run()
        assert np.abs(world.aggregate.total - sign * 3 * clip).max() <= world.error_bound
        assert all(machine.saturated == world.length for machine in world.institutions.values())

    def test_a_round_that_could_wrap_is_refused_before_it_starts(self) -> None:
        world = World(5, registry.CKKS)
        context = make_context(world.roster, world.length, clip=CAPACITY / 5 + 1)
        with pytest.raises(InvalidInput, match="could wrap"):
            world.institution("clinic-1", context)
        with pytest.raises(InvalidInput, match="could wrap"):
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


class TestPacking:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 3 * VALUES_PER_PIECE), st.binary(min_size=32, max_size=32))
    def test_round_trip(self, length: int, key: bytes) -> None:
        mask = packing.kappa_mask(key, length)
        assert mask.shape == (pieces_of(length), SLOTS)
        assert (mask.sum(axis=1) == KAPPA_SLOTS).all()
        own = packing.kappa(key, length)
        assert (np.abs(own) <= KAPPA_LIMIT).all()
        values = np.random.default_rng(length).uniform(-1, 1, length)
        slots = packing.pack(values, mask, own)
        assert np.array_equal(packing.unpack(slots, mask, own, length, 1.0), values)

    def test_kappa_is_uniform_and_its_slots_are_too(self) -> None:
        own = packing.kappa(bytes(32), 10_000_000).reshape(-1)
        assert abs(own.mean()) < 6 * own.std() / np.sqrt(len(own))
        assert own.std() == pytest.approx(2 * KAPPA_LIMIT / np.sqrt(12), rel=0.02)
        counts = packing.kappa_mask(bytes(32), 2_000_000).sum(axis=0)
        expected = counts.sum() / SLOTS
        assert ((counts - expected) ** 2 / expected).sum() < SLOTS + 6 * np.sqrt(2 * SLOTS)

    @pytest.mark.parametrize("where", ["kappa", "padding", "too-large"])
    @pytest.mark.parametrize("wrong", [0.01, np.nan])
    def test_what_does_not_hold_is_refused(self, where: str, wrong: float) -> None:
        length = 100
        mask = packing.kappa_mask(bytes(32), length)
        own = packing.kappa(bytes(32), length)
        slots = packing.pack(np.ones(length), mask, own)
        place = np.argwhere(mask if where == "kappa" else ~mask)[-1 if where == "padding" else 0]
        slots[tuple(place)] += wrong
        with pytest.raises(VerificationFailed):
            packing.unpack(slots, mask, own, length, 1.0)


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

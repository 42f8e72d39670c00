"""Integers into slots and back: exact at the extremes, and nothing else than a sum of integers passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import SumCheckFailed
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.secagg.ckks import flooding, packing
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.parameters import (
    KAPPA_BITS,
    KAPPA_SLOTS,
    LARGEST_SUM,
    SLOTS,
    UNIT,
    VALUES_PER_PIECE,
    pieces_of,
)
from fedapt_crypto.sum_tag import SumCheck
from tests.crypto.secagg.ckks.groups import TEST_SECRET, public_worker, secret_worker

KEYS = st.binary(min_size=32, max_size=32)
MOST = 64
"""Institutions in the largest round."""
LIMIT = FixedPoint(MOST, 1.0).limit


def key(number: int) -> bytes:
    return bytes([number]) * 32


def integers(seed: int, length: int, largest: int = LARGEST_SUM) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(-largest, largest, length, endpoint=True)
    return drawn.astype(np.int32).view(np.uint32)


class TestProperties:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 3 * VALUES_PER_PIECE), KEYS, st.floats(-0.124, 0.124))
    def test_round_trip_with_any_error_below_an_eighth(self, length: int, drawn: bytes, error: float) -> None:
        mask = packing.kappa_mask(drawn, length)
        assert mask.shape == (pieces_of(length), SLOTS)
        assert (mask.sum(axis=1) == KAPPA_SLOTS).all()
        own = packing.kappa(drawn, length)
        assert ((own >= -(1 << KAPPA_BITS - 1)) & (own < 1 << KAPPA_BITS - 1)).all()
        words = integers(length, length)
        slots = packing.pack(words, mask, own)
        assert np.array_equal(slots / UNIT, np.rint(slots / UNIT)), "a product by a power of two is exact"
        assert np.array_equal(packing.unpack(slots + error * UNIT, mask, own, length), words)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 2 * VALUES_PER_PIECE), KEYS, st.floats(0.126, 0.874), st.data())
    def test_one_slot_between_integers_is_enough(
        self, length: int, drawn: bytes, part: float, data: st.DataObject
    ) -> None:
        mask, own = packing.kappa_mask(drawn, length), packing.kappa(drawn, length)
        slots = packing.pack(integers(1, length, LIMIT), mask, own)
        slots.reshape(-1)[data.draw(st.integers(0, slots.size - 1))] += part * UNIT
        with pytest.raises(SumCheckFailed, match="no integer"):
            packing.unpack(slots, mask, own, length)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 2 * VALUES_PER_PIECE), KEYS, st.integers(-1000, 1000).filter(bool), st.data())
    def test_a_whole_shift_of_a_slot_is_a_shift_of_its_value_or_refused(
        self, length: int, drawn: bytes, shift: int, data: st.DataObject
    ) -> None:
        mask, own = packing.kappa_mask(drawn, length), packing.kappa(drawn, length)
        words = integers(2, length, LIMIT)
        slots = packing.pack(words, mask, own)
        place = data.draw(st.integers(0, slots.size - 1))
        slots.reshape(-1)[place] += shift * UNIT
        value = int((~mask).reshape(-1)[:place].sum())
        if mask.reshape(-1)[place] or value >= length:
            with pytest.raises(SumCheckFailed):
                packing.unpack(slots, mask, own, length)
        else:
            moved = packing.unpack(slots, mask, own, length).view(np.int32) - words.view(np.int32)
            assert moved[value] == shift
            assert np.count_nonzero(moved) == 1

    @settings(max_examples=20, deadline=None)
    @given(st.integers(2, MOST), st.integers(1, VALUES_PER_PIECE + 3))
    def test_slots_add_up_as_integers_do(self, parties: int, length: int) -> None:
        mask, limit = packing.kappa_mask(key(9), length), FixedPoint(parties, 1.0).limit
        updates = [integers(i, length, limit) for i in range(parties)]
        own = [packing.kappa(key(i), length) for i in range(parties)]
        total = np.sum([packing.pack(x, mask, k) for x, k in zip(updates, own, strict=True)], axis=0)
        expected = np.sum([x.view(np.int32).astype(np.int64) for x in updates], axis=0)
        found = packing.unpack(total, mask, np.sum(own, axis=0), length)
        assert np.array_equal(found.view(np.int32), expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 2.0**9, -(2.0**9), 1e300])
@pytest.mark.parametrize("where", ["kappa", "value", "padding"])
def test_what_is_no_sum_is_refused(where: str, wrong: float) -> None:
    length = 100
    mask, own = packing.kappa_mask(bytes(32), length), packing.kappa(bytes(32), length)
    slots = packing.pack(np.ones(length, np.uint32), mask, own)
    place = np.argwhere(mask if where == "kappa" else ~mask)[-1 if where == "padding" else 0]
    slots[tuple(place)] = wrong
    with pytest.raises(SumCheckFailed):
        packing.unpack(slots, mask, own, length)


def test_kappa_is_uniform_and_its_slots_are_too() -> None:
    own = packing.kappa(bytes(32), 10_000_000).reshape(-1)
    assert abs(own.mean()) < 6 * own.std() / np.sqrt(len(own))
    assert own.std() == pytest.approx(2**KAPPA_BITS / np.sqrt(12), rel=0.02)
    counts = packing.kappa_mask(bytes(32), 2_000_000).sum(axis=0)
    expected = counts.sum() / SLOTS
    assert ((counts - expected) ** 2 / expected).sum() < SLOTS + 6 * np.sqrt(2 * SLOTS)


EXTREMES = {
    "all at the upper end": lambda i: np.full(VALUES_PER_PIECE, LIMIT),
    "all at the lower end": lambda i: np.full(VALUES_PER_PIECE, -LIMIT),
    "alternating by value": lambda i: np.where(np.arange(VALUES_PER_PIECE) % 2, LIMIT, -LIMIT),
    "alternating by institution": lambda i: np.full(VALUES_PER_PIECE, LIMIT if i % 2 else -LIMIT),
    "one value at the end": lambda i: np.where(np.arange(VALUES_PER_PIECE) == 7, LIMIT, 0),
    "anything": lambda i: np.random.default_rng(i).integers(-LIMIT, LIMIT, VALUES_PER_PIECE, endpoint=True),
}


class Sum:
    """One encrypted piece of each of 64 institutions, added up, and what must come out."""

    def __init__(self, extreme: str) -> None:
        self.names = tuple(f"clinic-{i}" for i in range(MOST))
        self.check = SumCheck(TEST_SECRET, key(1), key(1), length=VALUES_PER_PIECE)
        self.mask = packing.kappa_mask(key(200), VALUES_PER_PIECE)
        self.kappa = np.zeros((1, KAPPA_SLOTS), np.int64)
        self.exact = np.zeros(VALUES_PER_PIECE, np.int64)
        self.tag, total = 0, b""
        for i, name in enumerate(self.names):
            words = EXTREMES[extreme](i).astype(np.int32).view(np.uint32)
            own = packing.kappa(key(i), VALUES_PER_PIECE)
            (piece,) = secret_worker().call(
                Operation.ENCRYPT, packing.pack(words, self.mask, own).astype("<f8").tobytes()
            )
            (total,) = public_worker().call(Operation.ADD, total, piece)
            self.kappa += own
            self.exact += words.view(np.int32)
            self.tag += self.check.tag(name, words)
        (row,) = secret_worker().call(Operation.DECRYPT, total)
        self.slots = np.frombuffer(row, "<f8").reshape(1, SLOTS)

    def verify(self, slots: np.ndarray) -> np.ndarray:
        total = packing.unpack(slots, self.mask, self.kappa, VALUES_PER_PIECE)
        self.check.verify(total, self.tag % (2**61 - 1), self.names, limit=LIMIT)
        return total.view(np.int32)


@pytest.fixture(params=EXTREMES, scope="module")
def whole(request: pytest.FixtureRequest) -> Sum:
    return Sum(request.param)


class TestSixtyFour:
    def test_rounding_is_exact(self, whole: Sum) -> None:
        assert np.array_equal(whole.verify(whole.slots), whole.exact)
        error = np.abs(whole.slots / UNIT - np.rint(whole.slots / UNIT))
        assert 0 < error.max() < 1e-3, "an eighth is far away"
        assert error.std() < 2 * flooding.slot_error(MOST)

    @pytest.mark.parametrize("shift", [-1, 1])
    def test_a_shift_by_one_unit_fails(self, whole: Sum, shift: int) -> None:
        for place in np.argwhere(~whole.mask)[[0, 1000, -1]]:
            slots = whole.slots.copy()
            slots[tuple(place)] += shift * UNIT
            with pytest.raises(SumCheckFailed):
                whole.verify(slots)

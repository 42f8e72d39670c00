"""Tags against Python's integers, every pair but the survivors' own refused, and models bit by bit."""

import math
from collections.abc import Callable
from fractions import Fraction
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto import sum_tag
from fedapt_crypto.errors import FedaptError, InvalidInput, RunFailed, VerificationFailed
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.sum_tag import PRIME, ROW_VALUES, LinearHash, SumCheck, field_elements, next_model
from tests.crypto.vectors import reference

SECRET, EXECUTION, TRANSCRIPT = (bytes([number]) * 32 for number in (1, 2, 3))
NAMES = ("clinic-1", "clinic-2", "clinic-3")
LIMIT = FixedPoint(len(NAMES), 1.0).limit
SIZES = (1, 2047, 2048, 2049, 5000)
EXTREMES = (-(2**31), 2**31 - 1, LIMIT, -LIMIT, -1, 0, 1)
ELEMENTS = st.sampled_from((0, 1, PRIME - 1, 2**60, (1 << 55) - 1)) | st.integers(0, PRIME - 1)


def words(values: object) -> np.ndarray:
    return np.array(values, np.int64).astype(np.int32).view(np.uint32)


def drawn(size: int, seed: int, low: int, high: int) -> np.ndarray:
    """Return signed integers of which about a third are at an end of the range."""
    source = np.random.default_rng(seed)
    values = source.integers(low, high, size, endpoint=True)
    ends = source.integers(0, 6, size)
    return np.where(ends == 0, low, np.where(ends == 1, high, values))


def slow_hash(u: list[int], v: list[int], values: list[int]) -> int:
    return sum(u[j // 2048] * v[j % 2048] * value for j, value in enumerate(values)) % (2**61 - 1)


def check(length: int, *, secret=SECRET, execution=EXECUTION, transcript=TRANSCRIPT) -> SumCheck:
    return SumCheck(secret, execution, transcript, length=length)


def tagged_sum(length: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Return X, signed, and T of updates of all of `NAMES`."""
    updates = [drawn(length, seed + i, -LIMIT, LIMIT) for i in range(len(NAMES))]
    tags = [check(length).tag(name, words(x)) for name, x in zip(NAMES, updates, strict=True)]
    return np.sum(updates, axis=0), sum(tags) % PRIME


def verify(values: object, tag: int, *, by: SumCheck | None = None, names=NAMES, limit: int = LIMIT) -> None:
    vector = words(values)
    (by or check(vector.size)).verify(vector, tag, names, limit=limit)


def refused(*arguments: object, **named: object) -> None:
    with pytest.raises(VerificationFailed, match="sum check failed"):
        verify(*arguments, **named)


class TestHash:
    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from(SIZES) | st.integers(1, 9000), st.integers(0, 2**32), st.data())
    def test_it_is_that_of_python_integers(self, size: int, seed: int, data: st.DataObject) -> None:
        source = np.random.default_rng(seed)
        rows = source.integers(0, PRIME, -(-size // ROW_VALUES), dtype=np.uint64)
        columns = source.integers(0, PRIME, ROW_VALUES, dtype=np.uint64)
        for some in (rows, columns):
            some[data.draw(st.integers(0, some.size - 1))] = data.draw(ELEMENTS)
        values = drawn(size, seed, *data.draw(st.sampled_from([(-LIMIT, LIMIT), (-(2**31), 2**31 - 1)])))
        found = LinearHash(rows, columns, size).of(words(values))
        assert found == slow_hash(rows.tolist(), columns.tolist(), values.tolist())

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("value", EXTREMES)
    @pytest.mark.parametrize("element", [PRIME - 1, 2**61 - 2**11, (1 << 55) - 1, 1, 0])
    def test_extremes_everywhere_at_once(self, size: int, value: int, element: int) -> None:
        rows = np.full(-(-size // ROW_VALUES), PRIME - 1, np.uint64)
        columns = np.full(ROW_VALUES, element, np.uint64)
        found = LinearHash(rows, columns, size).of(words(np.full(size, value)))
        assert found == (PRIME - 1) * element * value * size % PRIME

    @pytest.mark.parametrize("around", [32 * ROW_VALUES, 1 << 18, 3 << 18])
    @pytest.mark.parametrize("more", [-1, 0, 1, ROW_VALUES, ROW_VALUES + 1])
    def test_blocks_and_threads_join_without_a_seam(self, around: int, more: int) -> None:
        size, source = around + more, np.random.default_rng(around)
        rows = source.integers(0, PRIME, -(-size // ROW_VALUES), dtype=np.uint64)
        columns = source.integers(0, PRIME, ROW_VALUES, dtype=np.uint64)
        values = drawn(size, more + 9, -(2**31), 2**31 - 1)
        found = LinearHash(rows, columns, size).of(words(values))
        assert found == slow_hash(rows.tolist(), columns.tolist(), values.tolist())

    def test_words_become_elements(self) -> None:
        given_words = np.array([0, 7, 8, 2**64 - 9, 2**64 - 8, 2**64 - 1], np.uint64)
        assert field_elements(given_words).tolist() == [0, 0, 1, PRIME - 1, 0, 0]

    @pytest.mark.parametrize("length", [0, 1, 2049, 4097])
    def test_elements_must_fit_the_vectors(self, length: int) -> None:
        with pytest.raises(InvalidInput):
            LinearHash(np.zeros(2, np.uint64)[: 1 + (length == 1)], np.zeros(ROW_VALUES, np.uint64), length)


class TestTag:
    @pytest.mark.parametrize("size", SIZES)
    def test_it_is_the_slow_one(self, size: int) -> None:
        values = drawn(size, size, -LIMIT, LIMIT)
        slow = reference.sum_check_tag(
            SECRET, EXECUTION, TRANSCRIPT, "clinic-1", [[1, int(v)] for v in values]
        )
        assert check(size).tag("clinic-1", words(values)).to_bytes(8) == slow

    @pytest.mark.parametrize(
        "other", [{"secret": bytes(32)}, {"execution": bytes(32)}, {"transcript": bytes(32)}]
    )
    def test_it_depends_on_whatever_it_is_about(self, other: dict) -> None:
        one, ones = check(5), words([1] * 5)
        assert check(5, **other).tag("clinic-1", ones) != one.tag("clinic-1", ones)
        assert one.tag("clinic-2", ones) != one.tag("clinic-1", ones)
        assert one.tag("clinic-1", words([0] * 5)) not in (0, one.tag("clinic-2", words([0] * 5)))

    def test_nothing_shows_the_secret(self) -> None:
        assert SECRET.hex() not in repr(check(1)) + repr(check(1)._hash)
        assert "hidden" in repr(check(1))

    @pytest.mark.parametrize(
        ("change", "length"),
        [({"secret": bytes(31)}, 1), ({"execution": b""}, 1), ({"transcript": bytes(33)}, 1), ({}, 0)],
    )
    def test_parts_have_their_sizes(self, change: dict, length: int) -> None:
        with pytest.raises(InvalidInput):
            check(length, **change)

    @pytest.mark.parametrize(
        "vector",
        [
            np.zeros(3, np.uint32),
            np.zeros(4, np.int32),
            np.zeros((2, 2), np.uint32),
            np.zeros(8, np.uint32)[::2],
        ],
    )
    def test_another_vector_is_refused(self, vector: np.ndarray) -> None:
        for call in (
            lambda: check(4).tag("clinic-1", vector),
            lambda: check(4).verify(vector, 0, NAMES, limit=LIMIT),
            lambda: next_model(np.zeros(4, np.float32), vector, survivors=1, fraction_bits=0),
        ):
            with pytest.raises(InvalidInput, match="vector of 4"):
                call()


class TestVerification:
    @pytest.mark.parametrize("size", SIZES)
    def test_the_survivors_sum_passes(self, size: int) -> None:
        total, tag = tagged_sum(size)
        verify(total, tag)
        verify(total, tag, names=NAMES[::-1])

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_largest_sum_passes(self, sign: int) -> None:
        most = words([sign * LIMIT] * 5)
        tag = sum(check(5).tag(name, most) for name in NAMES) % PRIME
        verify([sign * LIMIT * len(NAMES)] * 5, tag)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(SIZES), st.data())
    def test_any_other_sum_or_tag_fails(self, size: int, data: st.DataObject) -> None:
        total, tag = tagged_sum(size)
        most = LIMIT * len(NAMES)
        places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4, unique=True))
        changed = total.copy()
        for place in places:
            changed[place] = data.draw(st.integers(-most, most).filter(lambda v, at=place: v != total[at]))
        shift = data.draw(st.integers(1, PRIME - 1) | st.sampled_from((1, PRIME - 1)))
        refused(changed, tag)
        refused(total, (tag + shift) % PRIME)
        refused(changed, (tag + shift) % PRIME)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(-9, 9).filter(lambda factor: factor != 1))
    def test_scaled_pairs_fail(self, factor: int) -> None:
        small = [[1, -2, 3], [0, 5, -5], [4, 4, 4]]
        tags = [check(3).tag(name, words(x)) for name, x in zip(NAMES, small, strict=True)]
        total, tag = np.sum(small, axis=0), sum(tags) % PRIME
        verify(total, tag)
        refused(factor * total, factor * tag % PRIME)

    @pytest.mark.parametrize("factor", [0, -1, 2])
    @pytest.mark.parametrize("size", SIZES)
    def test_zero_negated_and_doubled_pairs_fail(self, factor: int, size: int) -> None:
        updates = [drawn(size, i, -LIMIT // 2, LIMIT // 2) for i in range(len(NAMES))]
        tags = [check(size).tag(name, words(x)) for name, x in zip(NAMES, updates, strict=True)]
        total, tag = np.sum(updates, axis=0), sum(tags) % PRIME
        verify(total, tag)
        refused(factor * total, factor * tag % PRIME)

    def test_pads_are_what_refuses_scaled_pairs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SumCheck, "_pad", lambda _self, _name: 0)
        tag = sum(check(2).tag(name, words([1, 2])) for name in NAMES) % PRIME
        for factor in (1, 0, -1, 2):
            verify([3 * factor, 6 * factor], factor * tag % PRIME)

    @pytest.mark.parametrize(
        "names", [NAMES[:2], (*NAMES[:2], "clinic-4"), (*NAMES, "clinic-4"), ("Clinic-1", *NAMES[1:])]
    )
    def test_other_survivors_fail(self, names: tuple[str, ...]) -> None:
        small = words([1, 2, 3])
        tag = sum(check(3).tag(name, small) for name in NAMES) % PRIME
        refused([3, 6, 9], tag, names=names, limit=1000)

    def test_a_sum_without_one_survivor_fails(self) -> None:
        tags = [check(2).tag(name, words([1, 2])) for name in NAMES]
        refused([2, 4], sum(tags[:2]) % PRIME)
        verify([2, 4], sum(tags[:2]) % PRIME, names=NAMES[:2])

    @pytest.mark.parametrize(
        "other", [{"secret": bytes(32)}, {"execution": bytes(32)}, {"transcript": bytes(32)}]
    )
    @pytest.mark.parametrize("size", SIZES)
    def test_another_secret_execution_or_transcript_fails(self, other: dict, size: int) -> None:
        refused(*tagged_sum(size), by=check(size, **other))

    @pytest.mark.parametrize("value", [LIMIT * 3 + 1, -LIMIT * 3 - 1, -(2**31)])
    def test_a_value_out_of_range_fails_though_its_tag_is_right(self, value: int) -> None:
        """As where a survivor's own value is beyond B, in what it tags and in what it sends."""
        tags = [check(2).tag(n, words([v, 0])) for n, v in zip(NAMES, (value, 0, 0), strict=True)]
        with pytest.raises(VerificationFailed, match="beyond"):
            verify([value, 0], sum(tags) % PRIME)

    def test_the_range_is_that_of_so_many_survivors(self) -> None:
        tags = [check(1).tag(name, words([11])) for name in NAMES[:2]]
        verify([22], sum(tags) % PRIME, names=NAMES[:2], limit=11)
        refused([22], sum(tags) % PRIME, names=NAMES[:2], limit=10)

    @pytest.mark.parametrize("other", [PRIME, -PRIME, 2**64])
    def test_a_tag_has_one_spelling(self, other: int) -> None:
        total, tag = tagged_sum(1)
        refused(total, tag + other)

    @pytest.mark.parametrize(
        ("names", "limit"), [((), 1), (("a", "a"), 1), (NAMES, (2**31 - 1) // 3 + 1), (NAMES, -1)]
    )
    def test_survivors_and_range_must_make_sense(self, names: tuple[str, ...], limit: int) -> None:
        with pytest.raises(InvalidInput):
            verify([0], 0, names=names, limit=limit)


SUBNORMALS = (2.0**-149, -(2.0**-149), 3 * 2.0**-149, 2.0**-126 - 2.0**-149, 2.0**-126, -(2.0**-127))
ENDS = (0.0, -0.0, 1.0, 1 - 2.0**-24, 2.0**-30, -(2.0**-31), 3.0e38, -3.0e38, 2.0**24 + 2)


class TestNextModel:
    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.floats(-(2.0**127), 2.0**127, width=32) | st.sampled_from(SUBNORMALS + ENDS),
                st.integers(-(2**31), 2**31 - 1) | st.sampled_from(EXTREMES),
            ),
            min_size=1,
            max_size=20,
        ),
        st.integers(1, 5000),
        st.integers(-20, 30),
    )
    def test_it_is_the_slow_one(self, pairs: list[tuple[float, int]], count: int, bits: int) -> None:
        model = np.array([value for value, _ in pairs], np.float32)
        values = [value for _, value in pairs]
        found = next_model(model, words(values), survivors=count, fraction_bits=bits)
        slow = reference.next_model(model.astype("<f4").tobytes(), values, count, bits)
        assert found.astype("<f4").tobytes() == slow["model"]

    @pytest.mark.parametrize("value", SUBNORMALS)
    def test_subnormals_pass_through(self, value: float) -> None:
        model = np.array([value], np.float32)
        assert model[0] == value
        assert next_model(model, words([0]), survivors=3, fraction_bits=26).tobytes() == model.tobytes()

    def test_a_step_that_is_lost_in_float32_leaves_the_value(self) -> None:
        model = np.array([1.0, -0.0], np.float32)
        found = next_model(model, words([1, 0]), survivors=1, fraction_bits=30)
        assert found.tolist() == [1.0, 0.0]
        assert math.copysign(1, found[1]) == 1

    def test_it_rounds_in_float64_before_float32(self) -> None:
        """A sum just above a tie of float32 that float64 rounds to the tie: then to even, not up."""
        count = 2**24
        found = next_model(np.ones(1, np.float32), words([64 * count + 1]), survivors=count, fraction_bits=30)
        assert Fraction(64 * count + 1, count * 2**30) > Fraction(
            1, 2**24
        )  # so exactly rounded it were 1 + 2**-23
        assert found[0] == 1

    @pytest.mark.parametrize("count", [7, 49])
    def test_it_divides_and_does_not_multiply_by_a_reciprocal(self, count: int) -> None:
        values = np.arange(1_000_000, 1_005_000)
        means = values * 2.0**-26 / count
        model = -means.astype(np.float32)  # what is left of a mean beside it shows the mean's last bits
        slow = reference.next_model(model.astype("<f4").tobytes(), values.tolist(), count, 26)["model"]
        found = next_model(model, words(values), survivors=count, fraction_bits=26)
        assert found.astype("<f4").tobytes() == slow
        otherwise = (model + values * 2.0**-26 * (1 / count)).astype("<f4")
        assert otherwise.tobytes() != slow

    def test_long_models_are_made_of_ranges(self) -> None:
        size = (1 << 18) + 5
        model = np.linspace(-1, 1, size, dtype=np.float32)
        total = drawn(size, 1, -LIMIT * 3, LIMIT * 3)
        whole = next_model(model, words(total), survivors=3, fraction_bits=29)
        tail = next_model(model[-9:].copy(), words(total[-9:]), survivors=3, fraction_bits=29)
        assert whole[-9:].tobytes() == tail.tobytes()
        plain = (model.astype("f8") + total * 2.0**-29 / 3).astype("f4")
        assert whole.tobytes() == plain.tobytes()

    @pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
    def test_what_is_not_finite_is_refused(self, value: float) -> None:
        with pytest.raises(InvalidInput, match="not finite"):
            next_model(np.array([value], np.float32), words([1]), survivors=1, fraction_bits=0)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_largest_model_stays(self, sign: int) -> None:
        model = np.array([sign * float(np.finfo(np.float32).max)], np.float32)
        found = next_model(model, words([sign * (2**31 - 1)]), survivors=1, fraction_bits=-20)
        assert found.tobytes() == model.tobytes()  # 2**51 is nothing beside it

    @pytest.mark.parametrize(("count", "bits"), [(0, 0), (-1, 0), (1, 31), (1, -21)])
    def test_numbers_out_of_range_are_refused(self, count: int, bits: int) -> None:
        with pytest.raises(InvalidInput):
            next_model(np.zeros(1, np.float32), words([0]), survivors=count, fraction_bits=bits)

    @pytest.mark.parametrize("model", [np.zeros(1, np.float64), np.zeros((1, 1), np.float32)])
    def test_a_model_is_a_vector_of_float32(self, model: np.ndarray) -> None:
        with pytest.raises(InvalidInput, match="float32"):
            next_model(model, words([0]), survivors=1, fraction_bits=0)

    def test_a_process_that_flushes_small_numbers_is_told(self) -> None:
        def flushing() -> None:
            if not torch.set_flush_denormal(True):
                pytest.skip("this processor cannot")
            next_model(np.ones(1, np.float32), words([0]), survivors=1, fraction_bits=0)

        error = in_a_thread(flushing)
        assert isinstance(error, RunFailed)
        assert "set_flush_denormal" in str(error)


def in_a_thread(work: Callable[[], None]) -> FedaptError | None:
    """Return what is raised in a thread of its own, whose processor state ends with it."""
    raised: list[FedaptError] = []

    def target() -> None:
        try:
            work()
        except FedaptError as error:
            raised.append(error)

    thread = Thread(target=target)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_whole_round_in_small() -> None:
    """Encode, tag, add up without the one that vanished, verify, step: as the protocol is to do it."""
    fixed = FixedPoint(summands=4, clip=1.0)
    names, survivors = ("a", "b", "c", "d"), ("a", "b", "d")
    updates = {name: np.linspace(-1, 1, 3000) * (i + 1) / 5 for i, name in enumerate(names)}
    encoded = {name: fixed.encode(update)[0] for name, update in updates.items()}
    tags = {name: check(3000).tag(name, encoded[name]) for name in names}
    total = sum((encoded[name] for name in survivors), np.zeros(3000, np.uint32))
    check(3000).verify(total, sum(tags[n] for n in survivors) % PRIME, survivors, limit=fixed.limit)
    model = next_model(np.zeros(3000, np.float32), total, survivors=3, fraction_bits=fixed.fraction_bits)
    assert model == pytest.approx(sum(updates[name] for name in survivors) / 3, abs=1e-7)
    assert sum_tag.row_count(3000) == 2

"""Tags that prove a sum of updates to those who share a secret that the coordinator does not know.

Each institution tags its vector of integers x with t = h(x) + κ in the field of 2**61 - 1 elements: h is a
secret linear map, new in every execution, and κ a pad of its own. Tags add up as the vectors do, so the tag
of a sum tells its holder whether the sum is that of the tagged vectors (Wegman and Carter 1981). The same
secret makes h and all pads: whoever knows it can forge, everybody else at most with probability 2**-59 a try.

Without pads the pairs (0, 0), (-X, -T) and (2X, 2T) would pass. A single tag beside a vector would show who
knows the secret one linear functional of that vector, so it travels under masks only, like the vector.

SPEC.md, section 9.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput, RunFailed, SumCheckFailed
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.kdf import derive
from fedapt_crypto.keystream import CHUNK_VALUES, KEY_BYTES, Keystream
from fedapt_crypto.parallel import over_ranges

PRIME: Final = (1 << 61) - 1
"""p, a Mersenne prime: a product by a power of two is a rotation of 61 bits."""
ROW_VALUES: Final = 1 << 11
"""Values that share an element of u; one at each position in a row shares an element of v."""

FieldVector = NDArray[np.uint64]
"""Elements of the field, each below `PRIME`."""
Model = NDArray[np.float32]
"""A model's parameters, flat."""

_PRIME: Final = np.uint64(PRIME)
_FIELD_BITS: Final = 61
_UNUSED_BITS: Final = np.uint64(64 - _FIELD_BITS)
_LIMB_BITS: Final = 11
_LIMBS: Final = 6
_PAD_BYTES: Final = 16
_HASH_BYTES: Final = 32
_ROWS_AT_A_TIME: Final = 32
"""512 KiB as float64, and few enough for OpenBLAS to multiply in the calling thread: with 128 rows it wakes
threads of its own, which on a busy machine wait for each other ten times longer than the work takes."""
_LARGEST: Final = 2**31 - 1
_FRACTION_BITS: Final = range(-20, 31)
_SMALLEST_BITS: Final = np.uint32(1)
"""The smallest float32 above zero, 2**-149, by its bits."""


def field_elements(words: NDArray[np.uint64]) -> FieldVector:
    """Return a field element for each word of 64 uniform bits: its 61 high bits, where p stands for 0.

    No element has a probability above 2**-60, twice that of a uniform one.
    """
    elements = words >> _UNUSED_BITS
    elements[elements == _PRIME] = 0
    return elements


class LinearHash:
    """h(x), the sum of u[j div 2048] · v[j mod 2048] · x[j] modulo p over all positions j.

    For x ≠ 0 and any y, h(x) = y with probability at most 2**-59 over `field_elements` u and v: at most
    2**-60 that v takes each row of x to zero, and 2**-60 that u then meets y. Inputs are below p in absolute
    value and so are differences of two of them: none but zero is zero modulo p.

    Args:
        rows: u, one element for each 2,048 values or part of them.
        columns: v, 2,048 elements.
        length: Values of each vector, d ≥ 1.

    Raises:
        InvalidInput: If these do not fit together.
    """

    def __init__(self, rows: FieldVector, columns: FieldVector, length: int) -> None:
        if length < 1 or rows.shape != (row_count(length),) or columns.shape != (ROW_VALUES,):
            raise InvalidInput("the elements of a linear hash do not fit its vectors")
        self.length = length
        self._rows: list[int] = rows.tolist()
        shifts = np.arange(_LIMBS, dtype=np.uint64) * np.uint64(_LIMB_BITS)
        limbs = (columns[:, np.newaxis] >> shifts) & np.uint64((1 << _LIMB_BITS) - 1)
        self._limbs = limbs.astype(np.float64)  # (2048, 6)

    def __repr__(self) -> str:
        return "LinearHash(elements hidden)"

    def of(self, vector: RingVector) -> int:
        """Return h(x) for any vector of 32-bit integers; a long one in several threads.

        Args:
            vector: (d,) uint32, two's complement.

        Returns:
            An element of the field, at least 0 and below `PRIME`.

        Raises:
            InvalidInput: If it is no contiguous vector of d words.
        """
        _signed(vector, self.length)
        parts = over_ranges(
            self.length, CHUNK_VALUES, lambda start, stop: self.of_part(vector[start:stop], start)
        )
        return sum(parts) % PRIME

    def of_part(self, part: RingVector, first: int) -> int:
        """Return what consecutive values of a vector add to its h(x), in the calling thread.

        Args:
            part: (values,) uint32, two's complement.
            first: Position of its first value, a multiple of `ROW_VALUES`.

        Raises:
            InvalidInput: If it is no such part.
        """
        row, within = divmod(first, ROW_VALUES)
        rows = self._rows[row : row + row_count(part.size)]
        if within or len(rows) != row_count(part.size):
            raise InvalidInput("a part of a vector begins with a row and ends with the vector or a row")
        sums = self._limb_sums(_signed(part, part.size)).astype(np.int64)
        return sum(map(int.__mul__, rows, _from_limbs(sums).tolist())) % PRIME

    def _limb_sums(self, part: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return (rows, 6): for each row of a part, the sum of x · (limb of v), an integer.

        2**31 · (2**11 - 1) · 2**11 < 2**53: every product and partial sum is exact in float64, in whatever
        order they are added, with fused operations or without.
        """
        sums = np.empty((row_count(part.size), _LIMBS))
        block = np.zeros((min(_ROWS_AT_A_TIME, len(sums)), ROW_VALUES))
        for first in range(0, len(sums), len(block)):
            some = part[first * ROW_VALUES :][: block.size]
            rows = block[: row_count(some.size)]
            flat = rows.reshape(-1)
            flat[: some.size], flat[some.size :] = some, 0
            np.matmul(rows, self._limbs, out=sums[first : first + len(rows)])
        return sums


def row_count(length: int) -> int:
    """Return how many rows of 2,048 values a vector takes, the last one perhaps in part."""
    return -(-length // ROW_VALUES)


def _from_limbs(sums: NDArray[np.int64]) -> FieldVector:
    """Return (rows,): the sum of ``sums[:, k]`` · 2**(11k) modulo p, at most p, where p stands for 0.

    Args:
        sums: (rows, 6), each below 2**53 in absolute value.
    """
    total = np.zeros(len(sums), np.uint64)
    for k in range(_LIMBS):
        term = np.where(sums[:, k] < 0, sums[:, k] + PRIME, sums[:, k]).astype(np.uint64)  # below p
        left, right = np.uint64(_LIMB_BITS * k), np.uint64(_FIELD_BITS - _LIMB_BITS * k)
        total += ((term << left) & _PRIME) | (term >> right)  # at most 2p: 62 bits
        total = (total & _PRIME) + (total >> np.uint64(_FIELD_BITS))
    return total


class SumCheck:
    """Makes the tags of one execution, and checks the sum that comes out of it.

    Args:
        group_secret: G, 32 uniform bytes that institutions share and the coordinator does not know.
        execution: exec, 32 bytes.
        transcript: The execution's transcript, 32 bytes.
        length: Values of an update, d ≥ 1.

    Raises:
        InvalidInput: If one of them has another size.
    """

    def __init__(self, group_secret: bytes, execution: bytes, transcript: bytes, *, length: int) -> None:
        if len(group_secret) != KEY_BYTES or not len(execution) == len(transcript) == _HASH_BYTES:
            raise InvalidInput("a sum check takes a secret, an execution and a transcript of 32 bytes each")
        if length < 1:
            raise InvalidInput("a sum check is for vectors of at least one value")
        self._secret = group_secret
        self._about = (execution, transcript)
        rows = self._elements("sum check rows", row_count(length))
        self._hash = LinearHash(rows, self._elements("sum check columns", ROW_VALUES), length)

    def __repr__(self) -> str:
        return "SumCheck(secret hidden)"

    def tag(self, name: str, vector: RingVector) -> int:
        """Return t = h(x) + κ modulo p, secret until it is masked.

        Args:
            name: The institution whose update it is.
            vector: (d,) uint32, its encoded update, two's complement.

        Raises:
            InvalidInput: If it is no contiguous vector of d words.
        """
        return (self._hash.of(vector) + self._pad(name)) % PRIME

    def part(self, part: RingVector, first: int) -> int:
        """Return what consecutive values add to h(x), see `LinearHash.of_part`."""
        return self._hash.of_part(part, first)

    def tag_of_parts(self, name: str, parts: Iterable[int]) -> int:
        """Return t from what all parts of a vector add to h(x); secret until it is masked.

        Args:
            name: The institution whose update it is.
            parts: What `part` gave for each.
        """
        return (sum(parts) + self._pad(name)) % PRIME

    def verify(self, total: RingVector, tag: int, survivors: Collection[str], *, limit: int) -> None:
        """Check that a sum is that of the vectors which these survivors tagged.

        An execution has one sum, so one call: each further one is a further try for who made it up.

        Args:
            total: X, (d,) uint32, two's complement.
            tag: T, the survivors' tags added up modulo p.
            survivors: U, names of those whose updates are to be in the sum, in any order.
            limit: B, most that a value of one update can be, see `fixed_point.FixedPoint.limit`.

        Raises:
            SumCheckFailed: If it is another sum, one of others, or beyond |U|·B. Whose fault that is
                nobody can tell: the coordinator's, or a survivor's that tagged what it did not send.
            InvalidInput: If ``total`` is no contiguous vector of d words, or no sum of so many values up to
                ``limit`` fits 32 bits, or a survivor is named twice or none at all.
        """
        signed = _signed(total, self._hash.length)
        extremes = (int(signed.min()), int(signed.max()))
        self.verify_parts([self._hash.of(total)], extremes, tag, survivors, limit=limit)

    def verify_parts(
        self,
        parts: Iterable[int],
        extremes: tuple[int, int],
        tag: int,
        survivors: Collection[str],
        *,
        limit: int,
    ) -> None:
        """Check a sum as `verify` does, of which somebody has looked at every part.

        Args:
            parts: What `part` gave for each part of X.
            extremes: X's least and greatest value.
            tag: T.
            survivors: U.
            limit: B.

        Raises:
            SumCheckFailed, InvalidInput: As `verify` does.
        """
        most = len(survivors) * limit
        if not survivors or len(set(survivors)) != len(survivors):
            raise InvalidInput("the survivors of a sum are different, and at least one")
        if limit < 0 or most > _LARGEST:
            raise InvalidInput("a sum of so many values, as large as they may be, does not fit 32 bits")
        if extremes[0] < -most or extremes[1] > most:  # the absolute value of -2**31 is none
            raise SumCheckFailed("sum check failed: a value beyond what the survivors can add up to")
        pads = sum(self._pad(name) for name in survivors)
        # T + p is refused too: what is computed is below p. Compared in whatever time: who guessed wrong gets
        # no second guess at this h and these pads.
        if (sum(parts) + pads) % PRIME != tag:
            raise SumCheckFailed("sum check failed: this is not the sum of what the survivors tagged")

    def _elements(self, label: str, count: int) -> FieldVector:
        return field_elements(Keystream(derive(self._secret, label, *self._about)).uniform_words(count))

    def _pad(self, name: str) -> int:
        """Return κ, of 128 bits modulo p: less than 2**-66 from uniform."""
        pad = derive(self._secret, "sum check pad", *self._about, name, length=_PAD_BYTES)
        return int.from_bytes(pad) % PRIME


def next_model(model: Model, total: RingVector, *, survivors: int, fraction_bits: int) -> Model:
    """Return float32(float64(P) + X · 2**-f / |U|), with the same bits on every machine.

    X and its product by a power of two are exact in float64; the division, the addition and the conversion
    round to nearest even, each by itself: numpy fuses no two of its operations (IEEE 754-2019, section 5.4).

    Args:
        model: P, (d,) float32, finite.
        total: X, (d,) uint32, two's complement.
        survivors: |U| ≥ 1.
        fraction_bits: f, from -20 to 30, see `fixed_point.FixedPoint.fraction_bits`.

    Returns:
        P', (d,) float32. It is finite, for a mean of at most 2**51 does not move the largest float32; and a
        zero in it has no sign.

    Raises:
        InvalidInput: If the arguments are none of that kind.
        RunFailed: If this process takes very small numbers for zero, so that it would come to other bits.
    """
    if survivors < 1 or fraction_bits not in _FRACTION_BITS:
        raise InvalidInput("a sum has at least one summand, and from -20 to 30 fraction bits")
    if model.ndim != 1 or model.dtype != np.float32:
        raise InvalidInput("a model is a vector of float32 values")
    signed = _signed(total, model.size)

    def real(start: int, stop: int) -> NDArray[np.float64]:
        part = signed[start:stop].astype(np.float64)
        part *= 2.0**-fraction_bits
        return part

    return _moved(model, real, survivors)


def moved(model: Model, total: NDArray[np.float64], survivors: int) -> Model:
    """Return float32(float64(P) + S / |U|), as `next_model` does from the sum of encoded updates.

    Args:
        model: P, (d,) float32, finite.
        total: S, (d,) float64: the sum of the updates.
        survivors: |U| ≥ 1.

    Raises:
        InvalidInput: If the arguments are none of that kind.
        RunFailed: If this process takes very small numbers for zero, so that it would come to other bits.
    """
    if survivors < 1 or model.ndim != 1 or model.dtype != np.float32 or total.shape != model.shape:
        raise InvalidInput("a model and a sum of updates are vectors of the same length")
    return _moved(model, lambda start, stop: total[start:stop].astype(np.float64), survivors)


def _moved(model: Model, real: Callable[[int, int], NDArray[np.float64]], survivors: int) -> Model:
    updated = np.empty(model.size, np.float32)

    def work(start: int, stop: int) -> None:
        _refuse_to_flush()
        part = real(start, stop)  # ours to change
        part /= survivors
        part += model[start:stop]
        if not np.isfinite(part).all():
            raise InvalidInput("a model holds values that are not finite")
        updated[start:stop] = part

    over_ranges(model.size, CHUNK_VALUES, work)
    return updated


def _refuse_to_flush() -> None:
    """Raise where the calling thread flushes subnormal numbers to zero, which is a state of the processor.

    Raises:
        RunFailed: If it does.
    """
    smallest = np.full(1, _SMALLEST_BITS).view(np.float32)
    if smallest.astype(np.float64).astype(np.float32).view(np.uint32)[0] != _SMALLEST_BITS:
        raise RunFailed(
            "this process takes very small numbers for zero and would come to another model than the others: "
            "turn that off (torch.set_flush_denormal(False); no library built with -ffast-math)"
        )


def _signed(vector: RingVector, length: int) -> NDArray[np.int32]:
    """Return a vector of words as the signed integers that they stand for.

    Raises:
        InvalidInput: If it is no contiguous vector of that many words.
    """
    if vector.shape != (length,) or vector.dtype != np.uint32 or not vector.flags.c_contiguous:
        raise InvalidInput(f"a contiguous vector of {length} 32-bit words was to be given")
    return vector.view(np.int32)

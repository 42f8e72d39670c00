"""Real vectors as integers modulo 2**32, so that sums of masked vectors are exact.

A value is scaled by 2**f, rounded, clipped to ±floor((2**31 - 1) / n) and stored as two's complement in
uint32. With n summands the sum cannot leave the signed 32-bit range, so it cannot wrap: overflow is
impossible by construction, and what clipping changed is counted.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

RingVector = NDArray[np.uint32]
"""A vector over the integers modulo 2**32."""

_LARGEST: Final = 2**31 - 1
MAX_FRACTION_BITS: Final = 30
"""However small the clip range is, steps are no finer than 2⁻³⁰."""
_MIN_FRACTION_BITS: Final = -20


@dataclass(frozen=True)
class FixedPoint:
    """The encoding for one session.

    Attributes:
        summands: n, the most vectors that are ever added: the size of the roster.
        clip: Absolute value up to which nothing is clipped; the limit lies at less than twice this.
    """

    summands: int
    clip: float

    def __post_init__(self) -> None:
        if self.summands < 1 or not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError("fixed point needs at least one summand and a positive, finite clip range")
        if not self.fraction_bits >= _MIN_FRACTION_BITS:
            raise ValueError("the clip range is too large for so many summands")

    @property
    def limit(self) -> int:
        """Largest encoded absolute value, floor((2**31 - 1) / n)."""
        return _LARGEST // self.summands

    @property
    def fraction_bits(self) -> int:
        """f, the most fraction bits with which ``clip`` still fits below the limit."""
        bits = min(MAX_FRACTION_BITS, math.floor(math.log2(self.limit / self.clip)))
        # The quotient is rounded: at an edge one bit too many could be left, and both ends must agree.
        return bits if Fraction(self.clip) * Fraction(2) ** bits <= self.limit else bits - 1

    @property
    def resolution(self) -> float:
        """Smallest step, 2**-f; a sum of n vectors is off by at most n / 2 steps."""
        return 2.0**-self.fraction_bits

    def encode(self, vector: NDArray[np.floating]) -> tuple[RingVector, int]:
        """Return the ring vector and how many values were clipped; see `encode_into`."""
        words = np.empty(vector.shape, np.uint32)
        return words, self.encode_into(vector, words)

    def encode_into(self, vector: NDArray[np.floating], words: RingVector) -> int:
        """Write the ring vector to ``words``, of the same shape, and return how many values were clipped.

        Raises:
            ValueError: If a value is not finite.
        """
        if not vector.size:
            return 0
        # Scaling by a power of two and rounding are exact in the vector's own precision, but may overflow.
        own = vector if vector.dtype in (np.float32, np.float64) else vector.astype(np.float64)
        with np.errstate(over="ignore"):
            scaled = np.multiply(own, 2.0**self.fraction_bits)
        np.rint(scaled, out=scaled)
        saturated, limit = 0, self.limit
        if not (float(scaled.min()) >= -limit and float(scaled.max()) <= limit):  # or one is not a number
            scaled = np.rint(own.astype(np.float64) / self.resolution)
            if not np.isfinite(scaled).all():
                raise ValueError("an update holds values that are not finite")
            clipped = np.clip(scaled, -limit, limit)
            saturated = int(np.count_nonzero(clipped != scaled))
            scaled = clipped
        np.copyto(words.view(np.int32), scaled, casting="unsafe")
        return saturated

    def decode(self, total: RingVector) -> NDArray[np.float64]:
        """Return the real sum that a ring sum of encoded vectors stands for."""
        real = np.empty(total.shape, np.float64)
        self.decode_into(total, real)
        return real

    def decode_into(self, total: RingVector, real: NDArray[np.float64]) -> None:
        """Write to ``real``, of the same shape, the sum that a ring sum stands for."""
        np.multiply(total.view(np.int32), self.resolution, out=real)

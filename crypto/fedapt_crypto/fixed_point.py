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
_MAX_FRACTION_BITS: Final = 30
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
        bits = min(_MAX_FRACTION_BITS, math.floor(math.log2(self.limit / self.clip)))
        # The quotient is rounded: at an edge one bit too many could be left, and both ends must agree.
        return bits if Fraction(self.clip) * Fraction(2) ** bits <= self.limit else bits - 1

    @property
    def resolution(self) -> float:
        """Smallest step, 2**-f; a sum of n vectors is off by at most n / 2 steps."""
        return 2.0**-self.fraction_bits

    def encode(self, vector: NDArray[np.floating]) -> tuple[RingVector, int]:
        """Return the ring vector and how many values were clipped.

        Raises:
            ValueError: If a value is not finite.
        """
        scaled = np.rint(np.asarray(vector, np.float64) / self.resolution)
        if not np.isfinite(scaled).all():
            raise ValueError("an update holds values that are not finite")
        clipped = np.clip(scaled, -self.limit, self.limit)
        saturated = int(np.count_nonzero(clipped != scaled))
        return clipped.astype(np.int32).view(np.uint32), saturated

    def decode(self, total: RingVector) -> NDArray[np.float64]:
        """Return the real sum that a ring sum of encoded vectors stands for."""
        return total.view(np.int32).astype(np.float64) * self.resolution

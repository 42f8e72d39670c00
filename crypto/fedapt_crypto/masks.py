"""Add and cancel keystream masks in vectors over the integers modulo 2**32."""

from collections.abc import Collection
from typing import Final

import numpy as np

from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.keystream import CHUNK_VALUES, Keystream
from fedapt_crypto.parallel import over_ranges

SignedKey = tuple[bytes, int]
"""A keystream key and +1 (add its mask) or -1 (subtract it)."""

RANGE_VALUES: Final = CHUNK_VALUES
"""Values that one thread masks at a time: with their keystream they stay in the second-level cache."""


def apply_masks(vector: RingVector, keys: Collection[SignedKey]) -> None:
    """Add each key's signed mask to ``vector`` in place; a long one in several threads."""
    over_ranges(vector.size, RANGE_VALUES, lambda start, stop: mask_range(vector[start:stop], keys, start))


def mask_range(part: RingVector, keys: Collection[SignedKey], first: int) -> None:
    """Add to a part of a vector what each key's mask has there, in the calling thread.

    Args:
        part: At most `RANGE_VALUES` consecutive values, changed in place.
        keys: The masks.
        first: Position of the part in its vector; a multiple of four, where a cipher block starts.
    """
    mask = np.empty(part.size, np.uint32)
    for key, sign in keys:
        Keystream(key, first=4 * first).fill(mask)
        (np.add if sign > 0 else np.subtract)(part, mask, out=part)  # uint32 wraps as the ring does

"""Add and cancel keystream masks in vectors over the integers modulo 2**32."""

from collections.abc import Iterable

import numpy as np

from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.keystream import CHUNK_VALUES, Keystream

SignedKey = tuple[bytes, int]
"""A keystream key and +1 (add its mask) or -1 (subtract it)."""


def apply_masks(vector: RingVector, keys: Iterable[SignedKey]) -> None:
    """Add each key's signed mask to ``vector`` in place.

    Chunk by chunk over all keys, so that a chunk of the vector and its keystream stay in cache.
    """
    streams = [(Keystream(key), np.add if sign > 0 else np.subtract) for key, sign in keys]
    scratch = np.empty(min(CHUNK_VALUES, vector.size), np.uint32)
    for start in range(0, vector.size, CHUNK_VALUES):
        part = vector[start : start + CHUNK_VALUES]
        mask = scratch[: part.size]
        for stream, combine in streams:
            stream.fill(mask)
            combine(part, mask, out=part)  # uint32 wraps as the ring does

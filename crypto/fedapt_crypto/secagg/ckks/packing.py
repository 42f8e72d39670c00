"""Between integers and the slots of a vector's pieces: the values, and the check values κ in secret places.

A slot holds an integer times 2**-22. Encryption adds an error of some 1e-5 of one, which rounding takes away
again: what is decrypted must lie within an eighth of an integer in every slot. Then the sum is exact, and its
tag (`fedapt_crypto.sum_tag`) proves it.

Four slots of each piece hold κ = PRF(G, execution, institution, piece, slot), uniform integers of 25 bits, in
places that are drawn from G for each piece and execution. The decrypted ones must equal the sum of κ over
the contributors that were signed for. The tag says more; κ is a second lock, beside three that cost nothing:
every slot an integer, slots after the vector's end zero, and no value beyond 32 bits.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import SumCheckFailed
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.keystream import Keystream
from fedapt_crypto.secagg.ckks.parameters import (
    KAPPA_BITS,
    KAPPA_SLOTS,
    LARGEST_SUM,
    SLOTS,
    UNIT,
    VALUES_PER_PIECE,
    pieces_of,
)

TOLERANCE: Final = 0.125
"""How far a decrypted slot may be from an integer: 13,000 standard deviations of the error of a sum of 64."""

Slots = NDArray[np.float64]
"""Shape (pieces, SLOTS)."""
Kappa = NDArray[np.int64]
"""Shape (pieces, KAPPA_SLOTS), in ascending order of slots."""


def kappa_mask(key: bytes, vector_length: int) -> NDArray[np.bool_]:
    """Return where the κ slots are, shape (pieces, SLOTS): four in each row, uniformly drawn."""
    pieces = pieces_of(vector_length)
    words = Keystream(key).uniform_words(pieces * SLOTS).reshape(pieces, SLOTS)
    chosen = np.argpartition(words, KAPPA_SLOTS, axis=1)[:, :KAPPA_SLOTS]
    mask = np.zeros((pieces, SLOTS), np.bool_)
    np.put_along_axis(mask, chosen, True, axis=1)
    return mask


def kappa(key: bytes, vector_length: int) -> Kappa:
    """Return one institution's check values."""
    pieces = pieces_of(vector_length)
    words = Keystream(key).uniform_words(pieces * KAPPA_SLOTS) >> np.uint64(64 - KAPPA_BITS)
    return (words.astype(np.int64) - (1 << KAPPA_BITS - 1)).reshape(pieces, KAPPA_SLOTS)


def pack(words: RingVector, mask: NDArray[np.bool_], own_kappa: Kappa) -> Slots:
    """Return the slots of a vector's pieces: its integers in order around the κ slots, zero after its end.

    Args:
        words: (vector_length,) uint32, two's complement.
        mask: From `kappa_mask`.
        own_kappa: From `kappa`.
    """
    padded = np.zeros(len(mask) * VALUES_PER_PIECE)
    padded[: words.size] = words.view(np.int32)
    slots = np.empty((len(mask), SLOTS))
    slots[~mask] = padded
    slots[mask] = own_kappa.reshape(-1)
    slots *= UNIT
    return slots


def unpack(slots: Slots, mask: NDArray[np.bool_], kappa_sum: Kappa, vector_length: int) -> RingVector:
    """Check a decrypted sum and return its integers, (vector_length,) uint32, two's complement.

    Args:
        slots: What was decrypted.
        mask: From `kappa_mask`.
        kappa_sum: The sum of the contributors' κ.
        vector_length: L.

    Raises:
        SumCheckFailed: If it is no sum of integers, or not of these contributors' in this execution.
    """
    decrypted = slots / UNIT
    nearest = np.rint(decrypted)
    # Both written so that a NaN fails. An infinity less itself is one.
    with np.errstate(invalid="ignore"):
        if not (np.abs(decrypted - nearest) <= TOLERANCE).all():
            raise SumCheckFailed("sum check failed: a slot is no integer")
    if not (np.abs(nearest) <= LARGEST_SUM).all():
        raise SumCheckFailed("sum check failed: a value beyond what the contributors can add up to")
    if not np.array_equal(nearest[mask], kappa_sum.reshape(-1)):
        raise SumCheckFailed("sum check failed: the check values are not the contributors'")
    values = nearest[~mask]
    if values[vector_length:].any():
        raise SumCheckFailed("sum check failed: values beyond the vector's end")
    return values[:vector_length].astype(np.int32).view(np.uint32)

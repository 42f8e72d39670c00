"""Between a vector and the slots of its pieces: the values, and the check values κ in secret places.

Four slots of each piece hold κ = PRF(g, execution, institution, piece, slot), uniform in ±4. The decrypted
slots must equal the sum of κ over the contributors that were signed for: a coordinator that repeats,
replaces, leaves out or adds ciphertexts, uses another round's, or shifts a sum it cannot read, does not
know that sum. Which four slots is itself drawn from g for each piece and execution, so a shift that leaves
them alone has to guess them. Two free checks beside: slots after the vector's end must sum to zero, and no
slot may pass what the contributors' clipped values can reach.

**Limit.** κ is a sample and no authentication of each value: a shift of a share f of the slots of P pieces
passes with probability (1 - f)^(4P), a shift of a single slot with 99.8 %, and one that is zero in the κ
slots (which only a holder of g can aim) always. What κ excludes is using the sum to isolate an institution or
replacing it wholesale, not small damage by a coordinator, who can spoil a round anyway.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.keystream import Keystream
from fedapt_crypto.secagg.ckks.parameters import (
    KAPPA_LIMIT,
    KAPPA_SLOTS,
    SLOTS,
    VALUES_PER_PIECE,
    pieces_of,
)

TOLERANCE: Final = 1e-3
"""How far a decrypted slot may be from what it must be; the error of 64 ciphertexts stays under 1e-10."""

Slots = NDArray[np.float64]
"""Shape (pieces, SLOTS)."""
Kappa = NDArray[np.float64]
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
    words = Keystream(key).uniform_words(pieces * KAPPA_SLOTS) >> np.uint64(11)
    uniform = words.astype(np.float64) * 2.0**-53
    return ((2 * uniform - 1) * KAPPA_LIMIT).reshape(pieces, KAPPA_SLOTS)


def pack(values: NDArray[np.float64], mask: NDArray[np.bool_], own_kappa: Kappa) -> Slots:
    """Return the slots of a vector's pieces: its values in order around the κ slots, zero after its end."""
    padded = np.zeros(len(mask) * VALUES_PER_PIECE)
    padded[: len(values)] = values
    slots = np.empty((len(mask), SLOTS))
    slots[~mask] = padded
    slots[mask] = own_kappa.reshape(-1)
    return slots


def unpack(
    slots: Slots, mask: NDArray[np.bool_], kappa_sum: Kappa, vector_length: int, largest: float
) -> NDArray[np.float64]:
    """Check a decrypted sum and return its values, shape (vector_length,).

    Args:
        slots: What was decrypted.
        mask: From `kappa_mask`.
        kappa_sum: The sum of the contributors' κ.
        vector_length: L.
        largest: What no slot of that many contributors can pass.

    Raises:
        VerificationFailed: If the sum is not of these contributors' ciphertexts of this execution.
    """
    # Written so that a NaN fails.
    if not (np.abs(slots[mask] - kappa_sum.reshape(-1)) <= TOLERANCE).all():
        raise VerificationFailed("the sum is not that of the contributors' ciphertexts")
    values = slots[~mask]
    if not (np.abs(values[vector_length:]) <= TOLERANCE).all():
        raise VerificationFailed("the sum has values beyond the vector's end")
    if not (np.abs(values[:vector_length]) <= largest + TOLERANCE).all():
        raise VerificationFailed("the sum is larger than its contributors' updates can be")
    return values[:vector_length]

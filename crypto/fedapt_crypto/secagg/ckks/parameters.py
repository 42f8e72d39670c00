"""The one CKKS parameter set, and what fits into it.

Degree 4096 with primes of 60 and 49 bits keeps 109 bits of modulus, the most that 128 bits of security
allow at this degree (homomorphicencryption.org standard, table 1, ternary secret). Data lives under the
60-bit prime q0 alone; a decrypted coefficient beyond ±q0 / 2 wraps silently, so the sum has to stay
under q0 / (2 · scale) = 1024. The coefficients of an encoding are averages over its slots and never larger
than the largest slot, so bounding slots bounds them. Flooding noise is added after decryption, to
numbers that cannot wrap; it needs no room.
"""

import importlib.util
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.secagg.scheme import RoundContext

DEGREE: Final = 4096
COEFFICIENT_BITS: Final = (60, 49)
SCALE: Final = 2.0**49
SLOTS: Final = DEGREE // 2
KAPPA_SLOTS: Final = 4
"""Slots of each piece that hold the contributors' check values."""
KAPPA_LIMIT: Final = 4.0
"""κ is uniform in ±this."""
VALUES_PER_PIECE: Final = SLOTS - KAPPA_SLOTS

CAPACITY: Final = 2.0 ** (COEFFICIENT_BITS[0] - 1) / SCALE - 1
"""Largest absolute sum in a slot, 1023: one below q0 / (2 · scale), for encryption errors and for q0 being
a little under 2**60."""

MIN_INSTITUTIONS: Final = 3
MAX_INSTITUTIONS: Final = 64
MAX_PIECES: Final = 4096
"""Pieces of one message, `encoding.MAX_CONTAINER_ITEMS`: 8.4 M values."""


def require_tenseal() -> None:
    """Raise `InvalidInput` where TenSEAL is not installed; imports nothing."""
    if importlib.util.find_spec("tenseal") is None:
        raise InvalidInput("the ckks scheme needs TenSEAL: pip install 'fedapt-secure[ckks]'")


def pieces_of(vector_length: int) -> int:
    """Return how many ciphertexts a vector takes."""
    return -(-vector_length // VALUES_PER_PIECE)


def gain(participants: int, clip: float) -> float:
    """Return the factor that brings ±clip to the largest slot value n participants can have, at least 1.

    A fixed error of the encryption and of the flooding then weighs least.

    Raises:
        InvalidInput: If sums of that many values within ±clip could pass the capacity.
    """
    largest = CAPACITY / participants
    if max(clip, KAPPA_LIMIT) > largest:
        raise InvalidInput(
            f"the sum of {participants} updates within ±{clip:g} could wrap under ckks:"
            f" the clip range may be {largest:g} at most"
        )
    return largest / clip


def check_round(context: RoundContext) -> None:
    """Refuse a round that this parameter set cannot hold.

    Raises:
        InvalidInput: If its sum could wrap, its vector is too long, or it has too few or too many parties.
    """
    if not MIN_INSTITUTIONS <= context.participants <= MAX_INSTITUTIONS:
        raise InvalidInput(f"ckks is for {MIN_INSTITUTIONS} to {MAX_INSTITUTIONS} institutions")
    if context.vector_length > MAX_PIECES * VALUES_PER_PIECE:
        raise InvalidInput(f"ckks takes at most {MAX_PIECES * VALUES_PER_PIECE} values in one update")
    gain(context.participants, context.clip)

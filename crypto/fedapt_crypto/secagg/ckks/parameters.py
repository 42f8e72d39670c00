"""The one CKKS parameter set, and what fits into it.

Degree 4096 with primes of 60 and 49 bits keeps 109 bits of modulus, the most that 128 bits of security
allow at this degree (homomorphicencryption.org standard, table 1, ternary secret). Data lives under the
60-bit prime q0 alone; a decrypted coefficient beyond ±q0 / 2 wraps silently, so the sum has to stay
under q0 / (2 · scale), a little less than 1024. The coefficients of an encoding are averages over its slots
and never larger than the largest slot, so bounding slots bounds them.

Slots hold integers times 2**-22, encoded as for masking: a sum of them is at most 2**31 - 1 in absolute value
whatever n, so under 512 in a slot. Twice as large it could wrap. Of the error of a sum of 64, 9.4e-6 of one
in standard deviation, rounding leaves nothing. Flooding noise is added after that, to integers that cannot
wrap; it needs no room.
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
KAPPA_BITS: Final = 25
"""κ is a uniform signed integer of so many bits; a sum of 64 has 31."""
VALUES_PER_PIECE: Final = SLOTS - KAPPA_SLOTS

UNIT: Final = 2.0**-22
"""What the integer 1 is in a slot."""
LARGEST_SUM: Final = 2**31 - 1
"""Largest absolute integer that a slot of a sum holds."""

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


def check_round(context: RoundContext) -> None:
    """Refuse a round that this parameter set cannot hold.

    Raises:
        InvalidInput: If its clip range has no integers, its vector is too long, or it has too few or too many
            parties.
    """
    if not MIN_INSTITUTIONS <= context.participants <= MAX_INSTITUTIONS:
        raise InvalidInput(f"ckks is for {MIN_INSTITUTIONS} to {MAX_INSTITUTIONS} institutions")
    if context.vector_length > MAX_PIECES * VALUES_PER_PIECE:
        raise InvalidInput(f"ckks takes at most {MAX_PIECES * VALUES_PER_PIECE} values in one update")
    try:
        _ = context.fixed_point
    except ValueError as error:
        raise InvalidInput(f"updates cannot be integers under ckks: {error}") from None

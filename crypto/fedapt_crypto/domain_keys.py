"""FedAPT's domain keys as sealed seeds (by default one a domain, frozen for a session).

The coordinator draws a 32-byte seed for each key, commits to all of them in the signed session
configuration, and seals each to the institutions that hold that key. Institutions expand seeds themselves to
U[0, 1): a coordinator that could choose the values (-1, say, which silences the meta prompt) could
single institutions out. The values follow from the seed and the session's group secret, so that the
coordinator, which knows seeds, does not know keys; in a session whose finished bundle it is to have, or that
has no such secret, they follow from the seed alone. Sealing and secret separate the parties while they
train; they hide no data, and a key can be estimated from sums of updates (docs/what-a-sum-hides.md).
"""

import secrets
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.kdf import Part, derive, digest
from fedapt_crypto.keystream import Keystream
from fedapt_crypto.seal import SealingKey, seal

SEED_BYTES = 32
_MANTISSA_BITS = 24
_VALUES = "domain key values"


class SharedSecret(Protocol):
    """What a session's institutions share and the coordinator does not know."""

    def derive(self, label: str, *parts: Part) -> bytes:
        """Return 32 bytes for one purpose."""


def draw_seed() -> bytes:
    """Return a fresh seed from the operating system."""
    return secrets.token_bytes(SEED_BYTES)


def experiment_seed(number: int, key_index: int) -> bytes:
    """Return a seed that anybody can compute, for experiments that are to be repeated exactly."""
    return digest("experiment domain key", number, key_index)


def commitment(seed: bytes, session: bytes, key_index: int) -> bytes:
    """Return the commitment to a key's seed that stands in the session configuration."""
    return digest("domain key", session, key_index, seed)


def check_seed(seed: bytes, session: bytes, key_index: int, expected: bytes) -> None:
    """Check a seed against its commitment; raises `VerificationFailed`."""
    if len(seed) != SEED_BYTES or commitment(seed, session, key_index) != expected:
        raise VerificationFailed(f"the seed of key {key_index} is not the one committed to")


def seal_seed(seed: bytes, public_key: bytes, session: bytes, key_index: int, receiver: str) -> bytes:
    """Seal a key's seed to one institution."""
    return seal(public_key, seed, "domain key", session, key_index, receiver)


def open_seed(sealed: bytes, key: SealingKey, session: bytes, key_index: int, receiver: str) -> bytes:
    """Open a sealed seed; raises `VerificationFailed`. Check it with `check_seed` before use."""
    return key.open(sealed, "domain key", session, key_index, receiver)


def expand(
    seed: bytes, session: bytes, key_index: int, shape: tuple[int, int], shared: SharedSecret | None
) -> NDArray[np.float32]:
    """Return the key a seed stands for, U[0, 1) on a grid of 2**-24.

    Args:
        seed: The key's seed, 32 bytes.
        session: The session's identifier.
        key_index: Which of its keys.
        shape: (n_ctx, W), which the key has too.
        shared: The session's group secret; ``None`` where the seed alone decides.

    Raises:
        InvalidInput: If the group secret was closed.
    """
    if shared is None:
        stream = Keystream(derive(seed, _VALUES, key_index))
    else:
        stream = Keystream(shared.derive(_VALUES, session, key_index, seed))
    words = stream.uniform_words(shape[0] * shape[1], np.uint32)
    # The 24 high bits fit a float32 exactly, so the largest value is 1 - 2**-24, below 1.
    values = (words >> np.uint32(32 - _MANTISSA_BITS)).astype(np.float32) * np.float32(2.0**-_MANTISSA_BITS)
    return values.reshape(shape)

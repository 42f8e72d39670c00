"""AES-256-CTR as a generator of uniform bytes: masks, privacy noise and sampling draw from it.

Faster than a memory-bound numpy generator and, unlike one, unpredictable without its key (FIPS 197,
SP 800-38A).
"""

import secrets
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES: Final = 32
CHUNK_VALUES: Final = 1 << 18
"""Values of 32 bits expanded at a time: 1 MiB of keystream stays in the second-level cache."""

_BLOCK_BYTES: Final = 16
_ZEROS: Final = memoryview(bytes(4 * CHUNK_VALUES))


class Keystream:
    """A stream of uniform bytes that only the holder of the key can reproduce.

    The counter starts at zero, so one key must never serve two purposes: callers derive a key for each.

    Args:
        key: 32 bytes.
        first: Byte of the stream to begin with, a multiple of the cipher's block of 16.
    """

    def __init__(self, key: bytes, *, first: int = 0) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream key has {KEY_BYTES} bytes")
        block, within = divmod(first, _BLOCK_BYTES)
        if within:
            raise ValueError(f"a keystream begins at a multiple of {_BLOCK_BYTES} bytes")
        counter = block.to_bytes(_BLOCK_BYTES, "big")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()

    @classmethod
    def from_operating_system(cls) -> "Keystream":
        """Return a stream under a fresh key from the operating system."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def __repr__(self) -> str:
        return "Keystream(key hidden)"

    def fill(self, buffer: NDArray[Any]) -> None:
        """Overwrite a contiguous array with the next bytes of the stream.

        Successive calls continue where the last one ended, whatever the sizes.
        """
        view = buffer.data.cast("B")
        for start in range(0, len(view), len(_ZEROS)):
            part = view[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(part)], part)

    def uniform_words(self, count: int, dtype: type[np.unsignedinteger[Any]] = np.uint64) -> NDArray[Any]:
        """Return ``count`` uniform unsigned integers of ``dtype``."""
        words = np.empty(count, dtype)
        self.fill(words)
        return words

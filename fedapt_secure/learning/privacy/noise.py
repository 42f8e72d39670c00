"""Gaussian noise that protects records, from a keystream.

Never from torch's or numpy's generators: their state can be reconstructed from their output.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.keystream import Keystream

_PAIRS_AT_ONCE: Final = 1 << 20  # 16 MiB of keystream
_REFINED_BELOW: Final = np.uint64(1 << 53)


def gaussian(keystream: Keystream, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return independent standard normal float64 values (Box and Muller 1958).

    The uniform number behind a radius has a relative precision of 2⁻⁵³ however small it is, so the tails
    are as fine as the middle; values reach 13 standard deviations. What is left to the real normal is
    bounded in docs/decisions/0004-noise-on-a-grid.md.

    Args:
        keystream: Where the randomness comes from; 16 bytes for every two values, now and then 8 more.
        shape: Shape of the result.
    """
    count = int(np.prod(shape))
    values = np.empty(count + count % 2)
    pairs = values.reshape(-1, 2)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        words = keystream.uniform_words(2 * len(part)).reshape(-1, 2)
        radius = np.sqrt(-2 * np.log(_uniform(keystream, words[:, 0])))
        angle = words[:, 1] * (2 * np.pi * 2.0**-64)
        part[:, 0], part[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    return values[:count].reshape(shape)


def _uniform(keystream: Keystream, words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return words / 2⁶⁴ in (0, 1], never 0; small ones get 64 bits more."""
    leading = words.astype(np.float64)
    small = np.flatnonzero(words < _REFINED_BELOW)
    leading[small] += (keystream.uniform_words(len(small)) + 0.5) * 2.0**-64
    return leading * 2.0**-64

"""Random numbers that protect records: Poisson sampling and Gaussian noise from a keystream.

Never from torch's or numpy's generators: their state can be reconstructed from their output.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream

_MANTISSA_BITS: Final = 53  # of a float64: as many uniform bits as one can hold
_PAIRS_AT_ONCE: Final = 1 << 20  # 16 MiB of keystream


def poisson_batch(keystream: Keystream, count: int, sample_rate: float) -> Tensor:
    """Return the indices of a Poisson sample: each record is in with the same probability, independently.

    Args:
        keystream: Where the randomness comes from.
        count: Number of records.
        sample_rate: q, in (0, 1]; 1 takes every record.

    Returns:
        Ascending indices, int64, (B,); B may be 0.

    Raises:
        InvalidInput: If the rate is outside (0, 1].
    """
    if not 0 < sample_rate <= 1:
        raise InvalidInput("the sample rate must lie in (0, 1]")
    if sample_rate == 1:
        return torch.arange(count)
    # Rounded down: the true rate is at most 2⁻⁶⁴ below q, never above it.
    limit = np.uint64(int(sample_rate * 2.0**64))
    return torch.from_numpy(np.flatnonzero(keystream.uniform_words(count) < limit))


def gaussian(keystream: Keystream, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return independent standard normal float64 values (Box and Muller 1958).

    With 53 uniform bits the largest value is 8.57 standard deviations.

    Args:
        keystream: Where the randomness comes from; 16 bytes are used for every two values.
        shape: Shape of the result.
    """
    count = int(np.prod(shape))
    values = np.empty(count + count % 2)
    pairs = values.reshape(-1, 2)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        bits = keystream.uniform_words(2 * len(part)) >> np.uint64(64 - _MANTISSA_BITS)
        uniform = bits.astype(np.float64).reshape(-1, 2) * 2.0**-_MANTISSA_BITS  # in [0, 1)
        radius = np.sqrt(-2 * np.log1p(-uniform[:, 0]))  # of 1 - u, in (0, 1]: no logarithm of zero
        angle = 2 * np.pi * uniform[:, 1]
        part[:, 0], part[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    return values[:count].reshape(shape)

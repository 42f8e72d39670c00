"""Noise that hides what an exact CKKS decryption says about the secret key.

A decryption is m + e with e the encryption error. Whoever sees it and the ciphertext c0 + c1·s = m + e gets
linear equations in s without any error: two published pieces give the key away (Li and Micciancio,
Eurocrypt 2021, "On the Security of Homomorphic Encryption on Approximate Numbers", section 4). The exported
model is a publication too. So every institution adds the same Gaussian noise to what it decrypted, before
any use, after Li, Micciancio, Schultz and Sorrell, CRYPTO 2022 (ePrint 2022/816), "Securing Approximate
Homomorphic Encryption Using Differential Privacy", here LMSS22.

**The error.** A fresh symmetric encryption has an error polynomial with centred binomial coefficients,
variance 21 / 2; encoding rounds, 1 / 12 a coefficient; 3.5² covers both and what float64 loses (measured: at
most 3.31² over scale). The real part of a slot of a sum of n is a sum of n · N such coefficients, each times
a cosine, over the scale Δ: its standard deviation is

    e = sqrt(N / 2 · n) · 3.5 / Δ,

and a piece, N / 2 slots, is off by t = sqrt(N / 2) · e in root mean square Euclidean norm. n is the size of
the roster: fewer contributors have less error.

**The noise.** LMSS22 section 4: if what is published is ρ-KL-differentially private in the error and
ρ <= 2^(-s - 7) / q for q decryptions, the scheme with noise has s bits of security against an adversary who
sees decryptions (IND-CPA-D) in the sense of Micciancio and Walter 2018, where the underlying scheme has
s + 8. Gaussian noise of standard deviation σ on a vector that moves by t has ρ = t² / (2 σ²), hence

    σ = 8 · sqrt(q) · 2^(s / 2) · t.

q counts pieces over the life of the key, s = 40. The total divergence is 2^-47, which by Pinsker's inequality
means that nobody tells what is published from the exact sum with the same noise (which has nothing to do
with the key) with advantage above 2^-24.

Where we depart: LMSS22 takes t as a bound that always holds. Errors here are drawn by honest institutions
and the chain rule of the divergence takes the mean of t², so t is the root mean square. A bound that always
holds (21.5 a coefficient) would cost a factor of 6 · sqrt(n). The constant 8 is the conservative one of the
literature; later work has smaller ones. The section number was not checked against the paper's text.

**Figures.** With q = 4096, σ is 0.015 in slots for 5 institutions and 0.055 for 64. Values are enlarged to
fill the modulus (`parameters.gain`), so on the sum that is 7.5e-5 and 3.4e-3 times the clip range: a clip
range no larger than updates need keeps it far below the noise of differential privacy.

**What it does not do.** The bound is for sums of honest ciphertexts. A coordinator that feeds crafted
ciphertexts is met by the check values, by one decryption an execution and by the end of the key at the
first failure, not by this noise. And it is no differential privacy for records.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.keystream import Keystream
from fedapt_crypto.secagg.ckks.parameters import DEGREE, SCALE, SLOTS

SECURITY_BITS: Final = 40
"""s in the docstring."""
DEFAULT_DECRYPTIONS: Final = 1 << 12
"""q where a session does not say: 8.4 M values, such as 125,000 in each of 66 rounds."""
MAX_DECRYPTIONS: Final = 1 << 20

_ERROR_PER_COEFFICIENT: Final = 3.5
_GRID_FRACTION: Final = 1024
_MANTISSA_BITS: Final = 53


def slot_error(participants: int) -> float:
    """Return e, the standard deviation of a slot of the sum of that many fresh ciphertexts."""
    return math.sqrt(DEGREE / 2 * participants) * _ERROR_PER_COEFFICIENT / SCALE


def noise_deviation(participants: int, decryptions: int) -> float:
    """Return σ in units of a slot, for a key that decrypts at most ``decryptions`` pieces."""
    piece_error = math.sqrt(SLOTS) * slot_error(participants)
    return 8 * math.sqrt(decryptions) * 2 ** (SECURITY_BITS / 2) * piece_error


def flood(exact: NDArray[np.float64], deviation: float, key: bytes) -> NDArray[np.float64]:
    """Return ``exact`` plus the Gaussian noise that ``key`` stands for, on a grid.

    The grid, at most σ / 1024, wipes out the low bits of float64 noise, which are not Gaussian, and any
    difference in the last bit between two processors, so that institutions agree on the sum.

    Args:
        exact: Decrypted values, shape (L,).
        deviation: σ, from `noise_deviation`.
        key: 32 bytes for this decryption only.
    """
    grid = 2.0 ** math.floor(math.log2(deviation / _GRID_FRACTION))
    noise = np.rint(_gaussian(Keystream(key), len(exact)) * (deviation / grid)) * grid
    flooded: NDArray[np.float64] = np.rint((exact + noise) / grid) * grid
    return flooded


def _gaussian(keystream: Keystream, count: int) -> NDArray[np.float64]:
    """Return standard normal values (Box and Muller 1958); the largest possible is 8.57."""
    bits = keystream.uniform_words(count + count % 2) >> np.uint64(64 - _MANTISSA_BITS)
    uniform = bits.astype(np.float64).reshape(-1, 2) * 2.0**-_MANTISSA_BITS
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 0]))
    angle = 2 * np.pi * uniform[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)[:count]

"""Noise on sums that are exact already: a second lock on what a CKKS decryption says about the secret key.

A decryption is m + e with e the encryption error. Whoever sees it and the ciphertext c0 + c1·s = m + e gets
linear equations in s without any error: two published pieces give the key away (Li and Micciancio,
Eurocrypt 2021, "On the Security of Homomorphic Encryption on Approximate Numbers", section 4). The exported
model is a publication too.

**What already stops this.** Nobody uses m + e. It is rounded, and what comes of it must pass the tag
(`fedapt_crypto.sum_tag`): then it is the sum of integers that institutions have tagged, which follows from
their updates alone and says nothing about e, whatever ciphertext was decrypted. All that depends on e is
whether the checks pass, and the first time they do not ends the key.

**The noise** is from when sums were not exact, and stays for now. Every institution adds the same Gaussian
integers to the sum that it has checked, before any use, sized after Li, Micciancio, Schultz and Sorrell,
CRYPTO 2022 (ePrint 2022/816), "Securing Approximate Homomorphic Encryption Using Differential Privacy", here
LMSS22, as if the error were still in it.

**The error.** A fresh symmetric encryption has an error polynomial with centred binomial coefficients,
variance 21 / 2; encoding rounds, 1 / 12 a coefficient; 3.5² covers both and what float64 loses (measured: at
most 3.31² over scale). The real part of a slot of a sum of n is a sum of n · N such coefficients, each times
a cosine, over the scale Δ: its standard deviation is

    e = sqrt(N / 2 · n) · 3.5 / Δ,

2**22 times that in units of the sum, and a piece, N / 2 slots, is off by t = sqrt(N / 2) · e in root mean
square Euclidean norm. n is the size of the roster: fewer contributors have less error.

**Its size.** LMSS22 section 4: if what is published is ρ-KL-differentially private in the error and
ρ <= 2^(-s - 7) / q for q decryptions, the scheme with noise has s bits of security against an adversary who
sees decryptions (IND-CPA-D) in the sense of Micciancio and Walter 2018, where the underlying scheme has
s + 8. Gaussian noise of standard deviation σ on a vector that moves by t has ρ = t² / (2 σ²), hence

    σ = 8 · sqrt(q) · 2^(s / 2) · t,  in units of the sum 448 · sqrt(q · n).

q counts pieces over the life of the key, s = 40. The total divergence is 2^-47, which by Pinsker's inequality
means that nobody tells what is published from the exact sum with the same noise (which has nothing to do
with the key) with advantage above 2^-24.

Where we depart: LMSS22 takes t as a bound that always holds. Errors here are drawn by honest institutions
and the chain rule of the divergence takes the mean of t², so t is the root mean square. A bound that always
holds (21.5 a coefficient) would cost a factor of 6 · sqrt(n). The constant 8 is the conservative one of the
literature; later work has smaller ones. The section number was not checked against the paper's text.

**Figures.** With q = 4096, σ is 64,000 for 5 institutions and 229,000 for 64, of the 2³¹ - 1 that a sum can
be: 1.5e-4 and 6.8e-3 of what one institution can contribute. It does not follow the clip range below steps of
2⁻³⁰: σ is then 6.0e-5 and 2.1e-4 on the sum, so that a clip range under 0.4 for 5 institutions makes the
noise no smaller.

**The same bits everywhere.** Logarithms and cosines differ in their last bits between processors. A noise is
*the* integer nearest to a real number, so where float64 leaves doubt it is computed again with 50 digits.

**What it does not do.** It is no differential privacy for records.
"""

import math
from decimal import Context, Decimal, localcontext
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.keystream import Keystream
from fedapt_crypto.secagg.ckks.parameters import DEGREE, SCALE, UNIT

SECURITY_BITS: Final = 40
"""s in the docstring."""
DEFAULT_DECRYPTIONS: Final = 1 << 12
"""q where a session does not say: 8.4 M values, such as 125,000 in each of 66 rounds."""
MAX_DECRYPTIONS: Final = 1 << 20

_ERROR_PER_COEFFICIENT: Final = 3.5
_MANTISSA_BITS: Final = 53
_DEVIATION_OF_ONE: Final = 448
"""σ for one decryption and one institution, exactly."""
_DOUBT: Final = 2.0**-40
"""Of σ: a hundred times what float64 and its functions are off by, for |z| < 8.6."""
_DIGITS: Final = Context(prec=60)
_PI: Final = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")


def slot_error(participants: int) -> float:
    """Return e in units of a sum, the standard deviation of a slot of the sum of that many ciphertexts."""
    return math.sqrt(DEGREE / 2 * participants) * _ERROR_PER_COEFFICIENT / SCALE / UNIT


def noise_deviation(participants: int, decryptions: int) -> float:
    """Return σ in units of a sum, for a key that decrypts at most ``decryptions`` pieces."""
    return _DEVIATION_OF_ONE * math.sqrt(decryptions * participants)


def noise(key: bytes, count: int, *, participants: int, decryptions: int) -> NDArray[np.int64]:
    """Return the Gaussian integers that a key stands for, with the same bits on every machine.

    Args:
        key: 32 bytes for this decryption only.
        count: How many.
        participants: n.
        decryptions: q.
    """
    words = Keystream(key).uniform_words(count + count % 2) >> np.uint64(64 - _MANTISSA_BITS)
    pairs = words.reshape(-1, 2)
    uniform = pairs.astype(np.float64) * 2.0**-_MANTISSA_BITS
    deviation = noise_deviation(participants, decryptions)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 0])) * deviation  # Box and Muller 1958; at most 8.57 σ
    angle = 2 * np.pi * uniform[:, 1]
    real = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    nearest = np.rint(real)
    result: NDArray[np.int64] = nearest.astype(np.int64)
    variance = _DEVIATION_OF_ONE**2 * decryptions * participants
    for row, column in np.argwhere(np.abs(real - nearest) > 0.5 - _DOUBT * deviation):
        first, second = pairs[row].tolist()
        result[row, column] = _nearest(first, second, variance, sine=bool(column))
    flat: NDArray[np.int64] = result.reshape(-1)[:count]
    return flat


def _nearest(first: int, second: int, variance: int, *, sine: bool) -> int:
    """Return the integer nearest to sqrt(-2 v ln(1 - a)) times cos 2πb or sin 2πb.

    Args:
        first: a · 2**53.
        second: b · 2**53.
        variance: v.
        sine: Which of the two.
    """
    with localcontext(_DIGITS):
        whole = Decimal(1 << _MANTISSA_BITS)
        radius = (-2 * variance * (1 - first / whole).ln()).sqrt()
        turned = _sine(2 * _PI * second / whole + (0 if sine else _PI / 2))
        return int((radius * turned).to_integral_value())


def _sine(angle: Decimal) -> Decimal:
    """Return its sine, from the series; angles are below 8."""
    term = total = angle
    for k in range(1, 60):
        term *= -angle * angle / (2 * k * (2 * k + 1))
        total += term
    return total

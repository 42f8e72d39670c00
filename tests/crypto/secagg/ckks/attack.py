"""The key recovery that flooding is there to stop (Li and Micciancio 2021), against TenSEAL's CKKS.

Who sees the sum's ciphertext c0 + c1·s = m and the exact real parts r of m's slots has the equation
m + conj(m) = encode(2r): half as many exact linear equations modulo q0 as the key has coefficients. A second
sum gives the other half: a two by two system for each pair of conjugate evaluation points.
"""

from pathlib import Path

import numpy as np
import tenseal
from tenseal import sealapi

from fedapt_crypto.secagg.ckks.parameters import COEFFICIENT_BITS, DEGREE

_BODY = slice(8, -9)  # between the size field with the body's tag and length, and the scale field


def polynomials(piece: bytes, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two polynomials of a ciphertext, at their evaluation points, as Python integers.

    SEAL's own loader takes them from a file; their bytes are compressed.
    """
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(DEGREE, list(COEFFICIENT_BITS)))
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)
    path = folder / "ciphertext"
    path.write_bytes(piece[_BODY])
    ciphertext = sealapi.Ciphertext(context)
    ciphertext.load(context, str(path))
    data = ciphertext.dyn_array()
    numbers = np.array([data.at(i) for i in range(2 * DEGREE)], dtype=object)
    return numbers[:DEGREE], numbers[DEGREE:]


def largest_prime() -> int:
    """q0: the largest 60-bit prime that is 1 modulo 2N."""
    candidate = (1 << COEFFICIENT_BITS[0]) + 1
    while True:
        candidate -= 2 * DEGREE
        if all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5, 7, 11, 13)):
            return candidate


def secret_key(context: tenseal.Context) -> list[int]:
    """The key's evaluations modulo q0, from a context that has it."""
    plaintext = context.secret_key().data.data()
    return [plaintext.data(i) for i in range(DEGREE)]


def recovered_coefficients(
    public: tenseal.Context,
    sums: list[bytes],
    published: list[np.ndarray],
    key: list[int],
    folder: Path,
) -> int:
    """How many of the key's evaluations follow from two sums' ciphertexts and their published slots."""
    q = largest_prime()
    equations = []
    for piece, slots in zip(sums, published, strict=True):
        c0, c1 = polynomials(piece, folder)
        shifted = tenseal.ckks_vector_from(public, piece)
        shifted.sub_((2 * slots).tolist())
        encoded = c0 - polynomials(shifted.serialize(), folder)[0]
        equations.append((c1 % q, c1[::-1] % q, (encoded - c0 - c0[::-1]) % q))
    (a, b, u), (c, d, v) = equations
    determinant = (a * d - b * c) % q
    found = 0
    for i in range(DEGREE // 2):
        if determinant[i] == 0:
            continue
        inverse = pow(int(determinant[i]), -1, q)
        found += int((u[i] * d[i] - b[i] * v[i]) * inverse % q) == key[i]
        found += int((a[i] * v[i] - c[i] * u[i]) * inverse % q) == key[DEGREE - 1 - i]
    return found

"""The protocol's primitives once more, slow and obvious, from their definitions.

Shares no code with the package but the names of its errors: bytes are joined by hand, numbers are Python
integers and fractions, and only AES, ChaCha20-Poly1305, Ed25519, X25519 and ML-KEM come from a library.
What both compute must be what the recorded vectors say.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from fractions import Fraction

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedapt_crypto.errors import SumCheckFailed, VerificationFailed
from tests.crypto.vectors.reference_encoding import decode, encode, pack_parties, unpack_parties
from tests.crypto.vectors.reference_sealing import open_base

__all__ = ["decode", "encode", "pack_parties", "unpack_parties"]

PRIME = 2**256 + 297
RING = 2**32


# Hashes, derived keys, signatures.


def labelled(label: str, parts: Sequence[object]) -> bytes:
    return encode(["fedapt-secure/1", label, *parts])


def digest(label: str, parts: Sequence[object]) -> bytes:
    return hashlib.sha256(labelled(label, parts)).digest()


def derive(secret: bytes, label: str, parts: Sequence[object], length: int = 32) -> bytes:
    """HKDF of RFC 5869 with SHA-256 and no salt, step by step."""
    key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    output = block = b""
    counter = 1
    while len(output) < length:
        block = hmac.new(key, block + labelled(label, parts) + bytes([counter]), hashlib.sha256).digest()
        output, counter = output + block, counter + 1
    return output[:length]


def identity_key(identity: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()


def sign(identity: bytes, label: str, parts: Sequence[object]) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(identity).sign(labelled(label, parts))


def fingerprint(public_key: bytes) -> str:
    digits = hashlib.sha256(public_key).hexdigest()
    return " ".join(digits[i : i + 4] for i in range(0, 40, 4))


# Which key comes from which secret.


def mask_key(root: bytes, context: bytes) -> bytes:
    return sealing_key(derive(root, "secagg mask key", [context]))


def pair_seed(root: bytes, execution: bytes, dealer: str, receiver: str) -> bytes:
    return derive(root, "secagg pair seed", [execution, dealer, receiver])


def pair_mask_key(seed: bytes, execution: bytes, transcript: bytes, dealer: str, receiver: str) -> bytes:
    return derive(seed, "secagg pair mask", [execution, transcript, dealer, receiver])


def self_mask_key(seed: bytes, execution: bytes, transcript: bytes, owner: str) -> bytes:
    return derive(seed, "secagg self mask", [execution, transcript, owner])


def _tag_mask(seed: bytes, label: str, parts: Sequence[object]) -> bytes:
    return (int.from_bytes(derive(seed, label, parts, 16)) % (2**61 - 1)).to_bytes(8)


def self_tag_mask(seed: bytes, execution: bytes, transcript: bytes, owner: str) -> bytes:
    return _tag_mask(seed, "secagg self tag mask", [execution, transcript, owner])


def pair_tag_mask(seed: bytes, execution: bytes, transcript: bytes, dealer: str, receiver: str) -> bytes:
    return _tag_mask(seed, "secagg pair tag mask", [execution, transcript, dealer, receiver])


def execution_id(context: bytes, participants: bytes, digests: bytes) -> bytes:
    return digest("secagg execution", [context, participants, digests])


def transcript_id(execution: bytes, dealers: bytes, digests: bytes) -> bytes:
    return digest("secagg transcript", [execution, dealers, digests])


def survivors_id(execution: bytes, transcript: bytes, survivors: bytes) -> bytes:
    return digest("secagg survivors", [execution, transcript, survivors])


def commit(kind: str, execution: bytes, owner: str, value: Sequence[bytes | str]) -> bytes:
    return digest("secagg commit " + kind, [execution, owner, *value])


# Keystream and masks.


def keystream(key: bytes, start: int, length: int) -> bytes:
    """AES-256 of the block numbers 0, 1, 2, ..., bytes ``start`` to ``start + length``."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    first, last = start // 16, (start + length + 15) // 16
    stream = b"".join(cipher.update(number.to_bytes(16)) for number in range(first, last))
    return stream[start - 16 * first :][:length]


def add_masks(words: Sequence[int], keys: Sequence[tuple[bytes, bool]]) -> list[int]:
    result = list(words)
    for key, add in keys:
        stream = keystream(key, 0, 4 * len(result))
        for i in range(len(result)):
            mask = int.from_bytes(stream[4 * i : 4 * i + 4], "little")
            result[i] = (result[i] + (mask if add else -mask)) % RING
    return result


# Shamir's sharing.


def split(
    secret: bytes, threshold: int, indices: Sequence[int], coefficients: Sequence[bytes]
) -> list[bytes]:
    """Coefficients stand from the highest power down; the secret is the constant term."""
    if len(coefficients) != threshold - 1:
        raise ValueError("a polynomial of another degree")
    terms = [*(int.from_bytes(c) for c in coefficients), int.from_bytes(secret)]
    powers = range(threshold - 1, -1, -1)
    return [
        (sum(term * x**power for term, power in zip(terms, powers, strict=True)) % PRIME).to_bytes(33)
        for x in indices
    ]


def weights_at_zero(indices: Sequence[int]) -> list[bytes]:
    weights = []
    for i in indices:
        weight = Fraction(1)
        for j in indices:
            if j != i:
                weight *= Fraction(j, j - i)
        weights.append(weight.numerator * pow(weight.denominator, -1, PRIME) % PRIME)
    return [weight.to_bytes(33) for weight in weights]


def combine(shares: Sequence[tuple[int, bytes]]) -> bytes:
    if any(len(share) != 33 or int.from_bytes(share) >= PRIME for _, share in shares):
        raise ValueError("a share")
    weights = weights_at_zero([index for index, _ in shares])
    products = [
        int.from_bytes(w) * int.from_bytes(share) for w, (_, share) in zip(weights, shares, strict=True)
    ]
    secret = sum(products) % PRIME
    if secret >= 2**256:
        raise ValueError("shares that do not fit together")
    return secret.to_bytes(32)


def thresholds(up_to: int) -> list[int]:
    return [2 * n // 3 + 1 for n in range(1, up_to + 1)]


# Fixed point.


def fixed_sizes(summands: int, clip: float) -> dict[str, int]:
    limit = (2**31 - 1) // summands
    if clip <= 0:
        raise ValueError("a clip range")
    bits = max(f for f in range(-20, 31) if Fraction(clip) * Fraction(2) ** f <= limit)
    return {"limit": limit, "fraction_bits": bits}


def fixed_encode(summands: int, clip: float, values: Sequence[float]) -> dict[str, object]:
    sizes = fixed_sizes(summands, clip)
    limit, scale = sizes["limit"], Fraction(2) ** sizes["fraction_bits"]
    rounded = [round(Fraction(value) * scale) for value in values]  # ties to even
    clipped = [max(-limit, min(limit, number)) for number in rounded]
    saturated = sum(a != b for a, b in zip(rounded, clipped, strict=True))
    return {**sizes, "words": [number % RING for number in clipped], "saturated": saturated}


def fixed_decode(summands: int, clip: float, words: Sequence[int]) -> dict[str, object]:
    sizes = fixed_sizes(summands, clip)
    scale = Fraction(2) ** sizes["fraction_bits"]
    signed = [word - RING if word >= RING // 2 else word for word in words]
    return {**sizes, "values": [float(number / scale) for number in signed]}


# Sealing.


def _halves(root: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    seed = derive(root, "sealing key", [], 96)
    return MLKEM768PrivateKey.from_seed_bytes(seed[:64]), X25519PrivateKey.from_private_bytes(seed[64:])


def sealing_key(root: bytes) -> bytes:
    return b"".join(half.public_key().public_bytes_raw() for half in _halves(root))


def open_sealed(root: bytes, sealed: bytes, info: Sequence[object]) -> bytes:
    try:
        return open_base(*_halves(root), sealed, labelled("seal", info))
    except (InvalidTag, ValueError):
        raise VerificationFailed("does not open") from None


# Merkle tree, as RFC 9162 defines it: split at the largest power of two below the number of leaves.


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"fedapt-secure/1 merkle leaf\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"fedapt-secure/1 merkle node\x01" + left + right).digest()


def _middle(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"fedapt-secure/1 merkle empty").digest()
    if len(leaves) == 1:
        return _leaf(leaves[0])
    middle = _middle(len(leaves))
    return _node(merkle_root(leaves[:middle]), merkle_root(leaves[middle:]))


def merkle_proof(leaves: Sequence[bytes], position: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _middle(len(leaves))
    if position < middle:
        return [*merkle_proof(leaves[:middle], position), merkle_root(leaves[middle:])]
    return [*merkle_proof(leaves[middle:], position - middle), merkle_root(leaves[:middle])]


def merkle_tree(leaves: Sequence[bytes]) -> dict[str, object]:
    root, proofs = merkle_root(leaves), [merkle_proof(leaves, i) for i in range(len(leaves))]
    for position, proof in enumerate(proofs):
        merkle_check(root, leaves[position], position, len(leaves), proof)
    return {"root": root, "proofs": proofs}


def merkle_check(root: bytes, leaf: bytes, position: int, count: int, proof: Sequence[bytes]) -> None:
    if not 0 <= position < count or _climb(leaf, position, count, list(proof)) != root:
        raise VerificationFailed("a proof")


def _climb(leaf: bytes, position: int, count: int, proof: list[bytes]) -> bytes | None:
    """Return the root that a proof leads to, or ``None`` where it has another length than it must."""
    if count == 1:
        return None if proof else _leaf(leaf)
    if not proof:
        return None
    sibling, middle = proof.pop(), _middle(count)
    if position < middle:
        below = _climb(leaf, position, middle, proof)
        return below and _node(below, sibling)
    below = _climb(leaf, position - middle, count - middle, proof)
    return below and _node(sibling, below)


# Domain keys.


def domain_commitment(seed: bytes, session: bytes, key_index: int) -> bytes:
    return digest("domain key", [session, key_index, seed])


def domain_check(seed: bytes, session: bytes, key_index: int, expected: bytes) -> None:
    if len(seed) != 32 or domain_commitment(seed, session, key_index) != expected:
        raise VerificationFailed("a seed")


def domain_open(root: bytes, sealed: bytes, session: bytes, key_index: int, receiver: str) -> bytes:
    return open_sealed(root, sealed, ["domain key", session, key_index, receiver])


def domain_values(seed: bytes, key_index: int, shape: tuple[int, int]) -> list[list[int]]:
    """The key's values in steps of 2**-24, row by row."""
    return _key_values(derive(seed, "domain key values", [key_index]), shape)


def shared_domain_values(
    seed: bytes, session: bytes, key_index: int, shape: tuple[int, int], secret: bytes
) -> list[list[int]]:
    """The same where the group secret has a part in it."""
    return _key_values(derive(secret, "domain key values", [session, key_index, seed]), shape)


def _key_values(key: bytes, shape: tuple[int, int]) -> list[list[int]]:
    rows, columns = shape
    stream = keystream(key, 0, 4 * rows * columns)
    words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
    return [[word >> 8 for word in words[row * columns : (row + 1) * columns]] for row in range(rows)]


# Sum tags. Numbers of the field are 8 bytes, big-endian; a vector is a list of (how many, of which value).

FIELD = 2**61 - 1


def _field(stream: bytes) -> list[int]:
    words = [int.from_bytes(stream[i : i + 8], "little") >> 3 for i in range(0, len(stream), 8)]
    return [0 if word == FIELD else word for word in words]


def field_elements(drawn: bytes) -> list[bytes]:
    return [element.to_bytes(8) for element in _field(drawn)]


def sum_check_elements(secret: bytes, label: str, execution: bytes, transcript: bytes, count: int) -> bytes:
    """Return u or v: ``count`` elements, one after the other."""
    key = derive(secret, label, [execution, transcript])
    return b"".join(field_elements(keystream(key, 0, 8 * count)))


def sum_check_pad(secret: bytes, execution: bytes, transcript: bytes, name: str) -> bytes:
    pad = derive(secret, "sum check pad", [execution, transcript, name], 16)
    return (int.from_bytes(pad) % FIELD).to_bytes(8)


def _hash(secret: bytes, execution: bytes, transcript: bytes, values: Sequence[int]) -> int:
    def elements(label: str, count: int) -> list[int]:
        return _field(keystream(derive(secret, label, [execution, transcript]), 0, 8 * count))

    u = elements("sum check rows", (len(values) + 2047) // 2048)
    v = elements("sum check columns", 2048)
    return sum(u[j // 2048] * v[j % 2048] * value for j, value in enumerate(values)) % FIELD


def _spread(runs: Sequence[Sequence[int]]) -> list[int]:
    return [value for count, value in runs for _ in range(count)]


def sum_check_tag(
    secret: bytes, execution: bytes, transcript: bytes, name: str, runs: Sequence[Sequence[int]]
) -> bytes:
    pad = int.from_bytes(sum_check_pad(secret, execution, transcript, name))
    return ((_hash(secret, execution, transcript, _spread(runs)) + pad) % FIELD).to_bytes(8)


def sum_check_verify(
    secret: bytes,
    execution: bytes,
    transcript: bytes,
    survivors: Sequence[str],
    limit: int,
    runs: Sequence[Sequence[int]],
    tag: bytes,
) -> int:
    """Return |U| · B, beyond which no value may be."""
    values, most = _spread(runs), len(survivors) * limit
    pads = [int.from_bytes(sum_check_pad(secret, execution, transcript, name)) for name in survivors]
    right = (_hash(secret, execution, transcript, values) + sum(pads)) % FIELD
    if any(abs(value) > most for value in values) or int.from_bytes(tag) != right:
        raise SumCheckFailed("sum check failed")
    return most


def _rounded(exact: Fraction, digits: int, least: int) -> Fraction:
    """Return the nearest whole multiple, ties to even, of the least power of two that ``digits`` allow."""
    power = max(least, exact.numerator.bit_length() - exact.denominator.bit_length() - digits - 1)
    while abs(exact) >= Fraction(2) ** (power + digits):
        power += 1
    return round(exact / Fraction(2) ** power) * Fraction(2) ** power


def next_model(model: bytes, total: Sequence[int], survivors: int, fraction_bits: int) -> dict[str, object]:
    """Return P' from P, both little-endian float32, and the means X · 2**-f / |U| as float64."""
    before = [Fraction(value) for (value,) in struct.iter_unpack("<f", model)]
    means, after = [], []
    for start, value in zip(before, total, strict=True):
        mean = _rounded(Fraction(value) / Fraction(2) ** fraction_bits / survivors, 53, -1074)
        means.append(float(mean))
        after.append(float(_rounded(_rounded(start + mean, 53, -1074), 24, -149)))
    return {"model": struct.pack(f"<{len(after)}f", *after), "means": means}

"""The reference's own HPKE: how sealed bytes are opened, step by step from SPEC.md and RFC 9180.

ML-KEM, X25519 and ChaCha20-Poly1305 come from a library; how they are put together is written out here.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEM_ID, KDF_ID, AEAD_ID = 0x647A, 0x0001, 0x0003
SUITE_ID = b"HPKE" + KEM_ID.to_bytes(2) + KDF_ID.to_bytes(2) + AEAD_ID.to_bytes(2)
COMBINER_LABEL = bytes.fromhex("5c2e2f2f5e5c")
MLKEM_BYTES, X25519_BYTES, TAG_BYTES = 1088, 32, 16


def open_base(mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Return the plaintext; raises `InvalidTag` or `ValueError` where there is none."""
    encapsulated, ciphertext = (
        sealed[: MLKEM_BYTES + X25519_BYTES],
        sealed[MLKEM_BYTES + X25519_BYTES :],
    )
    if len(ciphertext) < TAG_BYTES:
        raise ValueError("too short")
    secret = decapsulated(mlkem, x25519, encapsulated)
    context = b"\x00" + extract(b"", "psk_id_hash", b"") + extract(b"", "info_hash", info)
    secret = extract(secret, "secret", b"")
    key, nonce = expand(secret, "key", context, 32), expand(secret, "base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"")


def decapsulated(mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey, encapsulated: bytes) -> bytes:
    """Return the shared secret of the hybrid: SHA3-256 over both secrets and X25519's public values."""
    theirs, own = encapsulated[MLKEM_BYTES:], x25519.public_key().public_bytes_raw()
    secrets = mlkem.decapsulate(encapsulated[:MLKEM_BYTES]) + x25519.exchange(
        X25519PublicKey.from_public_bytes(theirs)
    )
    return hashlib.sha3_256(secrets + theirs + own + COMBINER_LABEL).digest()


def extract(salt: bytes, label: str, key: bytes) -> bytes:
    """LabeledExtract of RFC 9180, section 4."""
    return hmac.digest(salt, b"HPKE-v1" + SUITE_ID + label.encode() + key, "sha256")


def expand(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180, section 4, for at most one block."""
    info = length.to_bytes(2) + b"HPKE-v1" + SUITE_ID + label.encode() + context
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]

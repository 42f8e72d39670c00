"""Long-term Ed25519 identities: what signs protocol messages, log lines and session configurations."""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.kdf import Part, labelled
from fedapt_crypto.sharing import checked

PUBLIC_KEY_BYTES = 32
FINGERPRINT_BITS = 160
"""How much of a hash people compare."""
_P = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y coordinates of the eight points whose order divides 8 (RFC 8032, 5.1); signatures under such a key
verify for messages that nobody has signed."""


class Identity:
    """A party's signing key; never leaves the party."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public_key)})"

    @classmethod
    def generate(cls) -> "Identity":
        """Draw a new identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_private_bytes(cls, data: bytes) -> "Identity":
        """Rebuild an identity from its 32 private bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(data))

    def private_bytes(self) -> bytes:
        """Return the 32 private bytes, for the key file only."""
        return self._private_key.private_bytes_raw()

    def sign(self, label: str, *parts: Part) -> bytes:
        """Sign the labelled parts; the label keeps a signature from meaning anything elsewhere."""
        return self._private_key.sign(labelled(label, *parts))


def verify(public_key: bytes, signature: bytes, label: str, *parts: Part, signer: str) -> None:
    """Check a signature made by `Identity.sign`.

    Raises:
        VerificationFailed: If it does not verify under ``public_key``; names ``signer``.
    """
    message = labelled(label, *parts)

    def check() -> None:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)

    try:
        checked(public_key, signature, message, check)
    except (InvalidSignature, ValueError):
        raise VerificationFailed(f"the signature on {label!r} does not verify", peer=signer) from None


def check_public_key(public_key: bytes, *, owner: str) -> None:
    """Refuse a public key that no honest party has: not canonically encoded, or of small order.

    Raises:
        VerificationFailed: If it is one; names ``owner``.
    """
    y = int.from_bytes(public_key, "little") % 2**255  # the highest bit is the sign of x
    if len(public_key) != PUBLIC_KEY_BYTES or y >= _P or y in _SMALL_ORDER:
        raise VerificationFailed("the identity key is none that an honest party has", peer=owner)


def fingerprint(public_key: bytes) -> str:
    """Return the SHA-256 of a public key in groups of four hex digits, to compare by telephone."""
    return grouped(fingerprint_bytes(public_key))


def fingerprint_bytes(public_key: bytes) -> bytes:
    """Return the whole SHA-256 of a public key, for programs to compare."""
    return hashlib.sha256(public_key).digest()


def grouped(hash_value: bytes) -> str:
    """Return the first 160 bits of a SHA-256 value in groups of four hex digits, to compare by telephone.

    Whoever wants two keys, or two rosters, with the same fingerprint has to make about 2**80 of them; with
    128 bits it would be 2**64, which can be done.
    """
    digits = hash_value.hex()[: FINGERPRINT_BITS // 4]
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))

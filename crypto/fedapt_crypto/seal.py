"""Seal bytes to one receiver: HPKE (RFC 9180, base mode) over ML-KEM-768 + X25519.

The hybrid stays secret while either half holds, so traffic recorded today does not open with tomorrow's
quantum computer. HPKE names no sender: callers put sender, receiver and purpose into ``info`` and sign
the ciphertext, otherwise a third party could pass it off as its own.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.kdf import Part, derive, labelled

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1184
_X25519_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = _MLKEM_PUBLIC_BYTES + _X25519_BYTES
ROOT_BYTES: Final = 32
_P: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    }
)
"""The u coordinates of X25519's points of small order (RFC 7748, section 7): what is agreed with one of them
is known to everybody."""
OVERHEAD_BYTES: Final = 1136
"""Ciphertext bytes beyond the plaintext."""


class SealingKey:
    """A receiver's hybrid key pair, derived from a 32-byte root.

    Deriving it, instead of drawing the halves, is what lets secure aggregation hand out one small secret
    (Shamir shares of the root) and have the whole key follow from it.
    """

    def __init__(self, root: bytes) -> None:
        if len(root) != ROOT_BYTES:
            raise ValueError(f"a sealing key's root has {ROOT_BYTES} bytes")
        seed = derive(root, "sealing key", length=_MLKEM_SEED_BYTES + _X25519_BYTES)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED_BYTES:])
        self._private_key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_key = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    @classmethod
    def fresh(cls) -> "SealingKey":
        """Draw a key pair from the operating system's randomness."""
        return cls(cls.fresh_root())

    @staticmethod
    def fresh_root() -> bytes:
        """Draw the root of a key pair, for a key file or to be shared out."""
        return secrets.token_bytes(ROOT_BYTES)

    def __repr__(self) -> str:
        return "SealingKey(private half hidden)"

    def open(self, sealed: bytes, *info: Part) -> bytes:
        """Open what `seal` made for this key under the same ``info``.

        Raises:
            VerificationFailed: If it was made for another key or info, or changed.
        """
        try:
            return _SUITE.decrypt(sealed, self._private_key, info=labelled("seal", *info))
        except (InvalidTag, ValueError):
            raise VerificationFailed("a sealed message does not open") from None


def check_public_key(public_key: bytes, *, owner: str) -> None:
    """Refuse a sealing key with a half that no honest party has: X25519 of small order or not canonical.

    Raises:
        VerificationFailed: If it is one; names ``owner``.
    """
    u = int.from_bytes(public_key[_MLKEM_PUBLIC_BYTES:], "little")
    sound = len(public_key) == PUBLIC_KEY_BYTES and u < _P and u not in _SMALL_ORDER
    try:
        MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES])
    except ValueError:
        sound = False
    if not sound:
        raise VerificationFailed("the sealing key is none that an honest party has", peer=owner)


def seal(public_key: bytes, plaintext: bytes, *info: Part) -> bytes:
    """Seal ``plaintext`` to the holder of ``public_key``.

    Args:
        public_key: `SealingKey.public_key` of the receiver, 1,216 bytes.
        plaintext: What to seal.
        info: Context that must be the same on opening: purpose, execution, sender, receiver.

    Raises:
        VerificationFailed: If ``public_key`` is not a valid hybrid key.
    """
    try:
        if len(public_key) != PUBLIC_KEY_BYTES:
            raise ValueError  # noqa: TRY301 - one refusal for every way a key can be wrong
        receiver = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:]),
        )
        return _SUITE.encrypt(plaintext, receiver, info=labelled("seal", *info))
    except ValueError:
        raise VerificationFailed("a public sealing key is not valid") from None

"""Hashes and derived keys with one label each, so that no value serves two purposes.

Every input is length-prefixed by the canonical encoding: two different lists of parts never run into
the same bytes. HKDF is RFC 5869 with SHA-256.
"""

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedapt_crypto.encoding import LONG_BYTES, encode, encode_plain

Part = bytes | str | int | tuple["Part", ...]
"""What labelled hashes and derivations take, in order."""

VERSION = "fedapt-secure/1"


def labelled(label: str, *parts: Part) -> bytes:
    """Return the unambiguous encoding of a label and its parts."""
    for part in parts:
        if type(part) is bytes and len(part) > LONG_BYTES:
            return encode([VERSION, label, *parts])  # one copy of a long vector, not three
    return encode_plain([VERSION, label, *parts])


def labelled_start(missing: int, label: str, *parts: Part) -> bytes:
    """Return how `labelled` begins with a label and these parts; ``missing`` more encoded ones complete it.

    For many lists that differ at their end only.
    """
    whole = labelled(label, *parts, *(0,) * missing)
    return whole[: len(whole) - missing]  # a zero is one byte


def digest(label: str, *parts: Part) -> bytes:
    """Return SHA-256 over the labelled parts, 32 bytes.

    Also the commitment scheme: hiding because what we commit to is a uniform 32-byte secret or a share
    of one, binding because SHA-256 resists collisions.
    """
    return hashlib.sha256(labelled(label, *parts)).digest()


def derive(secret: bytes, label: str, *parts: Part, length: int = 32) -> bytes:
    """Return ``length`` bytes derived from a uniform secret for one labelled purpose."""
    return HKDF(hashes.SHA256(), length, salt=None, info=labelled(label, *parts)).derive(secret)

"""What passes between a worker process and its parent: a length, one byte, and length-prefixed parts."""

import struct
from enum import IntEnum
from typing import Final

from fedapt_crypto.errors import MalformedMessage

LENGTH: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 1 << 20
"""Two ciphertexts, or a context with its key, fit several times."""


class Operation(IntEnum):
    """What a worker is asked for."""

    NEW = 1
    OPEN = 2
    ENCRYPT = 3
    ADD = 4
    DECRYPT = 5


class Status(IntEnum):
    """How it went."""

    DONE = 0
    REFUSED = 1


def join(*parts: bytes) -> bytes:
    """Return the parts, each after its length."""
    return b"".join(LENGTH.pack(len(part)) + part for part in parts)


def split(data: bytes) -> tuple[bytes, ...]:
    """Return the parts that `join` joined.

    Raises:
        MalformedMessage: If a length does not fit.
    """
    parts, at = [], 0
    while at < len(data):
        if at + LENGTH.size > len(data):
            raise MalformedMessage("a part's length is cut off")
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + size > len(data):
            raise MalformedMessage("a part is cut off")
        parts.append(data[at : at + size])
        at += size
    return tuple(parts)

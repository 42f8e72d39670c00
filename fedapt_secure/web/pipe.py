"""Small messages between the two processes of a page: JSON objects behind their length, over one socket.

Each side is ours, yet the one that faces browsers may have been taken over: the other one bounds what it
reads, and takes every field as text that somebody typed.
"""

import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

from fedapt_crypto.errors import MalformedMessage

MAX_BYTES: Final = 32 << 20
"""A state of 300 rounds and a hundred institutions takes about one."""
MAX_ASKED: Final = 1 << 16
"""What the process that faces browsers may send at once."""
LENGTH: Final = struct.Struct(">I")
Fields = dict[str, Any]


def plain(value: object) -> Any:
    """Return a value with ``None`` for numbers that JSON has not: infinite ones, and those that are none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def packed(fields: Fields) -> bytes:
    """Return a message as it travels."""
    data = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode("ascii")
    return LENGTH.pack(len(data)) + data


def unpacked(data: bytes) -> Fields:
    """Return the fields of a message's content; raises `MalformedMessage` where it is no JSON object."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedMessage("a message between the page's processes is no JSON") from None
    if not isinstance(found, dict):
        raise MalformedMessage("a message between the page's processes is no object")
    return found


def receive(connection: socket.socket, most: int) -> Fields | None:
    """Return the next message; ``None`` once the other side has gone.

    Args:
        connection: Where from.
        most: The longest that is taken.

    Raises:
        MalformedMessage: If it is longer, or no JSON object.
    """
    head = _exactly(connection, LENGTH.size)
    if head is None:
        return None
    (size,) = LENGTH.unpack(head)
    if size > most:
        raise MalformedMessage(f"a message between the page's processes has {size} bytes, {most} are taken")
    data = _exactly(connection, size)
    return None if data is None else unpacked(data)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    parts, missing = [], size
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            return None
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)

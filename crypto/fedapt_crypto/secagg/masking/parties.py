"""Sets of parties as they travel: roster indices, ascending, two bytes each."""

import struct
from collections.abc import Iterable
from operator import lt

from fedapt_crypto.errors import MalformedMessage

INDEX_BYTES = 2
MAX_PARTIES = 1 << 16


def pack(indices: Iterable[int]) -> bytes:
    """Return ascending roster indices as bytes."""
    ascending = sorted(indices)
    return struct.pack(f">{len(ascending)}H", *ascending)


def unpack(data: bytes, roster_size: int) -> tuple[int, ...]:
    """Return the roster indices in ``data``.

    Raises:
        MalformedMessage: If they are not strictly ascending positions of the roster.
    """
    if len(data) % INDEX_BYTES:
        raise MalformedMessage("a list of parties has half an entry")
    if len(data) > INDEX_BYTES * roster_size:
        raise MalformedMessage("a list of parties is longer than the roster")
    indices: tuple[int, ...] = struct.unpack(f">{len(data) // INDEX_BYTES}H", data)
    if indices and (indices[-1] >= roster_size or not all(map(lt, indices, indices[1:]))):
        raise MalformedMessage("a list of parties names strangers, repeats one or is out of roster order")
    return indices

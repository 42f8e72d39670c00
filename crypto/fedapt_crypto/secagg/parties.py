"""Sets of parties as they travel: roster indices, ascending, two bytes each."""

from collections.abc import Iterable

import numpy as np

from fedapt_crypto.errors import MalformedMessage

INDEX_BYTES = 2
MAX_PARTIES = 1 << 16


def pack(indices: Iterable[int]) -> bytes:
    """Return ascending roster indices as bytes."""
    return np.array(sorted(indices), dtype=">u2").tobytes()


def unpack(data: bytes, roster_size: int) -> tuple[int, ...]:
    """Return the roster indices in ``data``.

    Raises:
        MalformedMessage: If they are not strictly ascending positions of the roster.
    """
    if len(data) % INDEX_BYTES:
        raise MalformedMessage("a list of parties has half an entry")
    indices = np.frombuffer(data, ">u2").astype(np.int64)
    if indices.size and (indices[-1] >= roster_size or np.any(np.diff(indices) <= 0)):
        raise MalformedMessage("a list of parties names strangers, repeats one or is out of roster order")
    return tuple(indices.tolist())

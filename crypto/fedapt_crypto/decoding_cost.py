"""What foreign bytes would take in memory once decoded, told before anything is decoded.

Whoever sends bytes chooses what they spell: an empty map is one byte of msgpack and 64 bytes here, a
character can make a whole text four bytes wide. A decoder asks here first, and what would take much more than
it has bytes is refused. Nothing real comes near the limits.
"""

import re
from collections.abc import Sequence
from typing import Final

COST_PER_BYTE: Final = 2
"""What decoded values may take, as a multiple of their encoding; long byte strings take their length."""
COST_SPARE_BYTES: Final = 8 << 20
"""And beside that: the largest messages of 4,096 institutions take 6 MiB for their many items."""
SHORT_BYTES: Final = 1 << 16
"""What has no more cannot take as much as `COST_SPARE_BYTES`, whatever it holds: under 75 times its size."""

MAX_ITEMS: Final = 1 << 17
"""Of one message: those of 4,096 institutions have 74,000. Bounds the time that counting takes."""

_ITEM_COST: Final = 64
"""A number, an empty text or array, and its place in what holds it, rounded up."""
_MAP_COST: Final = 224
"""A map with few entries, beyond its keys and values."""
_WIDE_TEXT_COST: Final = 5
"""A byte of text: its characters may take four bytes each, beside the encoded ones."""
_JSON_OBJECT_COST: Final = 224
_JSON_KEY_COST: Final = 160
_JSON_WIDE_COST: Final = 13
"""A character of JSON text that has one beyond ASCII: read, spelled again and compared (measured)."""
_ESCAPED: Final = b"\\u"
_ESCAPE_BYTES: Final = 6
_LONG_TEXT: Final = re.compile(rb'[^"]{64,}')
_PLAIN, _TEXT, _ARRAY, _MAP, _EXTENSION = range(5)


def _headers() -> Sequence[tuple[int, int, int]]:
    """Return for each first byte of a msgpack item: kind, how many bytes say its size, else its size."""
    found = [(_PLAIN, 0, 0)] * 256  # what one byte is all of: small numbers, nil, booleans
    for low in range(32):
        found[0xA0 | low] = (_TEXT, 0, low)
        if low < 16:
            found[0x80 | low], found[0x90 | low] = (_MAP, 0, low), (_ARRAY, 0, low)
    for at, width in enumerate((1, 2, 4)):
        found[0xC4 + at], found[0xD9 + at] = (_PLAIN, width, 0), (_TEXT, width, 0)
        found[0xC7 + at] = (_EXTENSION, width, 0)
    for at, width in enumerate((2, 4)):
        found[0xDC + at], found[0xDE + at] = (_ARRAY, width, 0), (_MAP, width, 0)
    for at, size in enumerate((4, 8, 1, 2, 4, 8, 1, 2, 4, 8)):
        found[0xCA + at] = (_PLAIN, 0, size)  # floats, unsigned, signed
    found[0xD4:0xD9] = [(_EXTENSION, 0, 0)] * 5
    return found


_HEADERS: Final = _headers()


def msgpack_fits(data: bytes) -> bool:
    """Return whether what these bytes spell takes no more than they may; builds none of it.

    Walks from item to item and stops where the allowance ends, so it looks at `MAX_ITEMS` at most. Whether it
    is msgpack at all is for the decoder to say: what cannot be walked through ends the walk.
    """
    if len(data) <= SHORT_BYTES:
        return True
    left = COST_PER_BYTE * len(data) + COST_SPARE_BYTES
    at, end, looked_at, promised = 0, len(data), 0, 1  # promised by all containers that have begun
    while looked_at < promised <= MAX_ITEMS and at < end and left >= 0:
        kind, length_bytes, size = _HEADERS[data[at]]
        looked_at, at, left = looked_at + 1, at + 1, left - _ITEM_COST
        if length_bytes:
            size, at = int.from_bytes(data[at : at + length_bytes]), at + length_bytes
        if kind == _ARRAY:
            promised += size
        elif kind == _MAP:
            promised, left = promised + 2 * size, left - _MAP_COST
        elif kind == _TEXT:
            plain = data[at : at + size].isascii()
            at, left = at + size, left - (size if plain else _WIDE_TEXT_COST * size)
        elif kind == _EXTENSION:
            return False  # no message has any
        else:
            at, left = at + size, left - size
    return left >= 0 and promised <= MAX_ITEMS


def json_fits(data: bytes) -> bool:
    """Return whether what this JSON spells takes no more than it may; counts its signs and reads none of it.

    Signs within texts are counted as well, so this is an upper bound.
    """
    if len(data) <= SHORT_BYTES:
        return True
    cost = len(data)
    cost += _ITEM_COST * (data.count(b",") + data.count(b"[") + data.count(b"{"))
    cost += _JSON_OBJECT_COST * data.count(b"{") + _JSON_KEY_COST * data.count(b":")
    if not data.isascii() or _ESCAPED in data:
        # An escaped quotation mark ends no text. Where it is none, two texts count as one: still a bound.
        for found in _LONG_TEXT.finditer(data.replace(b'\\"', b"  ")):
            text = found[0]
            if not text.isascii() or _ESCAPED in text:
                cost += _JSON_WIDE_COST * (len(text) - (_ESCAPE_BYTES - 1) * text.count(_ESCAPED))
    return cost <= COST_PER_BYTE * len(data) + COST_SPARE_BYTES

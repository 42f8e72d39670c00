"""How large a compressed picture says that it is: asked before anything unpacks it.

Decoders believe the compressed picture, and not the file around it: a few bytes may ask for gigabytes.
"""

import struct
from dataclasses import dataclass
from typing import Final

_JPEG: Final = b"\xff\xd8"
_JPEG_2000: Final = b"\xff\x4f\xff\x51"
_JP2_BOX: Final = b"\x00\x00\x00\x0cjP  "
_FRAME_HEADERS: Final = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
"""SOF0 to SOF15 of JPEG (ITU-T T.81, table B.1), and that of JPEG-LS (T.87)."""
_SCAN: Final = 0xDA
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class Extent:
    """Size of a compressed picture."""

    rows: int
    columns: int
    samples: int


def extent(codestream: bytes) -> Extent | None:
    """Return how large a JPEG, JPEG-LS or JPEG 2000 picture says that it is; ``None`` where it does not."""
    try:
        if codestream.startswith(_JPEG):
            return _of_jpeg(codestream)
        if codestream.startswith(_JP2_BOX):
            start = codestream.find(_JPEG_2000)
            return _of_jpeg_2000(codestream[start:]) if start >= 0 else None
        return _of_jpeg_2000(codestream) if codestream.startswith(_JPEG_2000) else None
    except (struct.error, IndexError):
        return None


def _of_jpeg(stream: bytes) -> Extent | None:
    found, place = None, 2
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker == _SCAN:
            return found
        if marker in _FRAME_HEADERS:
            if found is not None:
                return None  # two frames: which one a decoder believes cannot be known
            rows, columns, samples = struct.unpack_from(">HHB", stream, place + 5)
            found = Extent(rows, columns, samples)
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def _of_jpeg_2000(stream: bytes) -> Extent:
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    (samples,) = struct.unpack_from(">H", stream, 40)
    return Extent(bottom - top, right - left, samples)

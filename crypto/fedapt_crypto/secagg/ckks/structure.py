"""The only byte strings that may reach TenSEAL as a ciphertext.

TenSEAL parses foreign bytes as protobuf and trusts what it finds: a message with a size and no ciphertext,
or a ciphertext and no size, crashes the process on first use. A vector as this project makes it has one
spelling (message CKKSVectorProto)::

    0a 02 80 10                      field 1, packed sizes: exactly one, 2048
    12 <length> <ciphertext>         field 2, exactly one, a SEAL object that says its own length
    19 <scale as float64>            field 3, exactly the agreed scale

so everything but the ciphertext's inside is compared and not parsed. That inside is zstd (RFC 8878), of which
66 KB can stand for 2 GiB. So it has one frame that says its size in two bytes, and one block in it: it is of
65,791 bytes at most. What it then does to SEAL stays in the worker process.
"""

import struct
from typing import Final

from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.ckks.parameters import SCALE, SLOTS

MIN_CIPHERTEXT_BYTES: Final = 60_000
"""Two polynomials of 4096 coefficients of 60 uniform bits cannot be compressed below this."""
MAX_CIPHERTEXT_BYTES: Final = 66_560
"""2 · 4096 · 8 bytes and a kilobyte for headers; today's are 65,659."""

_LENGTH_BYTES: Final = 3
_SEAL_HEADER: Final = struct.Struct("<2sBBBBHQ")
_SEAL_MAGIC: Final = b"\x5e\xa1"
_SEAL_MAJOR_VERSION: Final = 4
_ZSTANDARD: Final = 2
_FRAME: Final = struct.Struct("<4sBH")
_FRAME_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ONE_SEGMENT: Final = 0x60
"""Content of a size that two bytes say, in one segment; no checksum, no dictionary (RFC 8878, 3.1.1.1).

Today's are 65,633 bytes that do not compress: one raw block."""
_BLOCK_HEADER_BYTES: Final = 3
_RAW, _COMPRESSED = 0, 2


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


_HEAD: Final = b"\x0a" + _varint(len(_varint(SLOTS))) + _varint(SLOTS) + b"\x12"
_TAIL: Final = b"\x19" + struct.pack("<d", SCALE)

MIN_PIECE_BYTES: Final = len(_HEAD) + _LENGTH_BYTES + MIN_CIPHERTEXT_BYTES + len(_TAIL)
MAX_PIECE_BYTES: Final = len(_HEAD) + _LENGTH_BYTES + MAX_CIPHERTEXT_BYTES + len(_TAIL)


def check_piece(piece: bytes, peer: str | None = None) -> None:
    """Check that a serialized vector has the one structure that is allowed.

    Args:
        piece: The bytes, as received.
        peer: Whom to name.

    Raises:
        MalformedMessage: If it has another.
    """
    if not MIN_PIECE_BYTES <= len(piece) <= MAX_PIECE_BYTES:
        raise MalformedMessage(f"a ciphertext of {len(piece)} bytes", peer=peer)
    length = len(piece) - len(_HEAD) - _LENGTH_BYTES - len(_TAIL)
    start = len(_HEAD) + _LENGTH_BYTES
    # Both limits take three bytes as a varint, so comparing with the one canonical spelling is enough.
    if piece[:start] != _HEAD + _varint(length) or piece[start + length :] != _TAIL:
        raise MalformedMessage("a ciphertext with other fields than one size, body and scale", peer=peer)
    magic, header_bytes, major, _minor, mode, reserved, size = _SEAL_HEADER.unpack_from(piece, start)
    if (magic, header_bytes, major, mode, reserved, size) != (
        _SEAL_MAGIC,
        _SEAL_HEADER.size,
        _SEAL_MAJOR_VERSION,
        _ZSTANDARD,
        0,
        length,
    ):
        raise MalformedMessage("a ciphertext whose body is not headed as one", peer=peer)
    _check_frame(piece[start + _SEAL_HEADER.size : start + length], peer)


def _check_frame(frame: bytes, peer: str | None) -> None:
    """Check that what is compressed is one frame of one block that cannot grow; raises `MalformedMessage`."""
    magic, about, _size = _FRAME.unpack_from(frame)
    block = int.from_bytes(frame[_FRAME.size : _FRAME.size + _BLOCK_HEADER_BYTES], "little")
    is_last, kind, block_bytes = block & 1, block >> 1 & 3, block >> 3
    if (
        (magic, about, is_last) != (_FRAME_MAGIC, _ONE_SEGMENT, 1)
        or kind not in (_RAW, _COMPRESSED)
        or _FRAME.size + _BLOCK_HEADER_BYTES + block_bytes != len(frame)
    ):
        raise MalformedMessage("a ciphertext whose body is compressed in another way", peer=peer)

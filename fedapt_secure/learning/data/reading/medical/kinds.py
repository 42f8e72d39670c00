"""Tell DICOM, NIfTI and HEIC files by their first bytes; names decide nothing here."""

import struct
import zlib
from typing import Final

FIRST_BYTES: Final = 512
"""What is read of a file to tell what it is."""
_PREAMBLE: Final = 128
_MAGIC: Final = b"DICM"
_GZIP: Final = b"\x1f\x8b"
_NIFTI_1_BYTES: Final = 348
_NIFTI_2_BYTES: Final = 540
_NIFTI_1_MAGIC: Final = (344, b"n+1\x00")
_NIFTI_2_MAGIC: Final = (4, b"n+2\x00\r\n\x1a\n")
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_BARE_ELEMENTS: Final = frozenset({0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018})
"""What a DICOM data set without preamble begins with: group 8, in ascending order."""
_TEXT_VRS: Final = frozenset({b"CS", b"DA", b"TM", b"UI", b"UL", b"LO", b"SH"})
_LONGEST_FIRST_VALUE: Final = 1024


def is_dicom(first: bytes) -> bool:
    """Return whether a file with these first bytes is a DICOM file as part 10 of the standard has it."""
    return first[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC


def is_bare_dicom(first: bytes) -> bool:
    """Return whether a file may be a DICOM data set without preamble; `headers` makes sure of it."""
    if len(first) < 8 or is_dicom(first):
        return False
    group, element, length = struct.unpack_from("<HHI", first)
    explicit = first[4:6] in _TEXT_VRS
    known = element in _BARE_ELEMENTS and (explicit or length <= _LONGEST_FIRST_VALUE)
    return (group == 0x0008 and known) or (group == 0x0002 and explicit)


def is_nifti(first: bytes) -> bool:
    """Return whether a file with these first bytes is NIfTI in one file, packed (gzip) or not."""
    head = unpacked(first, _NIFTI_2_BYTES) if first.startswith(_GZIP) else first
    size = head[:4]
    for expected, (place, magic) in (
        (_NIFTI_1_BYTES, _NIFTI_1_MAGIC),
        (_NIFTI_2_BYTES, _NIFTI_2_MAGIC),
    ):
        numbers = {struct.pack(order, expected) for order in ("<i", ">i")}
        if size in numbers and head[place : place + len(magic)] == magic:
            return True
    return False


def is_heic(first: bytes) -> bool:
    """Return whether a file with these first bytes is HEIC or HEIF, and not AVIF, its kin."""
    if first[4:8] != b"ftyp":
        return False
    end = min(len(first), int.from_bytes(first[:4], "big"))
    brands = {first[8:12], *(first[place : place + 4] for place in range(16, end - 3, 4))}
    return bool(brands & _HEIC_BRANDS) and not brands & _AVIF_BRANDS


def is_packed(first: bytes) -> bool:
    """Return whether a file is packed with gzip."""
    return first.startswith(_GZIP)


def unpacked(packed: bytes, most: int) -> bytes:
    """Return at most so many bytes of what a gzip file holds; fewer where it is cut off or broken."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, most)
    except zlib.error:
        return b""

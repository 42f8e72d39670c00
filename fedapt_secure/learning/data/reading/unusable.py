"""The one error that a single file causes, and how large a picture may be."""

from typing import Final

MAX_PIXELS: Final = 100_000_000
"""Larger pictures are refused: a few kilobytes can unpack to gigabytes (decompression bomb)."""
MAX_UNPACKED_BYTES: Final = 1 << 30
"""So much a compressed file may unpack to before its picture is cut out of it: DICOM, and NIfTI volumes."""
NEEDS_DICOM: Final = "DICOM and NIfTI are read with: pip install 'fedapt-secure[dicom]'"
NEEDS_HEIC: Final = "HEIC is read with: pip install 'fedapt-secure[heic]'"


class UnusableImage(Exception):  # a reason to skip one file, not an error of the run
    """The bytes are no image that can be used; the message says why in a few words."""


class LacksReader(UnusableImage):
    """The library that reads such files is not installed: no property of the file, and not to be kept."""

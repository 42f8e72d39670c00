"""Parse of a DICOM file what is asked for, and nothing else.

The library's warnings and errors repeat values of the header, so they are silenced and replaced by one of a
few sentences: no value of a header reaches a log or an error from here.
"""

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from fedapt_secure.learning.data.reading.medical.kinds import is_dicom
from fedapt_secure.learning.data.reading.unusable import (
    MAX_UNPACKED_BYTES,
    NEEDS_DICOM,
    LacksReader,
    UnusableImage,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES: Final = 100_000
NO_PERSON: Final = "no PatientID: whose image it is cannot be known"
_LOGGERS: Final = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle")
_BROKEN: Final = "broken or truncated DICOM file"
_NOT_SURE: Final = "no DICOM file: the preamble is missing, and what is there does not add up to a picture"
_DIRECTORY_CLASS: Final = "1.2.840.10008.1.3.10"
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_META_BEGINS: Final = 132
_LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_META_VRS: Final = frozenset({b"AE", b"CS", b"LO", b"OB", b"SH", b"UI", b"UL", b"UN", b"UR"})
_TRANSFER_SYNTAX: Final = b"\x02\x00\x10\x00"
_LEAST_FRAME_BYTES: Final = 1
_PICTURE: Final = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)
"""All that a picture follows from."""
_WHOSE: Final = ("PatientID", "NumberOfFrames")


@dataclass(frozen=True)
class Header:
    """What a source needs of a file before its picture.

    Attributes:
        frames: How many pictures it holds.
        patient_id: Whose it is; ``None`` where the header does not say.
    """

    frames: int
    patient_id: str | None = field(default=None, repr=False)


def read_header(data: bytes) -> Header:
    """Return how many frames a DICOM file has, and whose it is.

    Args:
        data: The whole file.

    Raises:
        UnusableImage: If it is broken, or no DICOM file.
    """
    with dicom_errors():
        dataset = _parsed(data, _WHOSE, pixels=False)
        patient = dataset.get("PatientID")
        said = patient.strip(" \0") if isinstance(patient, str) else ""
        return Header(min(frame_count(dataset), len(data) // _LEAST_FRAME_BYTES), said or None)


def read_picture(data: bytes) -> "Dataset":
    """Return those elements of a DICOM file from which its picture follows, with a transfer syntax.

    Args:
        data: The whole file.

    Raises:
        UnusableImage: If it is no DICOM file, or one without a picture.
    """
    dataset = _parsed(data, _PICTURE, pixels=True)
    if dataset.get("SOPClassUID") == _DIRECTORY_CLASS or _is_directory(dataset):
        raise UnusableImage("a DICOM directory, no image")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnusableImage("floating point pixels: only integers of 8 to 16 bits are read")
    if "PixelData" not in dataset:
        raise UnusableImage("a DICOM file without an image" if is_dicom(data) else _NOT_SURE)
    return dataset


def frame_count(dataset: "Dataset") -> int:
    """Return how many frames a data set says that it has.

    Raises:
        UnusableImage: If that cannot be.
    """
    value = dataset.get("NumberOfFrames")
    if value is None or value == "":
        return 1
    count = int(value)
    if not 1 <= count <= MAX_FRAMES:
        raise UnusableImage("its number of frames cannot be right")
    return count


@contextmanager
def dicom_errors() -> Iterator[None]:
    """Turn whatever the libraries raise into a sentence in which nothing of the file stands."""
    try:
        yield
    except UnusableImage:
        raise
    except MemoryError:
        raise UnusableImage("too many pixels") from None
    except Exception:  # noqa: BLE001 - it is about this one file, and must not end the run for all others
        raise UnusableImage(_BROKEN) from None


@cache
def library() -> Any:
    """Return pydicom, made silent.

    Raises:
        LacksReader: If it is not installed.
    """
    # Loggers and warnings repeat what stands in the header. For good: other threads read at the same time.
    for name in _LOGGERS:
        silence(name)
    try:
        import pydicom  # noqa: PLC0415 - an extra
        import pydicom.pixels  # noqa: PLC0415
    except ImportError:
        raise LacksReader(NEEDS_DICOM) from None
    warnings.filterwarnings("ignore", module=r"pydicom|fedapt_secure\.learning\.data\.reading\.medical")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def silence(name: str) -> None:
    """Let nothing that a library logs go anywhere, whatever its loggers below and their levels are."""
    logger = logging.getLogger(name)
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False


def _parsed(data: bytes, keywords: tuple[str, ...], *, pixels: bool) -> "Dataset":
    pydicom = library()
    tags = [pydicom.datadict.tag_for_keyword(one) for one in keywords]
    if _DEFLATED in data and is_dicom(data):
        unpacked = _unpacked(data)
        if unpacked is not None:
            dataset = pydicom.filereader.read_dataset(
                io.BytesIO(unpacked), is_implicit_VR=False, is_little_endian=True, specific_tags=tags
            )
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
            return dataset
    dataset = pydicom.dcmread(
        io.BytesIO(data), force=not is_dicom(data), specific_tags=tags, stop_before_pixels=not pixels
    )
    if "TransferSyntaxUID" not in dataset.file_meta:
        if is_dicom(data) and len(dataset.file_meta):
            raise UnusableImage("its transfer syntax is missing")
        dataset.file_meta.TransferSyntaxUID = _bare_syntax(dataset)
    return dataset


def _bare_syntax(dataset: "Dataset") -> str:
    """Return the transfer syntax of a data set that does not say one: whatever it parsed under, unpacked."""
    uid = library().uid
    implicit, little = dataset.original_encoding
    if implicit:
        return str(uid.ImplicitVRLittleEndian)
    return str(uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian)


def _is_directory(dataset: "Dataset") -> bool:
    return bool(dataset.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY_CLASS)


def _unpacked(data: bytes) -> bytes | None:
    """Return the data set of a file whose transfer syntax packs it whole; ``None`` where it does not.

    The library would unpack it to any size.
    """
    syntax, end = _meta(data)
    if syntax is None or syntax.strip(b" \0") != _DEFLATED:
        # The text stands somewhere: only where the two readings cannot differ may the library go on.
        if syntax is None:
            raise UnusableImage(_BROKEN)
        return None
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = unpacking.decompress(data[end:], MAX_UNPACKED_BYTES)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise UnusableImage("it unpacks to too much" if unpacking.unconsumed_tail else _BROKEN)
    return unpacked


def _meta(data: bytes) -> tuple[bytes | None, int]:
    """Return the transfer syntax that the file's meta information says, and where that ends."""
    place, syntax = _META_BEGINS, None
    while data[place : place + 2] == b"\x02\x00":
        tag, kind = data[place : place + 4], data[place + 4 : place + 6]
        begins = place + (12 if kind in _LONG_VRS else 8)
        length = data[place + 8 : begins] if kind in _LONG_VRS else data[place + 6 : begins]
        ends = begins + int.from_bytes(length, "little")
        again = tag == _TRANSFER_SYNTAX and syntax is not None
        if kind not in _META_VRS or ends > len(data) or again:
            return None, place
        if tag == _TRANSFER_SYNTAX:
            syntax = data[begins:ends]
        place = ends
    return syntax, place

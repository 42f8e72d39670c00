"""One picture out of a DICOM file, as a viewer shows it: decompressed, rescaled, windowed, in grey or RGB.

Sections are those of PS3.3 and PS3.5 of the standard. Steps that pydicom has are pydicom's.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from fedapt_secure.config.reading import ALL_FRAMES, MIDDLE, ReadingOptions
from fedapt_secure.learning.data.reading.medical.codestreams import Extent, extent
from fedapt_secure.learning.data.reading.medical.grey import (
    Grey,
    Values,
    by_percentiles,
    by_window,
    check_visible,
    scaled,
)
from fedapt_secure.learning.data.reading.medical.headers import (
    dicom_errors,
    frame_count,
    library,
    read_picture,
)
from fedapt_secure.learning.data.reading.unusable import (
    MAX_PIXELS,
    NEEDS_DICOM,
    LacksReader,
    UnusableImage,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_PALETTE: Final = "PALETTE COLOR"
_FEWEST_BITS: Final = 8
_MOST_BITS: Final = 16
_WINDOW_WHITE: Final = 65_535
_OTHER_LENGTH: Final = "its pixel data are not as long as its header says"
_OTHER_EXTENT: Final = "its compressed picture is not as large as its header says"
_JPEG_FAMILY: Final = "1.2.840.10008.1.2.4."
_CODESTREAMS: Final = frozenset({"50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203"})
"""Transfer syntaxes of the JPEG family (PS3.5, A.4), whose pictures say themselves how large they are."""
_RLE: Final = "1.2.840.10008.1.2.5"
_RLE_READER: Final = "pydicom"
"""The faster one, in Rust, panics on some broken files, which no ordinary exception handler catches."""


def open_dicom(data: bytes, options: ReadingOptions, frame: int | None = None) -> Image.Image:
    """Return a picture of a DICOM file, in RGB or grey, as its pixels lie.

    Args:
        data: The whole file.
        options: Window and frame.
        frame: Which frame, from 0, whatever the options say; ``None`` for what they say.

    Raises:
        UnusableImage: If it is broken, holds no picture, or one that cannot be read; no value of the header
            stands in the reason.
        LacksReader: If what reads it is not installed.
    """
    with dicom_errors():
        dataset = read_picture(data)
        index = _index(frame_count(dataset), options, frame)
        _check(dataset)
        values = _decoded(dataset, index)
        if dataset.PhotometricInterpretation in _GREY:
            return Image.fromarray(_grey(dataset, values, index, options.window))
        if dataset.PhotometricInterpretation == _PALETTE:
            return Image.fromarray(_coloured(dataset, values))
        return Image.fromarray(scaled(values, 2**dataset.BitsStored - 1))


def pixel_count(data: bytes) -> int:
    """Return how many pixels a frame of a file has by its header; 0 where that cannot be said."""
    try:
        dataset = read_picture(data)
        return int(dataset.Rows) * int(dataset.Columns)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `open_dicom` finds it too, and says so
        return 0


def _index(count: int, options: ReadingOptions, frame: int | None) -> int:
    if frame is None:
        if options.frame in (MIDDLE, ALL_FRAMES):
            return count // 2
        frame = int(options.frame) - 1
    if frame >= count:
        raise UnusableImage("it has no frame of that number")
    return frame


def _check(dataset: "Dataset") -> None:
    """Check what the picture is said to be, before anything is unpacked."""
    kind = dataset.PhotometricInterpretation
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    samples = int(dataset.SamplesPerPixel)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if not (rows > 0 and columns > 0):
        raise UnusableImage("it has no pixels")
    if rows * columns > MAX_PIXELS:
        raise UnusableImage("too many pixels")
    if kind not in _GREY | _COLOURS | {_PALETTE}:
        raise UnusableImage("its colours are of a kind that is not read here")
    if samples != (3 if kind in _COLOURS else 1):
        raise UnusableImage("its number of samples does not go with its colours")
    if allocated not in (8, _MOST_BITS) or not 1 <= stored <= allocated:
        raise UnusableImage("its values have other than 8 to 16 bits")
    if dataset.PixelRepresentation not in (0, 1) or (samples == 3 and dataset.PixelRepresentation):
        raise UnusableImage("its values have a sign that its colours cannot have")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_private or not (syntax.is_transfer_syntax and _decoder(syntax)):
        raise UnusableImage("its compression is not read here: convert it to an uncompressed transfer syntax")
    if not syntax.is_encapsulated:
        expected = library().pixels.utils.get_expected_length(dataset)
        # One byte may fill up an odd number.
        if len(dataset.PixelData) not in (expected, expected + expected % 2):
            raise UnusableImage(_OTHER_LENGTH)


def _decoder(syntax: Any) -> Any:
    """Return what decompresses a transfer syntax; ``None`` where nothing does in any installation."""
    try:
        found = library().pixels.get_decoder(syntax)
    except NotImplementedError:  # how pydicom says that it knows no decoder for a transfer syntax
        return None
    if not found.is_available:
        raise LacksReader(NEEDS_DICOM)
    return found


def _decoded(dataset: "Dataset", index: int) -> Values:
    """Return the values of one frame, (rows, columns) or (rows, columns, 3), unused bits cleared."""
    syntax = dataset.file_meta.TransferSyntaxUID
    high, stored = int(dataset.get("HighBit", dataset.BitsStored - 1)), int(dataset.BitsStored)
    usual = high == stored - 1
    if syntax.is_encapsulated:
        if not usual:
            raise UnusableImage("its bits lie where compressed pictures have none")
        _check_extent(dataset, index)
    signed = bool(dataset.PixelRepresentation)
    if not usual:  # the library knows the usual place alone: take all bits, and choose
        if not stored - 1 <= high < dataset.BitsAllocated:
            raise UnusableImage("its bits lie outside of its values")
        dataset.BitsStored, dataset.PixelRepresentation = dataset.BitsAllocated, 0
    reader = _RLE_READER if syntax == _RLE else ""
    values: Values = library().pixels.pixel_array(dataset, index=index, decoding_plugin=reader)
    if not usual:
        values = (values.astype(np.int64) >> (high - stored + 1)) & (2**stored - 1)
        if signed:
            values = np.where(values >= 2 ** (stored - 1), values - 2**stored, values)
        dataset.BitsStored, dataset.PixelRepresentation = stored, int(signed)
    expected = (dataset.Rows, dataset.Columns) + ((3,) if dataset.SamplesPerPixel == 3 else ())
    if values.shape != expected:
        raise UnusableImage(_OTHER_EXTENT)
    return values


def _check_extent(dataset: "Dataset", index: int) -> None:
    """Check a compressed frame's own size: decoders believe it."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == _RLE:
        return  # unpacks to what the header says, or to an error
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    frame = library().encaps.get_frame(
        dataset.PixelData,
        index,
        extended_offsets=offsets if all(offsets) else None,
        number_of_frames=frame_count(dataset),
    )
    expected = Extent(int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    if syntax.removeprefix(_JPEG_FAMILY) not in _CODESTREAMS or extent(frame) != expected:
        raise UnusableImage(_OTHER_EXTENT)


def _grey(dataset: "Dataset", stored: Values, index: int, window: tuple[float, float] | None) -> Grey:
    """Return a monochrome frame in 8 bits: modality (C.11.1), values of interest (C.11.2), polarity."""
    functional = _functional(dataset, index)
    rescaled = _rescaled(dataset, functional, stored)
    if window is not None:
        picture = by_window(rescaled, window)
    else:
        own = _of_interest(dataset, functional, rescaled)
        picture = by_percentiles(rescaled, ~_padding(dataset, stored)) if own is None else own
    check_visible(picture)
    return 255 - picture if dataset.PhotometricInterpretation == "MONOCHROME1" else picture


def _functional(dataset: "Dataset", index: int) -> "Dataset":
    """Return rescale and window of one frame where a file has them by frame (C.7.6.16), in one data set."""
    found = library().Dataset()
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    by_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*shared[:1], *by_frame[index : index + 1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(name) or [])[:1]:
                found.update(item)
    return found


def _rescaled(dataset: "Dataset", functional: "Dataset", stored: Values) -> Values:
    source = functional if "RescaleSlope" in functional else dataset
    rescaled: Values = library().pixels.apply_modality_lut(stored, source)
    if not np.isfinite(rescaled).all():
        raise UnusableImage("its rescale gives values that are no numbers")
    return rescaled


def _of_interest(dataset: "Dataset", functional: "Dataset", values: Values) -> Grey | None:
    """Return what the file itself shows: by its table, or its first window; ``None`` without either."""
    pydicom = library()
    table = (functional if "VOILUTSequence" in functional else dataset).get("VOILUTSequence") or []
    if table and "LUTDescriptor" in table[0] and "LUTData" in table[0]:
        only = pydicom.Dataset()
        only.VOILUTSequence = [table[0]]
        bits = int(table[0].LUTDescriptor[2])
        if not 1 <= bits <= _MOST_BITS:
            raise UnusableImage("its table of values cannot be used")
        whole = np.rint(values).astype(np.int64)
        return scaled(pydicom.pixels.apply_voi(whole, only, index=0), 2**bits - 1)
    source = functional if "WindowCenter" in functional else dataset
    if not _says(source, "WindowCenter") or not _says(source, "WindowWidth"):
        return None
    # The library scales to what the stored bits hold: for it these are 16 bits without a rescale.
    only = pydicom.Dataset()
    only.PhotometricInterpretation, only.PixelRepresentation, only.BitsStored = "MONOCHROME2", 0, _MOST_BITS
    only.WindowCenter, only.WindowWidth = _first(source.WindowCenter), _first(source.WindowWidth)
    function = source.get("VOILUTFunction")
    if function:
        only.VOILUTFunction = function
    return scaled(pydicom.pixels.apply_windowing(values, only, index=0), _WINDOW_WHITE)


def _says(source: "Dataset", name: str) -> bool:
    value = source.get(name)
    return value is not None and value not in ("", [])


def _first(value: Any) -> Any:
    return value if isinstance(value, int | float) else value[0]


def _padding(dataset: "Dataset", stored: Values) -> Any:
    """Return where the values stand for no measurement (C.7.5.1.1.2)."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    ends = sorted((int(value), int(value) if limit is None else int(limit)))
    return (stored >= ends[0]) & (stored <= ends[1])


def _coloured(dataset: "Dataset", indices: Values) -> Grey:
    """Return a frame in the colours of its own palette (C.7.6.3.1.5)."""
    colours: Values = library().pixels.apply_color_lut(indices, dataset)
    bits = 8 * colours.dtype.itemsize
    return scaled(colours[..., :3], 2**bits - 1)

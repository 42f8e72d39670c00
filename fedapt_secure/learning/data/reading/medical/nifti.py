"""One slice out of a NIfTI volume, seen as radiologists do: the patient's right on the left, the head up."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
from PIL import Image

from fedapt_secure.config.reading import MIDDLE, ReadingOptions
from fedapt_secure.learning.data.reading.medical.grey import by_percentiles, by_window, check_visible
from fedapt_secure.learning.data.reading.medical.headers import silence
from fedapt_secure.learning.data.reading.medical.kinds import is_packed, unpacked
from fedapt_secure.learning.data.reading.unusable import (
    MAX_PIXELS,
    MAX_UNPACKED_BYTES,
    NEEDS_DICOM,
    LacksReader,
    UnusableImage,
)

_HEADER_BYTES: Final = 540
_BROKEN: Final = "broken or truncated NIfTI file"


def open_nifti(data: bytes, options: ReadingOptions) -> Image.Image:
    """Return one slice of a volume, of the first one where there are several, in grey.

    The volume's axes are taken from its affine, as close to right, front and head as they come (RAS+):
    however it is stored, axis 2 goes from foot to head. No value between voxels is made up.

    Args:
        data: The whole file, packed (gzip) or not.
        options: Axis, slice and window.

    Raises:
        UnusableImage: If it is broken, too large, or not a volume of real numbers.
        LacksReader: If nibabel is not installed.
    """
    with _errors():
        nibabel = _library()
        volume = _whole(nibabel, data)
        values = _slice(nibabel, volume, options)
        picture = by_percentiles(values) if options.window is None else by_window(values, options.window)
        check_visible(picture)
        return Image.fromarray(picture)


def unpacked_bytes(data: bytes) -> int:
    """Return how many bytes a volume takes by its header; 0 where that cannot be said."""
    try:
        return _expected(_header(_library(), data))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `open_nifti` finds it too, and says so
        return 0


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except UnusableImage:
        raise
    except MemoryError:
        raise UnusableImage("too many pixels") from None
    except Exception:  # noqa: BLE001 - it is about this one file; and its header may say whose it is
        raise UnusableImage(_BROKEN) from None


@cache
def _library() -> Any:
    try:
        import nibabel  # noqa: PLC0415 - an extra
    except ImportError:
        raise LacksReader(NEEDS_DICOM) from None
    for name in ("nibabel", "nibabel.global"):  # they repeat what stands in headers
        silence(name)
    return nibabel


def _header(nibabel: Any, data: bytes) -> Any:
    head = unpacked(data, _HEADER_BYTES) if is_packed(data) else data[:_HEADER_BYTES]
    kind = nibabel.Nifti1Header
    if struct.pack("<i", _HEADER_BYTES) in (head[:4], head[3::-1]):
        kind = nibabel.Nifti2Header
    return kind(head[: kind.template_dtype.itemsize])


def _expected(header: Any) -> int:
    """Return how many bytes the file has from its begin to the end of its values."""
    shape = header.get_data_shape()
    count = 1
    for size in shape:
        count *= int(size)
    return int(header["vox_offset"]) + count * int(header.get_data_dtype().itemsize)


def _whole(nibabel: Any, data: bytes) -> Any:
    """Return a volume over the file's bytes; of its values nothing is read yet."""
    header = _header(nibabel, data)
    shape = header.get_data_shape()
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise UnusableImage("no volume of at least one voxel")
    if header.get_data_dtype().kind not in "iuf":
        raise UnusableImage("no real numbers: colours and complex values are not read")
    expected = _expected(header)
    if expected > MAX_UNPACKED_BYTES:
        raise UnusableImage("it unpacks to too much")
    content = unpacked(data, expected + 1) if is_packed(data) else data
    if len(content) < expected:
        raise UnusableImage("it ends before its values do")
    image = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return image.from_bytes(content)


def _slice(nibabel: Any, volume: Any, options: ReadingOptions) -> Any:
    # Storage axis and direction of each of right, front, head: (axis, 1 or -1).
    turned = nibabel.io_orientation(volume.affine)
    if not np.isfinite(turned).all():
        raise UnusableImage("its orientation cannot be told")
    shape = (*volume.shape, 1)[:3]
    stored = int(np.flatnonzero(turned[:, 0] == options.axis)[0])
    size = int(shape[stored])
    number = size // 2 if options.slice == MIDDLE else int(options.slice) - 1
    if number >= size:
        raise UnusableImage("it has no slice of that number")
    others = [int(np.flatnonzero(turned[:, 0] == axis)[0]) for axis in range(3) if axis != options.axis]
    if shape[others[0]] * shape[others[1]] > MAX_PIXELS:
        raise UnusableImage("too many pixels")
    place: list[Any] = [slice(None)] * 3 + [0] * (len(volume.shape) - 3)
    place[stored] = number if turned[stored, 1] > 0 else size - 1 - number
    values = np.asarray(volume.dataobj[tuple(place[: len(volume.shape)])], np.float64)
    values = values.reshape([shape[axis] for axis in sorted(others)])
    if others[0] > others[1]:
        values = values.T
    # Now (first, second) of right, front, head, in their directions once flipped.
    for axis, one in enumerate(others):
        if turned[one, 1] < 0:
            values = np.flip(values, axis)
    # Columns begin at the right or front, rows at the top: both are the far end of their axes.
    return np.flip(values, (0, 1)).T

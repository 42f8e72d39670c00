"""Open an image file from anywhere as upright RGB, or say in a few words why not.

Nothing is guessed: what has no agreed meaning as a picture (32-bit integers, floating point beyond [0, 1])
is refused with the reason instead of being shown too dark or cut off. DICOM and NIfTI files are read by
`medical`, as the options of `fedapt_secure.config.reading` say; for all other files these say nothing.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.data.reading.medical import dicom, nifti
from fedapt_secure.learning.data.reading.medical.kinds import (
    FIRST_BYTES,
    is_bare_dicom,
    is_dicom,
    is_heic,
    is_nifti,
)
from fedapt_secure.learning.data.reading.unusable import MAX_PIXELS, NEEDS_HEIC, LacksReader, UnusableImage

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF")
"""Formats that are tried (MPO goes with JPEG); Pillow's many others would only be more to attack."""
_HEIC: Final = "HEIF"
_PHOTOMETRIC: Final = 262
FIRST_FRAME: Final = "animated or of several pages: only the first is used"
TWELVE_BITS: Final = "16-bit, but all values below 4,096: nearly black unless it is rescaled beforehand"
BROKEN_EXIF: Final = "its EXIF cannot be read: taken as upright"
_WITH_TRANSPARENCY: Final = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_SIXTEEN_BITS: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_MAX_SIXTEEN_BITS: Final = 65_535
_TWELVE_BIT_VALUES: Final = 4_096
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (CIPA DC-008, 4.6.5.1) to what undoes it."""
_EMPTY_EXIF_BYTES: Final = 20
"""A header and no entry; where more gives no entry, Pillow could not read it."""
_AS_THEY_ARE: Final = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})


@dataclass(frozen=True)
class OpenedImage:
    """An image that can be used.

    Attributes:
        image: Upright, in RGB.
        notes: What its owner should know of it; each is one of this module's constants.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def open_rgb(
    image_bytes: bytes, reading: ReadingOptions = AS_THEY_ARE, frame: int | None = None
) -> Image.Image:
    """Return an image file's content in RGB, upright, transparent parts white; see `open_image`.

    Args:
        image_bytes: The whole file.
        reading: How DICOM and NIfTI files are read.
        frame: Which frame of a DICOM file, from 0; ``None`` for what ``reading`` says.

    Raises:
        UnusableImage: If the file is broken, of an unknown format, too large or without agreed meaning.
    """
    first = image_bytes[:FIRST_BYTES]
    if is_dicom(first) or is_bare_dicom(first):
        return dicom.open_dicom(image_bytes, reading, frame).convert("RGB")
    if is_nifti(image_bytes):
        return nifti.open_nifti(image_bytes, reading).convert("RGB")
    return open_image(image_bytes).image


def pixels_unpacked(image_bytes: bytes) -> int:
    """Return how many pixels a file says that it unpacks to; 0 where it says nothing."""
    first = image_bytes[:FIRST_BYTES]
    if is_dicom(first) or is_bare_dicom(first):
        return dicom.pixel_count(image_bytes)
    if is_nifti(image_bytes):
        return nifti.unpacked_bytes(image_bytes)
    try:
        with Image.open(io.BytesIO(image_bytes), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `open_rgb` finds it too, and says so
        return 0


def open_image(image_bytes: bytes) -> OpenedImage:
    """Return the content of a file that is neither DICOM nor NIfTI in RGB, with notes.

    It is turned upright as its EXIF says. Transparent parts become white. Of animations the first frame
    counts. 16-bit grey is scaled from 0..65,535, floating point from [0, 1]; where a TIFF says that 0 is
    white (WhiteIsZero), both are inverted. CMYK is inverted where Adobe's marker says so; colour profiles
    are not applied.

    Args:
        image_bytes: The whole file.

    Raises:
        UnusableImage: If the file is broken, of an unknown format, too large or without agreed meaning.
    """
    if not image_bytes:
        raise UnusableImage("empty file")
    _quieten_pillow()
    with _decoders_errors():
        image = _decoded(image_bytes)
        # The further images of an MPO are other views or depths of one photo.
        several = image.format != "MPO" and getattr(image, "is_animated", False)
    notes = [FIRST_FRAME] if several else []
    if image.mode in _SIXTEEN_BITS or (image.format == "PNG" and image.mode == "I"):
        scaled, dark = _from_sixteen_bits(image)
        notes += [TWELVE_BITS] if dark else []
    elif image.mode == "F":
        scaled = _from_unit_interval(image)
    else:
        scaled = image
    turn, known = _turn(image)
    notes += [] if known else [BROKEN_EXIF]
    with _decoders_errors():
        rgb = _in_rgb(scaled, adobe="adobe" in image.info or image.format not in {"JPEG", "MPO"})
    return OpenedImage(rgb if turn is None else rgb.transpose(turn), tuple(notes))


@cache
def _quieten_pillow() -> None:
    # Pillow warns of oddities in metadata that change no pixel. For good: a filter for one call alone
    # would be seen, and undone too early, by other threads that decode at the same time.
    warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def _add_heic() -> None:
    """Let Pillow read HEIC; raises `LacksReader` where the library is not installed."""
    try:
        import pillow_heif  # noqa: PLC0415 - an extra
    except ImportError:
        raise LacksReader(NEEDS_HEIC) from None
    pillow_heif.register_heif_opener()


@contextmanager
def _decoders_errors() -> Iterator[None]:
    try:
        yield
    except UnusableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnusableImage("not an image") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnusableImage("too many pixels") from error
    except Exception as error:
        # Which errors decoders raise differs by format and version. Whatever it is, it is about this one
        # file, and must not end the run for all others.
        raise UnusableImage("broken or truncated image file") from error


def _decoded(image_bytes: bytes) -> Image.Image:
    """Return the image as it is stored, or the first of several."""
    formats: tuple[str, ...] = FORMATS
    if is_heic(image_bytes[:FIRST_BYTES]):
        _add_heic()
        formats = (_HEIC,)
    image = Image.open(io.BytesIO(image_bytes), formats=formats)
    if image.width * image.height > MAX_PIXELS:
        raise UnusableImage(f"{image.width} x {image.height} pixels are too many")
    if getattr(image, "is_animated", False):  # asking may have gone on to the second
        image.seek(0)
    image.load()
    return image


def _from_sixteen_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return 16-bit grey in 8 bits, and whether only the lowest twelve are in use."""
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > _MAX_SIXTEEN_BITS):
        raise UnusableImage("integers beyond 16 bits have no agreed white: convert them to 8 or 16 bits")
    if _white_is_zero(image):
        values = _MAX_SIXTEEN_BITS - values
    grey = Image.fromarray(np.rint(values / (_MAX_SIXTEEN_BITS / 255)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # one value of grey that stands for no colour at all
        grey.paste(255, mask=Image.fromarray(((values == transparent) * 255).astype(np.uint8)))
    return grey, bool(values.size and 255 < values.max() < _TWELVE_BIT_VALUES)


def _from_unit_interval(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UnusableImage("floating point beyond 0..1 has no agreed white: convert it to 8 or 16 bits")
    return Image.fromarray(np.rint((1 - values if _white_is_zero(image) else values) * 255).astype(np.uint8))


def _white_is_zero(image: Image.Image) -> bool:
    """Return whether a TIFF is inverted (TIFF 6.0, section 8); Pillow itself inverts 8 bits alone."""
    tags = getattr(image, "tag_v2", None)
    return image.format == "TIFF" and tags is not None and tags.get(_PHOTOMETRIC) == 0


def _in_rgb(image: Image.Image, *, adobe: bool) -> Image.Image:
    if image.mode in _WITH_TRANSPARENCY or "transparency" in image.info:
        straight = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", straight.size, "white"), straight).convert("RGB")
    if image.mode == "I":
        raise UnusableImage("integers beyond 16 bits have no agreed white: convert them to 8 or 16 bits")
    if image.mode not in _AS_THEY_ARE:
        raise UnusableImage(f"the colour mode {image.mode} is not known here: convert it to RGB")
    if image.mode == "CMYK" and not adobe:
        # Pillow takes every CMYK JPEG for an inverted one, which is Adobe's convention alone.
        return ImageChops.invert(image).convert("RGB")
    return image.convert("RGB")


def _turn(image: Image.Image) -> tuple[Image.Transpose | None, bool]:
    """Return how to turn an image upright, and whether its EXIF could be read."""
    try:
        exif = image.getexif()
        known = bool(exif) or len(image.info.get("exif", b"")) <= _EMPTY_EXIF_BYTES
        return _TURNS.get(exif.get(ExifTags.Base.Orientation, 1)), known
    except Exception:  # noqa: BLE001 - metadata that nobody can read, of a picture that everybody can see
        return None, False

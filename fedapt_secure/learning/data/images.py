"""Open an image file from anywhere as upright RGB, or say in a few words why not."""

import io
import warnings
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS: Final = 100_000_000
"""Larger pictures are refused: a few kilobytes can unpack to gigabytes (decompression bomb)."""


class UnusableImage(Exception):  # a reason to skip one file, not an error of the run
    """The bytes are no image that can be used; the message says why in a few words."""


def open_rgb(image_bytes: bytes) -> Image.Image:
    """Return an image file's content, turned upright as its EXIF says, in RGB.

    Args:
        image_bytes: The whole file.

    Raises:
        UnusableImage: If the file is broken, of an unknown format or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities in metadata that change no pixel
            image = Image.open(io.BytesIO(image_bytes))
            if image.width * image.height > MAX_PIXELS:
                raise UnusableImage(f"{image.width} x {image.height} pixels are too many")
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError as error:
        raise UnusableImage("not an image") from error
    except Image.DecompressionBombError as error:
        raise UnusableImage("too many pixels") from error
    except (OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError) as error:
        # What Pillow's decoders raise on broken files differs by format and version.
        raise UnusableImage("broken image file") from error

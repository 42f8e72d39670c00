"""Handwriting-like characters made from fonts: what the tiny CLIP is pre-trained on.

Nothing here comes from a data set of handwriting, so the digits used in the simulation stay unseen.
"""

from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fedapt_secure.learning.data.digits.styles import Mask

SIZE: Final = 32
"""Side of a glyph in pixels."""
CANVAS: Final = 96
DIGIT_NAMES: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CHARACTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_FONT_FAMILIES = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10", "cmb10")
_FONT_FOLDER = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf"


def font_files() -> list[Path]:
    """Return the fonts that come with matplotlib and have letters and digits, sorted by name."""
    return sorted(
        path
        for path in _FONT_FOLDER.glob("*.ttf")
        if path.name.startswith(_FONT_FAMILIES) and "Display" not in path.name
    )


def character_name(character: str) -> str:
    """Return how a caption names ``character``: ``"3"`` is ``"three"``, ``"A"`` is ``"a"``."""
    return DIGIT_NAMES[int(character)] if character.isdigit() else character.lower()


def _affine(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    angle = np.deg2rad(rng.normal(0, 10))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.normal(0, 0.2)], [0.0, 1.0]])
    scale = np.diag([1 / rng.uniform(0.75, 1.25), 1 / rng.uniform(0.85, 1.15)])
    matrix = rotation @ shear @ scale
    centre = np.full(2, CANVAS / 2)
    shift = centre - matrix @ centre + rng.normal(0, 3, 2)
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    return image.transform((CANVAS, CANVAS), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _elastic(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    coarse = rng.normal(0, 1, (2, 5, 5)).astype(np.float32) * rng.uniform(0, 5)
    fields = [
        np.asarray(Image.fromarray(field).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))
        for field in coarse
    ]
    rows, columns = np.mgrid[:CANVAS, :CANVAS]
    columns = np.clip(columns + fields[0], 0, CANVAS - 1).astype(int)
    rows = np.clip(rows + fields[1], 0, CANVAS - 1).astype(int)
    return Image.fromarray(np.asarray(image)[rows, columns])


def _crop_square(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    box = image.getbbox()
    if box is None:
        return image
    cropped = image.crop(box)
    width, height = cropped.size
    side = max(width, height)
    square = Image.new("L", (side, side), 0)
    square.paste(cropped, ((side - width) // 2, (side - height) // 2))
    return ImageOps.expand(square, int(side * rng.uniform(0, 0.2)))


def glyph(rng: np.random.Generator, character: str, fonts: list[Path]) -> Mask:
    """Draw ``character`` once, distorted as handwriting is.

    Args:
        rng: Source of font, slant, thickness and distortion.
        character: One of `CHARACTERS`.
        fonts: Font files to choose from.

    Returns:
        Coverage of the pen, shape (SIZE, SIZE), float32 in [0, 1].
    """
    font = ImageFont.truetype(fonts[rng.integers(len(fonts))], int(rng.integers(52, 80)))
    image = Image.new("L", (CANVAS, CANVAS), 0)
    ImageDraw.Draw(image).text(
        (CANVAS / 2, CANVAS / 2),
        character,
        font=font,
        fill=255,
        anchor="mm",
        stroke_width=int(rng.integers(0, 4)),
    )
    image = _elastic(rng, _affine(rng, image))
    if rng.random() < 0.8:
        image = _crop_square(rng, image)
    if rng.random() < 0.6:  # as a low-resolution scanner sees it
        side = int(rng.integers(8, 14))
        image = image.resize((side, side), Image.Resampling.BOX)
        image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    else:
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32) / np.float32(255)

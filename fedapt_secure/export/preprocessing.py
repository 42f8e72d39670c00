"""How pixels are made of an image, as a file that somebody else can follow: ``preprocess.json``."""

import json
from pathlib import Path
from typing import Any, Final

from fedapt_secure.export.clip_facts import preprocess_settings
from fedapt_secure.learning.clip.backbone import Backbone

FILE: Final = "preprocess.json"
_FIRST: Final = (
    "Decode the image to 8-bit RGB, turned upright as its EXIF orientation says, transparent parts on white,"
    " colour profiles not applied."
)
_RESIZES: Final = {
    "squash": ("Resize to size, whatever the proportions.",),
    "shortest": (
        "Scale so that the image just covers size (H, W), proportions kept. Square size: the shorter side"
        " becomes that many pixels and the longer one trunc(size * longer / shorter). Other sizes: with ratio"
        " = min(height / H, width / W), both sides become round(side / ratio), always by bicubic"
        " interpolation.",
        "Crop size from the middle: top = round((height - H) / 2), left = round((width - W) / 2).",
    ),
    "longest": (
        "Scale so that the image just fits into size (H, W), proportions kept: with ratio = max(height / H,"
        " width / W), both sides become round(side / ratio).",
        "Pad to size with fill_color in all three channels: the left and top get floor(missing / 2), the"
        " right and bottom the rest. Where a side is still longer than size, crop it from the middle as"
        " above: first = round((side - size) / 2).",
    ),
}
_ROUNDING: Final = (
    "trunc rounds towards zero, round to the nearest integer and from the middle between two to the even one."
)
_RESIZING: Final = (
    "Resizing works on 8-bit channels as Pillow's Image.resize does: {} with a support that grows with the"
    " reduction (antialiased), results rounded to 8 bits."
)
_LAST: Final = (
    "Divide by 255, subtract mean and divide by std, channel by channel; order the values as (channel, row,"
    " column), float32."
)


def described(backbone: Backbone) -> dict[str, Any]:
    """Return the settings of a CLIP's preprocessing and what they mean, step by step.

    Raises:
        InvalidInput: If they are of a kind that is not known here.
    """
    settings = preprocess_settings(backbone)
    steps = [
        _FIRST,
        *_RESIZES[settings["resize_mode"]],
        _RESIZING.format(settings["interpolation"]),
        _LAST,
        _ROUNDING,
    ]
    return {**settings, "size_is": "height, width", "steps": steps}


def write_preprocessing(folder: Path, backbone: Backbone) -> list[str]:
    """Write the description; return the names of the files."""
    text = json.dumps(described(backbone), indent=1)
    (folder / FILE).write_text(text + "\n", encoding="ascii")
    return [FILE]

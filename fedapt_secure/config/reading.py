"""How a party reads its own medical images: its own matter, and no part of a session's plan."""

import hashlib
import json
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from fedapt_secure.config import ranges
from fedapt_secure.config.settings import Settings

MIDDLE: Final = "middle"
ALL_FRAMES: Final = "all"
LAST_AXIS: Final = 2
DICOM: Final = "dicom"
Window = tuple[Annotated[float, ranges.GREY_CENTER], Annotated[float, ranges.GREY_WIDTH]]
"""Centre and width of the grey values that are shown."""
Subjects = Literal["dicom"]
"""Where the person of an image is known from, other than a manifest: the PatientID of DICOM files."""


class ReadingOptions(Settings):
    """What DICOM and NIfTI files leave open; other images are read in one way.

    Attributes:
        window: Centre and width of the grey values that are shown, in the units that the file's rescale
            gives (Hounsfield units for CT): centre - width / 2 is black, centre + width / 2 white. ``None``
            takes the file's own first window, and where it has none the 1st and 99th percentile.
        frame: Which frame of a DICOM file of several: ``middle``, a number from 1, or ``all``: each is an
            image then.
        axis: Along which axis NIfTI volumes are cut: 0 from left to right, 1 from back to front, 2 from foot
            to head.
        slice: Which slice: ``middle``, or a number from 1.
    """

    window: Window | None = Field(default=None, description="CENTER,WIDTH")
    frame: Annotated[int, ranges.FRAME] | Literal["middle", "all"] = MIDDLE
    axis: Annotated[int, ranges.AXIS] = LAST_AXIS
    slice: Annotated[int, ranges.SLICE] | Literal["middle"] = MIDDLE

    @field_validator("window", "frame", "slice", mode="before")
    @classmethod
    def _option(cls, value: object, info: ValidationInfo) -> object:
        return option_of(str(info.field_name), value)

    @property
    def identity(self) -> str:
        """What stands for these options where features are kept; empty for the defaults."""
        fields = self.model_dump(mode="json")
        if fields == ReadingOptions().model_dump(mode="json"):
            return ""
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """The same as part of a file's name; empty for the defaults."""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:16] if self.identity else ""


AS_THEY_ARE: Final = ReadingOptions()
"""The defaults."""


def option_of(name: str, value: object) -> object:
    """Return the value of an option as it stands in a file or on a command line; raises ValueError.

    Args:
        name: ``window``, ``frame`` or ``slice``.
        value: As it was given.
    """
    if name == "window":
        return _window_of(value)
    if name == "frame":
        return _number_or_word(value, ranges.FRAME, (MIDDLE, ALL_FRAMES))
    return _number_or_word(value, ranges.SLICE, (MIDDLE,))


def _window_of(value: object) -> object:
    """Return centre and width of a window that is given as ``CENTER,WIDTH`` or as two numbers.

    Raises:
        ValueError: If it is neither.
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        center, width = (float(one) for one in parts if not isinstance(one, bool))  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError("give CENTER,WIDTH: two numbers, such as 40,400") from None
    return center, width


def _number_or_word(value: object, allowed: ranges.Range, words: tuple[str, ...]) -> object:
    """Return a number from text or as it is, or one of some words.

    Raises:
        ValueError: If it is neither, or the number is out of range.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is int:
        allowed.check(value)
        return value
    if value in words and isinstance(value, str):
        return value
    raise ValueError(f"give a number from 1, or {' or '.join(words)}")

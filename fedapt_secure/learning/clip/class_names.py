"""Class names as prompts say them: ``mouse_pad`` is a "mouse pad", ``ToothBrush`` a "Tooth Brush"."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

_JOINED_WORDS: Final = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z]{2})")
"""Between two written-together words; ``iPhone``, ``McDonald`` and ``DNase`` have no such place."""
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
"""Between two words; ``x-ray``, ``t-shirt`` and ``covid-19`` keep theirs."""


def spoken(class_name: str) -> str:
    """Return a class name as a prompt says it.

    Underscores, and hyphens between words of two letters or more, are spaces; words written together in
    CamelCase are taken apart. All else stays, such as case and the numbers of ImageNet (``n01440764``).
    Saying a spoken name again changes nothing.
    """
    spaced = _HYPHEN.sub(" ", class_name.replace("_", " "))
    return " ".join(_JOINED_WORDS.sub(" ", spaced).split())


def spoken_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a list of classes as prompts say them; different ones stay different.

    Names that would be spoken alike (`spoken_alike`) stay as they are written.
    """
    raw = set(spoken_alike(class_names))
    return tuple(name if name in raw else spoken(name) for name in class_names)


def spoken_alike(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return those names that `spoken` would make equal to another's."""
    counted = Counter(spoken(name) for name in class_names)
    return tuple(name for name in class_names if counted[spoken(name)] > 1)

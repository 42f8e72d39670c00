"""How templates are filled: all is escaped, nothing is missing silently, no text turns others around."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import jinja2

from fedapt_secure.process.shown import lines_shown, shown

_HERE = Path(__file__).parent
_STRIP: Final = 15
"""Columns of a grid that stand beside each other: more are cut off on paper."""
_ONE_STRIP: Final = 30

Column = TypeVar("Column")


def page_environment(*folders: Path) -> jinja2.Environment:
    """Return where templates come from: a page's own folders, and the stylesheet that all pages include.

    Args:
        folders: The page's, in the order in which a template is looked for.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_guarded,
    )
    environment.filters["plain"] = shown
    return environment


def strips_of(columns: Sequence[Column]) -> list[list[Column | None]]:
    """Return a grid's columns in strips of equal width that fit onto a page, the last one filled up."""
    width = len(columns) if len(columns) <= _ONE_STRIP else _STRIP
    strips: list[list[Column | None]] = []
    for start in range(0, len(columns), max(1, width)):
        part = columns[start : start + width]
        strips.append([*part, *[None] * (width - len(part))])
    return strips


def _guarded(value: object) -> object:
    """Return what a place of a page shows: no character of any text, wherever it is from, turns others."""
    # Markup is the template's own, and a text with lines keeps them.
    return lines_shown(value) if type(value) is str else value

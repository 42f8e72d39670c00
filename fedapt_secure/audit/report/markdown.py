"""Markdown of which no word from a log is markup: no table, link, tag or heading comes out of a name."""

from typing import Final

from fedapt_secure.process.shown import shown

_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;"}
_ESCAPED: Final = "\\`*_[]~#$^!"
_LINKS: Final = (("://", "&#58;//"), ("www.", "www&#46;"), ("WWW.", "WWW&#46;"))


def plain(text: object) -> str:
    """Return a text from outside as Markdown that shows exactly it, on one line."""
    letters = shown(" ".join(str(text).split()))
    out = "".join(
        _ENTITIES.get(letter, f"\\{letter}" if letter in _ESCAPED else letter) for letter in letters
    )
    for link, harmless in _LINKS:
        out = out.replace(link, harmless)
    return out


def code(text: str) -> str:
    """Return a hash or another token of letters and digits in code marks; anything else as `plain` does."""
    token = text.replace(" ", "")
    return f"`{text}`" if token.isascii() and token.isalnum() else plain(text)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table.

    Args:
        head: Titles.
        rows: Cells, Markdown already.
    """
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]

"""Text that came from outside, made safe for a screen: it can neither break a line nor steer a terminal.

File names, class names, names and details that a peer or a file gives are anything at all: line ends that
forge a line, escape sequences that colour, move or rename, marks that turn the direction of writing.
"""

from typing import Final

_LINES: Final = "\n\t"


def shown(text: object) -> str:
    r"""Return a value's text on one line, every control and format character as ``\xNN`` or ``\uNNNN``.

    What `str.isprintable` does not call printable is written so: C0 and C1 controls, marks of direction,
    invisible and private characters, half a surrogate pair, spaces that are no space, line separators.
    """
    plain = str(text)
    return plain if plain.isprintable() else "".join(map(_escaped, plain))


def lines_shown(text: str) -> str:
    """Return a text of our own, which has lines, else as `shown` does: the last guard before a screen."""
    if text.isprintable():
        return text
    return "".join(letter if letter in _LINES else _escaped(letter) for letter in text)


def sentence_shown(text: object) -> str:
    """Return a sentence, such as an error's, on one line: what parts its words is one space each."""
    return shown(" ".join(str(text).split()))


def _escaped(letter: str) -> str:
    return (
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    )

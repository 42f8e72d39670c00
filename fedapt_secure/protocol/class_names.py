"""When two class names are the same one, and in which words two that look alike are told apart.

Names come from people, file systems and spreadsheets: one writes ``Naevus``, another ``naevus `` with a space
at the end, and a disk may keep é as one character or as e with an accent. All of these are one class.
Coordinator and institution compare by `compared`, and by nothing else.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Final

LEAST_CLASSES: Final = 2
MOST_CLASSES: Final = 4096
"""So many a message holds."""
MOST_CHARACTERS: Final = 256
"""Of one name."""
_MOST_CHARACTERS: Final = 40
_MOST_TOLD: Final = 2


def compared(name: str) -> str:
    """Return what stands for a class name in comparisons: NFC, trimmed and case-folded.

    It may be empty, for a name of blanks. What it returns stands for itself.
    """
    folded = unicodedata.normalize("NFC", name).casefold()
    # Folding may leave letters and accents apart, and composing may give a letter that folds once more.
    while (again := unicodedata.normalize("NFC", folded).casefold()) != folded:
        folded = again
    return folded.strip()


def shown(name: str) -> str:
    """Return a name in quotes, cut where it is long; accents that stand apart are written as escapes."""
    short = name if len(name) <= _MOST_CHARACTERS else name[: _MOST_CHARACTERS - 3] + "..."
    return repr(short) if unicodedata.is_normalized("NFC", short) else ascii(short)


def collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names of a list that are one and the same class; ``None`` where all differ."""
    seen: dict[str, str] = {}
    for name in names:
        key = compared(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def check_class_names(names: Sequence[str]) -> None:
    """Raise `ValueError` where a list of classes names one twice, or has one of blanks only."""
    blank = [name for name in names if not compared(name)]
    if blank:
        raise ValueError(f"the class name {blank[0]!r} is blank: give it a word that prompts can say")
    twice = collision(names)
    if twice is not None:
        raise ValueError(
            f"{both(*twice)}; class names are compared without capitals, without spaces at their ends and"
            " with accents composed: leave one out, or give it a name of its own"
        )


def check_classes(names: Sequence[str]) -> None:
    """Raise `ValueError` where a session cannot have these classes, whatever its model.

    Wherever classes come from, a plan or a data set that is dealt, it is this that judges them.
    """
    check_not_alone(names)
    if len(names) > MOST_CLASSES:
        raise ValueError(f"there are {len(names)} classes, and a session has {MOST_CLASSES} at most")
    check_printable(names, "class")
    check_class_names(names)


def check_not_alone(names: Sequence[object]) -> None:
    """Raise `ValueError` where there is nothing to tell apart: one class, or none."""
    if len(names) < LEAST_CLASSES:
        only = f"one class only, {shown(str(names[0]))}" if names else "no class"
        raise ValueError(f"there is {only}: two at least are needed, to have something to tell apart")


def check_printable(names: Iterable[str], what: str) -> None:
    """Raise `ValueError` where a name is too long for a message, or has a character that no screen shows.

    Args:
        names: Of classes, or of domains.
        what: Which of the two.
    """
    for name in names:
        if len(name) > MOST_CHARACTERS:
            raise ValueError(
                f"the {what} {shown(name)} has {len(name)} characters, {MOST_CHARACTERS} are the most"
            )
        if not name.isprintable():
            raise ValueError(f"the {what} {shown(name)} has a character that cannot be shown: rename it")


def both(first: str, second: str) -> str:
    """Say of two names that are one class how the second one is written."""
    if first == second:
        return f"the class {shown(first)} is named twice"
    ways = " and ".join(_ways(first, second))
    return f"{shown(first)} and {shown(second)} are one class: the second differs by {ways} only"


def written(name: str, as_expected: str) -> str:
    """Return a name with how it is written otherwise than the one that it stands for."""
    ways = " and ".join(_ways(as_expected, name))
    return f"{shown(name)} (differs by {ways})" if ways else shown(name)


def _ways(first: str, second: str) -> list[str]:
    ways = []
    if first.lstrip() != first or second.lstrip() != second:
        ways.append("a space at the beginning")
    if first.rstrip() != first or second.rstrip() != second:
        ways.append("a space at the end")
    composed = [unicodedata.normalize("NFC", name) for name in (first, second)]
    if composed != [first, second]:
        ways.append("accents that are characters of their own (Unicode NFD, not NFC)")
    if composed[0].strip() != composed[1].strip():
        ways.append("capital letters")
    return ways


def lookalikes(expected: str, found: str) -> str:
    """Say which characters tell apart two names that the eye may take for one; empty where it does not.

    That is so where only characters beyond ASCII differ: a Cyrillic а for a Latin a, one dash for another.

    Args:
        expected: The name that should be there.
        found: The name that is there, another class.
    """
    matcher = SequenceMatcher(None, expected, found, autojunk=False)
    parts = []
    for tag, start, end, from_, to in matcher.get_opcodes():
        if tag == "equal":
            continue
        there, instead = found[from_:to], expected[start:end]
        if there.isascii() and instead.isascii():
            return ""
        parts.append(f"{_characters(there)} in place of {_characters(instead)}")
    return "; ".join(parts) if len(parts) <= _MOST_TOLD else ""


def _characters(text: str) -> str:
    if not text:
        return "nothing"
    return " ".join(f"U+{ord(one):04X} {unicodedata.name(one, 'without a name')}" for one in text)

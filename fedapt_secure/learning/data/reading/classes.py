"""Class lists must agree: what is said where they do not."""

import difflib
from collections.abc import Collection, Sequence
from typing import Final

from fedapt_crypto.errors import InvalidInput

MOST_NAMED: Final = 5
_MOST_CHARACTERS: Final = 40


def class_differences(expected: Collection[str], found: Collection[str]) -> str:
    """Return in one line how two class lists differ; empty where they are the same.

    Args:
        expected: What should be there.
        found: What is there.
    """
    unknown, missing = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    parts = []
    if unknown:
        named = [_with_closest(one, missing or sorted(expected)) for one in unknown[:MOST_NAMED]]
        parts.append(f"unknown class {', '.join(named)}{_more(unknown)}")
    if missing:
        parts.append(f"missing {', '.join(map(_short, missing[:MOST_NAMED]))}{_more(missing)}")
    return "; ".join(parts)


def agreed_classes(found: Sequence[tuple[str, Collection[str]]]) -> tuple[str, ...]:
    """Return the classes, sorted, that all parts of a data set have in common.

    Args:
        found: (name of the part, its classes), at least one.

    Raises:
        InvalidInput: If the parts differ; says which and how.
    """
    (first, class_names), *others = found
    differences = [
        f"{name} against {first}: {difference}"
        for name, classes in others
        if (difference := class_differences(class_names, classes))
    ]
    if differences:
        more = f"; and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
        raise InvalidInput(
            f"the domains must have the same classes: {'; '.join(differences[:MOST_NAMED])}{more}"
        )
    return tuple(sorted(class_names))


def _with_closest(name: str, candidates: Sequence[str]) -> str:
    folded = {one.casefold(): one for one in candidates}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"{_short(name)} (closest: {_short(folded[near[0]])})" if near else _short(name)


def _short(name: str) -> str:
    return repr(name if len(name) <= _MOST_CHARACTERS else name[: _MOST_CHARACTERS - 3] + "...")


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""

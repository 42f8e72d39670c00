"""Class lists must agree: how names are matched, and what is said where they do not.

Names are compared as `fedapt_secure.protocol.class_names.compared` has it, everywhere.
"""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.class_names import both, collision, compared, lookalikes, shown, written

MOST_NAMED: Final = 5


def class_differences(expected: Collection[str], found: Collection[str]) -> str:
    """Return in one line how two class lists differ; empty where they are the same.

    Args:
        expected: What should be there.
        found: What is there.
    """
    wanted, there = {compared(one): one for one in expected}, {compared(one): one for one in found}
    unknown = sorted(name for key, name in there.items() if key not in wanted)
    missing = sorted(name for key, name in wanted.items() if key not in there)
    parts = []
    if unknown:
        named = [_with_closest(one, missing or sorted(expected)) for one in unknown[:MOST_NAMED]]
        parts.append(f"unknown class {', '.join(named)}{_more(unknown)}")
    if missing:
        parts.append(f"missing {', '.join(map(shown, missing[:MOST_NAMED]))}{_more(missing)}")
    return "; ".join(parts)


def class_numbers(class_names: Sequence[str], found: Collection[str], where: object) -> Mapping[str, int]:
    """Return the number of the class that each name found stands for.

    Args:
        class_names: The classes in their order.
        found: Names as folders or labels say them.
        where: What they are of, for messages.

    Raises:
        InvalidInput: If two of them are one class, or one of them is none.
    """
    check_apart(found, where, class_names)
    numbers = {compared(name): number for number, name in enumerate(class_names)}
    if not {compared(name) for name in found} <= numbers.keys():
        raise InvalidInput(
            f"the classes of {where} are not the session's: {class_differences(class_names, found)}; name the"
            " folders or labels as the session does"
        )
    return {name: numbers[compared(name)] for name in found}


def check_apart(found: Iterable[str], where: object, expected: Collection[str] = ()) -> None:
    """Raise `InvalidInput` where two folders or labels of a source are one class.

    To merge them would be a guess: somebody may have kept two things apart by a capital.

    Args:
        found: Names as folders or labels say them.
        where: What they are of, for messages.
        expected: How classes are spelled elsewhere, where somebody has said it.
    """
    twice = collision(sorted(found))
    if twice is None:
        return
    spelled = [one for one in expected if compared(one) == compared(twice[0])]
    if spelled:
        ways = " and ".join(written(one, spelled[0]) for one in twice)
        problem = f"{ways} both stand for the session's {shown(spelled[0])}"
    else:
        problem = both(*twice)
    raise InvalidInput(
        f"{where} has a class under two names: {problem}; put their images under one name, or rename one of"
        " them"
    )


def agreed_classes(found: Sequence[tuple[str, Collection[str]]]) -> tuple[str, ...]:
    """Return the classes, sorted, that all parts of a data set have in common.

    Args:
        found: (name of the part, its classes), at least one.

    Raises:
        InvalidInput: If the parts differ; says which and how.
    """
    for name, classes in found:
        check_apart(classes, name)
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


def all_classes(found: Sequence[tuple[str, Collection[str]]]) -> tuple[str, ...]:
    """Return the classes, sorted, that any part of a data set has.

    A part may lack classes. But nothing else says which classes there are: where a part lacks some and also
    has one that no other part has, the one is likely a slip for the other.

    Args:
        found: (name of the part, its classes), at least one. Of spellings the first one counts, composed.

    Raises:
        InvalidInput: If a part has such a class, or one under two names.
    """
    spelled: dict[str, str] = {}
    for name, classes in found:
        check_apart(classes, name)
        for one in sorted(classes):
            spelled.setdefault(compared(one), unicodedata.normalize("NFC", one).strip())
    parts_of = Counter(compared(one) for _, classes in found for one in classes)
    differences = []
    for name, classes in found:
        alone = {one for one in classes if parts_of[compared(one)] == 1}
        own = {compared(one) for one in classes}
        lacking = [spelled[key] for key in spelled if key not in own]
        if alone and lacking:
            others = [one for one in classes if one not in alone]
            differences.append(
                f"{name} against the others: {class_differences([*others, *lacking], classes)}"
            )
    if differences:
        more = f"; and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
        raise InvalidInput(
            f"the domains must have the same classes: {'; '.join(differences[:MOST_NAMED])}{more}. A domain"
            " may lack classes, but not have one that no other has at the same time"
        )
    return tuple(sorted(spelled.values()))


def _with_closest(name: str, candidates: Sequence[str]) -> str:
    keys = {compared(one): one for one in candidates}
    near = difflib.get_close_matches(compared(name), keys, n=1)
    return f"{shown(name)} (closest: {_told_apart(keys[near[0]], name)})" if near else shown(name)


def _told_apart(expected: str, found: str) -> str:
    """Return the expected name, with the characters that differ where one does not see them."""
    told = lookalikes(compared(expected), compared(found))
    return f"{shown(expected)}; what is there has {told}" if told else shown(expected)


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""

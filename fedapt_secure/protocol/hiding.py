"""Whether a session's sums hide a single institution: it follows from plan and roster alone.

In FedAPT an institution's update lies in a space that follows from its domain key, so that the update of one
that is alone with its key can be separated from a sum (docs/what-a-sum-hides.md). Institutions that share a
key are hidden among each other; in methods without keys, everybody among all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fedapt_crypto.secagg.cohorts import EVERYBODY
from fedapt_crypto.secagg.registry import NONE
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.session import SessionConfiguration

_NAMES_SHOWN: Final = 5


class Hiding(StrEnum):
    """Whether a session's sums hide a single institution."""

    YES = "yes"
    NO_ALONE = "no (alone with its key)"
    NO_SCHEME = "no (no secure aggregation)"
    UNKNOWN = "not known from these logs"


@dataclass(frozen=True)
class Hidden:
    """What a session's plan and roster say of its sums.

    Attributes:
        hiding: Whether every institution is one of several under its key in every round.
        least: The smallest number of institutions on a key that is in use, over all rounds.
        own: The same for the key of the institution that asks; ``None`` where nobody does.
        alone: Who is alone with its key in some round, in roster order.
        all_alone: Whether that is everybody.
    """

    hiding: Hiding
    least: int
    own: int | None
    alone: tuple[str, ...]
    all_alone: bool = False

    @property
    def said(self) -> str:
        """One line for people who decide about a session."""
        if self.hiding is Hiding.NO_SCHEME:
            return "hides a single institution: no (the coordinator sees every update)"
        words = f"hides a single institution: {self.hiding}"
        if self.own != 1 and self.alone and not self.all_alone:
            words += f": {', '.join(self.alone[:_NAMES_SHOWN])}{', …' * (len(self.alone) > _NAMES_SHOWN)}"
        if self.own is None:
            return words if self.all_alone else f"{words}; {count_said(self.least)} on a key at least"
        if self.own > 1:
            return f"{words}; {count_said(self.own)} on our key"
        return f"{words}; we are alone with our key: our own noise protects our update, the sum does not"


def count_said(count: int) -> str:
    """Return a number of institutions in words."""
    return f"{count} institution{'' if count == 1 else 's'}"


def key_group(configuration: SessionConfiguration, name: str) -> int:
    """Return what tells apart whose updates a sum does not hide among each other: the domain key held.

    Raises:
        InvalidInput: If the institution is not on the roster.
    """
    index = configuration.key_index(name)
    return index if method_facts(configuration.plan.method).uses_keys else 0


def holders(configuration: SessionConfiguration, name: str, among: Iterable[str]) -> int:
    """Return how many of some institutions hold the key that one of the roster holds.

    Args:
        configuration: The session.
        name: Whose key.
        among: The institutions that are counted.
    """
    own = key_group(configuration, name)
    return sum(key_group(configuration, other) == own for other in among)


def alone_among(configuration: SessionConfiguration, contributors: Iterable[str]) -> set[str]:
    """Return who of some contributors has nobody beside it under its key."""
    groups = {name: key_group(configuration, name) for name in contributors}
    counts = Counter(groups.values())
    return {name for name, group in groups.items() if counts[group] == 1}


def planned_sets(configuration: SessionConfiguration) -> Iterator[tuple[str, ...]]:
    """Yield whom the plan puts into one sum; everybody once where every round has the same."""
    if configuration.plan.participation == EVERYBODY:
        yield configuration.roster.names
        return
    for number in range(1, configuration.plan.rounds + 1):
        yield configuration.round_roster(number).names


def hidden(configuration: SessionConfiguration, name: str | None = None) -> Hidden:
    """Return what a session's plan and roster say of its sums.

    Args:
        configuration: The session.
        name: The institution that asks, if one does.

    Raises:
        InvalidInput: If it is not on the roster.
    """
    alone: set[str] = set()
    least, own = len(configuration.roster.members), None
    for together in planned_sets(configuration):
        alone |= alone_among(configuration, together)
        least = min(least, *Counter(key_group(configuration, one) for one in together).values())
        if name in together:
            count = holders(configuration, name, together)
            own = count if own is None else min(own, count)
    if name is not None and own is None:  # it is in no round at all
        own = holders(configuration, name, [name])
    names = configuration.roster.names
    hiding = Hiding.NO_ALONE if alone else Hiding.YES
    return Hidden(
        Hiding.NO_SCHEME if configuration.plan.secure_aggregation == NONE else hiding,
        least,
        own,
        tuple(one for one in names if one in alone),
        all_alone=len(alone) == len(names),
    )

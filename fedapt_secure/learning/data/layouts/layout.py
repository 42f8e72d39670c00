"""What every layout gives, and how domains are chosen by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.listing import LeftOut
from fedapt_secure.learning.data.reading.records import Record
from fedapt_secure.protocol.class_names import LEAST_CLASSES

_MOST_NAMED: Final = 20


@dataclass(frozen=True)
class DomainSet:
    """A data set of several domains.

    Attributes:
        class_names: What the labels mean; the same in all domains.
        by_domain: Domain to its images, in key order; none is empty.
        left_out: What is called like an image and is no file.
    """

    class_names: tuple[str, ...]
    by_domain: Mapping[str, tuple[Record, ...]]
    left_out: tuple[LeftOut, ...] = ()


class Layout(Protocol):
    """One way in which a data set of several domains lies on disk."""

    def read(self, root: Path, wanted: Sequence[str]) -> DomainSet:
        """List the images; open none of them.

        Args:
            root: Where the data set lies.
            wanted: Names of the domains to read; empty for all.

        Raises:
            InvalidInput: If something is missing or not as the layout says; says what.
        """


def folded(name: str) -> str:
    """Return a name without case, spaces, ``_`` and ``-``: copies of one data set differ in these."""
    return "".join(one for one in name.casefold() if one not in " _-")


def choose_domains(known: Sequence[str], wanted: Sequence[str], where: object) -> tuple[str, ...]:
    """Return the wanted domains as the data set spells them, in its order; all where none is named.

    Raises:
        InvalidInput: For a domain that the data set has not.
    """
    return _chosen(known, wanted, where, "domain")


def choose_classes(found: DomainSet, wanted: Sequence[str], where: object) -> DomainSet:
    """Return a data set of the wanted classes alone, numbered anew in its own order; all where none is named.

    Raises:
        InvalidInput: For a class that it has not, fewer than two, or a domain without an image of any.
    """
    if not wanted:
        return found
    names = _chosen(found.class_names, wanted, where, "class")
    if len(names) < LEAST_CLASSES:
        raise InvalidInput(f"one class is nothing to tell apart: name {LEAST_CLASSES} or more with --classes")
    place = {found.class_names.index(name): number for number, name in enumerate(names)}
    by_domain = {
        domain: tuple(replace(one, label=place[one.label]) for one in records if one.label in place)
        for domain, records in found.by_domain.items()
    }
    for domain, records in by_domain.items():
        if not records:
            raise InvalidInput(
                f"the domain {domain!r} has no image of {', '.join(names[:_MOST_NAMED])}: leave it out with"
                " --domains, or choose other --classes"
            )
    return replace(found, class_names=names, by_domain=by_domain)


def _chosen(known: Sequence[str], wanted: Sequence[str], where: object, what: str) -> tuple[str, ...]:
    chosen: set[str] = set()
    for one in wanted:
        same = {one} & set(known) or {name for name in known if folded(name) == folded(one)}
        if len(same) != 1:
            raise InvalidInput(
                f"{where} has no {what} {one!r}: it has {', '.join(known[:_MOST_NAMED])}"
                f"{', ...' if len(known) > _MOST_NAMED else ''}"
            )
        chosen |= same
    return tuple(name for name in known if not wanted or name in chosen)

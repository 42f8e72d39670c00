"""How many images of each class an institution has; as sensitive as the images, and for its own eyes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedapt_secure.learning.data.reading.listing import LeftOut
from fedapt_secure.learning.data.reading.records import RecordSet


@dataclass(frozen=True)
class Balance:
    """Images a class.

    Attributes:
        class_names: The classes.
        counts: How many images of each, training and test together, before any is opened.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All images."""
        return sum(self.counts)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without an image."""
        return tuple(name for name, count in zip(self.class_names, self.counts, strict=True) if not count)

    @property
    def ranked(self) -> tuple[tuple[str, int], ...]:
        """(class, images), from the rarest to the most frequent; equal ones in class order."""
        return tuple(sorted(zip(self.class_names, self.counts, strict=True), key=lambda one: one[1]))


def count_classes(records: RecordSet) -> Balance:
    """Return how many images of each class a source lists."""
    counted = Counter(record.label for record in records.records)
    return Balance(records.class_names, tuple(counted[label] for label in range(len(records.class_names))))


def in_words(names: Sequence[str], most: int = 5) -> str:
    """Return some names as a list for people, cut after ``most``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def left_out_in_words(left_out: Sequence[LeftOut]) -> str:
    """Return how many files were left out, by reason, and an example."""
    counted = Counter(one.reason for one in left_out)
    reasons = ", ".join(f"{count} because of: {reason}" for reason, count in sorted(counted.items()))
    return f"left out {len(left_out)} files ({reasons}), such as {left_out[0].name}"

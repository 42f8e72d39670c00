"""What a page shows of a model's answers: by class, and what is taken for what.

``answers.html.j2`` draws it: tables of accuracy by class, a confusion matrix or its largest parts, and a grid
of images by whose knowledge was used for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MOST_CLASSES: Final = 200
"""Of more only the worst are shown."""
MOST_IN_MATRIX: Final = 30
"""A larger confusion matrix fits no page: then what is taken for something else most often."""


@dataclass(frozen=True)
class Confused:
    """Images of one class that were taken for another."""

    true: str
    said: str
    count: int
    support: int


@dataclass(frozen=True)
class Answers:
    """A model's answers, as far as they fit onto a page.

    Attributes:
        classes: Figures by class: name, support, recall, precision, zero_shot_recall; all, or the worst.
        count: How many classes there are.
        names: Their names.
        matrix: Counts, (M, M), row true class, column answer; ``None`` where it fits no page.
        confused: What was taken for something else, the most frequent first, where there is no matrix.
    """

    classes: Sequence[Mapping[str, Any]]
    count: int
    names: Sequence[str]
    matrix: Sequence[Sequence[int]] | None
    confused: Sequence[Confused]


def answers(
    per_class: Sequence[Mapping[str, Any]], matrix: Sequence[Sequence[int]], names: Sequence[str]
) -> Answers:
    """Return what of a model's answers fits onto a page.

    Args:
        per_class: Figures of each class, in order.
        matrix: Counts, (M, M): row true class, column answer.
        names: M class names.
    """
    many, fits = len(per_class) > MOST_CLASSES, len(names) <= MOST_IN_MATRIX
    return Answers(
        classes=sorted(per_class, key=_worst_first)[:MOST_CLASSES] if many else per_class,
        count=len(per_class),
        names=names,
        matrix=matrix if fits else None,
        confused=() if fits else confused(matrix, names)[:MOST_IN_MATRIX],
    )


def confused(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> list[Confused]:
    """Return what was taken for something else, the most frequent first.

    Args:
        matrix: Counts, (M, M): row true class, column answer.
        names: M class names.
    """
    found = [
        Confused(names[true], names[said], count, sum(row))
        for true, row in enumerate(matrix)
        for said, count in enumerate(row)
        if count and said != true
    ]
    return sorted(found, key=lambda one: -one.count)


def _worst_first(figures: Mapping[str, Any]) -> float:
    return 2.0 if figures["recall"] is None else figures["recall"]

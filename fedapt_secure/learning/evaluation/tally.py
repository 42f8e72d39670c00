"""Answers of a model, counted: what was right, what was taken for what, and whose knowledge was used.

Counts and no shares, because only counts of several institutions can be added up. Sparse: with 345 classes
most pairs never occur. No torch here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import InvalidInput

TOP: Final = 5
"""How many answers count for the second figure that papers report."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Counts over labelled images.

    Attributes:
        pairs: (true class, predicted class) to number of images.
        in_top_5: Images whose class is among the five best answers (all, where there are only five).
        keys: Key index to number of images that were routed to it; empty where a method knows none.
    """

    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    in_top_5: int = 0
    keys: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.pairs + other.pairs, self.in_top_5 + other.in_top_5, self.keys + other.keys)

    @property
    def images(self) -> int:
        """Number of images."""
        return self.pairs.total()

    @property
    def correct(self) -> int:
        """Images whose best answer is right."""
        return sum(count for (true, predicted), count in self.pairs.items() if true == predicted)

    @property
    def accuracy(self) -> float:
        """Share of right best answers (top-1), in [0, 1]; 0 without images."""
        return self.correct / max(1, self.images)

    @property
    def top_5_accuracy(self) -> float:
        """Share of images whose class is among the five best answers, in [0, 1]; 0 without images."""
        return self.in_top_5 / max(1, self.images)

    def confusion(self, classes: int) -> Counts:
        """Return the confusion matrix, (M, M): row true class, column predicted class."""
        matrix = np.zeros((classes, classes), np.int64)
        for (true, predicted), count in self.pairs.items():
            matrix[true, predicted] = count
        return matrix

    def to_fields(self) -> dict[str, Any]:
        """Return what `from_fields` reads, for JSON."""
        return {
            "in_top_5": self.in_top_5,
            "confusion": [[*pair, count] for pair, count in sorted(self.pairs.items())],
            "chosen_keys": [[key, count] for key, count in sorted(self.keys.items())],
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Tally":
        """Return the tally that `to_fields` wrote down; raises `InvalidInput` where it is none."""
        try:
            pairs = Counter({(int(true), int(said)): int(count) for true, said, count in fields["confusion"]})
            keys = Counter({int(key): int(count) for key, count in fields["chosen_keys"]})
            return cls(pairs, int(fields["in_top_5"]), keys)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput("the counts of an evaluation are missing or damaged") from error


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is recognised.

    Attributes:
        name: The class.
        support: Images of it.
        recall: Share of them that were recognised; ``None`` where there are none.
        precision: Share of the answers with this class that were right; ``None`` where there are none.
    """

    name: str
    support: int
    recall: float | None
    precision: float | None


def per_class(tally: Tally, class_names: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Return the figures of each class, in order."""
    matrix = tally.confusion(len(class_names))
    right, support, said = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(
        ClassFigures(
            name,
            int(support[index]),
            float(right[index] / support[index]) if support[index] else None,
            float(right[index] / said[index]) if said[index] else None,
        )
        for index, name in enumerate(class_names)
    )


def class_fields(
    tally: Tally, class_names: Sequence[str], untuned: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Return the figures of each class as JSON values, with what was recognised before tuning beside them.

    Args:
        tally: The tuned model's answers.
        class_names: M names.
        untuned: Class index to how many of its images the untuned model recognised.
    """
    return [
        asdict(one) | {"zero_shot_recall": untuned.get(label, 0) / one.support if one.support else None}
        for label, one in enumerate(per_class(tally, class_names))
    ]


def routing_matrix(by_domain: Mapping[str, Tally], keys: int) -> Counts:
    """Return how many images of each domain were routed to which key.

    Args:
        by_domain: Tallies by the images' own domain.
        keys: K.

    Returns:
        Counts, (len(by_domain), K).
    """
    return np.array(
        [[tally.keys[key] for key in range(keys)] for tally in by_domain.values()], np.int64
    ).reshape(len(by_domain), keys)

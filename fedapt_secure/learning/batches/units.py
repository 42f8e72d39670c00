"""Which training records are one unit of privacy: each image by itself, or all images of one person.

Whole units are sampled, and a batch keeps the records of each together, so that the sum of their gradients
can be clipped once. A method cannot forget it: the sum of gradients takes a batch and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedapt_secure.privacy.unit import IMAGE, PERSON, PrivacyUnit


@dataclass(frozen=True)
class Batch:
    """The records of the units that were sampled for a step.

    Attributes:
        records: Record numbers, int64, (B,); those of one unit stand beside each other.
        sizes: How many records each unit has, int64, (U,), at least 1 each; adds up to B.
    """

    records: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def of_images(cls, records: Tensor) -> "Batch":
        """Return a batch in which each record is a unit of its own."""
        return cls(records, torch.ones_like(records))


class Units:
    """The units of an institution's training records.

    Args:
        records: All record numbers, those of one unit beside each other, int64, (N,).
        sizes: How many records each unit has, int64, (U,).
        kind: What a unit is.
    """

    def __init__(self, records: Tensor, sizes: Tensor, kind: PrivacyUnit) -> None:
        self._records = records
        self._sizes = sizes
        self._starts = sizes.cumsum(0) - sizes
        self.kind = kind

    def __len__(self) -> int:
        return len(self._sizes)

    @classmethod
    def images(cls, count: int) -> "Units":
        """Return ``count`` records as a unit each."""
        return cls(torch.arange(count), torch.ones(count, dtype=torch.int64), IMAGE)

    @classmethod
    def persons(cls, subjects: Sequence[str]) -> "Units":
        """Return the records as one unit for each subject, in the order of the subjects' first records.

        Args:
            subjects: Whose each record is, (N,).
        """
        numbers: dict[str, int] = {}
        owners = torch.tensor([numbers.setdefault(one, len(numbers)) for one in subjects], dtype=torch.int64)
        return cls(torch.argsort(owners, stable=True), torch.bincount(owners, minlength=len(numbers)), PERSON)

    def batch(self, chosen: Tensor) -> Batch:
        """Return all records of some units.

        Args:
            chosen: Unit numbers, int64, (U,); may be empty.
        """
        sizes = self._sizes[chosen]
        ends = sizes.cumsum(0)
        within = torch.arange(int(sizes.sum())) - (ends - sizes).repeat_interleave(sizes)
        return Batch(self._records[self._starts[chosen].repeat_interleave(sizes) + within], sizes)

    def largest_batch(self, count: int) -> Batch:
        """Return the batch of the ``count`` units with the most records: no sample of as many has more."""
        return self.batch(torch.topk(self._sizes, count).indices)

"""Sum the gradients of each unit's records, chunk by chunk: a person with many images takes no more memory.

At any time there are the gradients of one chunk of records, and the sum so far of the one unit in which the
last chunk broke off. How records fall into chunks follows from the units' sizes, never from values, and a
unit's sum is added up from its own records alone, always in the same order: what one person's images are
moves no other person's sum by a single bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class UnitSums:
    """Adds up one step's gradients by unit.

    Args:
        sizes: How many records each unit of the batch has, in the order in which they come, (U,).
    """

    def __init__(self, sizes: Tensor) -> None:
        self._ends = sizes.cpu().cumsum(0)  # (U,)
        self._total = int(sizes.sum())
        self.single = len(sizes) == self._total
        """Whether each unit is one record, so that there is nothing to add up."""
        self._taken = 0
        self._open: list[Tensor] = []
        """Sums so far of the unit that the last chunk broke off in, one for each parameter."""

    def add(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Take the next records' gradients and return the sums of those units that are complete now.

        Args:
            gradients: For each parameter (B, d), float64, finite.

        Returns:
            For each parameter (C, d): of the C units whose last record this chunk holds.

        Raises:
            ValueError: If there are more records than the units have.
        """
        start, stop = self.take(len(gradients[0]))
        if self.single or start == stop:
            return gradients
        parts, complete = self._parts(start, stop)
        sums = [_sums(gradient, parts) for gradient in gradients]
        for total, begun in zip(sums, self._open, strict=False):  # nothing is open, or one sum a parameter
            total[0] += begun
        self._open = [] if complete else [total[-1].clone() for total in sums]
        return sums if complete else [total[:-1] for total in sums]

    def take(self, count: int) -> tuple[int, int]:
        """Count the next records and return the first's number and the one after the last's.

        Args:
            count: How many come.

        Raises:
            ValueError: If there are more records than the units have.
        """
        start, stop = self._taken, self._taken + count
        if stop > self._total:
            raise ValueError("a step has more records than its units")
        self._taken = stop
        return start, stop

    def finish(self) -> None:
        """Check that every unit was complete.

        Raises:
            ValueError: If records are missing.
        """
        if self._taken != self._total:
            raise ValueError("a step has fewer records than its units")

    def _parts(self, start: int, stop: int) -> tuple[Tensor, bool]:
        """Return how the rows from start to stop divide into units, and whether the last one is complete."""
        first, last = torch.searchsorted(self._ends, torch.tensor([start, stop - 1]), right=True).tolist()
        cuts = self._ends[first : last + 1].clamp(max=stop)
        return cuts.diff(prepend=cuts.new_tensor([start])), bool(self._ends[last] == stop)


def _sums(gradient: Tensor, parts: Tensor) -> Tensor:
    """Return the sums (P, d) of consecutive rows, so many as parts (P,) says.

    Part by part, and not by scattering: on a GPU that would add in another order each time.
    """
    ends = parts.cumsum(0)
    sums = gradient[(ends - parts).to(gradient.device)]  # each part's first row: all of it for most images
    for number in (parts > 1).nonzero().flatten().tolist():
        stop = int(ends[number])
        torch.sum(gradient[stop - int(parts[number]) : stop], dim=0, out=sums[number])
    return sums

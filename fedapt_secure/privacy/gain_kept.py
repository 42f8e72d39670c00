"""How much of tuning's gain is left under a budget, as it was measured at similar noise.

One number decides on that as far as public figures can: the noise of training over the largest signal
(`prior_weight.noise_quotient`). `gain_kept.json` holds what FedAPT reached at several of them on the two
embedded data sets: made by ``python -m benchmarks.pages.results_page``, from the runs of docs/results.md.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

FILE: Final = "gain_kept.json"


@dataclass(frozen=True)
class Measured:
    """What was measured on one data set.

    Attributes:
        dataset: Which.
        kept: By noise quotient, rising, the share of the gain over zero-shot that training without privacy
            has; below 0 where it was worse than zero-shot.
    """

    dataset: str
    kept: tuple[tuple[float, float], ...]

    def at(self, quotient: float) -> float:
        """Return the share at a quotient, between the two nearest that were measured; at the ends, theirs."""
        before = self.kept[0]
        if quotient <= before[0]:
            return before[1]
        for one in self.kept[1:]:
            if quotient <= one[0]:
                way = math.log(quotient / before[0]) / math.log(one[0] / before[0])
                return before[1] + way * (one[1] - before[1])
            before = one
        return before[1]

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest quotient that were measured."""
        return self.kept[0][0], self.kept[-1][0]


@dataclass(frozen=True)
class Table:
    """All that was measured.

    Attributes:
        measured_on: Date, machine and runs, in words.
        datasets: Each data set's.
    """

    measured_on: str
    datasets: tuple[Measured, ...]


@cache
def table() -> Table:
    """Return the table that ships with the package."""
    found = json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return table_of(found)


def table_of(fields: Mapping[str, object]) -> Table:
    """Return the table of a file's fields."""
    datasets = fields["datasets"]
    assert isinstance(datasets, dict)
    return Table(
        str(fields["measured_on"]),
        tuple(
            Measured(name, tuple((float(quotient), float(kept)) for quotient, kept in pairs))
            for name, pairs in datasets.items()
        ),
    )

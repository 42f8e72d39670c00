"""Where the deviation of results over seeds comes from: which images are held out, or noise, start and keys.

    python -m benchmarks.learning.scatter --dataset digits

Each of some splits is trained with each of some draws, so the variance within a split is that of noise,
sampling, start and keys, and what is left between the splits' means is the splits' own. docs/tuning.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.learning.batched_loop import Setting, World, trained
from benchmarks.learning.batched_outcome import outcome_of

SPLITS = tuple(range(20, 26))
DRAWS = tuple(range(1000, 1006))
EPSILONS = (2.0, 1.0)
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sample_rate 1": {"sample_rate": 1.0},
    "context_tokens 24": {"context_tokens": 24},
    "max_grad_norm 0.25": {"max_grad_norm": 0.25},
    "learning_rate 1": {"learning_rate": 1.0},
    "rounds 60": {"rounds": 60},
}


@dataclass(frozen=True)
class Scatter:
    """What some runs have in common, and in what they differ, in per cent.

    Attributes:
        mean: Of all.
        of_draws: Standard deviation that noise, sampling, start and keys bring.
        of_splits: Standard deviation that the images held out bring.
    """

    mean: float
    of_draws: float
    of_splits: float

    @classmethod
    def of(cls, accuracy: np.ndarray) -> "Scatter":
        """Return that of accuracies (splits, draws), by the two mean squares of a one-way layout."""
        within = float(accuracy.var(axis=1, ddof=1).mean())
        between = float(accuracy.mean(axis=1).var(ddof=1)) - within / accuracy.shape[1]
        return cls(float(accuracy.mean()), within**0.5, max(0.0, between) ** 0.5)

    @property
    def total(self) -> float:
        """Standard deviation over seeds that decide on both."""
        return float(np.hypot(self.of_draws, self.of_splits))


def measure(setting: Setting, splits: Sequence[int], draws: Sequence[int]) -> tuple[Scatter, Scatter]:
    """Return how a setting's results scatter, and how those of the untuned model."""
    world = World(
        setting, [split for split in splits for _ in draws], draws=[draw for _ in splits for draw in draws]
    )
    parameters = trained(world)
    found = [outcome_of(world, parameters, place) for place in range(len(splits) * len(draws))]
    shape = (len(splits), len(draws))
    tuned = np.array([one.at_weight for one in found]).reshape(shape)
    return Scatter.of(tuned), Scatter.of(np.array([one.zero_shot for one in found]).reshape(shape))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="digits", choices=("digits", "digits-flipped"))
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=CHANGES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| changed | ε | mean | deviation by noise and start | by the split | both | untuned, by the split |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.changes:
        for epsilon in EPSILONS:
            setting = replace(Setting(dataset=options.dataset, epsilon=epsilon), **CHANGES[name])
            tuned, untuned = measure(setting, SPLITS, DRAWS)
            figures = (tuned.mean, tuned.of_draws, tuned.of_splits, tuned.total, untuned.of_splits)
            cells = " | ".join(f"{one:.1f}" for one in figures)
            print(f"| {name} | {epsilon:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

"""Measure what the noise on the grid and the sampler cost in a training step.

    python -m benchmarks.learning.noise --json results.json

The same trainer takes steps in turn with and without them, in one process, so that a busy machine slows
both. "Without" keeps everything else of a private step: per-sample gradients, clipping, float64 sums. It
adds no noise, leaves out the grid, and gets its batches ready-made. Shares are medians over pairs of steps;
next to them the two parts, timed alone inside the same steps.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.sampling import poisson_batch
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters

AIM = 0.15


@dataclass(frozen=True)
class Case:
    """One model and size; ``pairs`` of steps are measured."""

    name: str
    model: str
    pretrained: str | None
    classes: int
    domains: int
    context_tokens: int
    records: int
    pairs: int


CASES = (
    Case("default: tiny CLIP, 10 classes", "tiny", None, 10, 5, 8, 270, 150),
    Case("tiny CLIP, 345 classes", "tiny", None, 345, 6, 8, 5000, 12),
    Case("ViT-B/32, 10 classes", "ViT-B-32", "random", 10, 6, 16, 2000, 8),
)
SAMPLE_RATE = 0.5


@dataclass(frozen=True)
class Measured:
    """Medians of one case; milliseconds."""

    case: str
    values: int
    records: int
    step_ms: float
    without_ms: float
    share: float
    noise_ms: float
    sampler_ms: float


class Stopwatch:
    """Adds up the time spent in wrapped calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[[], None]) -> Callable[[], None]:
        def timed() -> None:
            started = time.perf_counter()
            call()
            self.seconds += time.perf_counter() - started

        return timed

    def take(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class TimedSampler:
    """One keystream batch an iteration, timed."""

    def __init__(self, records: int, watch: Stopwatch) -> None:
        self._records, self._watch = records, watch
        self._keystream = Keystream.from_operating_system()

    def __iter__(self) -> Iterator[Tensor]:
        started = time.perf_counter()
        batch = poisson_batch(self._keystream, self._records, SAMPLE_RATE)
        self._watch.seconds += time.perf_counter() - started
        yield batch


def measure(case: Case) -> Measured:
    backbone = load_backbone(case.model, case.pretrained)
    shape = ParameterShape(
        classes=case.classes,
        context_tokens=case.context_tokens,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        domains=case.domains,
    )
    generator = torch.Generator().manual_seed(0)
    trainer = LocalTrainer(
        Task(
            backbone,
            tuple(f"class {number}" for number in range(case.classes)),
            shape,
            "a photo of a {}",
            torch.from_numpy(np.random.default_rng(0).random(shape.key, np.float32)),
            0,
            TrainingSettings(declared_records=case.records, noise_multiplier=2.0, local_steps=1),
            Keystream.from_operating_system(),
        ),
        TrainingData(
            torch.randn(case.records, backbone.feature_size, generator=generator),
            torch.randint(case.classes, (case.records,), generator=generator),
        ),
    )
    start = initial_parameters(shape, 0)
    optimizer = trainer._objective._gradient._sum._optimizer
    assert optimizer is not None
    noise_watch, sampler_watch = Stopwatch(), Stopwatch()
    with_noise = noise_watch.around(optimizer.add_noise)
    ready_made = Keystream.from_operating_system()

    def step(noisy: bool) -> float:
        """Time one step; the round's set-up around it is a copy of the parameters and costs nothing."""
        optimizer.add_noise = with_noise if noisy else reset
        batch = poisson_batch(ready_made, case.records, SAMPLE_RATE)
        trainer._sampler = TimedSampler(case.records, sampler_watch) if noisy else [batch]  # type: ignore[assignment]
        started = time.perf_counter()
        trainer.train(start)
        return time.perf_counter() - started

    def reset() -> None:
        optimizer._records, optimizer._units = 0, None

    for warm_up in (True, False, True, False):
        step(warm_up)
    noise_watch.take(), sampler_watch.take()
    pairs, noise, sampler = [], [], []
    for number in range(case.pairs):
        order = (True, False) if number % 2 else (False, True)
        times = {noisy: step(noisy) for noisy in order}
        pairs.append((times[True], times[False]))
        noise.append(noise_watch.take())
        sampler.append(sampler_watch.take())
    step_s = statistics.median(pair[0] for pair in pairs)
    return Measured(
        case=case.name,
        values=(case.classes + case.domains) * backbone.feature_size,
        records=case.records,
        step_ms=1000 * step_s,
        without_ms=1000 * statistics.median(pair[1] for pair in pairs),
        share=statistics.median(1 - without / noisy for noisy, without in pairs),
        noise_ms=1000 * statistics.median(noise),
        sampler_ms=1000 * statistics.median(sampler),
    )


def table(results: list[Measured]) -> Table:
    shown = Table(title="Noise on the grid and sampler in a training step, one thread")
    for column in ("model", "values", "records", "step ms", "without ms", "share", "noise ms", "sampler ms"):
        shown.add_column(column, justify="left" if column == "model" else "right")
    for one in results:
        shown.add_row(
            one.case,
            f"{one.values:,}",
            f"{one.records:,}",
            f"{one.step_ms:.2f}",
            f"{one.without_ms:.2f}",
            f"{one.share:.1%}",
            f"{one.noise_ms:.2f}",
            f"{one.sampler_ms:.3f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--quick", action="store_true", help="the default model only")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in `simulate`
    results = [measure(case) for case in (CASES[:1] if options.quick else CASES)]
    console = Console(width=110)
    console.print(table(results))
    verdict = "met" if results[0].share <= AIM else "missed"
    console.print(f"aim: at most {AIM:.0%} of a step on the default model: {verdict}")
    if options.json is not None:
        fields = {
            "platform": platform.platform(),
            "torch": torch.__version__,
            "results": [asdict(one) for one in results],
        }
        options.json.write_text(json.dumps(fields, indent=2) + "\n")


if __name__ == "__main__":
    main()

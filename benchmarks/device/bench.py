"""What all parts share: sizes of a run, a clock that waits for the device, faults that cost one figure."""

import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.clip.device import Precision


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        models: Name of each model to its weights.
        classes: Class counts of a training step.
        context_tokens: n_ctx.
        batches: Batch sizes of a training step.
        image_batch: Images at once through the tower.
        files: Image files that are made and encoded.
        file_pixels: Their size.
        matrix: Side of the square matrices of the peak.
        copy_bytes: Size of a copy.
        seconds: Time that one figure may take, after warming up.
        seeds: Of the default task.
        rounds: Of the default task.
    """

    models: dict[str, str | None] = field(default_factory=lambda: {"ViT-B-32": RANDOM, "ViT-L-14": RANDOM})
    classes: tuple[int, ...] = (10, 65, 345)
    context_tokens: int = 16
    batches: tuple[int, ...] = (256, 8192)
    image_batch: int = 256
    files: int = 4096
    file_pixels: tuple[int, int] = (500, 375)
    matrix: int = 8192
    copy_bytes: int = 1 << 30
    seconds: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = 15


TINY = Size(
    models={"tiny": None},
    classes=(3,),
    context_tokens=4,
    batches=(16,),
    image_batch=8,
    files=24,
    file_pixels=(60, 50),
    matrix=64,
    copy_bytes=1 << 16,
    seconds=0.02,
    seeds=(0,),
    rounds=1,
)
"""A rehearsal in seconds: all of the code, no figure that means anything."""


@dataclass
class Bench:
    """One run: where it computes, how much, and what was found.

    Attributes:
        device: Under test.
        size: How much.
        found: Figures by part.
        faults: What went wrong, part and reason.
    """

    device: torch.device
    size: Size
    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    faults: list[dict[str, str]] = field(default_factory=list)

    def add(self, part: str, **figures: Any) -> None:
        """Keep a row, and show it at once: a run that is cut short has told what it knew."""
        self.found.setdefault(part, []).append(figures)
        shown = " ".join(f"{name}={_short(value)}" for name, value in figures.items())
        print(f"[{part}] {shown}", flush=True)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Let a fault cost what is inside, and nothing else."""
        started = time.perf_counter()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is: it is reported, and the rest is measured
            lines = str(error).strip().splitlines() or [""]
            self.faults.append({"what": what, "error": f"{type(error).__name__}: {lines[0][:300]}"})
            print(f"[fault] {what}: {type(error).__name__}: {lines[0][:300]}", flush=True)
            traceback.print_exc(limit=-6, file=sys.stdout)
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            print(f"[time] {what}: {time.perf_counter() - started:.1f} s", flush=True)

    def backbone(self, model: str, precision: Precision, device: torch.device | None = None) -> Backbone:
        return load_backbone(model, self.size.models.get(model), device or self.device, precision)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds_of(
        self, work: Callable[[], object], *, warm_up: int = 2, most: int = 200, in_a_row: int = 1
    ) -> "Timing":
        """Time a piece of work: repeated for as long as `Size.seconds` says, three times at least.

        Args:
            work: What to do.
            warm_up: How often before.
            most: How often at most.
            in_a_row: How often before the device is waited for, as where nobody waits; times are of one.
        """
        for _ in range(warm_up):
            work()
        self.wait()
        taken: list[float] = []
        while len(taken) < 3 or (sum(taken) < self.size.seconds and len(taken) < most):
            started = time.perf_counter()
            for _ in range(in_a_row):
                work()
            self.wait()
            taken.append(time.perf_counter() - started)
        each = [seconds / in_a_row for seconds in taken]
        return Timing(statistics.median(each), min(each), max(each), len(each))

    def seconds_of_once(self, work: Callable[[], object]) -> float:
        """Time a piece of work that is done once."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated work."""

    median: float
    least: float
    most: float
    repeats: int

    def to_fields(self, unit: float = 1e3) -> dict[str, float | int]:
        """Return milliseconds: median, least and most."""
        return {
            "ms": unit * self.median,
            "ms_least": unit * self.least,
            "ms_most": unit * self.most,
            "repeats": self.repeats,
        }


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

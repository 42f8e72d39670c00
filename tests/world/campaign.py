"""Many schedules: play each from its seed, count what happened, and shrink those that fail."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import EVERYBODY, Participation
from tests.world.consortium import scratch_folder
from tests.world.lying import LyingWorld, draw_lie, is_lying
from tests.world.operations import Schedule, draw_schedule
from tests.world.world import World

AUDITED_EVERY: Final = 10
"""The auditor reads the logs of every such schedule: it takes longer than the schedule."""
LYING_SHARE: Final = 0.1
"""In so many schedules the coordinator lies; the auditor reads the logs of all of these."""
MAX_SHRINKING_RUNS: Final = 150


@dataclass(frozen=True)
class Setting:
    """The worlds of a campaign; ``lying`` is the share of schedules in which the coordinator lies."""

    scheme: str = registry.MASKING
    institutions: int = 4
    rounds: int = 2
    participation: Participation = EVERYBODY
    lying: float = 0.0

    def lie(self, seed: int) -> str | None:
        """Return the lie in a seed's schedule, if there is one."""
        return draw_lie(seed) if is_lying(seed, self.lying) else None

    def world(self, base: Path, seed: int) -> World:
        """Make the world of a seed."""
        arguments: dict[str, Any] = {
            "scheme": self.scheme,
            "institutions": self.institutions,
            "rounds": self.rounds,
            "participation": self.participation,
            "seed": seed,
        }
        lie = self.lie(seed)
        return World(base, **arguments) if lie is None else LyingWorld(base, lie, **arguments)


@dataclass(frozen=True)
class Failure:
    """A schedule that failed, and how."""

    seed: int
    schedule: Schedule
    error: str


@dataclass
class Figures:
    """What happened in some schedules."""

    schedules: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        self.schedules += other.schedules
        self.counts += other.counts
        self.failures += other.failures

    def table(self) -> str:
        """Return the figures as a table for a document."""
        lines = ["| what | how often |", "|---|---:|", f"| schedules | {self.schedules:,} |"]
        lines += [f"| {name} | {count:,} |" for name, count in sorted(self.counts.items())]
        return "\n".join(lines)


def run_schedule(
    base: Path, seed: int, schedule: Schedule, setting: Setting, *, audited: bool = False
) -> Counter[str]:
    """Play one schedule to its end and return what happened; raises what fails in it."""
    with setting.world(base, seed) as world:
        world.play(schedule)
        world.settle()
        world.check_end(audited=audited)
        return world.figures()


def run_seeds(seeds: Sequence[int], setting: Setting, audited_every: int = AUDITED_EVERY) -> Figures:
    """Play the schedules of some seeds."""
    logging.getLogger("fedapt_client").setLevel(logging.ERROR)  # operators are told of every refused frame
    figures, base = Figures(), scratch_folder()
    try:
        for seed in seeds:
            schedule = draw_schedule(seed)
            figures.schedules += 1
            try:
                audited = seed % audited_every == 0 or setting.lie(seed) is not None
                figures.counts += run_schedule(base, seed, schedule, setting, audited=audited)
            except Exception as error:
                figures.failures.append(Failure(seed, schedule, f"{type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return figures


def shrink(failure: Failure, setting: Setting) -> Schedule:
    """Return a shorter schedule that still fails: leave out halves, then quarters, then single operations."""
    base = scratch_folder()

    def fails(schedule: Schedule) -> bool:
        try:
            audited = setting.lie(failure.seed) is not None
            run_schedule(base, failure.seed, schedule, setting, audited=audited)
        except Exception:
            return True
        return False

    try:
        return _without_what_does_not_matter(failure.schedule, fails)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _without_what_does_not_matter(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    runs, size = 0, max(1, len(schedule) // 2)
    while runs < MAX_SHRINKING_RUNS:
        at, shorter = 0, False
        while at < len(schedule) and runs < MAX_SHRINKING_RUNS:
            candidate = schedule[:at] + schedule[at + size :]
            runs += 1
            if fails(candidate):
                schedule, shorter = candidate, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return schedule


class Stopwatch:
    """Says how far a campaign is, not more often than every few seconds."""

    def __init__(self, total: int, every_s: float = 10.0) -> None:
        self._total, self._every_s = total, every_s
        self._began = self._said = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def line(self, figures: Figures) -> str | None:
        now = time.monotonic()
        if now - self._said < self._every_s:
            return None
        self._said = now
        return (
            f"{figures.schedules:,} of {self._total:,} schedules, {self.elapsed_s:.0f} s,"
            f" {len(figures.failures)} failed"
        )

"""What the benchmarks share: contenders in turns, medians with spread, targets, JSON and tables."""

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

SHORT_S, MOST_CALLS = 2.0, 5
RESULTS = Path(__file__).parent / "results"
MODULES = {
    "wire": "benchmarks.protocol.wire",
    "training_step": "benchmarks.learning.training_step",
    "dp_step": "benchmarks.learning.dp_step",
    "inference": "benchmarks.learning.inference",
    "simulate_time": "benchmarks.protocol.simulate_time",
    "dp_utility": "benchmarks.learning.dp_utility",
}
"""The benchmarks of `make bench`, in order: what a missing package or a wrong result would stop is first."""
PACKAGES = ("torch", "open_clip_torch", "opacus", "cryptography", "numpy")


@dataclass(frozen=True)
class Spread:
    """Repeats of one measurement: median, least and most."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises `ValueError` where there are no values."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(statistics.median(values), min(values), max(values), len(values))

    def text(self, scale: float = 1.0) -> str:
        """Return ``median (low to high)``; a single repeat has no spread."""
        middle = figure(self.median * scale)
        if self.repeats == 1:
            return middle
        return f"{middle} ({figure(self.low * scale)} to {figure(self.high * scale)})"


def in_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return each contender's seconds, turn by turn, so that a busy machine slows all of them.

    Short work is done several times in a turn, for what it took over from another contender (cold caches,
    memory given back) to be shared by several.

    They run once to warm up where they have not run before, then in an order that is turned round every
    time; the garbage collector is off while one runs, as in timeit.
    """
    if warm_up:
        for work in contenders.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats):
        order = list(contenders) if turn % 2 == 0 else list(reversed(contenders))
        for name in order:
            seconds[name].append(timed(contenders[name], SHORT_S))
    return seconds


def timed(work: Callable[[], object], short_s: float = 0.0) -> float:
    """Return the seconds that one call takes: the mean of some calls where they are short."""
    gc.collect()
    gc.disable()
    try:
        started, calls, taken = time.perf_counter(), 0, 0.0
        while not calls or (taken < short_s and calls < MOST_CALLS):
            work()
            calls += 1
            taken = time.perf_counter() - started
        return taken / calls
    finally:
        gc.enable()


def with_section(text: str, begin: str, end: str, content: str) -> str:
    """Return a page with what stands between two markers replaced.

    Raises:
        SystemExit: If the page has no such place.
    """
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"the page has no place for what was measured: {begin} ... {end}")
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """Return how many times longer the slow one takes, turn by turn."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


def figure(value: float) -> str:
    """Return a number with three figures, or all of a large one."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return b of the least-squares fit value = a · size^b."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


@dataclass(frozen=True)
class Target:
    """What was aimed for and what was found.

    Attributes:
        what: Measured where.
        aim: Least value, or most where ``at_most``.
        found: The median, or whatever the aim is about.
        at_most: Whether less is better.
        unit: Follows both numbers.
        why_missed: Shown where the aim is missed: what limits it.
        spread: Of ``found``, as text.
    """

    what: str
    aim: float
    found: float
    at_most: bool = False
    unit: str = "×"
    why_missed: str = ""
    spread: str = ""

    @property
    def met(self) -> bool:
        return self.found <= self.aim if self.at_most else self.found >= self.aim

    def row(self) -> list[str]:
        """Return the cells of the table of targets."""
        sign = "≤" if self.at_most else "≥"
        found = f"{figure(self.found)}{self.unit}" + (f" {self.spread}" if self.spread else "")
        if self.met:
            return [self.what, f"{sign} {figure(self.aim)}{self.unit}", found, "met"]
        if self.aim and self.unit.strip():
            missed = f"missed by {abs(self.found / self.aim - 1):.0%}"
        else:
            missed = f"missed by {figure(abs(self.found - self.aim))}"
        verdict = missed + (f": {self.why_missed}" if self.why_missed else "")
        return [self.what, f"{sign} {figure(self.aim)}{self.unit}", found, verdict]


TARGET_COLUMNS = ("what", "aim", "found", "verdict")


@dataclass
class Table:
    """One table of results; cells are text."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def markdown(self) -> str:
        heading = f"{self.title}\n\n" if self.title else ""
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        return heading + "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows)])


@dataclass
class Result:
    """What one benchmark found.

    Attributes:
        benchmark: Name of the script.
        title: Heading.
        about: One paragraph: what was measured, against what, and what was checked to be equal.
        raw: Every single measurement.
    """

    benchmark: str
    title: str
    about: str
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    seconds: float = 0.0

    def to_json(self) -> str:
        fields = asdict(self) | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        fields["machine"] = machine()
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def parse_result(fields: dict[str, Any]) -> Result:
    """Return the result that `Result.to_json` wrote."""
    return Result(
        benchmark=fields["benchmark"],
        title=fields["title"],
        about=fields["about"],
        tables=[Table(**table) for table in fields["tables"]],
        targets=[Target(**target) for target in fields["targets"]],
        notes=fields["notes"],
        raw=fields["raw"],
        quick=fields["quick"],
        seconds=fields["seconds"],
    )


def section(fields: dict[str, Any]) -> str:
    """Return a benchmark's Markdown, from what its JSON file holds; what the page shows and nothing else."""
    result = parse_result(fields)
    machine_line = ", ".join(f"{value}" for value in fields["machine"].values())
    parts = [
        f"### {result.title}",
        result.about,
        f"{fields['date']}, {machine_line}; {result.seconds:.0f} s. `python -m {MODULES[result.benchmark]}`",
        *(table.markdown() for table in result.tables),
    ]
    if result.targets:
        parts.append(Table("", list(TARGET_COLUMNS), [target.row() for target in result.targets]).markdown())
    parts += [f"- {note}" if len(result.notes) > 1 else note for note in result.notes]
    return "\n\n".join(parts) + "\n"


def machine() -> dict[str, str]:
    """Return what a reader needs to know about where this ran."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    system = platform.system()
    release = Path("/etc/os-release")
    if release.exists():
        named = dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line)
        system = f"{named.get('NAME', system)} {named.get('VERSION_ID', '')}".replace('"', "").strip()
    return {
        "cores": f"{len(os.sched_getaffinity(0))} cores ({_processor()})",
        "system": system.replace("GNU/Linux ", ""),
        "python": f"Python {platform.python_version()}",
        "packages": ", ".join(packages),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def resident_peak_mib(work: Callable[[], object]) -> float:
    """Return by how much the most memory that this process holds while it works exceeds what it holds now.

    The kernel's own high-water mark (VmHWM, reset through clear_refs; proc(5)), so nothing is missed between
    two looks.
    """
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def run(measure: Callable[[bool], Result], arguments: Sequence[str] | None = None) -> Result:
    """Be a benchmark's main program: options, measurement, tables on the terminal, JSON where asked for."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, no figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    result = measure(options.quick)
    result.quick, result.seconds = options.quick, time.perf_counter() - started
    text = result.to_json()
    print(section(json.loads(text)))
    if options.json is not None:
        options.json.write_text(text, encoding="utf-8")
    return result

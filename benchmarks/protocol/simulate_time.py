"""A whole `fedapt-secure simulate`: where its time goes, what it takes, and how it grows.

    python -m benchmarks.protocol.simulate_time --json results.json

Each run is a process of its own, with boundaries put around the product's functions from outside
(`simulated_run.py`, `timeline.py`). The picture goes into ``benchmarks/results``.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, Result, Spread, Table, Target, figure, fitted_exponent, run
from benchmarks.protocol.simulated_run import CATEGORIES, CRYPTO, NETWORK, noted_run
from benchmarks.protocol.timeline import WAITING

PICTURE = RESULTS / "simulate_time.svg"
REPEATS = 3
CLIENTS = (5, 20, 50, 100)
CONTEXT_TOKENS = (2, 8, 24)  # the tiny CLIP takes 32 tokens in all
ROUNDS = (5, 15, 30)
GROWTH_ROUNDS = 2
ROUND_SHARE, START_UP_S, PEAK_MIB = 0.15, 12.0, 2560.0
SHADES = [
    "#9aa5b1",
    "#4e79a7",
    "#76b7b2",
    "#a0cbe8",
    "#b07aa1",
    "#59a14f",
    "#e15759",
    "#f28e2b",
    "#edc948",
    "#8cd17d",
    "#bab0ac",
    "#e4e7eb",
]
COLOURS = dict(zip((*CATEGORIES, WAITING), SHADES, strict=True))


def simulated(*options: str) -> dict[str, Any]:
    """Run one simulation in a process of its own and return what it noted.

    Raises:
        SystemExit: If a round was lost: then its time says nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "run.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.protocol.simulated_run",
            str(answer),
            "--spawned",
            repr(time.time()),
        ]
        for option in options:
            command += ["--set", option]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(ended.stderr.strip().splitlines()[-1])
        found: dict[str, Any] = json.loads(answer.read_text())
    if found["completed"] != len(found["round_s"]):
        raise SystemExit("a round was not completed: not measuring this")
    return found


def measure(quick: bool) -> Result:
    """Measure where the time of a simulation goes, and how it grows."""
    result = Result(
        "simulate_time",
        "A whole simulation",
        "`fedapt-secure simulate --dp-epsilon 8`: five institutions, 15 rounds, in one process. At any"
        " instant the threads that do something share the time equally, so the parts add up to the wall"
        " clock; the simulation ran to its end and every round was completed.",
    )
    if quick:
        with tempfile.TemporaryDirectory() as folder:
            options = ["clients=3", "rounds=1", "no_dp=true"]
            runs = [noted_run(options, Path(folder) / "run", time.time())]
    else:
        runs = [simulated("dp_epsilon=8") for _ in range(REPEATS)]
    parts(result, runs, quick)
    if not quick:
        growth(result)
        draw(result.raw["parts"], PICTURE)
    return result


def parts(result: Result, runs: list[dict[str, Any]], quick: bool) -> None:
    """Say where the time of the whole and of a round goes."""
    names = (*CATEGORIES, WAITING)
    whole = {name: [run["seconds"].get(name, 0.0) for run in runs] for name in names}
    rounds = {name: [_a_round(run, "round_seconds", name) for run in runs] for name in names}
    processor = {name: [_a_round(run, "round_processor_seconds", name) for run in runs] for name in names}
    round_s = [statistics.mean(run["round_s"]) for run in runs]
    columns = ["part", "whole run s", "a round ms", "of a round", "processor ms of a round"]
    table = Table("", columns)
    for name in names:
        share = statistics.median(rounds[name]) / statistics.median(round_s)
        table.rows.append(
            [
                name,
                f"{statistics.median(whole[name]):.2f}",
                f"{1000 * statistics.median(rounds[name]):.0f}",
                f"{share:.0%}",
                f"{1000 * statistics.median(processor[name]):.0f}",
            ]
        )
    total = [run["total_s"] for run in runs]
    table.rows.append(
        ["all", f"{statistics.median(total):.2f}", f"{1000 * statistics.median(round_s):.0f}", "100%", ""]
    )
    result.tables.append(table)
    result.raw["runs"] = runs
    result.raw["parts"] = {
        "whole run": {name: statistics.median(values) for name, values in whole.items()},
        "a round": {name: statistics.median(values) for name, values in rounds.items()},
    }
    spread = Spread.of(total).text()
    result.notes.append(f"Whole run {spread} s; {len(runs)} runs. The picture shows the same.")
    if quick:
        return
    protected = [
        (run["round_seconds"].get(CRYPTO, 0.0) + run["round_seconds"].get(NETWORK, 0.0)) / sum(run["round_s"])
        for run in runs
    ]
    start, peak = [run["start_up_s"] for run in runs], [run["peak_mib"] for run in runs]
    result.targets += [
        Target(
            "crypto and network, share of a default round",
            100 * ROUND_SHARE,
            100 * statistics.median(protected),
            at_most=True,
            unit=" %",
        ),
        Target(
            "start-up to the first round",
            START_UP_S,
            statistics.median(start),
            at_most=True,
            unit=" s",
            why_missed="imports of torch, open_clip and Opacus are most of it",
        ),
        Target("peak memory at defaults", PEAK_MIB, max(peak), at_most=True, unit=" MiB"),
    ]


def _a_round(run: dict[str, Any], what: str, name: str) -> float:
    return run[what].get(name, 0.0) / len(run["round_s"])


def growth(result: Result) -> None:
    """Say how a round, and what it sends, grow."""
    table = Table(
        "", ["what grows", "from", "to", "seconds", "exponent of time", "bytes up a round", "of bytes"]
    )
    series = {
        "institutions (seconds a round)": [("clients", size, GROWTH_ROUNDS) for size in CLIENTS],
        "context tokens (seconds a round)": [
            ("context_tokens", size, GROWTH_ROUNDS) for size in CONTEXT_TOKENS
        ],
        "rounds (seconds of all rounds)": [("rounds", size, size) for size in ROUNDS],
    }
    for what, steps in series.items():
        sizes, seconds, sent, refused = [], [], [], ""
        for name, size, rounds in steps:
            options = {"dp_epsilon": 8, name: size, "rounds": rounds}
            try:
                found = simulated(*(f"{key}={value}" for key, value in options.items()))
            except RuntimeError as error:  # more institutions, or longer prompts, than this version takes
                refused = f"{name} {size}: {error}"
                break
            sizes.append(size)
            whole = name == "rounds"
            seconds.append(found["rounds_s"] if whole else statistics.median(found["round_s"]))
            sent.append(sum(found["bytes_up"]) if whole else statistics.median(found["bytes_up"]))
        if len(sizes) < 2:
            result.notes.append(f"No growth of {what}: {refused}")
            continue
        result.raw[what] = {"sizes": sizes, "seconds": seconds, "bytes": sent, "refused": refused}
        if refused:
            result.notes.append(f"No figure for {refused}")
        table.rows.append(
            [
                what,
                f"{sizes[0]}",
                f"{sizes[-1]}",
                f"{figure(seconds[0])} to {figure(seconds[-1])}",
                f"{fitted_exponent(sizes, seconds):.2f}",
                f"{sent[0]:,.0f} to {sent[-1]:,.0f}",
                f"{fitted_exponent(sizes, sent):.2f}",
            ]
        )
    result.tables.append(table)


def draw(parts: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the stacked bars: shares of the whole run and of a round."""
    import matplotlib as mpl  # noqa: PLC0415 - only the picture needs the extra [plots]

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "simulate_time"  # the same picture for the same figures
    from matplotlib import pyplot  # noqa: PLC0415

    figure_, axes = pyplot.subplots(figsize=(9, 3.2), layout="constrained")
    bars = list(parts.items())[::-1]
    left = [0.0] * len(bars)
    for name in parts["whole run"]:
        sums = [sum(values.values()) for _, values in bars]
        widths = [100 * values[name] / total for (_, values), total in zip(bars, sums, strict=True)]
        if max(widths) < 0.5:
            continue
        drawn = axes.barh(range(len(bars)), widths, left=left, label=name, color=COLOURS[name])
        labels = [f"{width:.0f}" if width >= 4 else "" for width in widths]
        axes.bar_label(drawn, labels=labels, label_type="center", fontsize=8)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    captions = [f"{name}\n{sum(values.values()):.2f} s" for name, values in bars]
    axes.set_yticks(range(len(bars)), captions)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the wall clock")
    axes.legend(ncols=6, fontsize=8, loc="upper center", bbox_to_anchor=(0.45, -0.2), frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure_.savefig(path, metadata={"Date": None})
    pyplot.close(figure_)


if __name__ == "__main__":
    run(measure)

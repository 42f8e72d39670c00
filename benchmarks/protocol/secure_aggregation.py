"""Measure the masking protocol against Flower's SecAgg+, TenSEAL's CKKS and a plain memory copy.

    python3 -m venv .venv-bench
    .venv-bench/bin/pip install -r benchmarks/requirements.txt
    .venv-bench/bin/pip install --no-deps -e .
    .venv-bench/bin/python -m benchmarks.protocol.secure_aggregation --json results.json

One process plays all parties; messages pass as bytes from call to call. Contenders take turns, so that a
busy machine slows all of them; figures are medians, with the garbage collector off, as in timeit. Ours is
the whole protocol: five phases, signatures, hybrid HPKE, consistency. Flower's clients run the functions
of its client mod as they are, its server the calls that its workflow makes for one round. One institution
drops out after dealing its shares. Every sum is checked before its time counts.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from rich.console import Console
from rich.table import Table

from benchmarks.protocol.flower_rounds import FLOWER_MODULUS, flower_round
from benchmarks.protocol.secagg_rounds import (
    CASES,
    LARGE,
    QUICK,
    SMALL,
    Case,
    Parties,
    Timings,
    ckks_round,
    our_round,
)
from fedapt_crypto.masks import RANGE_VALUES, SignedKey, apply_masks, mask_range
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator


def mask_speed(repeats: int) -> dict[str, float]:
    """Return GB/s of a copy and of adding masks, for 16 MiB of values."""
    source, target = np.ones(LARGE, np.uint32), np.ones(LARGE, np.uint32)
    work: dict[str, tuple[int, Callable[[], None]]] = {
        "memcpy": (1, lambda: np.copyto(target, source)),
        "one mask": (1, lambda: one_core(target, [(bytes(32), 1)])),
        "ten masks": (10, lambda: one_core(target, [(bytes(32), 1)] * 10)),
        "ten masks, all cores": (10, lambda: apply_masks(target, [(bytes(32), 1)] * 10)),
        "one Flower mask": (1, lambda: flower_mask(source)),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, (count, call) in work.items():
            start = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: source.nbytes / statistics.median(times) / 1e9 for name, times in seconds.items()}


def one_core(vector: np.ndarray, keys: list[SignedKey]) -> None:
    """Do what `apply_masks` does in several threads."""
    for start in range(0, vector.size, RANGE_VALUES):
        mask_range(vector[start : start + RANGE_VALUES], keys, start)


def flower_mask(vector: np.ndarray) -> None:
    parameters_addition([vector], pseudo_rand_gen(bytes(32), FLOWER_MODULUS, [vector.shape]))


def coordinator_memory(institutions: int, length: int) -> dict[str, float]:
    """Return what the coordinator holds while it collects masked inputs, in vectors of 4 bytes a value."""
    case = Case(institutions, length, "full graph", 1)
    parties, peak, held = Parties(institutions, length), 0, []
    receive = MaskingCoordinator.receive

    def traced(self: MaskingCoordinator, sender: str, payload: bytes) -> None:
        nonlocal peak
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        receive(self, sender, payload)
        if len(payload) >= 4 * length:
            now, highest = tracemalloc.get_traced_memory()
            held.append(now - before)
            peak = max(peak, highest - before)

    MaskingCoordinator.receive = traced
    tracemalloc.start()
    try:
        our_round(case, parties)
    finally:
        tracemalloc.stop()
        MaskingCoordinator.receive = receive
    vector = 4 * length
    return {
        "institutions": institutions,
        "kept_for_each_input": max(held) / vector,
        "working_peak": peak / vector,
    }


def measure(case: Case, console: Console) -> list[dict[str, object]]:
    """Run every contender in turn and return one row each."""
    parties = Parties(case.institutions, case.length)
    contenders: dict[str, Callable[[Case, Parties], Timings]] = {"ours": our_round}
    if case.against_flower:
        contenders["Flower SecAgg+"] = flower_round
    if case.neighbours is None and case.institutions == 10:
        contenders["TenSEAL CKKS"] = ckks_round
    runs: dict[str, list[Timings]] = defaultdict(list)
    for turn in range(case.repeats):
        for name, play in contenders.items():
            if name == "TenSEAL CKKS" and case.length > SMALL and turn:
                continue
            console.print(f"[dim]{case.title}: {name}, {turn + 1} of {case.repeats}[/dim]")
            runs[name].append(undisturbed(play, case, parties))
    return [summary(case, name, timings) for name, timings in runs.items()]


def undisturbed(play: Callable[[Case, Parties], Timings], case: Case, parties: Parties) -> Timings:
    """Play a round without the garbage collector: one process holds the objects of all parties."""
    gc.collect()
    gc.disable()
    try:
        return play(case, parties)
    finally:
        gc.enable()


def summary(case: Case, name: str, runs: list[Timings]) -> dict[str, object]:
    """Return medians over repeats."""
    return {
        "case": asdict(case) | {"title": case.title},
        "contender": name,
        "repeats": len(runs),
        "client_s": statistics.median(run.client_seconds for run in runs),
        "server_s": statistics.median(run.server for run in runs),
        "server_phases_s": {
            phase: statistics.median(run.phases[phase] for run in runs) for phase in runs[0].phases
        },
        "bytes_per_value": runs[0].value_bytes,
        "other_bytes_sent": runs[0].fixed_bytes,
    }


def print_rounds(rows: list[dict[str, object]], console: Console) -> None:
    table = Table("round", "contender", "client s", "server s", "bytes/value", "other bytes", "of ours")
    ours = {row["case"]["title"]: row for row in rows if row["contender"] == "ours"}
    for row in rows:
        mine = ours[row["case"]["title"]]
        factors = [f"{row[key] / mine[key]:.1f}" for key in ("client_s", "server_s")]
        table.add_row(
            row["case"]["title"],
            row["contender"],
            f"{row['client_s']:.4f}",
            f"{row['server_s']:.4f}",
            f"{row['bytes_per_value']:.2f}",
            f"{row['other_bytes_sent']:,.0f}",
            "" if row is mine else ", ".join(factors),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small rounds, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rounds with this in their title")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 110)
    speed = mask_speed(5 if arguments.quick else 21)
    table = Table("16 MiB of values, one core where not said", "GB/s", "of memcpy")
    for name, value in speed.items():
        table.add_row(name, f"{value:.2f}", f"{value / speed['memcpy']:.0%}")
    console.print(table)
    rows = [
        row
        for case in (QUICK if arguments.quick else CASES)
        if arguments.only in case.title
        for row in measure(case, console)
    ]
    print_rounds(rows, console)
    memory = [coordinator_memory(n, 1 << 18) for n in (5, 20)]
    table = Table(
        "institutions", "kept for each masked input", "working peak", title="Coordinator, in vectors"
    )
    for entry in memory:
        table.add_row(*(f"{value:.2f}" for value in entry.values()))
    console.print(table)
    if arguments.json:
        packages = ("cryptography", "flwr", "msgpack", "numpy", "pydantic", "tenseal")
        about = {"python": platform.python_version(), **{name: version(name) for name in packages}}
        results = {"versions": about, "gb_per_s": speed, "rounds": rows, "coordinator_memory": memory}
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

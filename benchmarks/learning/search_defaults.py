"""Search the training defaults: one setting changed at a time, both data sets, every budget, tuning seeds.

    python -m benchmarks.learning.search_defaults --out searched.jsonl --processes 2

Each line of --out is one cell (a setting, a data set, a budget, all seeds), and is not computed again when
the command is given again. Prints, as Markdown, the mean accuracy of each setting at the prior weight that
follows from public figures, and for the share κ of `prior_weight` what other values would give:
docs/tuning.md. The seeds are not those of docs/results.md.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from benchmarks.learning.batched_loop import Setting
from benchmarks.learning.batched_outcome import run
from benchmarks.learning.federated_loop import AS_BEFORE
from fedapt_secure.privacy.prior_weight import REACHED_SHARE
from fedapt_secure.protocol.methods import FEDAPT, FEDCLIP, LINEAR_PROBE, LOCAL, PROMPTFL

SEEDS = tuple(range(20, 28))
EPSILONS = (8.0, 4.0, 2.0, 1.0, 0.5)
DATASETS = ("digits", "digits-flipped")
BEFORE = Setting(**AS_BEFORE)
CENTRE = Setting(context_tokens=8)
"""What one thing at a time is changed of: the defaults but for their 16 tokens, which this search found."""
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "domain_loss_weight 0.1": {"domain_loss_weight": 0.1},
    "domain_loss_weight 1": {"domain_loss_weight": 1.0},
    "context_tokens 16": {"context_tokens": 16},
    "max_grad_norm 0.25": {"max_grad_norm": 0.25},
    "max_grad_norm 1": {"max_grad_norm": 1.0},
    "loss_temperature 1": {"loss_temperature": 1.0},
    "loss_temperature 2": {"loss_temperature": 2.0},
    "loss_temperature 8": {"loss_temperature": 8.0},
    "rounds 15": {"rounds": 15},
    "sample_rate 1": {"sample_rate": 1.0},
    "learning_rate 1": {"learning_rate": 1.0},
    "learning_rate 10": {"learning_rate": 10.0},
    "schedule constant, learning_rate 1.5": {"learning_rate_schedule": "constant", "learning_rate": 1.5},
    "momentum 0.9, learning_rate 1.3": {"momentum": 0.9, "learning_rate": 1.3},
    "words 'a photo of a digit'": {"initial_words": "a photo of a digit"},
}
"""By name, what is another than in `CENTRE`."""
RATES = {
    PROMPTFL: (1.0, 3.0, 10.0),
    LOCAL: (1.0, 3.0, 10.0),
    LINEAR_PROBE: (1.0, 2.0, 4.0, 8.0),
    FEDCLIP: (1.0, 2.0, 3.0, 6.0),
}
"""Learning rates tried for the other methods."""
SHARES = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3)


def settings(what: str) -> dict[str, Setting]:
    """Return the settings of a part of the search, by name."""
    if what == FEDAPT:
        return {"as before": BEFORE, **{name: replace(CENTRE, **one) for name, one in CHANGES.items()}}
    return {f"learning_rate {rate:g}": Setting(method=what, learning_rate=rate) for rate in RATES[what]}


def cell(setting: Setting) -> dict[str, Any]:
    """Return a setting with the outcomes of all seeds."""
    torch.set_num_threads(1)
    return {"setting": asdict(setting), "outcomes": [asdict(one) for one in run(setting, SEEDS)]}


def at(outcome: dict[str, Any], weight: float) -> float:
    """Return the accuracy at a weight, between the two nearest that were tried."""
    grid = {float(name): value for name, value in outcome["accuracy"].items()}
    return float(np.interp(weight, list(grid), list(grid.values())))


def with_share(weight: float, share: float) -> float:
    """Return the weight that another κ gives, from that of the present one."""
    if weight >= 1:
        return 1.0
    quotient = weight / (1 - weight) * (REACHED_SHARE / share) ** 2
    return quotient / (1 + quotient)


def table(
    rows: dict[str, Setting],
    found: dict[str, dict[str, Any]],
    budgets: Iterable[float | None],
    of: Callable[..., str],
) -> None:
    """Print a row a setting, a column a data set and budget."""
    columns = [(dataset, epsilon) for dataset in DATASETS for epsilon in budgets]
    titles = [
        f"{dataset.removeprefix('digits-')}, {'none' if e is None else f'ε = {e:g}'}"
        for dataset, e in columns
    ]
    print("| changed | " + " | ".join(titles) + " | mean |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for name, setting in rows.items():
        cells, means = [], []
        for dataset, epsilon in columns:
            one = found.get(key(replace(setting, dataset=dataset, epsilon=epsilon)))
            if one is None:
                cells.append("")
                continue
            values = [at(outcome, outcome["weight"]) for outcome in one["outcomes"]]
            means.append(mean(values))
            cells.append(of(values))
        print(f"| {name} | " + " | ".join(cells) + f" | {mean(means):.1f} |" if means else f"| {name} |")
    print()


def key(setting: Setting) -> str:
    """Return what a cell is known by."""
    return json.dumps(asdict(setting), sort_keys=True)


def shares(found: Iterable[dict[str, Any]]) -> None:
    """Print what other values of κ give with the defaults."""
    print("| κ | " + " | ".join(f"ε = {one:g}: w" for one in EPSILONS) + " | mean accuracy |")
    print("| --- |" + " ---: |" * (len(EPSILONS) + 1))
    cells = list(found)
    for share in SHARES:
        weights, values = {}, []
        for one in cells:
            for outcome in one["outcomes"]:
                weight = with_share(outcome["weight"], share)
                weights[one["setting"]["epsilon"]] = weight
                values.append(at(outcome, weight))
        print(
            f"| {share:g} | " + " | ".join(f"{weights[e]:.2f}" for e in EPSILONS) + f" | {mean(values):.2f} |"
        )
    best = [max(mean(at(o, w / 20) for o in one["outcomes"]) for w in range(21)) for one in cells]
    print(f"| the best weight of each column, which needs to know the tests | | | | | | {mean(best):.2f} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("searched.jsonl"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=[FEDAPT, *RATES], choices=[FEDAPT, *RATES])
    parser.add_argument("--without-privacy", action="store_true", help="no differential privacy")
    options = parser.parse_args()
    budgets = (None,) if options.without_privacy else EPSILONS
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    found = {key(Setting(**one["setting"])): one for one in map(json.loads, lines)}
    wanted = [
        replace(setting, dataset=dataset, epsilon=epsilon)
        for part in options.parts
        for setting in settings(part).values()
        for epsilon in budgets
        for dataset in DATASETS
    ]
    left = [setting for setting in wanted if key(setting) not in found]
    with ProcessPoolExecutor(options.processes) as pool, options.out.open("a") as stream:
        for number, one in enumerate(pool.map(cell, left), start=1):
            stream.write(json.dumps(one) + "\n")
            stream.flush()
            found[key(Setting(**one["setting"]))] = one
            print(f"{number} of {len(left)}", flush=True)
    for part in options.parts:
        print(f"\n## {part}")
        table(settings(part), found, budgets, lambda values: f"{mean(values):.1f} ± {stdev(values):.1f}")
    if FEDAPT in options.parts and not options.without_privacy:
        shares(
            found[key(replace(Setting(), dataset=dataset, epsilon=epsilon))]
            for dataset in DATASETS
            for epsilon in EPSILONS
        )


if __name__ == "__main__":
    main()

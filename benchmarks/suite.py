"""`make bench`: every benchmark in turn, each in a process of its own, and the page that shows them.

python -m benchmarks.suite                      # all; results into benchmarks/results, page renewed
python -m benchmarks.suite --only inference wire --out results
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown

from benchmarks.harness import MODULES, RESULTS, TARGET_COLUMNS, Table, parse_result, section
from benchmarks.pages import benchmarks_page as page

BENCHMARKS = tuple(MODULES)
BUDGET_S = 25 * 60.0


def run_one(name: str, out: Path, budget_s: float, *, quick: bool) -> str | None:
    """Run one benchmark; returns why there is no result, if there is none."""
    if budget_s <= 0:
        return "no time was left"
    command = [
        sys.executable,
        "-m",
        MODULES[name],
        "--json",
        str(out / f"{name}.json"),
    ]
    try:
        ended = subprocess.run(
            command + ["--quick"] * quick, check=False, capture_output=True, text=True, timeout=budget_s
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {budget_s:.0f} s, when no time was left"
    if ended.returncode:
        lines = (ended.stderr or ended.stdout).strip().splitlines() or ["no message"]
        return lines[-1]
    (out / f"{name}.md").write_text(section(json.loads((out / f"{name}.json").read_text())), encoding="utf-8")
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the suite; 1 if a benchmark has no result. A target that is missed is a finding, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: whether all of it works, no figures"
    )
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help="seconds for all of it")
    options = parser.parse_args(arguments)
    if options.quick and options.out.resolve() == RESULTS:
        parser.error("--quick gives no figures to keep: choose another folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    started, failures = time.monotonic(), {}
    for name in options.only:
        left = options.budget_s - (time.monotonic() - started)
        console.print(f"{name} …", highlight=False)
        failure = run_one(name, options.out, left, quick=options.quick)
        if failure is not None:
            failures[name] = failure
            console.print(f"[red]{name}: {failure}[/]", highlight=False)
    summary = targets(options.out)
    (options.out / "summary.md").write_text(summary.markdown() + "\n", encoding="utf-8")
    show(summary, console)
    console.print(f"{time.monotonic() - started:.0f} s; results in {options.out}", highlight=False)
    if options.out.resolve() == RESULTS:
        page.renew()
    return int(bool(failures))


def targets(folder: Path) -> Table:
    """Return all targets of the results in a folder, with what was found."""
    table = Table("", ["benchmark", *TARGET_COLUMNS])
    for name in BENCHMARKS:
        path = folder / f"{name}.json"
        if path.exists():
            for target in parse_result(json.loads(path.read_text(encoding="utf-8"))).targets:
                table.rows.append([name, *target.row()])
    return table


def show(table: Table, console: Console) -> None:
    shown = Shown(*table.columns)
    for row in table.rows:
        shown.add_row(*row, style="" if row[-1] == "met" else "yellow")
    console.print(shown)


if __name__ == "__main__":
    sys.exit(main())

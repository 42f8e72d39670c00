"""Renew the ablations in `docs/results.md` from the tables that `fedapt-secure paper` made.

python -m benchmarks.pages.ablations_page digits=FOLDER digits-flipped=FOLDER   # take over what paper wrote
python -m benchmarks.pages.ablations_page           # renew the page from docs/results/ablations
python -m benchmarks.pages.ablations_page --check   # exit status 1 where it is not up to date

Differences are of the same seed: the same images, the same start where that can be.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.harness import with_section
from fedapt_secure.protocol.methods import FEDAPT

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "results.md"
FIGURES = DOCS / "results" / "ablations"
BEGIN = "<!-- ablations: renewed by `python -m benchmarks.pages.ablations_page`, do not edit -->"
END = "<!-- end of ablations -->"
PLAIN = "-eps-none"
Figures = dict[str, Any]


def taken(folder: Path) -> Figures:
    """Return what a finished table says of each row: per cent, a value a seed."""
    fields = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    if fields["failed"]:
        raise SystemExit(f"some runs of {folder} failed: give the command again")
    rows = {}
    for row in fields["rows"]:
        routing = row["row"].removesuffix(PLAIN).removesuffix("-routing")
        values = []
        for seed in row["seeds"]:
            own = folder / "runs" / f"{row['row']}-seed{seed}" / "summary.json"
            full = folder / "runs" / f"{FEDAPT}{PLAIN}-seed{seed}" / "summary.json"
            summary = json.loads((own if own.exists() else full).read_text(encoding="utf-8"))
            found = summary["accuracy"][summary["method"]]
            values.append((found if own.exists() else summary["accuracy_by_routing"][routing])["mean"])
        rows[row["title"]] = [round(100 * value, 2) for value in values]
    return {"title": fields["title"], "seeds": fields["rows"][0]["seeds"], "rows": rows}


def cells(values: list[float], full: list[float]) -> tuple[str, str]:
    """Return mean ± deviation, and the same of the differences to the method as it is."""
    differences = [one - other for one, other in zip(values, full, strict=True)]
    difference = f"{mean(differences):+.1f} ± {stdev(differences):.1f}" if any(differences) else "0"
    return f"{mean(values):.1f} ± {stdev(values):.1f}", difference


def rendered(figures: Path = FIGURES) -> str:
    """Return the table of all data sets that are there, side by side."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(figures.glob("*.json"))}
    if not found:
        return ""
    titles = list(dict.fromkeys(title for one in found.values() for title in one["rows"]))
    heads = [head for name in found for head in (f"`{name}`", "difference")]
    lines = [f"| FedAPT, but | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for place, title in enumerate(titles):
        parts: list[str] = []
        for one in found.values():
            values = one["rows"].get(title)
            parts += ("", "") if values is None else cells(values, next(iter(one["rows"].values())))
        lines.append(f"| {'nothing' if place == 0 else title} | {' | '.join(parts)} |")
    return "\n".join(lines) + "\n"


def renewed(text: str, figures: Path = FIGURES) -> str:
    """Return the page with its table renewed."""
    return with_section(text, BEGIN, END, rendered(figures))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for one in options.tables:
        name, _, folder = one.partition("=")
        FIGURES.mkdir(parents=True, exist_ok=True)
        text = json.dumps(taken(Path(folder)), indent=1, ensure_ascii=False) + "\n"
        (FIGURES / f"{name}.json").write_text(text, encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    if options.check:
        return int(renewed(text) != text)
    PAGE.write_text(renewed(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

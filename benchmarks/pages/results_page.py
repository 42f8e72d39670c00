"""Renew the tables of `docs/results.md` from comparisons: nobody types their figures.

python -m benchmarks.pages.results_page digits=FOLDER digits-flipped=FOLDER   # take over what compare wrote
python -m benchmarks.pages.results_page             # renew the page from docs/results
python -m benchmarks.pages.results_page --check     # exit status 1 where it is not up to date
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import with_section

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "results.md"
FIGURES = DOCS / "results"
BEGIN = "<!-- tables: renewed by `python -m benchmarks.pages.results_page`, do not edit -->"
END = "<!-- end of tables -->"
Fields = dict[str, Any]


def take(name: str, comparison: Path) -> None:
    """Copy a finished comparison's figures and picture into the documents."""
    FIGURES.mkdir(exist_ok=True)
    for kind in ("json", "svg"):
        shutil.copyfile(comparison / f"comparison.{kind}", FIGURES / f"{name}.{kind}")


def percent(spread: Fields | None) -> str:
    """Return ``71.3 ± 1.2``, in per cent; empty where there is no figure."""
    if spread is None:
        return ""
    if spread["deviation"] is None:
        return f"{100 * spread['mean']:.1f}"
    return f"{100 * spread['mean']:.1f} ± {100 * spread['deviation']:.1f}"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def budget(row: Fields) -> str:
    return "none" if row["epsilon"] is None else f"{row['epsilon']:g}"


def trains(row: Fields) -> bool:
    return bool(row["trained_parameters"])


def means(fields: Fields) -> list[str]:
    """Return the table of means: a method a line, a budget a column."""
    rows = fields["rows"]
    budgets = list(dict.fromkeys(budget(row) for row in rows if trains(row)))
    lines = [
        line(["method", *("no privacy" if one == "none" else f"ε = {one}" for one in budgets)]),
        line(["---", *["---:"] * len(budgets)]),
    ]
    for title in dict.fromkeys(row["title"] for row in rows):
        mine = [row for row in rows if row["title"] == title]
        if not trains(mine[0]):
            lines.append(line([title, percent(mine[0]["accuracy"]["mean"]), *[""] * (len(budgets) - 1)]))
            continue
        found = {budget(row): percent(row["accuracy"]["mean"]) for row in mine}
        lines.append(line([title, *(found.get(one, "") for one in budgets)]))
    return lines


def by_domain(fields: Fields) -> list[str]:
    """Return the whole table: a method and budget a line, a domain a column."""
    domains = fields["domains"]
    head = ["method", "ε", *domains, "own domain", "values trained", "KiB up", "KiB down", "ε spent"]
    lines = [line(head), line(["---", "---", *["---:"] * (len(head) - 2)])]
    for row in fields["rows"]:
        accuracy, spent = row["accuracy"], row["epsilon_spent"]
        cost = "∞" if spent is None else f"{spent:.2f}"
        size = f"{row['trained_parameters']:,} ({row['share_of_model']:.2%})" if trains(row) else "0"
        lines.append(
            line(
                [
                    row["title"],
                    budget(row) if trains(row) else "-",
                    *(percent(accuracy["per_domain"][name]) for name in domains),
                    percent(accuracy["own_domain"]),
                    size,
                    f"{row['bytes_up'] / 1024:.1f}" if row["bytes_up"] else "-",
                    f"{row['bytes_down'] / 1024:.1f}" if row["bytes_down"] else "-",
                    cost if trains(row) else "0",
                ]
            )
        )
    return lines


def rendered(figures: Path = FIGURES) -> str:
    """Return the Markdown of all comparisons that are there."""
    parts = []
    for path in sorted(figures.glob("*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        name = path.stem
        seeds = sorted({len(row["seeds"]) for row in fields["rows"]})
        parts += [
            f"## {name}",
            f"{fields['title']}; {' or '.join(map(str, seeds))} seeds.",
            "",
            *means(fields),
            "",
            f"![Mean accuracy of each method under each budget on {name}](results/{name}.svg)",
            "",
            *by_domain(fields),
            "",
        ]
    return "\n".join(parts)


def renewed(text: str, figures: Path = FIGURES) -> str:
    """Return the page with its tables renewed.

    Raises:
        SystemExit: If the page has no place for them.
    """
    return with_section(text, BEGIN, END, rendered(figures))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparisons", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for one in options.comparisons:
        name, _, folder = one.partition("=")
        take(name, Path(folder))
    text = PAGE.read_text(encoding="utf-8")
    if options.check:
        return int(renewed(text) != text)
    PAGE.write_text(renewed(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

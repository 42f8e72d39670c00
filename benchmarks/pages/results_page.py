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
from fedapt_secure.privacy import gain_kept
from fedapt_secure.privacy.prior_weight import Contribution, noise_quotient
from fedapt_secure.protocol.methods import FEDAPT, ZERO_SHOT

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "results.md"
FIGURES = DOCS / "results"
BEGIN = "<!-- tables: renewed by `python -m benchmarks.pages.results_page`, do not edit -->"
END = "<!-- end of tables -->"
KEPT = Path(gain_kept.__file__).with_name(gain_kept.FILE)
"""What `fedapt-secure plan` reads, of the same runs."""
INSTITUTIONS, DECLARED, CLASSES, FEATURE_SIZE = 5, 260, 10, 64
"""Of the embedded digits."""
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


def kept(fields: Fields) -> list[tuple[float, float]]:
    """Return by noise quotient, rising, the share of the gain without privacy that FedAPT kept."""
    means = {(row["method"], row["epsilon"]): row["accuracy"]["mean"]["mean"] for row in fields["rows"][::-1]}
    untuned, whole = means[ZERO_SHOT, None], means[FEDAPT, None]
    pairs = []
    for (method, epsilon), reached in means.items():
        if method != FEDAPT or epsilon is None:
            continue
        one = Contribution.of_budget(epsilon, 1 / (2 * DECLARED), 1, DECLARED)
        quotient = noise_quotient(
            [one] * INSTITUTIONS,
            participants=INSTITUTIONS,
            steps=1,
            noisy_values=FEATURE_SIZE * CLASSES**2,
        )
        pairs.append((round(quotient, 5), round((reached - untuned) / (whole - untuned), 3)))
    return sorted(pairs)


def kept_text(measured_on: str, figures: Path = FIGURES) -> str:
    """Return the file that `fedapt-secure plan` reads."""
    datasets = {path.stem: kept(json.loads(path.read_text())) for path in sorted(figures.glob("*.json"))}
    return json.dumps({"measured_on": measured_on, "datasets": datasets}, indent=1, ensure_ascii=False) + "\n"


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
    parser.add_argument("--measured-on", help="date, machine and runs, for people who read a plan")
    options = parser.parse_args()
    for one in options.comparisons:
        name, _, folder = one.partition("=")
        take(name, Path(folder))
    text, before = PAGE.read_text(encoding="utf-8"), KEPT.read_text(encoding="utf-8")
    measured = kept_text(options.measured_on or json.loads(before)["measured_on"])
    if options.check:
        return int(renewed(text) != text or measured != before)
    KEPT.write_text(measured, encoding="utf-8")
    PAGE.write_text(renewed(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What was spent of each institution's privacy: a table after the run. One operator owns all of them."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.privacy.unit import counted, said
from fedapt_secure.simulate.results.summary import Summary
from fedapt_secure.simulate.setup.federation import Federation

MOST_ROWS: Final = 20
"""Of more institutions each domain gets a line; ``summary.json`` has them all."""
Rows = Sequence[tuple[tuple[str, ...], Sequence[Mapping[str, Any]]]]
"""First cells of a line, and what was spent by those it is about."""
_COLUMNS: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "ε spent": ("epsilon_spent", "{:.3f}".format),
    "ε budget": ("epsilon_budget", "{:g}".format),
    "δ": ("delta", "{:.2e}".format),
    "noise σ": ("noise_multiplier", "{:.3f}".format),
    "steps": ("steps", "{:.0f}".format),
    "declared": ("declared_records", "{:.0f}".format),
}


def print_privacy(console: Console, federation: Federation, summary: Summary) -> None:
    """Print what each institution spent, or where there are many what the most did in each domain.

    ε, δ and steps of a domain are the largest, σ is the smallest, the declared number is the median.

    Args:
        console: Where to.
        federation: The run.
        summary: What came out.
    """
    spent: Mapping[str, Mapping[str, Any]] = summary["privacy"]
    table = Table(title=_title(summary))
    many = len(spent) > MOST_ROWS
    first = ("domain", "institutions") if many else ("institution",)
    rows: Rows = _by_domain(federation, spent) if many else [((name,), [one]) for name, one in spent.items()]
    units = sorted({one["unit"] for one in spent.values()})
    for position, column in enumerate((*first, *_COLUMNS)):
        what = f" {' or '.join(counted(unit) for unit in units)}" if column == "declared" else ""
        table.add_column(column + what, justify="right" if position else "left")
    for titles, group in rows:
        table.add_row(*map(escape, titles), *(_cell(key, shown, group) for key, shown in _COLUMNS.values()))
    console.print(table)


def _title(summary: Summary) -> str:
    if summary["not_private_because"] is not None:
        return f"[bold red]NOT PRIVATE: {summary['not_private_because']}[/]"
    if summary["synthetic"]:
        return "Privacy spent, for cost only: synthetic data, one scan lies at many institutions"
    units = sorted({one["unit"] for one in summary["privacy"].values()})
    return f"Privacy spent ({'; '.join(said(unit) for unit in units)})"


def _by_domain(federation: Federation, spent: Mapping[str, Mapping[str, Any]]) -> Rows:
    members = federation.roster.members
    groups = {
        domain: [spent[one.name] for one in members if one.domain_index == index and one.name in spent]
        for index, domain in enumerate(federation.dataset.domains)
    }
    return [((domain, str(len(group))), group) for domain, group in groups.items() if group]


def _cell(key: str, shown: Callable[[Any], str], group: Sequence[Mapping[str, Any]]) -> str:
    values = [one[key] for one in group]
    if key == "noise_multiplier":
        return shown(min(values))
    return shown(median(values) if key == "declared_records" else max(values))

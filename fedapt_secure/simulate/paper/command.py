"""The work of ``fedapt-secure paper``: one table, and what was published beside it."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, field_validator
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.settings import Settings, build
from fedapt_secure.config.simulate import NEVER_PRIVATE, SimulateSettings
from fedapt_secure.protocol.methods import FEDAPT, ZERO_SHOT
from fedapt_secure.simulate.comparison.cases import Cases, Collected, Label, View, check_data
from fedapt_secure.simulate.comparison.command import About, run_cases
from fedapt_secure.simulate.comparison.figures import Comparison
from fedapt_secure.simulate.comparison.wanted import MAX_SEEDS, Epsilon, Seed, budgets, seeds_of, separated
from fedapt_secure.simulate.paper.published import beside, read_published
from fedapt_secure.simulate.paper.rows import TableRow
from fedapt_secure.simulate.paper.tables import TABLES, PaperTable, table_named
from fedapt_secure.simulate.results.unseen import turns

OF_THE_PAPER: Final = (
    "rounds",
    "local_steps",
    "learning_rate",
    "gradient_units",
    "loss_temperature",
    "prior_weight",
    "learning_rate_schedule",
    "momentum",
    "weight_decay",
)
"""Options that papers choose for gradients without noise; under an ε this program's own take their place."""
_WHERE: Final = frozenset({"data_root", "device", "precision", "cache"})
"""Options that change no figure, or hardly."""


class PaperSettings(Settings):
    """Which table, and how much of it.

    Attributes:
        table: Its name.
        rows: Which of its rows; empty for all.
        epsilons: ε of each institution over a run; ``None`` for runs without differential privacy.
        seeds: A run of each row for each.
        out: The table's folder.
    """

    table: str
    rows: tuple[str, ...] = ()
    epsilons: Annotated[tuple[Epsilon | None, ...], Field(min_length=1)] = (None,)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    out: Path

    @field_validator("rows", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return separated(value)

    @field_validator("epsilons", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        return budgets(value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return seeds_of(value)


def print_tables(console: Console) -> None:
    """Say which tables there are."""
    shown = Table(box=None, show_header=False)
    for table in TABLES.values():
        shown.add_row(table.name, escape(table.title))
    console.print(shown)


def run_table(wanted: PaperSettings, given: Mapping[str, Any], configs: Path, console: Console) -> Comparison:
    """Run a table, show it beside what was published, and write it into its folder.

    Args:
        wanted: Which table, and how much of it.
        given: Options of `simulate` that win over the table's configuration.
        configs: Where the paper's configurations and published figures lie.
        console: Where to show it.

    Raises:
        InvalidInput: If table, rows, settings or folder cannot be used.
        RunFailed: If a run failed; the same command tries it again.
        Unavailable: If the disk is full or broken; the same command goes on from there.
    """
    table = table_named(wanted.table)
    base = table.base(configs)
    if table.needs_data and given.get("data_root") is None:
        raise InvalidInput(f"the table {table.name} needs --data-root: the folder that holds its images")
    changed = {
        name: value
        for name, value in given.items()
        if name not in _WHERE and str(base.get(name)) != str(value)
    }
    known = read_published(configs)
    published = known.tables.get(table.name, ())
    cases = table_cases(table, wanted, base, given)
    notes = [f"The table's settings, but for {_said(changed)}."] if changed else []
    if table.needs_data:
        notes.append(f"Share trained: {known.share_trained_source}.")
    about = About(table.title, tuple(notes), lambda comparison: tuple(beside(comparison, published)))
    return run_cases(cases, wanted.out, given.get("cache"), console, about)


def table_cases(
    table: PaperTable, wanted: PaperSettings, base: Mapping[str, Any], given: Mapping[str, Any]
) -> Cases:
    """Return the simulations of a table.

    Args:
        table: Which.
        wanted: Rows, budgets and seeds.
        base: The options that all its runs share.
        given: What wins over them.

    Raises:
        InvalidInput: If a row is not known, or nothing can be run.
    """
    shared = {**base, **given}
    every = table.rows(shared, given)
    rows = _chosen(table, every, wanted.rows)
    plain = build(
        SimulateSettings, _row_fields(shared, given, TableRow("", "", ZERO_SHOT), None), source="paper"
    )
    check_data(plain)
    found = Collected()
    for row in every if not wanted.rows else ():
        if row.only_if_named is not None:
            found.not_run[_label(row, None)] = row.only_if_named
    views: dict[Label, View] = {}
    for seed, unseen in product(wanted.seeds, turns(plain)):
        full: dict[float | None, Label] = {}
        for epsilon, row in product(wanted.epsilons, rows):
            if row.method == ZERO_SHOT and epsilon != wanted.epsilons[0]:
                continue  # nothing is trained: it has no budget
            label = _label(row, epsilon)
            if row.routing is not None:
                views[label] = View(label, full[epsilon], row.routing)
                continue
            if row.method == FEDAPT and not row.changes:
                full[epsilon] = label
            fields = _row_fields(shared, given, row, epsilon)
            found.take(label, fields | {"seed": seed, "unseen_domain": unseen}, source="paper")
    return found.cases(tuple(views.values()))


def _chosen(table: PaperTable, rows: Sequence[TableRow], names: Sequence[str]) -> list[TableRow]:
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise InvalidInput(f"the table {table.name} has no row {name!r}: choose {', '.join(known)}")
    chosen = [row for row in rows if (row.name in names if names else row.only_if_named is None)]
    if any(row.routing is not None for row in chosen) and rows[0] not in chosen:
        chosen.insert(0, rows[0])  # what a routing is a view of
    return chosen


def _label(row: TableRow, epsilon: float | None) -> Label:
    if row.method == ZERO_SHOT:
        return Label(row.name, row.title, row.method, None)
    budget = "none" if epsilon is None else f"{epsilon:g}"
    return Label(f"{row.name}-eps-{budget}", row.title, row.method, epsilon)


def _row_fields(
    shared: Mapping[str, Any], given: Mapping[str, Any], row: TableRow, epsilon: float | None
) -> dict[str, Any]:
    fields = {name: value for name, value in shared.items() if name not in ("no_dp", "dp_epsilon", "out")}
    fields |= {"method": row.method, **row.changes}
    if epsilon is None or row.method == ZERO_SHOT:
        return fields | {"no_dp": True}
    for name in (*NEVER_PRIVATE, *OF_THE_PAPER):
        if name not in given:
            fields.pop(name, None)
    return fields | {"dp_epsilon": epsilon}


def _said(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changed.items())

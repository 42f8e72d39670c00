"""What a person sees of a comparison: one progress line while it lasts, the table at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.line import LogEntry
from fedapt_secure.simulate.comparison.cases import Case, Cases
from fedapt_secure.simulate.comparison.figures import Comparison
from fedapt_secure.simulate.comparison.output import (
    COST_COLUMNS,
    PUBLISHED_COLUMNS,
    cost_cells,
    published_cells,
    remarks,
    with_deviation,
)
from fedapt_secure.simulate.comparison.runs import Outcome

_ANY_WIDTH = 10_000
_MINUTE_S = 60


class CompareDisplay:
    """Shows which run of how many, where it is, and how long the rest will take.

    On a terminal one line is redrawn; elsewhere each finished run prints one.
    """

    def __init__(self, console: Console, cases: Cases) -> None:
        self._console = console
        self._left = list(cases.runs)
        self._count = len(cases.runs)
        self._seconds: dict[str, list[float]] = {}
        self._taken_over = 0
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("[bold]run"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("runs", total=self._count, state="", left="")

    def __enter__(self) -> "CompareDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def begun(self, case: Case) -> None:
        """Take note that a run begins."""
        self._case, self._began = case, time.monotonic()
        self._show("preparing")

    def watch(self, party: str, entry: LogEntry) -> None:
        """Take one line of a party's log."""
        if party == COORDINATOR and entry.type == "round_ended":
            self._show(f"round {entry.body['round']} of {self._case.settings.rounds}")
        elif party == COORDINATOR and entry.type == "closing":
            self._show("evaluation")

    def encoding(self, institution: str, done: int, total: int) -> None:
        """Take note of how many of its images an institution has encoded; called from its thread."""
        if done < total:
            self._show(f"{institution} encodes {done} of {total} images")

    def ended(self, outcome: Outcome) -> None:
        """Take note that a run is over."""
        self._left.remove(outcome.case)
        if outcome.taken_over and outcome.summary is not None:
            self._taken_over += 1
            self._note(outcome.case, outcome.summary["seconds_total"])
        else:
            self._note(outcome.case, time.monotonic() - self._began)
            self._say(outcome)
        self._progress.update(self._task, advance=1, left=self._time_left())

    def _note(self, case: Case, seconds: float) -> None:
        self._seconds.setdefault(case.label.method, []).append(seconds)

    def _say(self, outcome: Outcome) -> None:
        number = self._count - len(self._left)
        if outcome.summary is None:
            said = f"run {number} of {self._count} FAILED: {outcome.case}: {outcome.failure}"
            self._console.print(f"[red]{escape(said)}[/]", highlight=False, soft_wrap=True)
        elif not self._console.is_terminal:
            unseen = outcome.summary["unseen"]
            accuracy = outcome.summary["accuracy"][outcome.summary["method"]]["mean"]
            if unseen is not None:
                accuracy = unseen["all"]["top_1"]
            said = f"run {number} of {self._count}: {outcome.case}: {accuracy:.1%}{self._time_left(', ')}"
            self._console.print(escape(said), highlight=False, soft_wrap=True)

    def _show(self, doing: str) -> None:
        self._progress.update(self._task, state=escape(f"{self._case}: {doing}"), left=self._time_left())

    def _time_left(self, before: str = "") -> str:
        """Return how long the rest takes, from how long runs of each method took."""
        every = [seconds for some in self._seconds.values() for seconds in some]
        if not every or not self._left:
            return ""
        left = sum(mean(self._seconds.get(case.label.method, every)) for case in self._left)
        if left < _MINUTE_S:
            return f"{before}less than a minute left"
        return f"{before}about {left / _MINUTE_S:.0f} min left"


@dataclass(frozen=True)
class _Column:
    name: str
    cells: tuple[str, ...]


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table; where it is too wide, in several, with deviations of the means alone."""
    if comparison.rows:
        accuracy, cost = _accuracy(comparison, shortened=False), _cost(comparison)
        whole = _table(comparison, comparison.title, [*accuracy, *cost])
        if _fits(console, whole):
            console.print(whole)
        else:
            columns = [*_accuracy(comparison, shortened=True), *cost]
            for number, some in enumerate(_packed(console, comparison, columns)):
                title = comparison.title if number == 0 else "the same, further columns"
                console.print(_table(comparison, title, some))
    for remark in remarks(comparison):
        style = "bold red" if remark.startswith("FAILED") else "dim"
        console.print(f"[{style}]{escape(remark.strip())}[/]", highlight=False)
    if comparison.published:
        _print_published(console, comparison)


def _print_published(console: Console, comparison: Comparison) -> None:
    table = Table(title="published beside ours, in per cent and points")
    for place, name in enumerate(PUBLISHED_COLUMNS[:-1]):
        table.add_column(name, justify="left" if place < 2 else "right", no_wrap=True)
    for one in comparison.published:
        table.add_row(*map(escape, published_cells(one)))
    console.print(table)
    for source in dict.fromkeys(one.source for one in comparison.published):
        console.print(f"[dim]{escape(source)}[/]", highlight=False)


def _packed(console: Console, comparison: Comparison, columns: list[_Column]) -> list[list[_Column]]:
    """Return the columns in as few tables as the console is wide enough for."""
    tables: list[list[_Column]] = [[]]
    for column in columns:
        if tables[-1] and not _fits(console, _table(comparison, "", [*tables[-1], column])):
            tables.append([])
        tables[-1].append(column)
    return tables


def _fits(console: Console, table: Table) -> bool:
    wide = console.options.update(width=_ANY_WIDTH)
    return console.measure(table, options=wide).maximum <= console.width


def _accuracy(comparison: Comparison, *, shortened: bool) -> list[_Column]:
    rows = comparison.rows
    columns = [
        _Column(name, tuple(with_deviation(row.domains[name], shortened=shortened) for row in rows))
        for name in comparison.domains
    ]
    columns.append(_Column("mean", tuple(f"[bold]{with_deviation(row.mean)}[/]" for row in rows)))
    if any(row.own_domain is not None for row in rows):
        cells = ("" if row.own_domain is None else with_deviation(row.own_domain) for row in rows)
        columns.append(_Column("own domain", tuple(cells)))
    return columns


def _cost(comparison: Comparison) -> list[_Column]:
    lines = [cost_cells(row) for row in comparison.rows]
    return [_Column(name, cells) for name, cells in zip(COST_COLUMNS, zip(*lines, strict=True), strict=True)]


def _table(comparison: Comparison, title: str, columns: Sequence[_Column]) -> Table:
    table = Table(title=escape(title))
    for name in ("method", "ε"):
        table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(escape(column.name), justify="right", no_wrap=True)
    before: str | None = None
    for number, row in enumerate(comparison.rows):
        if before is not None and row.label.budget != before:
            table.add_section()
        before = row.label.budget
        cells = (column.cells[number] for column in columns)
        table.add_row(escape(row.label.title), row.label.budget, *cells)
    return table

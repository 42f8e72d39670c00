"""Which images each simulated institution has: a table before the run. One operator owns all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.learning.clip.class_names import spoken_alike
from fedapt_secure.learning.data.dealing import DealtDataset
from fedapt_secure.learning.data.reading.balance import Balance, count_classes, in_words, left_out_in_words
from fedapt_secure.learning.data.reading.copies import equal_files, equal_in_words
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.simulate.results.privacy_table import MOST_ROWS

_BORDER = 3


@dataclass(frozen=True)
class Row:
    """An institution, or all of one domain, and its images."""

    name: str
    domain: str
    balance: Balance


def print_balance(console: Console, dataset: DealtDataset) -> None:
    """Print images a class of each institution, and warn of absent classes and of what was left out.

    Every class has a column if that fits on the console; else there are the rarest, middle and most
    frequent class. Of more than `MOST_ROWS` institutions those of a domain are counted together.
    """
    names = dataset.class_names
    read = [read_records(one.data, names) for one in dataset.institutions]
    rows = [
        Row(one.name, dataset.domains[one.domain_index], count_classes(records))
        for one, records in zip(dataset.institutions, read, strict=True)
    ]
    lacking = [row for row in rows if row.balance.absent]
    if len(rows) > MOST_ROWS:
        rows = [_together(domain, rows) for domain in dataset.domains]
    columns = ("institution", "domain", *names, "images")
    fits = sum(len(one) + _BORDER for one in columns) < console.width
    console.print(_full(columns, rows) if fits else _short(rows))
    if len(lacking) > MOST_ROWS:
        _warn(console, f"{len(lacking)} institutions have no image of one class or several")
    else:
        for row in lacking:
            _warn(console, f"{row.name} has no image of: {in_words(row.balance.absent)}")
    if equal := sum(equal_files(record.path for record in records.records) for records in read):
        _warn(console, f"in the institutions' own images {equal_in_words(equal)}")
    if dataset.left_out:
        _warn(console, left_out_in_words(dataset.left_out))
    if alike := spoken_alike(dataset.class_names):
        _warn(console, f"prompts say these names as they are written, to keep them apart: {in_words(alike)}")


def _together(domain: str, rows: Sequence[Row]) -> Row:
    of_domain = [row for row in rows if row.domain == domain]
    counts = tuple(map(sum, zip(*(row.balance.counts for row in of_domain), strict=True)))
    return Row(f"{len(of_domain)} of them", domain, Balance(of_domain[0].balance.class_names, counts))


def _full(columns: tuple[str, ...], rows: Sequence[Row]) -> Table:
    table = Table(title="Images a class")
    for column in columns:
        table.add_column(escape(column), justify="left" if column in {"institution", "domain"} else "right")
    for row in rows:
        cells = [str(count) if count else "[yellow]0[/]" for count in row.balance.counts]
        table.add_row(escape(row.name), escape(row.domain), *cells, str(row.balance.total))
    return table


def _short(rows: Sequence[Row]) -> Table:
    table = Table(title="Images a class")
    for column in ("institution", "domain", "images", "classes", "least", "median", "most"):
        right = column in {"images", "classes"}
        table.add_column(column, justify="right" if right else "left")
    for row in rows:
        balance, ranked = row.balance, row.balance.ranked
        present = len(ranked) - len(balance.absent)
        table.add_row(
            escape(row.name),
            escape(row.domain),
            str(balance.total),
            str(present) if not balance.absent else f"[yellow]{present} of {len(ranked)}[/]",
            *(f"{count} {escape(one)}" for one, count in (ranked[0], ranked[len(ranked) // 2], ranked[-1])),
        )
    return table


def _warn(console: Console, text: str) -> None:
    console.print(f"[yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)

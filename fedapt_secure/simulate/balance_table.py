"""Which images each simulated institution has: a table before the run. One operator owns all of them."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_secure.learning.class_names import spoken_alike
from fedapt_secure.learning.data.balance import Balance, count_classes, in_words, left_out_in_words
from fedapt_secure.learning.data.dealing import DealtDataset
from fedapt_secure.learning.data.records import read_records

_BORDER = 3


def print_balance(console: Console, dataset: DealtDataset) -> None:
    """Print images a class of each institution, and warn of absent classes and of what was left out.

    Every class has a column if that fits on the console; else there are the rarest, middle and most
    frequent class.
    """
    balances = {
        one.name: count_classes(read_records(one.data, dataset.class_names)) for one in dataset.institutions
    }
    domains = {one.name: dataset.domains[one.domain_index] for one in dataset.institutions}
    columns = ("institution", "domain", *dataset.class_names, "images")
    fits = sum(len(one) + _BORDER for one in columns) < console.width
    console.print(_full(columns, domains, balances) if fits else _short(domains, balances))
    for name, balance in balances.items():
        if balance.absent:
            _warn(console, f"{name} has no image of: {in_words(balance.absent)}")
    if dataset.left_out:
        _warn(console, left_out_in_words(dataset.left_out))
    if alike := spoken_alike(dataset.class_names):
        _warn(console, f"prompts say these names as they are written, to keep them apart: {in_words(alike)}")


def _full(columns: tuple[str, ...], domains: dict[str, str], balances: dict[str, Balance]) -> Table:
    table = Table(title="Images a class")
    for column in columns:
        table.add_column(escape(column), justify="left" if column in {"institution", "domain"} else "right")
    for name, balance in balances.items():
        cells = [str(count) if count else "[yellow]0[/]" for count in balance.counts]
        table.add_row(name, escape(domains[name]), *cells, str(balance.total))
    return table


def _short(domains: dict[str, str], balances: dict[str, Balance]) -> Table:
    table = Table(title="Images a class")
    for column in ("institution", "domain", "images", "classes", "least", "median", "most"):
        right = column in {"images", "classes"}
        table.add_column(column, justify="right" if right else "left")
    for name, balance in balances.items():
        ranked = balance.ranked
        present = len(ranked) - len(balance.absent)
        table.add_row(
            name,
            escape(domains[name]),
            str(balance.total),
            str(present) if not balance.absent else f"[yellow]{present} of {len(ranked)}[/]",
            *(f"{count} {escape(one)}" for one, count in (ranked[0], ranked[len(ranked) // 2], ranked[-1])),
        )
    return table


def _warn(console: Console, text: str) -> None:
    console.print(f"[yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)

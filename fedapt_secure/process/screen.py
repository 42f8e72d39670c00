"""Tables and sentences for people, on whatever they look at: narrow, without letters of the field, a pipe.

A `Screen` is rich's console, with three promises. No text steers the terminal or is lost for its encoding.
A table cuts nothing: where it is too wide its names are folded, and where that is not enough each row becomes
a few lines. In a file or a pipe rows stay in one piece.
"""

import os
from typing import IO, Any, Final

from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from fedapt_secure.process.shown import shown
from fedapt_secure.process.streams import NobodyReads, fitting

PIPE_COLUMNS: Final = 160
_ANY_WIDTH: Final = 100_000
_FOLDED: Final = 20
"""A column that is folded keeps at least this many letters a line."""


class Screen(Console):
    """A console that shows any text anywhere.

    Args:
        stderr: Write to standard error.
        file: Write to this file instead.
        width: Columns, where they are not the terminal's.
        soft_wrap: Leave it to the terminal to break long sentences.
    """

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        soft_wrap: bool = False,
    ) -> None:
        super().__init__(stderr=stderr, file=file, width=width, soft_wrap=soft_wrap, highlight=False)
        self._in_one_piece = width is None and not self.is_terminal and _columns_set() is None
        if width is None and (not self.is_terminal or self.is_dumb_terminal):
            self.width = _columns_set() or (PIPE_COLUMNS if not self.is_terminal else _terminal_columns(self))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but tables as this screen can hold them, and a string on one line.

        A line end inside a string came from outside: print twice for two lines.
        """
        tables = [one for one in objects if isinstance(one, Table)]
        if not tables:
            super().print(*(shown(one) if isinstance(one, str) else one for one in objects), **options)
            return
        usual = self.width
        for table in tables:
            _one_line_cells(table)
            if self._in_one_piece:
                self.width = max(usual, _natural_width(self, table))
            try:
                super().print(self.fit(table, self.width), soft_wrap=False, crop=False)
            finally:
                self.width = usual

    def fit(self, table: Table, width: int) -> Table:
        """Return what shows all of a table in so many columns.

        Args:
            table: Any.
            width: Columns.

        Returns:
            The table, its cells on one line each; else with names folded; else a block of lines a row.
        """
        _one_line_cells(table)
        if _natural_width(self, table) <= width:
            return table
        return table if _fold(self, table, width) else _as_blocks(self, table)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text once it is safe, and spelt with what the encoding has."""
        return super().render_str(fitting(text, self.encoding), **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a spinner that the encoding has."""
        if not self.encoding.startswith("utf"):
            options.setdefault("spinner", "line")
        return super().status(status, **options)

    def on_broken_pipe(self) -> None:
        """Let whoever started the process hear that nobody reads: see `fedapt_secure.process.ending`."""
        raise NobodyReads


def _columns_set() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdecimal() and int(columns) > 0 else None


def _terminal_columns(console: Console) -> int:
    try:
        return os.get_terminal_size(console.file.fileno()).columns or PIPE_COLUMNS // 2
    except (OSError, ValueError):
        return PIPE_COLUMNS // 2


def _natural_width(console: Console, table: Table) -> int:
    options = console.options.update(width=_ANY_WIDTH)
    return console.measure(table, options=options).maximum


def _one_line_cells(table: Table) -> None:
    """Escape line ends in cells: whatever is in a table is a name or a figure."""
    for column in table.columns:
        column._cells = [shown(one) if isinstance(one, str) else one for one in column.cells]


def _fold(console: Console, table: Table, width: int) -> bool:
    """Fold columns of words, and leave those of figures whole; returns whether that fits."""
    natural = [
        max(_width(console, one) for one in (column.header, *column.cells)) for column in table.columns
    ]
    least = [_least(console, column) for column in table.columns]
    left = width - (_natural_width(console, table) - sum(natural)) - sum(least)
    if left < 0:
        return False
    widths = list(least)
    while left and widths != natural:  # whoever has least is given more, until all have what they need
        narrowest = min((at for at in range(len(widths)) if widths[at] < natural[at]), key=widths.__getitem__)
        widths[narrowest] += 1
        left -= 1
    for column, size in zip(table.columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = size, False, "fold"
    return True


def _least(console: Console, column: Column) -> int:
    """Return the width that a column needs: titles break between words, words anywhere, figures nowhere."""
    title = console.measure(column.header, options=console.options.update(width=_ANY_WIDTH)).minimum
    longest = max((_width(console, one) for one in column.cells), default=0)
    return max(title, longest if column.justify == "right" else min(longest, _FOLDED))


def _width(console: Console, cell: RenderableType) -> int:
    return console.measure(cell, options=console.options.update(width=_ANY_WIDTH)).maximum


def _as_blocks(console: Console, table: Table) -> Table:
    """Return a row of a table as lines of title and cell, rows parted by an empty line."""
    titles = [one.header for one in table.columns]
    blocks = Table.grid(Column(no_wrap=False), Column(overflow="fold"), padding=(0, 2, 0, 0))
    blocks.title, blocks.title_justify, blocks.caption = table.title, "left", table.caption
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    for number, cells in enumerate(rows):
        if number:
            blocks.add_row("", "")
        for title, cell in zip(titles, cells, strict=True):
            blocks.add_row(title, cell)
    return blocks

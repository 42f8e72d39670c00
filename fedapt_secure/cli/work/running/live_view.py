"""A compact live view of a running party, on a terminal, in place of lines that scroll away.

What stands in it is read from the party's folder, as ``status`` and the page read it; below are the newest of
the lines that would have been printed. Piped, or with ``--plain``, there is no view but all the lines.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedapt_crypto.errors import FedaptError
from fedapt_secure.config.structured_log import LOGGERS, HumanFormatter
from fedapt_secure.process.screen import Screen

LINES: Final = 8
Row = tuple[str, str | tuple[int, int]]
"""A title, and a text; or how many of how many are done, shown as a bar."""
Facts = Callable[[], Sequence[Row]]


class LiveView:
    """Shows a party while it runs; nothing where standard error is no terminal.

    Args:
        title: Who.
        facts: What stands where, asked for now and then; an error of ours leaves what was shown.
        every_s: How often the folder is looked at, in seconds.
        wanted: Whether to show anything.
        console: Where; standard error by default.
    """

    def __init__(
        self,
        title: str,
        facts: Facts,
        *,
        every_s: float = 1.0,
        wanted: bool = True,
        console: Console | None = None,
    ) -> None:
        console = console or Screen(stderr=True)
        self.shown = wanted and console.is_terminal
        self._title = title
        self._facts = facts
        self._every_s = every_s
        self._rows: Sequence[Row] = ()
        self._looked_at = float("-inf")
        self._lock = Lock()
        self._lines: deque[str] = deque(maxlen=LINES)
        self._handler = _Kept(self._lines)
        self._before: list[tuple[logging.Logger, list[logging.Handler]]] = []
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> "LiveView":
        if self.shown:
            for name in LOGGERS:
                logger = logging.getLogger(name)
                self._before.append((logger, logger.handlers))
                logger.handlers = [self._handler]
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is None:
            return
        self._looked_at = float("-inf")  # it ends with how things stand then
        self._live.stop()
        for logger, handlers in self._before:
            logger.handlers = handlers

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody who is asked something."""
        if self._live is None or not self._live.is_started:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def _render(self) -> RenderableType:
        with self._lock:
            if monotonic() - self._looked_at >= self._every_s:
                self._looked_at = monotonic()
                with suppress(FedaptError):  # a file that is being replaced: the next look shows it
                    self._rows = self._facts()
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for title, value in self._rows:
            table.add_row(title, escape(value) if isinstance(value, str) else _bar(*value))
        lines = [Text(line, no_wrap=True, overflow="ellipsis", style="dim") for line in tuple(self._lines)]
        return Panel(Group(table, *lines), title=escape(self._title), title_align="left")


def _bar(done: int, total: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(ProgressBar(total=max(1, total), completed=done, width=24), f"{done} of {total}")
    return grid


class _Kept(logging.Handler):
    """Keeps the newest lines."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self.setFormatter(HumanFormatter())
        self._kept = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))

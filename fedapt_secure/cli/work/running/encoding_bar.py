"""A progress bar on standard error while images are encoded."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fedapt_secure.process.screen import Screen


class EncodingBar:
    """Shows progress from the first batch to the last; log lines pass above it.

    Nothing is shown where standard error is no terminal, nor where all features are in the cache.

    Args:
        console: Where; standard error by default.
        wanted: Whether to show anything.
    """

    def __init__(self, console: Console | None = None, *, wanted: bool = True) -> None:
        console = console or Screen(stderr=True)
        self._progress = Progress(
            TextColumn("encoding images"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (wanted and console.is_terminal),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "EncodingBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Take note of (images done, images in all)."""
        if done >= total:
            if self._task is not None:
                self._progress.remove_task(self._task)
                self._task = None
            self._progress.stop()
            return
        if self._task is None:
            self._task = self._progress.add_task("encoding", total=total)
            self._progress.start()
        self._progress.update(self._task, completed=done)

"""A progress bar on standard error while rounds are trained; nothing where that is no terminal."""

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedapt_secure.process.screen import Screen


class RoundsBar:
    """Shows how many rounds are trained.

    Args:
        wanted: Whether to show anything.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        screen = Screen(stderr=True)
        self._progress = Progress(
            TextColumn("training rounds"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=screen,
            disable=not (wanted and screen.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("rounds", total=None)

    def __enter__(self) -> "RoundsBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Take note of (rounds trained, rounds in all)."""
        self._progress.update(self._task, completed=done, total=total)

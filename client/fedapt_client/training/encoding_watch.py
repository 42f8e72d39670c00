"""What an institution's people see while images are encoded, and how that ends when they stop it."""

from collections.abc import Callable
from threading import Event
from typing import Final

from fedapt_client.narration import tell
from fedapt_crypto.errors import RunFailed
from fedapt_secure.learning.data.features.merging import Duplicates

Progress = Callable[[int, int], None]
"""(images done, images in all)."""
_TOLD_SHARE: Final = 0.1


class EncodingWatch:
    """A progress callback that tells the operators now and then, and that can end the work.

    Encoding runs in a thread, which nothing can interrupt but what it calls itself.

    Args:
        institution: Its name.
        shown: Told each time, for a progress bar.
    """

    def __init__(self, institution: str, shown: Progress | None = None) -> None:
        self._institution = institution
        self._shown = shown
        self._stopped = Event()
        self._told_from: float | None = None
        self._tenth = -1
        self.each_tenth: Callable[[int], None] | None = None
        """Told how much is encoded, in tens of percent, from the thread that encodes."""
        self.each_batch: Progress | None = None
        """Told the same as often as there is progress."""
        self.on_duplicates: Callable[[Duplicates], None] | None = None
        """Told how many files are no records of their own: for a screen of this institution's people, and for
        nothing that keeps what it is told."""

    def stop(self) -> None:
        """Let encoding end after the batch that it is at; what is encoded stays in the cache."""
        self._stopped.set()

    def prepared(self, duplicates: Duplicates) -> None:
        """Tell people what the images of a session were found to be."""
        if self.on_duplicates is not None:
            self.on_duplicates(duplicates)

    def __call__(self, done: int, total: int) -> None:
        """Take note of the progress; raises `RunFailed` once it is to stop."""
        if self._stopped.is_set():
            raise RunFailed("stopped while images were encoded; the next run goes on from there")
        self._tell(done, total)
        if self.each_batch is not None:
            self.each_batch(done, total)
        tenth = 10 * (10 * done // total) if total else 100
        if self.each_tenth is not None and tenth != self._tenth:
            self.each_tenth(tenth)
        self._tenth = tenth
        if self._shown is not None:
            self._shown(done, total)

    def _tell(self, done: int, total: int) -> None:
        if self._told_from is None and done >= total:
            tell(self._institution, "encoding", "the features of all images are in the cache", images=total)
        elif self._told_from is None or done >= total or done >= self._told_from + _TOLD_SHARE * total:
            tell(self._institution, "encoding", "encoding images", done=done, images=total)
            self._told_from = done
        if done >= total:
            self._told_from = None  # the next session's is another one

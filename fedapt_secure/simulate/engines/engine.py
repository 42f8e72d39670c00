"""What a run asks of the engine that runs its parties."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, Protocol

LOOPBACK: Final = "127.0.0.1"
Progress = Callable[[int, int], None]
"""(images encoded, images in all)."""
Tell = Callable[[str], None]
"""Shows its reader a sentence about what goes on; plain text."""


class Engine(Protocol):
    """Runs each party of a federation from its own folder; everything else parties say over sockets.

    Attributes:
        host: The coordinator's address, as everybody reaches it.
    """

    host: str

    @property
    def lost(self) -> Collection[str]:
        """Institutions that were given up, because what they ran on failed."""

    def make_room(self, institutions: int) -> None:
        """Find out whether so many can run, before anything is made for them.

        Raises:
            InvalidInput: If they cannot; says what to do.
        """

    async def place(self, folders: Sequence[Path]) -> None:
        """Have a place for each institution that starts at a word, so that all begin together.

        Raises:
            InvalidInput, RunFailed: If there is none.
        """

    async def run_coordinator(self, folder: Path) -> None:
        """Run the coordinator to its end, or until cancelled.

        Raises:
            InvalidInput, RunFailed: If it refuses its settings, or fails.
        """

    async def run_institution(self, folder: Path, institutions: int, progress: Progress | None) -> None:
        """Run an institution to its end, or until cancelled; one that is lost ends without an error.

        Args:
            folder: Its folder.
            institutions: How many share the machine: the more, the longer each is waited for.
            progress: Told while it encodes images, from another thread; where the engine can.

        Raises:
            InvalidInput, RunFailed: If it refuses its settings, data or the session, or fails.
        """

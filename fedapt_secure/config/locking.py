"""One process at a time where two would undo each other's work on a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedapt_crypto.private_files import PRIVATE_FILE_MODE


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; waits for its turn, and a crash gives it back."""
    path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

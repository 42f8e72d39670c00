"""One process at a time where two would undo each other's work on a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import PRIVATE_FILE_MODE


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file; a crash gives it back.

    Args:
        path: The file, made if it is not there.
        wait: Wait for our turn.

    Raises:
        InvalidInput: If it is held and we do not wait.
    """
    path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(f"another command works on {path.parent} just now: try again") from None
        yield

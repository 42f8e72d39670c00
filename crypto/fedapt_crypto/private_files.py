"""Files that nobody else on the machine may read, written so that a crash leaves the old or the new."""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedapt_crypto.errors import LACKING, InvalidInput, system_error

PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700
_LEFTOVER = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.[a-z0-9_]{8}")
"""How a file is named while it is written: see `write_atomically`."""


def make_private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, and return it.

    Raises:
        Unavailable: If the disk is full or broken; OSError for a path that cannot be a folder of ours.
    """
    with _lacking(f"cannot make the folder {path}"):
        path.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
        path.chmod(PRIVATE_FOLDER_MODE)
    return path


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_FILE_MODE) -> None:
    """Write a whole file durably: readers see the old content or the new, also after a power cut.

    Args:
        path: Where to; its folder exists.
        data: The whole content.
        mode: Permissions of the file, whatever an older one had.

    Raises:
        Unavailable: If the disk is full or broken; OSError for a path that cannot be a file of ours.
    """
    with _lacking(f"cannot write {path}"):
        _write_atomically(path, data, mode)


def _write_atomically(path: Path, data: bytes, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:  # also on an interrupt: never leave half a file behind
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _lacking(sentence: str) -> Iterator[None]:
    """Let `Unavailable` say what the machine lacks; a path of the caller's is the caller's to explain."""
    try:
        yield
    except OSError as error:
        if error.errno in LACKING:
            raise system_error(sentence, error) from None
        raise


def remove_leftovers(folder: Path, *, older_than_s: float = 3600.0) -> None:
    """Remove what `write_atomically` had begun when it was killed: it may hold what the file was to hold.

    Args:
        folder: Where to look; its subfolders are left alone.
        older_than_s: Younger ones are left alone too: somebody may be writing them just now.
    """
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            with suppress(FileNotFoundError):  # its writer was done with it meanwhile
                if time.time() - path.stat().st_mtime >= older_than_s:
                    path.unlink()


def read_private(path: Path) -> bytes:
    """Read a secret file, refusing one that others could have read or that is not there.

    Raises:
        InvalidInput: If it is missing, or group or others have any permission on it.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise system_error(f"{path}", error) from None
    if mode & 0o077:
        raise InvalidInput(f"{path} can be read by others: run 'chmod 600 {path}' and consider it leaked")
    return data

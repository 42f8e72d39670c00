"""Paths that people give, on the command line and in settings: refused at once where no system takes them."""

import errno
import os
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.process.shown import shown

MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 4095
"""Of Linux and of every file system in use there (``NAME_MAX``, ``PATH_MAX`` without its zero)."""
_SHOWN: Final = 40


def check_path(path: Path, said: str) -> None:
    """Refuse a path that cannot name a file: it would be noticed late, or not before a session.

    Args:
        path: As it was given.
        said: What it was given for, such as ``--dir``.

    Raises:
        InvalidInput: If a name in it or all of it is too long, it holds a zero byte, or leads in a circle.
    """
    whole = os.fsencode(path)
    if b"\0" in whole:
        raise InvalidInput(f"{said}: a path cannot hold a zero byte: {shown(path)}")
    for name in path.parts:
        size = len(os.fsencode(name))
        if size > MAX_NAME_BYTES:
            start = shown(name[:_SHOWN])
            raise InvalidInput(
                f"{said}: the name '{start}...' has {size} bytes; a file or folder has"
                f" {MAX_NAME_BYTES} at most"
            )
    if len(whole) > MAX_PATH_BYTES:
        raise InvalidInput(
            f"{said}: the path '{shown(path)[:_SHOWN]}...' has {len(whole)} bytes; the system takes"
            f" {MAX_PATH_BYTES} at most"
        )
    try:
        path.stat()  # what is not there may be made; what cannot be looked at is said when it is used
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInput(f"{said}: the symbolic links of {path} lead in a circle") from None

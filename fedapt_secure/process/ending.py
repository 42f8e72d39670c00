"""How an error ends a process: one line and a status, for every entry point; a mistake of ours is none of it.

What people cause, and what machines lack, is one line. Anything else is a mistake of ours: it keeps its
traceback, so that it can be reported.
"""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fedapt_crypto.errors import LACKING, FedaptError, system_error
from fedapt_secure.process.exit_status import ExitStatus, status_of
from fedapt_secure.process.streams import JsonLines, NobodyReads, complain

PATH_ERRORS: Final = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ENXIO,
        errno.ETXTBSY,
    }
)
"""What the system answers to a path that a person gave wrongly; a file of ours that is missing is none."""


def guarded(work: Callable[[], int]) -> int:
    """Do a process' work, and return the status that it ends with.

    Args:
        work: All of it; returns the status.

    Raises:
        Exception: A mistake of ours, as it is.
    """
    try:
        status = work()
        sys.stdout.flush()  # a full disk shows here, and not when nobody listens any more
    except BaseException as error:
        told = ending(error)
        if told is None:
            raise
        status, title, sentence = told
        if status is not ExitStatus.READER_GONE:
            complain(title, sentence)
        _let_go_of_output()
    if isinstance(sys.stderr, JsonLines):
        with suppress(OSError, ValueError):
            sys.stderr.end()
    return status


def ending(error: BaseException) -> tuple[ExitStatus, str, str] | None:
    """Return status, title and sentence with which an error ends a process; nothing for a mistake of ours."""
    if isinstance(error, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED, "interrupted", ""
    if isinstance(error, MemoryError):
        lacking = system_error("the work cannot be done", OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
        return status_of(lacking), "error", str(lacking)
    if isinstance(error, NobodyReads) or (isinstance(error, BrokenPipeError) and _nobody_reads()):
        return ExitStatus.READER_GONE, "", ""
    if isinstance(error, OSError):
        of_a_path = error.filename is not None and error.errno in PATH_ERRORS
        if not of_a_path and error.errno not in LACKING:
            return None
        error = system_error(f"cannot use {error.filename or 'the output'}", error)
    if isinstance(error, FedaptError):
        status = status_of(error)
        return status, "failed" if status is ExitStatus.FAILED else "error", str(error)
    return None


def _nobody_reads() -> bool:
    """Return whether it is our own output that nobody reads, and not some connection."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _let_go_of_output() -> None:
    """Let what could not be written go: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

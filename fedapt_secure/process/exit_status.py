"""How processes end: the one table of exit statuses, for commands and services alike.

A service manager reads them too: started again after 1 and 75 a service may do better, after 2 it cannot
before a person has put something right. ``docs/exit-status.md`` shows this table.
"""

from enum import IntEnum
from typing import Final

from fedapt_crypto.errors import FedaptError, InvalidInput, RunFailed, Unavailable

_SIGNALLED: Final = 128


class ExitStatus(IntEnum):
    """Every status with which a process of ours ends by itself; 128 + n after signal n."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNAVAILABLE = 75
    INTERRUPTED = _SIGNALLED + 2
    READER_GONE = _SIGNALLED + 13
    TERMINATED = _SIGNALLED + 15


MEANING: Final = {
    ExitStatus.DONE: "done; an audit: everything verified",
    ExitStatus.FAILED: "the work was well asked for and failed: a peer, a run, a budget; an audit: not"
    " verified; 'client doctor': something is wrong",
    ExitStatus.BAD_INPUT: "bad input, which a person must correct: an option, a path, a setting, a file, a"
    " key, a policy. Starting it again changes nothing",
    ExitStatus.UNAVAILABLE: "the machine lacks something for now: disk space, a working disk, memory, a free"
    " port. Nothing is lost; starting it again later may help",
    ExitStatus.INTERRUPTED: "interrupted with Ctrl-C (SIGINT)",
    ExitStatus.READER_GONE: "whoever read the output has gone away, such as 'head' (SIGPIPE)",
    ExitStatus.TERMINATED: "'client run' was stopped with SIGTERM, its log closed; 'server run' ends with 0"
    " then",
}
"""What each says, as the documentation has it."""

RESTART_IS_USELESS: Final = (ExitStatus.BAD_INPUT,)
"""After these a service manager does not start a service again (``RestartPreventExitStatus`` of systemd)."""


def status_of(error: FedaptError) -> ExitStatus:
    """Return the status with which a process ends that an error has ended."""
    if isinstance(error, InvalidInput):
        return ExitStatus.BAD_INPUT
    if isinstance(error, Unavailable):
        return ExitStatus.UNAVAILABLE
    return ExitStatus.FAILED


def error_of(status: int, message: str) -> FedaptError:
    """Return what to raise for another process of ours that has ended so: the way back from `status_of`."""
    kinds = {ExitStatus.BAD_INPUT: InvalidInput, ExitStatus.UNAVAILABLE: Unavailable}
    return {int(number): kind for number, kind in kinds.items()}.get(status, RunFailed)(message)

"""What the coordinator's session asks of its I/O shell, one frozen type each; carried out in order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedapt_secure.log.line import LogHead
from fedapt_server.session.progress import Progress


@dataclass(frozen=True)
class SendTo:
    """Send a message to a connected institution."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Log:
    """Write a log line."""

    type: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Keep:
    """Make the session's progress durable before anything that follows, and before it all lines so far.

    Else a power cut could take the ends of two rounds from the log, of which the store knows the last alone.
    """

    progress: Progress


@dataclass(frozen=True)
class TakeHead:
    """Carry out what follows from the head of the coordinator's log, which covers all lines so far."""

    then: "Callable[[LogHead], list[Action]]"


@dataclass(frozen=True)
class CheckLog:
    """Check that the coordinator's own log has these lines, which others hold; else the session is over."""

    heads: tuple[LogHead, ...]


@dataclass(frozen=True)
class SetTimer:
    """Call `timeout` after this many seconds, instead of any earlier timer; ``None`` for never."""

    seconds: float | None


@dataclass(frozen=True)
class Doing:
    """An institution says what it is doing; for the status alone, never for the log."""

    name: str
    doing: str
    percent: int


@dataclass(frozen=True)
class End:
    """The session is over."""

    completed_rounds: int


Action = SendTo | Log | Keep | TakeHead | CheckLog | SetTimer | Doing | End

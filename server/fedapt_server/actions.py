"""What the coordinator's session asks of its I/O shell, one frozen type each; carried out in order."""

from dataclasses import dataclass
from typing import Any


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
class SetTimer:
    """Call `timeout` after this many seconds, instead of any earlier timer; ``None`` for never."""

    seconds: float | None


@dataclass(frozen=True)
class End:
    """The session is over."""

    completed_rounds: int


Action = SendTo | Log | SetTimer | End

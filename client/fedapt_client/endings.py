"""How an institution's part in a session, or on one connection, comes to an end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Vanished(Exception):
    """The connection was cut on purpose."""


class ComeBack(Exception):
    """The session was refused, and is to be looked at again later."""


class Replaced(Exception):
    """Another session is offered than the one that this institution is in."""


@dataclass(frozen=True)
class Outcome:
    """What a finished session left here.

    Attributes:
        session: Which, hexadecimal. model: The bundle; none where no round was completed.
        scores: Counts on the images held out, see `Scores`.
    """

    session: str
    model: Path | None
    scores: dict[str, Any]

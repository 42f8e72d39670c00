"""How a round ended at the coordinator."""

from dataclasses import dataclass
from typing import Literal

from fedapt_server.session.progress import GivenSum


@dataclass(frozen=True)
class Outcome:
    """How a round ended.

    Attributes:
        status: Whether there is a sum.
        participants: Who the round started with.
        contributors: Whose update is in the sum.
        dropped: Who vanished or declined during the round, before or after contributing.
        detail: Why it was aborted, else empty.
        given: The sum as institutions were given it, where it held.
    """

    status: Literal["completed", "aborted"]
    participants: tuple[str, ...]
    contributors: tuple[str, ...]
    dropped: tuple[str, ...]
    detail: str
    given: GivenSum | None = None

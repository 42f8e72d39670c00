"""How a round ended at the coordinator."""

from dataclasses import dataclass
from typing import Literal

from fedapt_crypto.secagg.scheme import Aggregate


@dataclass(frozen=True)
class Outcome:
    """How a round ended.

    Attributes:
        status: Whether there is a sum.
        participants: Who the round started with.
        contributors: Whose update is in the sum.
        dropped: Who vanished or declined during the round, before or after contributing.
        detail: Why it was aborted, else empty.
        aggregate: The sum, if the coordinator has it.
        sealed_sum: The signed ciphertext of the sum, in schemes that hide it from the coordinator.
    """

    status: Literal["completed", "aborted"]
    participants: tuple[str, ...]
    contributors: tuple[str, ...]
    dropped: tuple[str, ...]
    detail: str
    aggregate: Aggregate | None = None
    sealed_sum: bytes = b""

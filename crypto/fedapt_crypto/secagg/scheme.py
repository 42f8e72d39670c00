"""What every aggregation scheme offers: one machine for the institution, one for the coordinator.

Both are sans-I/O. The shell moves payloads, watches deadlines and disconnections, and writes the
durable record that an outgoing payload with ``releases`` asks for *before* it is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedapt_crypto.encoding import Hash, Message
from fedapt_crypto.errors import UpdateUnusable
from fedapt_crypto.fixed_point import FixedPoint, RingVector
from fedapt_crypto.kdf import Part, digest
from fedapt_crypto.sum_tag import Model, moved, next_model

SESSION_BYTES = 16
MAX_VECTOR_LENGTH = 1 << 28
MAX_ROUND = 1 << 31
"""Larger numbers come from nobody honest, and would not fit a ledger."""


class Phase(StrEnum):
    """The phases of a round, in the order in which institutions send in them."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASKED_INPUT = "masked_input"
    CONSISTENCY = "consistency"
    UNMASK = "unmask"
    UPDATE = "update"


RELEASING: Final = frozenset({Phase.MASKED_INPUT, Phase.UPDATE})
"""The phases whose payload carries the update: what has left in one of them is burned."""


class RoundContext(Message):
    """What all parties of a round must agree on before anything is sent.

    Its hash is in every signature, sealed message and mask, so two parties with different contexts (a
    different model, say) cannot complete a round with each other.

    Attributes:
        session: The session's identifier. round, attempt: Which round of it, and which try.
        purpose: What is summed; keys of different purposes never meet.
        configuration_hash, roster_hash, model_hash: What the parties have in common.
        participants: n, the size of the roster. threshold: How many of them a round needs.
        neighbours: k of the neighbour graph; ``None`` for everybody.
        share_threshold: t, how many holders of a secret must agree; ``None`` for ``threshold``.
        vector_length: Values in an update. clip: Largest absolute value that is represented.
        group: Commitment to the session's group secret; ``None`` in a scheme that has none.
    """

    session: Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    round: Annotated[int, Field(ge=1, le=MAX_ROUND)]
    attempt: Annotated[int, Field(ge=1, le=MAX_ROUND)]
    purpose: Annotated[str, Field(min_length=1, max_length=32)]
    configuration_hash: Hash
    roster_hash: Hash
    model_hash: Hash
    participants: Annotated[int, Field(ge=1)]
    threshold: Annotated[int, Field(ge=1)]
    neighbours: Annotated[int, Field(ge=0)] | None = None
    share_threshold: Annotated[int, Field(ge=1)] | None = None
    vector_length: Annotated[int, Field(ge=1, le=MAX_VECTOR_LENGTH)]
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    group: Hash | None = None

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the whole context."""
        return digest("round context", self.to_bytes())

    @property
    def drawn_neighbours(self) -> int:
        """How many neighbours each institution draws."""
        return self.participants - 1 if self.neighbours is None else self.neighbours

    @property
    def holders_needed(self) -> int:
        """How many holders of a secret must agree before it is revealed."""
        return self.threshold if self.share_threshold is None else self.share_threshold

    @property
    def fixed_point(self) -> FixedPoint:
        """Encoding of the vectors in this round."""
        return FixedPoint(summands=self.participants, clip=self.clip)


@dataclass(frozen=True)
class Outgoing:
    """A payload for the coordinator.

    Attributes:
        phase: The phase it belongs to.
        payload: Bytes to send.
        releases: Whether it carries the update. Before sending, the shell writes a durable record; from
            then on the update is burned: never sent again, not even after a crash.
        opening: The execution that it helps to open, by its shares (masking) or by its signature (CKKS).
            Before sending, the shell writes it down durably.
    """

    phase: Phase
    payload: bytes
    releases: bool = False
    opening: "Opening | None" = None


@dataclass(frozen=True)
class Opening:
    """An execution whose sum an institution is about to help open, or has helped to: see `Outgoing`.

    Attributes:
        context: The round. execution, transcript: The execution of it, 32 bytes each.
        survivors: The one set that it has signed, in roster order. survivors_hash: What it signed.
    """

    context: RoundContext
    execution: bytes
    transcript: bytes
    survivors: tuple[str, ...]
    survivors_hash: bytes


Admission = Callable[[tuple[str, ...]], None]
"""Raises a `FedaptError` where an institution does not sign a survivor set, given in roster order."""


def admit_all(survivors: tuple[str, ...]) -> None:
    """Have nothing against any survivor set."""


class Aggregate(Protocol):
    """The sum of the contributors' vectors."""

    @property
    def contributors(self) -> tuple[str, ...]:
        """Names whose vector is in the sum, in roster order."""

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum, shape (vector_length,)."""

    def next_model(self, model: Model) -> Model:
        """Return the model after the round: plus the contributors' uniform mean."""


@dataclass(frozen=True)
class RealSum:
    """A sum of real numbers, see `Aggregate`."""

    total: NDArray[np.float64]
    contributors: tuple[str, ...]

    def next_model(self, model: Model) -> Model:
        """See `sum_tag.moved`."""
        return moved(model, self.total, len(self.contributors))


@dataclass(frozen=True)
class EncodedSum:
    """A sum of encoded numbers, see `Aggregate`; decoded where somebody wants it, which a session does not.

    Attributes:
        words: Shape (vector_length,), uint32, two's complement.
        fixed_point: How they are encoded.
    """

    words: RingVector
    fixed_point: FixedPoint
    contributors: tuple[str, ...]

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum as real numbers, each time anew."""
        return self.fixed_point.decode(self.words)

    def next_model(self, model: Model) -> Model:
        """See `sum_tag.next_model`."""
        bits = self.fixed_point.fraction_bits
        return next_model(model, self.words, survivors=len(self.contributors), fraction_bits=bits)


@dataclass(frozen=True)
class VerifiedSum:
    """A sum that holds, as far as its scheme can tell.

    Attributes:
        aggregate: The sum, and whose inputs are in it.
        transcript: What stands for the execution, see `InstitutionRound.transcript`.
        sum_hash: Hash of what was sent. tag: T as it travels; empty where nothing is protected.
    """

    aggregate: Aggregate = field(repr=False)
    transcript: bytes
    sum_hash: bytes
    tag: bytes


class InstitutionGroup(Protocol):
    """What an institution holds of its session besides its own keys."""

    @property
    def commitment(self) -> bytes:
        """What stands for the group secret, 32 bytes."""

    @property
    def discarded(self) -> bool:
        """Whether it must not be used any more, not even after a restart."""

    def derive(self, label: str, *parts: Part) -> bytes:
        """Return 32 bytes of the group secret for one purpose; raises `InvalidInput` once closed."""

    def close(self) -> None:
        """Forget the secrets: the session is over for this process."""


class CoordinatorGroup(Protocol):
    """What the coordinator holds of it: nothing secret."""

    @property
    def commitment(self) -> bytes:
        """What stands for the group secret, 32 bytes."""

    def close(self) -> None:
        """The session is over for this process."""


class InstitutionRound(Protocol):
    """One institution's part in one round. Single use: its update enters at most one sum."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will be sent."""

    @property
    def saturated(self) -> int:
        """How many values of the update were clipped by the encoding."""

    def start(self) -> Outgoing:
        """Return the first payload."""

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, once it has come and holds."""

    @property
    def verified(self) -> VerifiedSum | None:
        """The same with what stands for it."""

    @property
    def transcript(self) -> bytes | None:
        """What stands for the round as its parties saw it, 32 bytes; ``None`` until we have agreed to it.

        All parties of one execution that have one have the same, the coordinator too.
        """

    def receive(self, payload: bytes) -> Outgoing | None:
        """Take the coordinator's payload and return the answer; ``None`` where nothing is to be sent.

        Raises:
            PeerError: Where the message is not one that is due, nothing has changed and the machine
                still waits. Where its content does not hold, the machine is `finished`, has forgotten
                its secrets, and `abort_payload` has a signed statement for the coordinator.
        """

    def abort_payload(self) -> bytes | None:
        """Return the signed statement of why this institution aborted, if it did."""


def check_update(update: NDArray[np.floating], length: int) -> None:
    """Check what an institution is to contribute, before anything is made for it.

    Raises:
        ValueError: If it has another length.
        UpdateUnusable: If it holds values that are not finite.
    """
    if update.shape != (length,):
        raise ValueError("the update's length does not fit the round")
    if not (np.isfinite(update.min()) and np.isfinite(update.max())):  # both are NaN where one value is
        raise UpdateUnusable("training gave values that are not finite: this update is not used")


class CoordinatorRound(Protocol):
    """The coordinator's part in one round."""

    @property
    def phase(self) -> Phase | None:
        """The phase whose payloads are collected now; ``None`` when the round is over."""

    @property
    def waiting_for(self) -> frozenset[str]:
        """Names that may still send in this phase."""

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, once the round is over, in schemes that give it to the coordinator."""

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose update is in the sum, in roster order, once the round is over."""

    @property
    def revealing(self) -> tuple[str, ...]:
        """The survivor set whose sum institutions are asked to help open; empty before that.

        From then on it may be open to whoever has their shares, or the key, whatever the round comes to.
        """

    @property
    def false_senders(self) -> tuple[str, ...]:
        """Who has proved false towards the end of the round, where the scheme can tell; for the log."""

    @property
    def transcript(self) -> bytes | None:
        """What institutions have in their `InstitutionRound.transcript`; ``None`` until it is settled."""

    def receive(self, sender: str, payload: bytes) -> None:
        """Take a payload.

        Raises:
            PeerError: The payload is refused and nothing has changed.
            RoundAborted: ``sender`` aborted, for the reason in the message.
        """

    def drop(self, name: str) -> None:
        """Count ``name`` as gone for the rest of the round."""

    def close_phase(self) -> Mapping[str, bytes]:
        """End the phase with whoever sent, and return what goes to whom.

        Raises:
            RoundAborted: If too few are left, or a dealer proved inconsistent.
        """

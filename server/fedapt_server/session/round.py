"""One round at the coordinator, without I/O: drives a secure-aggregation machine and keeps the books."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedapt_crypto.errors import PeerError, RoundAborted, UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.scheme import RELEASING, CoordinatorGroup, Phase
from fedapt_secure.log.heads import SignedHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.stated import Confirmation
from fedapt_server.session.actions import SendTo
from fedapt_server.session.outcome import Outcome
from fedapt_server.session.progress import GivenSum
from fedapt_server.session.sums import Moved
from fedapt_server.session.witness import Witness


@dataclass
class Traffic:
    """Bytes of a round's messages, as sent and received by the coordinator (without TLS)."""

    bytes_up: int = 0
    bytes_down: int = 0

    def down(self, sends: list[SendTo]) -> list[SendTo]:
        """Count what is about to be sent, and return it."""
        self.bytes_down += sum(len(one.data) for one in sends)
        return sends


@dataclass
class CoordinatorRound:
    """A round under way.

    Attributes:
        configuration: The session.
        number: Round number, from 1.
        attempt: Attempt, from 1.
        model_id: What stands for the model that the round starts from.
        identity: The coordinator's signing key.
        participants: Who of the round's cohort is ready; the others of it count as gone.
        witness: Checks the head of its log that each institution's first payload carries.
        group: The coordinator's part of the group secret. confirmations: Who holds it, where that is told.
        heads: Those heads.
        released: Whose update has come, so that it must not come again in another attempt.
        given: The sum, once there is one. awaited: Who was given it and has not said what came of it.
        failed: With whom it did not hold, and what each said. moved: What follows from it.
    """

    configuration: SessionConfiguration
    number: int
    attempt: int
    model_id: bytes
    participants: tuple[str, ...]
    witness: Witness
    identity: Identity
    group: CoordinatorGroup | None = None
    confirmations: tuple[Confirmation, ...] = ()
    given: GivenSum | None = None
    awaited: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    moved: Moved | None = None
    traffic: Traffic = field(default_factory=Traffic)
    dropped: dict[str, str] = field(default_factory=dict)
    heads: dict[str, SignedHead] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context = self.configuration.round_context(
            self.number,
            self.attempt,
            self.model_id,
            None if self.group is None else self.group.commitment,
        )
        scheme = self.configuration.plan.secure_aggregation
        roster = self.configuration.round_roster(self.number)
        self._machine = registry.coordinator_round(
            scheme, self.context, roster, self.identity, group=self.group
        )
        for name in roster.names:
            if name not in self.participants:
                self._machine.drop(name)

    @property
    def phase(self) -> Phase | None:
        """The phase being collected, ``None`` when the round is over."""
        return self._machine.phase

    @property
    def transcript(self) -> bytes | None:
        """What all parties of the round have agreed on, as far as it got."""
        return self._machine.transcript

    @property
    def revealing(self) -> tuple[str, ...]:
        """The survivor set for which shares are asked for."""
        return self._machine.revealing

    @property
    def phase_complete(self) -> bool:
        """Whether nobody is waited for any more in this phase, or with the sum."""
        return not (self._machine.waiting_for if self.given is None else self.awaited)

    @property
    def waiting_for(self) -> frozenset[str]:
        """Who may still send in this phase, or say what came of the sum."""
        return self._machine.waiting_for if self.given is None else frozenset(self.awaited)

    def is_named_by(self, message: m.Aggregation | m.RoundDecline) -> bool:
        """Whether a message is about this attempt at this round."""
        return (self.number, self.attempt) == (message.round, message.attempt)

    def start_message(self) -> m.RoundStart:
        """Return what every participant gets first."""
        roster = self.configuration.round_roster(self.number)
        return m.RoundStart(
            round=self.number,
            attempt=self.attempt,
            model_id=self.model_id,
            participants=parties.pack(roster.index(name) for name in self.participants),
            confirmations=self.confirmations,
        )

    def receive(self, sender: str, message: m.Aggregation) -> None:
        """Take a payload.

        Raises:
            PeerError: If it is refused; nothing has changed.
            RoundAborted: If the sender aborted the round.
        """
        if not self.is_named_by(message):
            raise UnexpectedMessage("sent a payload of another round", peer=sender)
        if sender not in self.participants:
            raise UnexpectedMessage("sent a payload of a round that it takes no part in", peer=sender)
        if sender in self.heads:
            if message.head is not None:
                raise UnexpectedMessage("sent its log's head twice in a round", peer=sender)
        else:
            witnessed = self.witness.check(sender, self.number, message.head)
            self.heads[sender] = witnessed.signed
        self._machine.receive(sender, message.payload)
        if message.phase in RELEASING:
            self.released.add(sender)

    def drop(self, name: str, reason: str) -> None:
        """Count ``name`` as gone for the rest of this round."""
        if self.given is not None:
            self.awaited.discard(name)
        elif name in self.participants:
            self._machine.drop(name)
            self.dropped.setdefault(name, reason)

    def drop_missing(self) -> tuple[str, ...]:
        """Drop everyone who is still waited for; return their names."""
        late = tuple(sorted(self.waiting_for))
        for name in late:
            self.drop(name, "late")
        return late

    def close_phase(self) -> Mapping[str, m.Aggregation]:
        """End the phase and return what goes to whom; at the round's end that is the sum, see `given`.

        Raises:
            RoundAborted: If there can be no sum.
        """
        closed = self._machine.phase
        payloads = self._machine.close_phase()
        phase = self._machine.phase or closed
        if phase is None:
            return {}
        deliveries = {
            name: m.Aggregation(round=self.number, attempt=self.attempt, phase=phase.value, payload=payload)
            for name, payload in payloads.items()
            if name not in self.dropped
        }
        if self._machine.phase is None:
            self._give(next(iter(payloads.values())), deliveries.keys())
        return deliveries

    def _give(self, payload: bytes, names: Iterable[str]) -> None:
        transcript = self._machine.transcript
        assert transcript is not None  # there is a sum
        self.given = GivenSum(
            round=self.number,
            attempt=self.attempt,
            participants=self.participants,
            contributors=self._machine.contributors,
            dropped=tuple(name for name in self.configuration.roster.names if name in self.dropped),
            transcript=transcript,
            payload=payload,
        )
        self.awaited = set(names)

    def answered(self, name: str) -> None:
        """Take note that an institution has said what came of the sum."""
        self.awaited.discard(name)

    def sum_failed(self, name: str, error: RoundAborted | PeerError) -> None:
        """Take note that the sum did not hold with an institution."""
        self.failed[name] = str(error)[:200]
        self.awaited.discard(name)

    def completed(self) -> Outcome:
        """Return the outcome of a round with a sum."""
        return self._outcome("completed", self._machine.contributors, self._false())

    def not_verified(self) -> Outcome:
        """Return the outcome of a round whose sum did not hold with its institutions."""
        said = "; ".join(self.failed.values())
        return self._outcome("aborted", (), f"the sum did not hold: {said}"[:800])

    def aborted(self, reason: RoundAborted | PeerError) -> Outcome:
        """Return the outcome of a round without one."""
        return self._outcome("aborted", (), "; ".join(filter(None, (str(reason)[:600], self._false()))))

    def _false(self) -> str:
        """Return who revealed shares that commitments prove false, in words."""
        names = self._machine.false_senders
        return f"false shares came from {', '.join(names)}"[:800] if names else ""

    def _outcome(
        self, status: Literal["completed", "aborted"], contributors: tuple[str, ...], detail: str
    ) -> Outcome:
        dropped = tuple(name for name in self.configuration.roster.names if name in self.dropped)
        return Outcome(
            status,
            self.participants,
            contributors,
            dropped,
            detail,
            given=self.given if status == "completed" else None,
        )

"""How far a session has come: all of it that has to survive a crash of the coordinator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedapt_crypto.encoding import Hash, Message, PartyName
from fedapt_crypto.secagg.group_secret import GroupSecretOffer
from fedapt_secure.log.heads import RoundRecord, SignedHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.protocol.stated import Round, SumStatement


@dataclass(frozen=True)
class GroupOffered:
    """The group secret, sealed to everybody, as its maker sent it."""

    maker: str
    payload: bytes = field(repr=False)

    @cached_property
    def commitment(self) -> bytes:
        """What stands for the group secret."""
        return GroupSecretOffer.from_bytes(self.payload).header.commitment


class GivenSum(Message):
    """A sum that is given to institutions, with all that follows from it after a restart.

    Attributes:
        round, attempt: The execution. payload: The sum as it is sent.
        participants, contributors, dropped: Who began, whose update is in it, who vanished.
        transcript: What its survivors signed.
    """

    round: Round
    attempt: Round
    participants: tuple[PartyName, ...]
    contributors: tuple[PartyName, ...]
    dropped: tuple[PartyName, ...]
    transcript: Hash
    payload: bytes

    @property
    def missed(self) -> m.MissedSum:
        """The sum for who was not there when it was given out."""
        return m.MissedSum(round=self.round, attempt=self.attempt, payload=self.payload)


@dataclass(frozen=True)
class Signed:
    """An institution's signature on the record that closes the session, and where its log stood."""

    signature: bytes
    head: SignedHead


@dataclass(frozen=True, repr=False, eq=False)
class Progress:
    """How far a session has come.

    Attributes:
        model: The shared parameters after the completed rounds; the first ones where only institutions
            know more.
        model_id: What stands for the model of the next round.
        number, attempt: The newest attempt at a round that has begun; 0 before the first.
        records: How each attempt ended; the newest has not where it is missing.
        last_end: What the log is to say about the last of them: a crash may come between store and log.
        sealed_sums: The sums that only institutions can open, of all completed rounds.
        pending: The newest execution's sum; durable before anybody is given it, and there until the next.
        stated, statements: What institutions state about the newest sum, and their signatures.
        group: The session's group secret, once it was offered.
        bound: The survivor set whose sum from the present model may be open already: no other is signed.
        closing: Whether no round follows any more: institutions may have been told how the session ended.
        signed: Who has signed the closing record.
        ended: Whether the session is over.
    """

    model: Vector
    model_id: bytes
    number: int = 0
    attempt: int = 0
    records: tuple[RoundRecord, ...] = ()
    last_end: dict[str, Any] | None = None
    sealed_sums: tuple[m.MissedSum, ...] = ()
    pending: GivenSum | None = None
    stated: SumStatement | None = None
    statements: Mapping[str, bytes] = field(default_factory=dict)
    bound: tuple[str, ...] = ()
    group: GroupOffered | None = None
    closing: bool = False
    signed: Mapping[str, Signed] = field(default_factory=dict)
    ended: bool = False

    @classmethod
    def initial(cls, configuration: SessionConfiguration) -> "Progress":
        """Return the progress of a session that has not begun."""
        model = configuration.plan.initial_model()
        return cls(model, model_hash(m.model_to_bytes(model)))

    @property
    def interrupted(self) -> bool:
        """Whether an attempt has begun and its end is not on record."""
        last = (self.records[-1].round, self.records[-1].attempt) if self.records else (0, 0)
        return (self.number, self.attempt) != last

    @property
    def given(self) -> GivenSum | None:
        """The sum of the newest attempt, where it has one and its end is not on record."""
        newest = self.pending if self.interrupted else None
        about = (self.number, self.attempt)
        return newest if newest is not None and (newest.round, newest.attempt) == about else None

    @property
    def completed_rounds(self) -> int:
        """How many rounds gave a sum."""
        return sum(record.status == "completed" for record in self.records)

    @property
    def group_commitment(self) -> bytes | None:
        """What stands for the group secret; ``None`` where there is none yet."""
        return None if self.group is None else self.group.commitment

    @property
    def sealed_bytes(self) -> int:
        """The size of what who was away may have to get."""
        return sum(len(one.payload) for one in self.sealed_sums)

    def unlogged(self, logged: tuple[int, int] | None) -> bool:
        """Whether the log's last ended attempt, as round and attempt, is not the last one on record here."""
        last = self.last_end
        return last is not None and logged != (last["round"], last["attempt"])

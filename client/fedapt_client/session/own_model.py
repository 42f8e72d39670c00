"""The session's model as an institution keeps it itself, and the executions whose sum it still waits for.

Nobody hands out models but in `catch_up`: an institution starts from the session's public seed and moves by
sums that it has verified. Rules (SPEC.md, section 10; crypto/model shows what each is there for):

- A sum is taken for the newest execution that was joined alone, unless one of it has failed before, and no
  round at or below the newest verified one is joined: so one round has one model here.
- An execution that was opened, by shares or with CKKS by a signature, and whose sum has not come is
  unresolved. While the model is still that execution's, only the same survivor set is signed, and a second
  unresolved one ends the session: of two sums over different sets from one model, the difference would be
  somebody's update.
- What was revealed, and each new model with its record, is durable before anything that relies on it leaves.

How far this goes with a colluder that knows the group secret, SECURITY.md says.
"""

from dataclasses import dataclass, field

from fedapt_client.session.actions import Action, Adopt, Log, Refused, Send
from fedapt_client.session.kept_model import KeptModel
from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    PeerError,
    UnexpectedMessage,
    UnresolvedExecution,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.scheme import Opening, RoundContext, VerifiedSum
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration, model_hash, next_model_id
from fedapt_secure.protocol.stated import SumStatement
from fedapt_secure.protocol.statements import caught_up, sign_sum

VERIFIED, UNRESOLVED, CAUGHT_UP = "verified_sum", "unresolved", "caught_up"
"""Types of the log's lines on sums."""
MAX_UNRESOLVED = 2
"""A second one on one model ends the session there."""


@dataclass(frozen=True)
class PastRounds:
    """What an institution has on record of a session's rounds when it starts again.

    Attributes:
        kept: Its model; ``None`` for the session's first.
        stated: What it has signed about the newest sum that it has verified.
        openings: The executions in which it has revealed shares.
        newest: Round and attempt of the newest that it has joined.
        noted: What its log has on sums: the line's type, round and attempt.
    """

    kept: KeptModel | None = None
    stated: m.SumVerified | None = None
    openings: tuple[Opening, ...] = ()
    newest: tuple[int, int] = (0, 0)
    noted: frozenset[tuple[str, int, int]] = frozenset()


@dataclass
class OwnModel:
    """An institution's model in one session.

    Attributes:
        configuration: The session. identity: The institution's signing key.
        past: What is on record.
    """

    configuration: SessionConfiguration
    identity: Identity
    past: PastRounds = field(default_factory=PastRounds)

    def __post_init__(self) -> None:
        first = self.configuration.plan.initial_model()
        self.kept = self.past.kept or KeptModel(first, model_hash(m.model_to_bytes(first)))
        self._stated = self.past.stated
        self._contributors: tuple[str, ...] | None = None  # of the kept sum, where it came to this process
        self._openings = list(self.past.openings)
        self._newest = self.past.newest
        self._failed: set[bytes] = set()
        self._noted = set(self.past.noted)

    @property
    def unresolved(self) -> list[Opening]:
        """The executions on the present model in which shares were revealed, oldest first."""
        return [one for one in self._openings if one.context.model_hash == self.kept.model_id]

    def restate(self) -> list[Action]:
        """Say again what was said about the newest verified sum: the connection may have died with it.

        What a crash, or a connection that died, has kept out of the log is put there now: that sum, and
        executions whose sum has not come.
        """
        lines = [
            line for one in self.unresolved for line in self._note(UNRESOLVED, unresolved_body(one), one)
        ]
        if self._stated is None:
            return lines + self._restate_caught_up()
        number, attempt = self.kept.round, self.kept.attempt
        opened = (
            one for one in self._openings if (one.context.round, one.context.attempt) == (number, attempt)
        )
        for one in opened:  # without an opening, in a scheme that protects nothing, the names are lost
            lines += self._note(VERIFIED, verified_body(self._stated, one.survivors), one)
        return [*lines, Send(self._stated)]

    def _restate_caught_up(self) -> list[Action]:
        """Return the line about a model that others stated, which a crash has kept out; with it went who."""
        about = (CAUGHT_UP, self.kept.round, 0)
        if not self.kept.round or self._noted & {about, (VERIFIED, self.kept.round, self.kept.attempt)}:
            return []
        self._noted.add(about)
        session, model = self.configuration.session, self.kept.model_id
        return [Log(CAUGHT_UP, caught_up_body(session, self.kept.round, model, []))]

    def _note(self, kind: str, body: dict[str, object], of: Opening) -> list[Action]:
        about = (kind, of.context.round, of.context.attempt)
        if about in self._noted:
            return []
        self._noted.add(about)
        return [Log(kind, body)]

    def begin(self, start: m.RoundStart) -> None:
        """Begin an execution; from here on no sum of an earlier one is taken.

        Raises:
            UnexpectedMessage: If the round has its sum here.
            UnresolvedExecution: If the session cannot go on from this model.
            ContextMismatch: If the round starts from another model.
        """
        if start.round <= self.kept.round:
            raise UnexpectedMessage(f"the sum of round {self.kept.round} is verified", peer=COORDINATOR)
        if len(self.unresolved) >= MAX_UNRESOLVED:
            raise UnresolvedExecution(
                "shares were revealed in two rounds from this model, and the sum of neither has come"
            )
        if start.model_id != self.kept.model_id:
            error = ContextMismatch("the round starts from another model than ours", peer=COORDINATOR)
            error.code = Reason.OTHER_START.value
            raise error
        self._newest = (start.round, start.attempt)

    def admit(self, survivors: tuple[str, ...]) -> None:
        """Refuse a second survivor set on the present model.

        Args:
            survivors: The set that we are asked to sign, in roster order.

        Raises:
            UnresolvedExecution: If it is another one than that of an unresolved execution.
        """
        for one in self.unresolved:
            if one.survivors != survivors:
                raise UnresolvedExecution(
                    f"the sum of round {one.context.round} has not come, and this survivor set is another:"
                    " two sums from one model would show an update"
                )

    def reveal(self, opening: Opening) -> None:
        """Take note that shares of an execution leave now."""
        self._openings.append(opening)

    def note_lost(self, context: RoundContext) -> list[Action]:
        """Return the log's line where an attempt has ended, shares were revealed, and no sum has come."""
        mine = [one for one in self.unresolved if one.context == context]
        return [line for one in mine for line in self._note(UNRESOLVED, unresolved_body(one), one)]

    def opening_of(self, missed: m.MissedSum) -> Opening | None:
        """Return our record of an execution, if its sum may still be taken from this message alone."""
        if (missed.round, missed.attempt) != self._newest:
            return None
        about = (missed.round, missed.attempt)
        for one in self.unresolved:
            if (one.context.round, one.context.attempt) == about and one.context.hash not in self._failed:
                return one
        return None

    def failed(self, context: RoundContext) -> None:
        """Take note that a sum of an execution did not hold: each further one would be a further guess."""
        self._failed.add(context.hash)

    def has_joined_later(self, missed: m.MissedSum) -> bool:
        """Return whether we have joined a newer execution than this sum's, so that it is not taken."""
        return self._newest > (missed.round, missed.attempt)

    def take(self, context: RoundContext, verified: VerifiedSum, payload: bytes) -> list[Action]:
        """Move by a verified sum, put that on record and state it.

        Args:
            context: The round.
            verified: Its sum.
            payload: The same as it was sent.

        Raises:
            UnexpectedMessage: If it is not a sum of the newest execution on the present model.
        """
        about = (context.round, context.attempt)
        if context.model_hash != self.kept.model_id or context.round <= self.kept.round:
            raise UnexpectedMessage("a sum came for a model that has moved on", peer=COORDINATOR)
        model = verified.aggregate.next_model(self.kept.model)
        statement = SumStatement(
            session=context.session,
            configuration_hash=self.configuration.hash,
            round=context.round,
            attempt=context.attempt,
            transcript=verified.transcript,
            sum_hash=verified.sum_hash,
            sum_tag=verified.tag,
            model_before=self.kept.model_id,
            model_after=self._id_after(model, context.round, payload),
        )
        self.kept = KeptModel(model, statement.model_after, *about)
        self._stated = m.SumVerified(statement=statement, signature=sign_sum(self.identity, statement))
        self._contributors = verified.aggregate.contributors
        self._noted.add((VERIFIED, *about))
        line = Log(VERIFIED, verified_body(self._stated, verified.aggregate.contributors))
        return [Adopt(self.kept, self._stated), line, Send(self._stated)]

    def catch_up(self, message: m.CatchUp) -> list[Action]:
        """Take the newest model from those who state it alike; refused where they do not."""
        try:
            return self._catch_up(message)
        except (PeerError, InvalidInput) as error:
            return [Refused(error, message.statement.round)]

    def check_end(self, end: m.RoundEnd) -> None:
        """Refuse an end that denies what we have verified.

        Raises:
            ContextMismatch: If the coordinator calls a round aborted whose sum it has given out, or names
                other contributors than those whose sum it is.
        """
        if (self.kept.round, self.kept.attempt) != (end.round, end.attempt):
            return
        if end.status == "aborted":
            raise ContextMismatch("called a round aborted whose sum it has given out", peer=COORDINATOR)
        if self._contributors is not None and end.contributors != self._contributors:
            raise ContextMismatch("names other contributors than those of the sum", peer=COORDINATOR)

    def _catch_up(self, message: m.CatchUp) -> list[Action]:
        statement = message.statement
        if self.configuration.blind:
            raise UnexpectedMessage("the coordinator sent a model that it cannot know", peer=COORDINATOR)
        if statement.round <= self.kept.round:
            return []
        model = caught_up(self.configuration, message)
        self.kept = KeptModel(model, statement.model_after, statement.round, statement.attempt)
        self._stated = self._contributors = None
        names = [one.party for one in message.signatures]
        self._noted.add((CAUGHT_UP, statement.round, 0))
        about = (statement.session, statement.round, statement.model_after)
        return [Adopt(self.kept, None), Log(CAUGHT_UP, caught_up_body(*about, names))]

    def _id_after(self, model: Vector, number: int, payload: bytes) -> bytes:
        if self.configuration.blind:
            return next_model_id(self.kept.model_id, number, payload)
        return model_hash(m.model_to_bytes(model))


def verified_body(stated: m.SumVerified, contributors: tuple[str, ...]) -> dict[str, object]:
    """Return the log's line about a sum that was verified."""
    statement = stated.statement
    return {
        "session": statement.session.hex(),
        "round": statement.round,
        "attempt": statement.attempt,
        "transcript": statement.transcript.hex(),
        "contributors": list(contributors),
        "sum": statement.sum_hash.hex(),
        "tag": statement.sum_tag.hex(),
        "model_before": statement.model_before.hex(),
        "model": statement.model_after.hex(),
        "signature": stated.signature.hex(),
    }


def caught_up_body(session: bytes, round_number: int, model_id: bytes, names: list[str]) -> dict[str, object]:
    """Return the log's line about a model that was taken from those who state it.

    Args:
        session: The session.
        round_number: The round that led to it.
        model_id: What stands for it.
        names: Who states it; none where a crash has lost that.
    """
    return {
        "session": session.hex(),
        "round": round_number,
        "model": model_id.hex(),
        "stated_by": sorted(names),
    }


def unresolved_body(opening: Opening) -> dict[str, object]:
    """Return the log's line about an execution whose shares were revealed and whose sum has not come."""
    return {
        "session": opening.context.session.hex(),
        "round": opening.context.round,
        "attempt": opening.context.attempt,
        "transcript": opening.survivors_hash.hex(),
        "survivors": list(opening.survivors),
        "model": opening.context.model_hash.hex(),
    }

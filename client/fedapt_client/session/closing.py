"""The end of a session at an institution, without I/O: agree on what happened, sign it, keep the record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedapt_client.session.actions import Log
from fedapt_crypto.errors import ContextMismatch, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.log.heads import CloseStatement, RoundRecord, closed_body, transcript_digest
from fedapt_secure.log.line import SESSION_CLOSED
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass
class Closing:
    """What this institution knows of a session's rounds, and what it has signed in the end.

    Attributes:
        rounds: How each round that it saw the end of ended here, by round and attempt.
        statement: What it has signed, once it has.
        concluded: Whether all that is left to do is to sign.
        bundle_hash: SHA-256 of the finished bundle, once it is stored; none where no round was completed.
        last_round: Number of the session's last round, once that is agreed on.
    """

    rounds: dict[tuple[int, int], RoundRecord] = field(default_factory=dict)
    statement: CloseStatement | None = None
    concluded: bool = False
    bundle_hash: bytes | None = None
    last_round: int = 0

    @property
    def completed_rounds(self) -> int:
        """How many rounds gave a sum; 0 before the account of the rounds is agreed on."""
        return 0 if self.statement is None else self.statement.completed_rounds

    def note(
        self, context: RoundContext, status: Literal["completed", "aborted"], transcript: bytes | None
    ) -> RoundRecord:
        """Remember and return how a round ended here.

        Args:
            context: The round.
            status: How it ended.
            transcript: What its messages amount to; ``None`` where it did not come to that.
        """
        record = RoundRecord(
            round=context.round,
            attempt=context.attempt,
            status=status,
            context=context.hash,
            transcript=transcript,
        )
        self.rounds[record.round, record.attempt] = record
        return record

    def agree(
        self, configuration: SessionConfiguration, model_id: bytes, rounds: Sequence[RoundRecord]
    ) -> None:
        """Compare the coordinator's account of all rounds with ours, and fix the statement.

        Raises:
            ContextMismatch: If they differ, in an attempt that we were in to its end.
        """
        if not in_order(rounds):
            raise ContextMismatch("the coordinator's account of the rounds is not in order", peer=COORDINATOR)
        places = ((record.round, record.attempt, record) for record in rounds)
        told = {(number, attempt): one for number, attempt, one in places if (number, attempt) in self.rounds}
        for place, own in self.rounds.items():
            other = told.get(place)
            if own.transcript is None and other is not None:
                other = other.model_copy(update={"transcript": None})  # it went further than we could see
            if other != own:
                raise ContextMismatch(
                    f"the coordinator's account of round {own.round} is not what happened here",
                    peer=COORDINATOR,
                )
        self.last_round = rounds[-1].round if rounds else 0
        self.statement = CloseStatement(
            session=configuration.session,
            configuration=configuration.hash,
            model=model_id,
            completed_rounds=sum(record.status == "completed" for record in rounds),
            transcript=transcript_digest(rounds),
        )

    def sign(self, identity: Identity) -> bytes:
        """Sign the statement; raises `ContextMismatch` before there is one."""
        if self.statement is None:
            raise ContextMismatch("nothing has been agreed on yet")
        return self.statement.sign(identity)

    def check(self, configuration: SessionConfiguration, roster: Roster, closed: m.SessionClosed) -> Log:
        """Check the closed record and return the line that keeps it.

        Raises:
            ContextMismatch: If it is about something else than we have signed.
            VerificationFailed: If a signature does not verify, or someone is not accounted for.
        """
        statement = closed.statement
        expected = (configuration.session, configuration.hash)
        if (statement.session, statement.configuration) != expected or (
            self.statement is not None and statement != self.statement
        ):
            raise ContextMismatch("the closed record is not the session that we know", peer=COORDINATOR)
        names = [entry.party for entry in closed.signatures]
        left = tuple(name for name in roster.names if name not in names)
        if len(set(names)) != len(names) or COORDINATOR not in names or closed.missing != left:
            raise VerificationFailed("the closed record does not account for everyone", peer=COORDINATOR)
        for entry in closed.signatures:
            statement.check(roster, entry.party, entry.signature)
        return Log(SESSION_CLOSED, closed_body(statement, closed.signatures, closed.missing))


def in_order(rounds: Sequence[RoundRecord]) -> bool:
    """Whether an account begins with round 1, leaves none out, and counts each round's attempts from 1.

    Only a round's last attempt can have completed it.
    """
    number, attempt, completed = 0, 0, False
    for record in rounds:
        again = record.round == number and record.attempt == attempt + 1 and not completed
        following = record.round == number + 1 and record.attempt == 1
        if not (again or following):
            return False
        number, attempt, completed = record.round, record.attempt, record.status == "completed"
    return True

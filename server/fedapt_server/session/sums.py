"""Which institution has which round's sum, what follows from it, and who states that; without I/O.

Institutions keep the model themselves. Each that has verified a round's sum says so, signed; with enough of
these statements one that was away takes the newest model from the coordinator, before its next round or
before the session's end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fedapt_crypto.errors import ContextMismatch, UnexpectedMessage
from fedapt_crypto.secagg.announced import read_announced
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash, next_model_id
from fedapt_secure.protocol.stated import Confirmation, SumStatement
from fedapt_secure.protocol.statements import check_sum_statement
from fedapt_server.session.actions import SendTo
from fedapt_server.session.progress import GivenSum, Progress


class Sums:
    """Statements about the newest sum of one session.

    Args:
        configuration: The session.
        progress: How far it had come.
    """

    def __init__(self, configuration: SessionConfiguration, progress: Progress) -> None:
        self._configuration = configuration
        self._applied: dict[str, int] = {}
        self.stated: SumStatement | None = progress.stated
        self.signatures: dict[str, bytes] = dict(progress.statements)

    @property
    def kept(self) -> Mapping[str, object]:
        """What a session's progress says of it."""
        return {"stated": self.stated, "statements": dict(self.signatures)}

    def has_applied(self, name: str, number: int) -> None:
        """Take note of the last round whose sum is in an institution's model."""
        self._applied[name] = number

    def expect(self, statement: SumStatement) -> None:
        """Begin to collect statements about another sum."""
        self.stated, self.signatures = statement, {}

    def forget(self, earlier: SumStatement | None, signatures: Mapping[str, bytes]) -> None:
        """Go back to what was stated before: the sum did not hold."""
        self.stated, self.signatures = earlier, dict(signatures)

    def take(self, name: str, message: m.SumVerified) -> None:
        """Take an institution's statement.

        Raises:
            UnexpectedMessage: If it is about a sum that is not the newest.
            PeerError: If it states another model, or its signature does not hold.
            InvalidInput: If it is not on the round's roster.
        """
        stated, expected = message.statement, self.stated
        if expected is None or (stated.round, stated.attempt) != (expected.round, expected.attempt):
            raise UnexpectedMessage("stated a sum that is not the newest", peer=name)
        check_sum_statement(self._configuration, stated, name, message.signature)
        if stated != expected:
            raise ContextMismatch("states another sum or model than there is", peer=name)
        self.signatures[name] = message.signature
        self._applied[name] = stated.round

    @property
    def is_stated(self) -> bool:
        """Whether enough have stated the newest model."""
        return len(self.signatures) >= self._configuration.statements_needed

    def is_behind(self, name: str) -> bool:
        """Whether an institution lacks the newest sum, as far as it has said."""
        return self.stated is not None and self._applied.get(name, 0) < self.stated.round

    def catch_up(self, progress: Progress, names: Iterable[str]) -> list[SendTo]:
        """Return what gives those who are behind the newest model.

        Args:
            progress: How far the session has come.
            names: Who is to have it.
        """
        if self._configuration.blind or self.stated is None or not self.is_stated:
            return []
        behind = [name for name in names if self.is_behind(name)]
        if not behind:
            return []
        data = newest_model(progress, self.stated, self.signatures).to_bytes()
        self._applied |= dict.fromkeys(behind, self.stated.round)
        return [SendTo(name, data) for name in behind]


def newest_model(progress: Progress, stated: SumStatement, signatures: Mapping[str, bytes]) -> m.CatchUp:
    """Return the newest model with the signatures of those who state it.

    Args:
        progress: Has the model.
        stated: What they state.
        signatures: Institution to its signature.
    """
    return m.CatchUp(
        statement=stated,
        signatures=tuple(Confirmation(party=name, signature=one) for name, one in signatures.items()),
        model=m.model_to_bytes(progress.model),
    )


@dataclass(frozen=True)
class Moved:
    """A session's next model.

    Attributes:
        given: The sum that leads to it.
        statement: What every institution states that has verified it.
        model: Flat parameters; those of the start where only institutions know more.
        is_sealed: Whether only institutions can open the sum.
    """

    given: GivenSum
    statement: SumStatement
    model: Vector = field(repr=False)
    is_sealed: bool

    def applied_to(self, progress: Progress) -> Progress:
        """Return the progress of a session that goes on from this model."""
        sealed = (self.given.missed,) if self.is_sealed else ()
        return replace(
            progress,
            model=self.model,
            model_id=self.statement.model_after,
            sealed_sums=(*progress.sealed_sums, *sealed),
            stated=self.statement,
            statements={},
            bound=(),
        )


def moved_by(configuration: SessionConfiguration, progress: Progress, given: GivenSum) -> Moved:
    """Return what follows from a sum.

    Args:
        configuration: The session.
        progress: How far it had come.
        given: The sum, our own.
    """
    before, scheme = progress.model_id, configuration.plan.secure_aggregation
    about = (given.round, given.attempt, before, progress.group_commitment)
    context = configuration.round_context(*about)
    announced = read_announced(scheme, context, given.contributors, given.payload)
    if announced.aggregate is None:
        model, after = progress.model, next_model_id(before, given.round, given.payload)
    else:
        model = announced.aggregate.next_model(progress.model)
        after = model_hash(m.model_to_bytes(model))
    statement = SumStatement(
        session=configuration.session,
        configuration_hash=configuration.hash,
        round=given.round,
        attempt=given.attempt,
        transcript=given.transcript,
        sum_hash=announced.sum_hash,
        sum_tag=announced.tag,
        model_before=before,
        model_after=after,
    )
    return Moved(given, statement, model, is_sealed=announced.aggregate is None)

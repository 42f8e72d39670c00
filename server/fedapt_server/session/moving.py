"""What follows from a round's sum at the coordinator: the next model, and what institutions are to state."""

from dataclasses import dataclass, field, replace

from fedapt_crypto.secagg.announced import read_announced
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash, next_model_id
from fedapt_server.session.progress import GivenSum, Progress


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
    statement: m.SumStatement
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
    statement = m.SumStatement(
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

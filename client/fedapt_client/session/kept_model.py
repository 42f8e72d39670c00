"""The model as institutions keep it where the coordinator cannot know it (CKKS)."""

from dataclasses import dataclass

from fedapt_crypto.secagg.scheme import Aggregate
from fedapt_secure.protocol.messages import model_from_bytes, model_to_bytes
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash, next_model_id


@dataclass(frozen=True, repr=False)
class KeptModel:
    """Parameters and what stands for them.

    Attributes:
        model: Flat parameters.
        model_id: Follows from the initial model and the signed sums, so the coordinator can compute it.
        applied_round: The last round whose sum is in ``model``.
    """

    model: Vector
    model_id: bytes
    applied_round: int

    @classmethod
    def initial(cls, configuration: SessionConfiguration) -> "KeptModel":
        """Return the session's first model, which follows from its public seed."""
        model = configuration.plan.initial_model()
        return cls(model, model_hash(model_to_bytes(model)), 0)

    def after(self, round_number: int, sum_payload: bytes, aggregate: Aggregate) -> "KeptModel":
        """Return the model after a round: plus the uniform mean of its contributors' updates.

        Args:
            round_number: The round's number.
            sum_payload: Its sum as it was sent.
            aggregate: The same, opened.
        """
        model: Vector = (self.model.astype("f8") + aggregate.mean).astype("f4")
        return KeptModel(model, next_model_id(self.model_id, round_number, sum_payload), round_number)


def model_of(
    data: bytes, configuration: SessionConfiguration, kept: KeptModel | None
) -> tuple[Vector, bytes]:
    """Return the model in a message and what stands for it: our own where the coordinator has none.

    Args:
        data: The model in the message, which may be empty.
        configuration: The session.
        kept: Our own, in schemes that hide it from the coordinator.

    Raises:
        MalformedMessage: If it is none of the session's shape.
    """
    if kept is not None:
        return kept.model, kept.model_id
    return model_from_bytes(data, configuration.plan.shape), model_hash(data)

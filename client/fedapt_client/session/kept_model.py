"""The session's model as an institution keeps it between rounds."""

from dataclasses import dataclass

from fedapt_secure.protocol.parameters import Vector


@dataclass(frozen=True, repr=False)
class KeptModel:
    """Parameters and what stands for them.

    Attributes:
        model: Flat parameters.
        model_id: Hash of them; where only institutions know them (CKKS), of the first and all signed sums.
        round, attempt: The execution whose sum was the last to move it; 0 before the first.
    """

    model: Vector
    model_id: bytes
    round: int = 0
    attempt: int = 0

"""What a coordinator's last message of a round holds, by scheme: read, not checked.

For who made it, and has nothing else left of it after a restart; an institution checks it instead
(`masking.sums`, `ckks.catch_up`, `plain`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedapt_crypto.secagg.ckks.catch_up import hash_of as hash_of_sealed
from fedapt_crypto.secagg.ckks.messages import SumDelivery, max_delivery_bytes
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, hash_of
from fedapt_crypto.secagg.plain import PlainSum
from fedapt_crypto.secagg.registry import CKKS, NONE
from fedapt_crypto.secagg.scheme import Aggregate, EncodedSum, RealSum, RoundContext


@dataclass(frozen=True)
class Announced:
    """A sum as it was announced.

    Attributes:
        sum_hash: What stands for it. tag: Its tag; empty in schemes without.
        aggregate: The sum itself; ``None`` where the coordinator cannot know it.
    """

    sum_hash: bytes
    tag: bytes
    aggregate: Aggregate | None = field(repr=False)


def read_announced(
    scheme: str, context: RoundContext, contributors: Sequence[str], payload: bytes
) -> Announced:
    """Return what a round's last message holds.

    Args:
        scheme: The session's scheme.
        context: The round.
        contributors: Whose updates are in the sum, in roster order.
        payload: The message, our own.

    Raises:
        MalformedMessage: If it is none.
    """
    if scheme == CKKS:
        limit = max_delivery_bytes(context.vector_length)
        delivery = SumDelivery.from_bytes(payload, max_bytes=limit)
        return Announced(hash_of_sealed(delivery), delivery.sum_tag, None)
    if scheme == NONE:
        stated = PlainSum.from_bytes(payload)
        total = np.frombuffer(stated.total, "<f8").astype(np.float64)
        return Announced(stated.hash, b"", RealSum(total, tuple(contributors)))
    announced = SumAnnouncement.from_bytes(payload)
    words = np.frombuffer(announced.total, "<u4").astype(np.uint32, copy=False)
    aggregate = EncodedSum(words, context.fixed_point, tuple(contributors))
    return Announced(hash_of(words), announced.sum_tag, aggregate)

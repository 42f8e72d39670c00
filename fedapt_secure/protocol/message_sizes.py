"""The most that messages of a session hold, in bytes: deadlines and what people are told follow from it."""

from typing import Final

from fedapt_crypto.secagg.ckks.parameters import pieces_of
from fedapt_crypto.secagg.group_secret import BOX_BYTES
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol.session import PIECE_BYTES, SessionConfiguration

BESIDES_BYTES: Final = 16 << 10
"""What a message has in it besides: signatures, heads of logs, what TLS and websockets add."""
A_NEIGHBOUR_BYTES: Final = 2 << 10
"""What a sealed share, an advertisement or a revealed share takes."""
A_PARTY_BYTES: Final = 1 << 10
"""What a signed head of a log, or a signature under a record, takes."""
_ATTACHED_BYTES: Final = 1 << 18
"""The most that a key takes that comes with the group secret."""
_SHARE: Final = 1.1
"""Encodings are up to a tenth larger than what they hold."""


def group_bytes(configuration: SessionConfiguration) -> int:
    """Return the most that the offer of a group secret takes; a part of it takes less."""
    if not configuration.needs_group:
        return 0
    boxes = BOX_BYTES * len(configuration.roster.members)
    return BESIDES_BYTES + boxes + (_ATTACHED_BYTES if configuration.blind else 0)


def answer_bytes(configuration: SessionConfiguration, phase: Phase) -> int:
    """Return the most that an institution sends in a phase."""
    values = configuration.plan.shape.size
    match phase:
        case Phase.MASKED_INPUT:
            update = 4 * values
        case Phase.UPDATE:
            update = pieces_of(values) * PIECE_BYTES if configuration.blind else 4 * values
        case _:
            update = A_NEIGHBOUR_BYTES * configuration.cohort_size
    return BESIDES_BYTES + int(_SHARE * update)


def update_bytes(configuration: SessionConfiguration) -> int:
    """Return the most that an update takes on its way to the coordinator."""
    return answer_bytes(configuration, Phase.UPDATE if configuration.blind else Phase.MASKED_INPUT)


def model_bytes(configuration: SessionConfiguration) -> int:
    """Return the most that a model, or the sum in its place, takes on its way to an institution."""
    if configuration.blind:
        return answer_bytes(configuration, Phase.UPDATE)
    return BESIDES_BYTES + int(_SHARE * 4 * configuration.plan.shape.size)


def round_bytes(configuration: SessionConfiguration) -> tuple[int, int]:
    """Return the most that a round brings to one institution and takes from it."""
    phases = 3 * (A_NEIGHBOUR_BYTES * configuration.cohort_size + BESIDES_BYTES)
    heads = BESIDES_BYTES + A_PARTY_BYTES * len(configuration.roster.members)
    return model_bytes(configuration) + phases + heads, update_bytes(configuration) + phases

"""Messages between coordinator and institution, one frozen type each.

Secure-aggregation payloads travel as bytes inside `Aggregation`: only `fedapt_crypto` looks into them.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedapt_crypto.encoding import Hash, PartyName, Signature, TaggedMessage, kinds_of
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.scheme import MAX_ROUND, Phase
from fedapt_secure.protocol.parameters import ParameterShape, Vector

MAX_FRAME_BYTES = 64 << 20
"""Largest frame either side accepts; a deployment's policy may say less."""

Seed = Annotated[bytes, Field(min_length=32, max_length=32)]
Round = Annotated[int, Field(ge=1, le=MAX_ROUND)]


class Hello(TaggedMessage):
    """Institution, first message on a connection; the name must be the certificate's."""

    kind: Literal["hello"] = "hello"
    protocol: Literal["fedapt-secure/1"] = "fedapt-secure/1"
    name: PartyName


class SessionOffer(TaggedMessage):
    """Coordinator: the session, signed with its pinned identity."""

    kind: Literal["session offer"] = "session offer"
    configuration: bytes
    signature: Signature


class SessionAccept(TaggedMessage):
    """Institution: takes part in exactly this configuration.

    ``applied_round`` is the last round whose sum is in its model, in schemes that give the sum to
    institutions only; a coordinator then sends the sums that it has missed.
    """

    kind: Literal["session accept"] = "session accept"
    configuration_hash: Hash
    applied_round: Annotated[int, Field(ge=0)] = 0


class SessionRefuse(TaggedMessage):
    """Institution: does not take part, and why."""

    kind: Literal["session refuse"] = "session refuse"
    reason: Annotated[str, Field(max_length=400)]


class SealedKey(TaggedMessage):
    """Coordinator: the seed of the institution's domain key, sealed to it and signed."""

    kind: Literal["sealed key"] = "sealed key"
    session: bytes
    domain_index: Annotated[int, Field(ge=0)]
    sealed: Annotated[bytes, Field(max_length=4096)]
    signature: Signature


class GroupOffer(TaggedMessage):
    """The roster's first institution: the session's group key, sealed to everyone (CKKS)."""

    kind: Literal["group offer"] = "group offer"
    payload: bytes


class GroupPart(TaggedMessage):
    """Coordinator: one institution's part of the group offer."""

    kind: Literal["group part"] = "group part"
    payload: bytes


class GroupReady(TaggedMessage):
    """Institution: holds the group key and can start rounds."""

    kind: Literal["group ready"] = "group ready"


class MissedSum(TaggedMessage):
    """Coordinator: the signed sum of a completed round that the institution was not there to open."""

    kind: Literal["missed sum"] = "missed sum"
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    payload: bytes


class RoundStart(TaggedMessage):
    """Coordinator: a round begins with this model, flat little-endian float32.

    Empty where the coordinator does not know the model and institutions keep it themselves.
    """

    kind: Literal["round start"] = "round start"
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    model: bytes


class RoundDecline(TaggedMessage):
    """Institution: sits this round out; ``final`` means all later ones too (its budget is spent)."""

    kind: Literal["round decline"] = "round decline"
    round: Round
    final: bool
    reason: Annotated[str, Field(max_length=400)]


class Aggregation(TaggedMessage):
    """Both: a secure-aggregation payload of one round."""

    kind: Literal["aggregation"] = "aggregation"
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    phase: Annotated[str, Field(pattern="^(" + "|".join(Phase) + ")$")]
    payload: bytes


class RoundEnd(TaggedMessage):
    """Coordinator: how a round ended and whose update is in the sum."""

    kind: Literal["round end"] = "round end"
    round: Round
    status: Literal["completed", "aborted"]
    contributors: tuple[PartyName, ...]
    dropped: tuple[PartyName, ...]
    detail: Annotated[str, Field(max_length=800)]


class SessionEnd(TaggedMessage):
    """Coordinator: the final model and the seeds of all domain keys, signed."""

    kind: Literal["session end"] = "session end"
    max_bytes = MAX_FRAME_BYTES
    model: bytes
    key_seeds: tuple[Seed, ...]
    signature: Signature


class Done(TaggedMessage):
    """Institution: has evaluated and stored the finished bundle with this SHA-256."""

    kind: Literal["done"] = "done"
    bundle_hash: Hash


FROM_INSTITUTION = kinds_of(
    Hello, SessionAccept, SessionRefuse, GroupOffer, GroupReady, RoundDecline, Aggregation, Done
)
FROM_COORDINATOR = kinds_of(
    SessionOffer, SealedKey, GroupPart, MissedSum, RoundStart, Aggregation, RoundEnd, SessionEnd
)


def model_to_bytes(vector: Vector) -> bytes:
    """Return parameters as they travel: little-endian float32."""
    return vector.astype("<f4", copy=False).tobytes()


def model_from_bytes(data: bytes, shape: ParameterShape) -> Vector:
    """Return the parameters in a message; values are checked by `parameters.check_vector`.

    Raises:
        MalformedMessage: If the length does not fit.
    """
    if len(data) != 4 * shape.size:
        raise MalformedMessage(f"a model of {len(data)} bytes where {4 * shape.size} are expected")
    return np.frombuffer(data, "<f4").astype(np.float32)

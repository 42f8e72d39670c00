"""Messages between coordinator and institution, one frozen type each.

Secure-aggregation payloads travel as bytes inside `Aggregation`: only `fedapt_crypto` looks into them.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedapt_crypto.encoding import (
    DEFAULT_MAX_BYTES,
    MAX_CONTAINER_ITEMS,
    Hash,
    PartyName,
    Signature,
    TaggedMessage,
    kinds_of,
)
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.group_secret import GroupSecretOffer
from fedapt_crypto.secagg.masking.parties import INDEX_BYTES
from fedapt_crypto.secagg.scheme import MAX_ROUND, Phase
from fedapt_secure.config.ranges import LARGEST_MESSAGE_BYTES
from fedapt_secure.log.heads import CloseSignature, CloseStatement, SignedHead, WitnessedHead
from fedapt_secure.protocol.headbook import HeldHeads
from fedapt_secure.protocol.parameters import ParameterShape, Vector
from fedapt_secure.protocol.reasons import NoModelCode, ReasonCode
from fedapt_secure.protocol.session import MAX_CONFIGURATION_BYTES
from fedapt_secure.protocol.stated import Confirmation, Round, Session, SumStatement

MAX_FRAME_BYTES = LARGEST_MESSAGE_BYTES
"""Largest frame there is. Either side takes what its settings or its policy say: by default much less."""

MAX_PARTIES = MAX_CONTAINER_ITEMS
MAX_HEADS_BYTES = 4 << 20
"""Messages that carry a head or a signature of every party: 4,096 times about 250 bytes, several times."""

Doing = Literal["approval", "preparing", "encoding"]
"""What an institution may say that it is doing: waiting for its people, reading, encoding images."""
CoarseSeconds = Annotated[float, Field(ge=0, le=1e9)]
Seed = Annotated[bytes, Field(min_length=32, max_length=32)]


class Hello(TaggedMessage):
    """Institution, first message on a connection; the name must be the certificate's."""

    kind: Literal["hello"] = "hello"
    protocol: Literal["fedapt-secure/1"] = "fedapt-secure/1"
    name: PartyName


class SessionOffer(TaggedMessage):
    """Coordinator: the session, signed with its pinned identity.

    ``head`` is that of the coordinator's own log. ``held`` are the highest heads of the receiver's log that
    it or other institutions have witnessed: a receiver whose log lacks one has been rolled back.
    """

    kind: Literal["session offer"] = "session offer"
    max_bytes = MAX_CONFIGURATION_BYTES + DEFAULT_MAX_BYTES
    configuration: bytes
    signature: Signature
    head: SignedHead
    held: HeldHeads = ()


class HeldHead(TaggedMessage):
    """Coordinator: heads of the receiver's log that another institution brought after the offer was sent."""

    kind: Literal["held head"] = "held head"
    held: HeldHeads


class SessionAccept(TaggedMessage):
    """Institution: takes part in exactly this configuration.

    ``applied_round`` is the last round whose sum is in its model: a coordinator then sends what it has
    missed. ``witnessed`` are the highest heads that it has seen of every other party's logs.
    """

    kind: Literal["session accept"] = "session accept"
    max_bytes = MAX_HEADS_BYTES
    configuration_hash: Hash
    applied_round: Annotated[int, Field(ge=0)] = 0
    head: SignedHead
    witnessed: Annotated[tuple[WitnessedHead, ...], Field(max_length=MAX_PARTIES)] = ()


class Activity(TaggedMessage):
    """Institution: what it is doing before it accepts, for the coordinator's status; nothing follows from it.

    ``percent`` is how much of its images is encoded, in tens.
    """

    kind: Literal["activity"] = "activity"
    doing: Doing
    percent: Annotated[int, Field(ge=0, le=100, multiple_of=10)] = 0


class SessionRefuse(TaggedMessage):
    """Institution: does not take part for now, and which kind of reason it has, see `reasons`.

    It may come back, greet again and accept what it is offered then. ``witnessed`` are heads of the
    coordinator's log where those are the reason.
    """

    kind: Literal["session refuse"] = "session refuse"
    reason: ReasonCode
    witnessed: HeldHeads = ()


class SealedKey(TaggedMessage):
    """Coordinator: the seed of the institution's domain key, sealed to it and signed."""

    kind: Literal["sealed key"] = "sealed key"
    session: bytes
    key_index: Annotated[int, Field(ge=0)]
    sealed: Annotated[bytes, Field(max_length=4096)]
    signature: Signature


class GroupRequest(TaggedMessage):
    """Coordinator: asks an institution to make the session's group secret."""

    kind: Literal["group request"] = "group request"


class GroupOffer(TaggedMessage):
    """Institution that was asked: the session's group secret, sealed to everyone."""

    kind: Literal["group offer"] = "group offer"
    max_bytes = GroupSecretOffer.max_bytes + DEFAULT_MAX_BYTES
    payload: bytes


class GroupPart(TaggedMessage):
    """Coordinator: one institution's part of the group offer."""

    kind: Literal["group part"] = "group part"
    payload: bytes


class GroupReady(TaggedMessage):
    """Institution: holds the group secret, which its signature confirms, and can start rounds."""

    kind: Literal["group ready"] = "group ready"
    signature: Signature


class SumVerified(TaggedMessage):
    """Institution: has verified a round's sum and moved its model by it."""

    kind: Literal["sum verified"] = "sum verified"
    statement: SumStatement
    signature: Signature


class CatchUp(TaggedMessage):
    """Coordinator: the newest model, to who was away, with the signatures of those who state it alike."""

    kind: Literal["catch up"] = "catch up"
    max_bytes = MAX_FRAME_BYTES
    statement: SumStatement
    signatures: Annotated[tuple[Confirmation, ...], Field(max_length=MAX_PARTIES)]
    model: bytes


class MissedSum(TaggedMessage):
    """Coordinator: the signed sum of a round that did not reach the institution.

    One that cannot open it without having been there checks it if it was: its own record says of what.
    """

    kind: Literal["missed sum"] = "missed sum"
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    payload: bytes


class RoundStart(TaggedMessage):
    """Coordinator: a round begins from the model with this hash, which institutions keep themselves.

    ``participants`` are who begins the round, as positions on its roster (`parties.pack`): who wants more of
    them, or more on its domain key, sits it out before anything is spent, and counts again, itself, before it
    helps to open a sum. ``confirmations`` are those of the group secret, in a scheme that encrypts before it
    has any signature of the others (CKKS).
    """

    kind: Literal["round start"] = "round start"
    same_for_all = True
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    model_id: Hash
    participants: Annotated[bytes, Field(min_length=INDEX_BYTES, max_length=INDEX_BYTES * MAX_PARTIES)]
    confirmations: Annotated[tuple[Confirmation, ...], Field(max_length=MAX_PARTIES)] = ()


class RoundDecline(TaggedMessage):
    """Institution: sits this round out; ``final`` means all later ones too, unless it comes back."""

    kind: Literal["round decline"] = "round decline"
    round: Round
    attempt: Round
    final: bool
    reason: ReasonCode


class Aggregation(TaggedMessage):
    """Both: a secure-aggregation payload of one round; an institution's first one carries its log's head."""

    kind: Literal["aggregation"] = "aggregation"
    max_bytes = MAX_FRAME_BYTES
    round: Round
    attempt: Round
    phase: Annotated[str, Field(pattern="^(" + "|".join(Phase) + ")$")]
    payload: bytes
    head: SignedHead | None = None


class RoundEnd(TaggedMessage):
    """Coordinator: how a round ended, whose update is in the sum, and where all logs stood, countersigned."""

    kind: Literal["round end"] = "round end"
    same_for_all = True
    max_bytes = MAX_HEADS_BYTES
    round: Round
    attempt: Round
    status: Literal["completed", "aborted"]
    contributors: tuple[PartyName, ...]
    dropped: tuple[PartyName, ...]
    heads: Annotated[tuple[SignedHead, ...], Field(max_length=MAX_PARTIES)]
    countersignature: Signature


class SessionEnd(TaggedMessage):
    """Coordinator: the seeds of all domain keys and how each round went, signed with the model's hash.

    Institutions have the model. ``rounds`` are packed, see `heads.pack_rounds`.
    """

    kind: Literal["session end"] = "session end"
    same_for_all = True
    max_bytes = MAX_FRAME_BYTES
    key_seeds: tuple[Seed, ...]
    rounds: bytes
    signature: Signature


class Done(TaggedMessage):
    """Institution: has evaluated and stored the finished bundle with this SHA-256, and closes the session.

    Without ``bundle_hash`` where no round was completed: then there is nothing to store. ``signature`` is on
    the session's `CloseStatement`.
    """

    kind: Literal["done"] = "done"
    bundle_hash: Hash | None
    head: SignedHead
    signature: Signature


class SessionClosed(TaggedMessage):
    """Coordinator: the session's record with all signatures on it; who is missing did not sign in time."""

    kind: Literal["session closed"] = "session closed"
    same_for_all = True
    max_bytes = MAX_HEADS_BYTES
    statement: CloseStatement
    signatures: Annotated[tuple[CloseSignature, ...], Field(max_length=MAX_PARTIES)]
    missing: Annotated[tuple[PartyName, ...], Field(max_length=MAX_PARTIES)]
    round: Annotated[int, Field(ge=1, le=MAX_ROUND)]
    heads: Annotated[tuple[SignedHead, ...], Field(max_length=MAX_PARTIES)]
    countersignature: Signature


class Standby(TaggedMessage):
    """Coordinator: no session is open. Stay connected: an offer comes when one is."""

    kind: Literal["standby"] = "standby"
    finished: Session | None = None


class Rehearse(TaggedMessage):
    """Coordinator: asks what a session of this configuration would be there; nothing is offered or spent."""

    kind: Literal["rehearse"] = "rehearse"
    same_for_all = True
    max_bytes = MAX_CONFIGURATION_BYTES
    configuration: bytes
    signature: Signature


class Rehearsed(TaggedMessage):
    """Institution: whether it could take part in a session, and how long it would take there.

    ``reason`` is what it would refuse with, ``None`` where it would not. Times are in seconds, rounded up to
    1, 2 or 5 times a power of ten, 0 where they are not known: exact ones would count images.
    """

    kind: Literal["rehearsed"] = "rehearsed"
    configuration_hash: Hash
    reason: ReasonCode | None
    encoding_s: CoarseSeconds = 0.0
    round_s: CoarseSeconds = 0.0


class ModelRequest(TaggedMessage):
    """Institution, first message in place of `Hello`: asks for the model of a finished session.

    ``session`` names which; ``None`` is the one that finished last.
    """

    kind: Literal["model request"] = "model request"
    protocol: Literal["fedapt-secure/1"] = "fedapt-secure/1"
    name: PartyName
    session: Session | None = None


class FinishedModel(TaggedMessage):
    """Coordinator: a finished session as it was offered and as it ended, both under its signature.

    ``end`` is the `SessionEnd` of that session, ``model`` its `CatchUp`. ``group`` is the part of the group
    secret for whoever asks, as in `GroupPart`; empty where domain keys follow from their seeds alone.
    """

    kind: Literal["finished model"] = "finished model"
    max_bytes = MAX_CONFIGURATION_BYTES + MAX_FRAME_BYTES
    configuration: bytes
    signature: Signature
    end: bytes
    model: bytes
    group: bytes


class NoModel(TaggedMessage):
    """Coordinator: has no such model to give, and why."""

    kind: Literal["no model"] = "no model"
    reason: NoModelCode


FROM_INSTITUTION = kinds_of(
    Hello,
    ModelRequest,
    Activity,
    SessionAccept,
    SessionRefuse,
    GroupOffer,
    GroupReady,
    RoundDecline,
    Aggregation,
    SumVerified,
    Done,
    Rehearsed,
)
FROM_COORDINATOR = kinds_of(
    SessionOffer,
    HeldHead,
    SealedKey,
    GroupRequest,
    GroupPart,
    CatchUp,
    MissedSum,
    RoundStart,
    Aggregation,
    RoundEnd,
    SessionEnd,
    SessionClosed,
    Standby,
    Rehearse,
    FinishedModel,
    NoModel,
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

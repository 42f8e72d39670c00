"""What an institution's session asks of its I/O shell, one frozen type each; carried out in order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedapt_client.session.kept_model import KeptModel
from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.secagg.scheme import Opening, Phase, RoundContext
from fedapt_secure.log.heads import RoundRecord
from fedapt_secure.log.line import LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Send:
    """Send a message; ``round_number`` and ``phase`` are set for secure-aggregation payloads."""

    message: TaggedMessage
    round_number: int = 0
    phase: Phase | None = None


@dataclass(frozen=True)
class Log:
    """Write a log line."""

    type: str
    body: dict[str, Any]


@dataclass(frozen=True)
class TakeHead:
    """Carry out what follows from the head of our log, which covers all lines so far."""

    then: "Callable[[LogHead], list[Action]]"


@dataclass(frozen=True)
class CheckLog:
    """Check that our own log has these lines, which others hold; else refuse the session."""

    heads: tuple[LogHead, ...]


@dataclass(frozen=True)
class Waiting:
    """No session is open for us; ``finished`` is the one that the coordinator closed last, if it says so."""

    finished: bytes | None


@dataclass(frozen=True)
class Rehearse:
    """Find out what a session would be here, spend nothing, and answer with a code and times alone."""

    configuration: SessionConfiguration


@dataclass(frozen=True)
class Superseded:
    """Another session is offered than the one that this machine is in; it needs a machine of its own."""

    session: bytes


@dataclass(frozen=True)
class Approve:
    """Go on only if the people of this institution want to take part in exactly this configuration."""

    configuration: SessionConfiguration


@dataclass(frozen=True)
class Prepare:
    """Load model and images and plan the budget for this session, then call `prepared`."""

    configuration: SessionConfiguration


@dataclass(frozen=True)
class MakeGroup:
    """Make the session's group secret, then call `group_made`."""

    configuration: SessionConfiguration


@dataclass(frozen=True)
class OpenGroup:
    """Open our part of the group secret, put its commitment on record, then call `group_opened`."""

    configuration: SessionConfiguration
    payload: bytes


@dataclass(frozen=True)
class CheckPolicy:
    """Go on only if the policy as it stands now allows this attempt at a round; else decline it."""

    context: RoundContext


@dataclass(frozen=True)
class Join:
    """Record durably that this round is joined."""

    context: RoundContext


@dataclass(frozen=True, repr=False)
class Train:
    """Reserve the budget, train from these parameters, then call `trained` or `declined`."""

    round_number: int
    parameters: Vector
    domain_key: Vector


@dataclass(frozen=True)
class RecordRelease:
    """Record durably that the update leaves now; ``saturated`` values of it were clipped."""

    context: RoundContext
    saturated: int


@dataclass(frozen=True)
class RecordOpening:
    """Record durably that shares of an execution are revealed now."""

    opening: Opening


@dataclass(frozen=True, repr=False)
class Adopt:
    """Make a new model durable, and with it the record that makes it count.

    Attributes:
        kept: The model. stated: What is stated about its sum; ``None`` where others' word was taken for it.
    """

    kept: KeptModel
    stated: m.SumVerified | None


@dataclass(frozen=True)
class Quit:
    """The session cannot go on for this institution: end with this error."""

    error: FedaptError


@dataclass(frozen=True)
class RoundOver:
    """A round that we were in has ended; for the log.

    Attributes:
        end: What the coordinator says. record: How it ended here.
    """

    end: m.RoundEnd
    record: RoundRecord


@dataclass(frozen=True, repr=False)
class Conclude:
    """Evaluate and store the finished model with all domain keys, then call `concluded`."""

    model: Vector
    model_hash: bytes
    domain_keys: tuple[Vector, ...]


@dataclass(frozen=True)
class Unfinished:
    """The session ended without a completed round: note it, store nothing, then call `concluded`.

    Attributes:
        model_hash: What stands for the first model, which nobody has trained.
        attempts: How many attempts at rounds there were.
    """

    model_hash: bytes
    attempts: int


@dataclass(frozen=True)
class Refused:
    """Something did not hold; for the log. The session goes on unless the state says otherwise."""

    error: FedaptError
    round_number: int


Action = (
    Send
    | Log
    | TakeHead
    | CheckLog
    | Waiting
    | Rehearse
    | Superseded
    | Approve
    | Prepare
    | MakeGroup
    | OpenGroup
    | Quit
    | CheckPolicy
    | Join
    | Train
    | RecordRelease
    | RecordOpening
    | Adopt
    | RoundOver
    | Conclude
    | Unfinished
    | Refused
)

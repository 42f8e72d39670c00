"""What the auditor reads in the bodies of log lines, as strict models: one for each type that matters.

A body that does not fit is a fault of the log: the writer of this version never makes one. Fields that a
newer writer may add are ignored; they are covered by the line's signature all the same.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.encoding import PartyName
from fedapt_crypto.secagg.cohorts import EVERYBODY, Participation
from fedapt_secure.privacy.unit import PrivacyUnit, UnitRule

Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Session = Annotated[str, Field(pattern=r"^[0-9a-f]{2,64}$")]
Text = Annotated[str, Field(max_length=4096)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Order = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Tag = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
Names = Annotated[list[PartyName], Field(max_length=4096)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)


class Policy(Body):
    """What the institution allows from here on."""

    hash: Hex32
    max_epsilon: Positive | None
    max_delta: Probability | None
    composition: Literal["sum", "rdp-filter"]
    rdp_order: Order | None
    named: list[Text] = []
    """Which entries of the rule hold for every data set; others are those of new ones. Not in older logs."""
    session_epsilon: Positive | None = None
    session_delta: Probability | None = None
    """The largest share of one session; not in logs of before there was one."""
    require_differential_privacy: bool
    aggregation: list[Text]
    minimum_participants: Count
    minimum_institutions_per_key: Count = 1
    minimum_records: Count = 0
    minimum_persons: Count = 0
    """These three are not in logs of before there were such rules."""
    coordinators: list[Text] = []
    """Fingerprints; empty for the coordinator that the institution enrolled with, as in older logs."""
    privacy_unit: UnitRule = "any"
    """Not in logs of before there was a choice."""


class SpentBefore(Body):
    """What the ledger held against the data set when the plan was made; no ε where nothing bounds it.

    ``rdp``: the sessions' planned Rényi divergence at the plan's order; not in older logs, nor under the sum.
    """

    epsilon: NotNegative | None
    rdp: NotNegative | None = None
    delta: NotNegative
    sessions: Count


class Plan(Body):
    """The privacy plan of a session."""

    dataset: Hex16
    overlaps: list[Hex16]
    unit: PrivacyUnit
    declared_records: Annotated[int, Field(ge=1)]
    mechanism: Text | None = None
    accountant: Text | None = None
    noise: Text
    noise_multiplier: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    max_steps: Annotated[int, Field(ge=1, lt=1 << 53)]
    delta: Probability
    epsilon_budget: Positive
    epsilon_planned: NotNegative
    composition: Literal["sum", "rdp-filter"] | None = None
    """The data set's rule; in older logs it stands in the policy alone."""
    rdp_order: Order | None = None
    spent_before: SpentBefore
    warning: Text | None = None


class SessionAccepted(Body):
    """An institution agrees to a session."""

    session: Session
    configuration: Hex32
    roster: Hex32
    secure_aggregation: Text
    participation: Participation = EVERYBODY
    """Not in logs of before there was a choice."""
    supervision: Text | None = None
    privacy: Plan | None
    key_commitments: list[Hex32] = []
    plan: dict[str, Any] | None = None
    """As it was offered. Not in logs of before institutions noted it; then the coordinator's has it."""


class SessionStarted(Body):
    """The coordinator begins a session."""

    session: Session
    configuration: Hex32
    roster: Hex32
    institutions: Names
    threshold: Count | None = None
    rounds: Count
    secure_aggregation: Text
    participation: Participation = EVERYBODY
    differential_privacy: bool
    key_commitments: list[Hex32] = []
    plan: dict[str, Any] | None = None
    """As institutions were offered it; whether it is that one, the configuration's hash says."""


class RoundStarted(Body):
    """The coordinator begins an attempt at a round."""

    session: Session
    round: Count
    attempt: Count
    participants: Names
    context: Hex32
    model: Hex32 | None = None
    phase: Text | None = None


class RoundJoined(Body):
    """An institution joins an attempt at a round."""

    session: Session
    round: Count
    attempt: Count
    context: Hex32
    model: Hex32 | None = None


class Released(Body):
    """An institution is about to let its protected update go."""

    session: Session
    round: Count
    attempt: Count
    context: Hex32


class RoundEnded(Body):
    """How an attempt ended, in the eyes of the log's owner."""

    session: Session
    round: Count
    attempt: Count
    status: Text
    contributors: Names
    context: Hex32 | None
    transcript: Hex32 | None
    model: Hex32 | None = None
    """After the round; in the coordinator's log only."""
    participants: Names | None = None
    dropped: Names | None = None


class Spend(Body):
    """Steps reserved for a round."""

    session: Session
    round: Count
    dataset: Hex16
    steps: Count
    total_steps: Count
    noise_multiplier: Positive
    sample_rate: Annotated[float, Field(gt=0, le=1)]
    delta: Probability
    epsilon: NotNegative


class Refused(Body):
    """Something that was turned down, and by which rule."""

    session: Session | None = None
    round: Count = 0
    name: PartyName | None = None
    """Whose message it was, in the coordinator's log."""
    rule: Text | None = None
    code: Text | None = None
    """What others may know of it; not in logs of before there were codes."""
    error: Text
    detail: Text


class VerifiedSum(Body):
    """An institution has verified a round's sum and moved its model by it; it has signed all of this."""

    session: Session
    round: Count
    attempt: Count
    transcript: Hex32
    contributors: Names
    sum: Hex32
    tag: Tag
    model_before: Hex32
    model: Hex32
    signature: Hex64


class CaughtUp(Body):
    """An institution that was away has taken the newest model from those who state it alike."""

    session: Session
    round: Count
    model: Hex32
    stated_by: Names


class Unresolved(Body):
    """An institution revealed shares for a set of contributors, and the round ended without a sum."""

    session: Session
    round: Count
    attempt: Count
    transcript: Hex32
    survivors: Names
    model: Hex32


class SumRefused(Body):
    """The coordinator was told by an institution that a sum does not hold."""

    name: PartyName
    round: Count
    attempt: Count
    detail: Text


class GroupSecret(Body):
    """What stands for the secret that a session's institutions share."""

    session: Session
    commitment: Hex32
    made_by: PartyName | None = None
    """In the coordinator's log only."""


class AboutSession(Body):
    """Something about a session: its secret was drawn here, or it ended without the record that closes it."""

    session: Session


class SessionEnded(Body):
    """A session is over: for an institution with a model, for the coordinator with those who signed."""

    session: Session
    model: Text | None = None
    bundle: Hex32 | None = None
    completed_rounds: Count | None = None
    rounds: Count | None = None
    done: Names | None = None


class SessionResumed(Body):
    """The coordinator goes on with a session after a restart."""

    session: Session
    configuration: Hex32
    round: Count
    attempt: Count
    interrupted: bool
    model: Hex32


class Named(Body):
    """Something about one institution, in the coordinator's log; or about itself, in an institution's."""

    name: PartyName | None = None
    reason: Text | None = None
    round: Count | None = None
    final: bool | None = None
    bundle: Hex32 | None = None


class NamedSome(Body):
    """Something about several institutions."""

    names: Names
    round: Count | None = None


class InPhase(Body):
    """A round goes on to its next phase."""

    phase: Text
    round: Count


class Closing(Body):
    """What the institutions are asked to sign the end of."""

    completed_rounds: Count
    model: Hex32


class AnswerTime(Body):
    """How long after its round's start every update leaves."""

    session: Session
    round: Count
    seconds: NotNegative


class Rehearsal(Body):
    """What institutions answered to a rehearsal; or an institution's own answer."""

    configuration: Hex32
    answers: dict[PartyName, Text] | None = None
    reason: Text | None = None


class Certificate(Body):
    """The certificate with which a party shows itself to others."""

    name: Text
    fingerprint: Text
    not_before: Text
    not_after: Text


MODELS: Final[Mapping[str, type[Body]]] = {
    "policy": Policy,
    "session_accepted": SessionAccepted,
    "session_started": SessionStarted,
    "round_started": RoundStarted,
    "round_joined": RoundJoined,
    "released": Released,
    "round_ended": RoundEnded,
    "spend": Spend,
    "refused": Refused,
    "verified_sum": VerifiedSum,
    "caught_up": CaughtUp,
    "unresolved": Unresolved,
    "sum_refused": SumRefused,
    "group": GroupSecret,
    "group_made": AboutSession,
    "not_closed": AboutSession,
    "session_ended": SessionEnded,
    "session_resumed": SessionResumed,
    "connected": Named,
    "disconnected": Named,
    "ready": Named,
    "declined": Named,
    "left": Named,
    "done": Named,
    "late": NamedSome,
    "not_waiting_for": NamedSome,
    "waiting_for_return": NamedSome,
    "phase": InPhase,
    "closing": Closing,
    "answer_time": AnswerTime,
    "rehearsal": Rehearsal,
    "rehearsed": Rehearsal,
    "certificate": Certificate,
}
"""Line type to the body that the auditor reads, beside heads, close records and lines that open a segment."""


def policy_hash(body: Mapping[str, Any]) -> str:
    """Return the hash of a ``policy`` line's content, as `config.policy.Policy.hash` makes it."""
    content = {key: value for key, value in body.items() if key not in ("hash", "source")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_body(type: str, body: Mapping[str, Any]) -> Body:
    """Return the body of a line of one of the types in `MODELS`.

    Raises:
        ValueError: If the body is not one that a writer of this version makes; says which field.
    """
    try:
        return MODELS[type].model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise ValueError(f"{where}: {first['msg']}") from None

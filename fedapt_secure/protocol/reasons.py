"""Why an institution does not take part: a closed list, the only thing that leaves it where something fails.

The sentence that its own people need may hold a path, a class, a row of a manifest, a figure of its policy.
It stays in the institution's terminal and log. To the coordinator goes one of these codes, without figures;
the coordinator's log and screen say what it stands for and whom to call.
"""

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from fedapt_crypto.errors import (
    BudgetExhausted,
    FedaptError,
    PeerError,
    PolicyRefused,
    ReplayedExecution,
    RollbackDetected,
    RolledBackLog,
    TooFewParticipants,
)


class Reason(StrEnum):
    """One reason. What each means to the coordinator's operator is in `MEANINGS`."""

    NOT_APPROVED = "not_approved"
    ROSTER_DIFFERS = "roster_differs"
    POLICY_INVALID = "policy_invalid"
    POLICY_COORDINATOR = "policy_coordinator"
    POLICY_PRIVACY = "policy_privacy"
    POLICY_UNIT = "policy_unit"
    POLICY_AGGREGATION = "policy_aggregation"
    POLICY_PARTICIPANTS = "policy_participants"
    POLICY_KEY = "policy_key"
    POLICY_RECORDS = "policy_records"
    POLICY_MESSAGE_SIZE = "policy_message_size"
    POLICY_EPSILON = "policy_epsilon"
    POLICY_DELTA = "policy_delta"
    POLICY_COMPOSITION = "policy_composition"
    BUDGET_SPENT = "budget_spent"
    CLASSES_DIFFER = "classes_differ"
    DATA_UNREADABLE = "data_unreadable"
    DATA_CHANGED = "data_changed"
    MANIFEST_INVALID = "manifest_invalid"
    TOO_FEW_RECORDS = "too_few_records"
    MODEL_MISSING = "model_missing"
    MODEL_DIFFERS = "model_differs"
    PLAN_IMPOSSIBLE = "plan_impossible"
    DEVICE_UNUSABLE = "device_unusable"
    NO_SPACE = "no_space"
    DISK_ERROR = "disk_error"
    NO_MEMORY = "no_memory"
    LEDGER_DIFFERS = "ledger_differs"
    OWN_LOG_BEHIND = "own_log_behind"
    YOUR_LOG_BEHIND = "your_log_behind"
    ALREADY_RELEASED = "already_released"
    MODEL_UNUSABLE = "model_unusable"
    TRAINING_DIVERGED = "training_diverged"
    OTHER_START = "other_start"
    MESSAGE_REFUSED = "message_refused"
    OTHER = "other"


ReasonCode = Annotated[str, Field(pattern="^(" + "|".join(Reason) + ")$")]
"""A `Reason` in a message; a message with anything else does not decode."""


@dataclass(frozen=True)
class Meaning:
    """What a reason says to the coordinator's operator.

    Attributes:
        said: What is the matter, as the end of a sentence about the institution.
        call: What to do, and whom to call.
    """

    said: str
    call: str


_THEM = "call its operator; the sentence is in the institution's own log"
_DPO = "call its data-protection officer: the policy is theirs to change"

MEANINGS: Final[Mapping[Reason, Meaning]] = {
    Reason.NOT_APPROVED: Meaning("its people have not agreed to the session", "call its people"),
    Reason.ROSTER_DIFFERS: Meaning(
        "has another roster approved than the session's",
        "ask it to run 'fedapt-secure client roster show' and to approve the present one",
    ),
    Reason.POLICY_INVALID: Meaning("its policy file cannot be used", _THEM),
    Reason.POLICY_COORDINATOR: Meaning("its policy does not allow this coordinator", _DPO),
    Reason.POLICY_PRIVACY: Meaning("its policy wants differential privacy", _DPO),
    Reason.POLICY_UNIT: Meaning("its policy wants privacy counted in another unit", _DPO),
    Reason.POLICY_AGGREGATION: Meaning("its policy does not allow the session's aggregation", _DPO),
    Reason.POLICY_PARTICIPANTS: Meaning("its policy wants more participants in a round", _DPO),
    Reason.POLICY_KEY: Meaning(
        "its policy wants more institutions on its domain key",
        "have domains share keys ('keys' in session.yaml), invite more institutions of its domain, or call"
        " its data-protection officer",
    ),
    Reason.POLICY_RECORDS: Meaning(
        "has fewer training images, or fewer persons, than its policy asks for",
        "leave it out until it has more, or call its data-protection officer: the policy is theirs to change",
    ),
    Reason.POLICY_MESSAGE_SIZE: Meaning("its policy does not take messages of this size", _DPO),
    Reason.POLICY_EPSILON: Meaning("its policy does not allow the session's epsilon on its images", _DPO),
    Reason.POLICY_DELTA: Meaning("its policy does not allow the session's delta on its images", _DPO),
    Reason.POLICY_COMPOSITION: Meaning("its policy adds sessions up by another rule than before", _DPO),
    Reason.BUDGET_SPENT: Meaning("its budget for the session is spent", "nothing: it takes the model"),
    Reason.CLASSES_DIFFER: Meaning(
        "its images have other classes than the session", "compare the class names with its operator"
    ),
    Reason.DATA_UNREADABLE: Meaning("its images cannot be read", _THEM),
    Reason.DATA_CHANGED: Meaning("its images are not those with which it began the session", _THEM),
    Reason.MANIFEST_INVALID: Meaning("its list of images cannot be used", _THEM),
    Reason.TOO_FEW_RECORDS: Meaning("it has too few images for the session's plan", _THEM),
    Reason.MODEL_MISSING: Meaning("the session's CLIP model is not there", _THEM),
    Reason.MODEL_DIFFERS: Meaning(
        "its CLIP model is not the session's", "compare the SHA-256 of the weights with its operator"
    ),
    Reason.PLAN_IMPOSSIBLE: Meaning(
        "the session's plan cannot be trained", "change session.yaml; its operator can read out why"
    ),
    Reason.DEVICE_UNUSABLE: Meaning("its GPU or processor cannot be used", _THEM),
    Reason.NO_SPACE: Meaning("its disk is full", "call its operator; it comes back once there is space"),
    Reason.DISK_ERROR: Meaning("its disk does not work", "call its operator; it comes back once it does"),
    Reason.NO_MEMORY: Meaning("its memory does not suffice", _THEM),
    Reason.LEDGER_DIFFERS: Meaning("its ledger does not go with the session", _THEM),
    Reason.OWN_LOG_BEHIND: Meaning("its log lacks lines that others hold", _THEM),
    Reason.YOUR_LOG_BEHIND: Meaning(
        "holds lines that this coordinator's log lacks", "put the right log of the coordinator back"
    ),
    Reason.ALREADY_RELEASED: Meaning(
        "its update of the round has left in an earlier attempt", "nothing: it is in the next round"
    ),
    Reason.OTHER_START: Meaning(
        "its model of the session is not the one that the round starts from",
        "nothing: it is given the newest one before its next round; if it goes on, call its operator",
    ),
    Reason.MODEL_UNUSABLE: Meaning("the round's model has values that cannot be used", "look at your log"),
    Reason.TRAINING_DIVERGED: Meaning(
        "its training gave values that are no numbers",
        "nothing for once; where it goes on, lower the learning rate in session.yaml",
    ),
    Reason.MESSAGE_REFUSED: Meaning("something that it was sent does not hold", _THEM),
    Reason.OTHER: Meaning("something else is the matter", _THEM),
}

_RULES: Final[Mapping[str, Reason]] = {
    "coordinators": Reason.POLICY_COORDINATOR,
    "require_differential_privacy": Reason.POLICY_PRIVACY,
    "privacy_unit": Reason.POLICY_UNIT,
    "aggregation": Reason.POLICY_AGGREGATION,
    "minimum_participants": Reason.POLICY_PARTICIPANTS,
    "minimum_institutions_per_key": Reason.POLICY_KEY,
    "minimum_records": Reason.POLICY_RECORDS,
    "minimum_persons": Reason.POLICY_RECORDS,
    "max_message_bytes": Reason.POLICY_MESSAGE_SIZE,
    "max_epsilon": Reason.POLICY_EPSILON,
    "session_epsilon": Reason.POLICY_EPSILON,
    "max_delta": Reason.POLICY_DELTA,
    "session_delta": Reason.POLICY_DELTA,
    "composition": Reason.POLICY_COMPOSITION,
}
"""Entries of the policy, and the code for what breaks one."""
_TYPES: Final[tuple[tuple[type[Exception], Reason], ...]] = (
    (BudgetExhausted, Reason.BUDGET_SPENT),
    (RollbackDetected, Reason.OWN_LOG_BEHIND),
    (RolledBackLog, Reason.YOUR_LOG_BEHIND),
    (ReplayedExecution, Reason.ALREADY_RELEASED),
    (TooFewParticipants, Reason.POLICY_PARTICIPANTS),
    (PeerError, Reason.MESSAGE_REFUSED),
    (MemoryError, Reason.NO_MEMORY),
)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def reason_of(error: BaseException, otherwise: Reason = Reason.OTHER) -> Reason:
    """Return the code of an error; ``otherwise`` where nothing is known of it.

    Args:
        error: What went wrong here. Nothing of its text is in the answer.
        otherwise: What kind of thing was being done.
    """
    if isinstance(error, FedaptError) and error.code is not None:
        return Reason(error.code)
    if isinstance(error, PolicyRefused):
        return _RULES.get(error.rule, Reason.OTHER)
    for kind, reason in _TYPES:
        if isinstance(error, kind):
            return reason
    if isinstance(error, OSError):
        return Reason.NO_SPACE if error.errno in _FULL else Reason.DISK_ERROR
    if isinstance(error, sqlite3.OperationalError):
        return Reason.NO_SPACE if error.sqlite_errorcode == sqlite3.SQLITE_FULL else Reason.DISK_ERROR
    return otherwise


@contextmanager
def told_as(reason: Reason) -> Iterator[None]:
    """Let an error of ours that has no code yet pass with this one."""
    try:
        yield
    except FedaptError as error:
        if error.code is None and reason_of(error) is Reason.OTHER:
            error.code = reason.value
        raise


def meaning_of(code: str) -> Meaning:
    """Return what a code in a message or log line stands for."""
    return MEANINGS[Reason(code)]


class NoModelReason(StrEnum):
    """Why the coordinator gives no finished model."""

    NO_SUCH_SESSION = "no_such_session"
    NO_ROUND_COMPLETED = "no_round_completed"
    NOT_OF_THE_ROSTER = "not_of_the_roster"
    NEVER_KNOWN = "never_known"


NoModelCode = Annotated[str, Field(pattern="^(" + "|".join(NoModelReason) + ")$")]
"""A `NoModelReason` in a message."""

NO_MODEL: Final[Mapping[NoModelReason, str]] = {
    NoModelReason.NO_SUCH_SESSION: "there is no such session that has ended",
    NoModelReason.NO_ROUND_COMPLETED: "the session ended without a completed round, so it has no model",
    NoModelReason.NOT_OF_THE_ROSTER: "only institutions on that session's roster get its model",
    NoModelReason.NEVER_KNOWN: "the coordinator never knew this model: ask another institution for it",
}

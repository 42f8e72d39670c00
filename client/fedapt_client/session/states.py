"""Where an institution stands in its session, and what it does with each message of the coordinator there.

The table is what `InstitutionSession.receive` goes by, what docs/sessions.md shows and what tests go through
cell by cell. What is not in it is out of turn: refused, logged, and nothing has changed.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class State(Enum):
    """Where the institution stands."""

    DISCONNECTED = auto()
    """No connection; a round that was under way is lost with its secrets."""
    WAITING_FOR_OFFER = auto()
    """It has said hello."""
    PREPARING = auto()
    """It asks its people, reads images and model, and plans its budget."""
    JOINING = auto()
    """It has accepted and waits for the group secret."""
    READY = auto()
    """It waits for a round to begin, or for the session to end."""
    TRAINING = auto()
    """It is in a round and makes its update."""
    AGGREGATING = auto()
    """Its update is in the aggregation scheme."""
    CONCLUDING = auto()
    """It stores and evaluates the finished model."""
    CLOSING = auto()
    """It has signed the session's record and waits for everybody's signatures."""
    OUT = auto()
    """It has refused the session that is open, and may come back to it: it greets the coordinator again."""
    ENDED = auto()
    """The session is over, with its record or without."""


class Answer(Enum):
    """What a machine does with a message."""

    TAKEN = "taken"
    IGNORED = "ignored"
    """Sent to everybody who is connected; it does not concern this party now."""
    REFUSED = "refused"


_WHILE_CONNECTED: Final = {"held head": Answer.TAKEN}
_IN_SESSION: Final = _WHILE_CONNECTED | {"round end": Answer.TAKEN}
_IN_ROUND: Final = _IN_SESSION | {"aggregation": Answer.TAKEN}

TABLE: Final[Mapping[State, Mapping[str, Answer]]] = {
    State.DISCONNECTED: {},
    State.WAITING_FOR_OFFER: _WHILE_CONNECTED
    | {"session offer": Answer.TAKEN, "standby": Answer.TAKEN, "rehearse": Answer.TAKEN},
    State.PREPARING: _IN_SESSION,
    State.JOINING: _IN_SESSION
    | {
        "sealed key": Answer.TAKEN,
        "group request": Answer.TAKEN,
        "group part": Answer.TAKEN,
        "session closed": Answer.TAKEN,
    },
    State.READY: _IN_SESSION
    | {
        "sealed key": Answer.TAKEN,
        "catch up": Answer.TAKEN,
        "missed sum": Answer.TAKEN,
        "round start": Answer.TAKEN,
        "session end": Answer.TAKEN,
        "session closed": Answer.TAKEN,
    },
    State.TRAINING: _IN_SESSION,
    State.AGGREGATING: _IN_ROUND,
    State.CONCLUDING: _IN_SESSION,
    State.CLOSING: _IN_SESSION | {"session closed": Answer.TAKEN},
    State.OUT: _WHILE_CONNECTED
    | dict.fromkeys(
        (
            "session offer",
            "standby",
            "rehearse",
            "sealed key",
            "group request",
            "group part",
            "catch up",
            "missed sum",
            "round start",
            "aggregation",
            "round end",
            "session end",
            "session closed",
        ),
        Answer.IGNORED,
    ),
    State.ENDED: {},
}


def answer_to(state: State, kind: str) -> Answer:
    """Return what an institution in a state does with a message of a kind."""
    return TABLE[state].get(kind, Answer.REFUSED)

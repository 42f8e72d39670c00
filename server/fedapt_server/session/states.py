"""Where a session stands at the coordinator, what each institution is doing, and what may come when.

The table is what `CoordinatorSession.receive` goes by, what docs/sessions.md shows and what tests go through
cell by cell. What is not in it is out of turn: refused, logged, and nothing has changed.
"""

from collections.abc import Mapping
from enum import Enum, auto
from itertools import product
from typing import Final

from fedapt_crypto.errors import UnexpectedMessage


class State(Enum):
    """Where the session stands."""

    GATHERING = auto()
    """Between rounds: waits for institutions."""
    ROUND = auto()
    CLOSING = auto()
    """No round follows; institutions store the model and sign how the session went."""
    ENDED = auto()
    """The record is closed; who was away still gets it, and the model where there is one."""


class Presence(Enum):
    """What an institution is doing."""

    ABSENT = auto()
    """No connection; it is waited for."""
    CONNECTED = auto()
    """It was offered the session and has not answered: it asks its people, reads, encodes."""
    JOINING = auto()
    """It has accepted and waits for the group secret."""
    READY = auto()
    RESTING = auto()
    """It takes no part in rounds any more (its budget is spent), and takes the model in the end."""
    OUT = auto()
    """It has refused, with or without a connection by now. It is not waited for, and may come back."""

    @property
    def there(self) -> bool:
        """Whether it is connected and has not refused."""
        return self in (Presence.CONNECTED, Presence.JOINING, Presence.READY, Presence.RESTING)


class Answer(Enum):
    """What the coordinator does with a message."""

    TAKEN = "taken"
    IGNORED = "ignored"
    """It was on its way when what it is about came to an end."""
    REFUSED = "refused"


_ANY_STATE: Final = tuple(State)
_IN_SESSION: Final = (Presence.JOINING, Presence.READY, Presence.RESTING)

_RULES: Final[tuple[tuple[str, tuple[State, ...], tuple[Presence, ...], Answer], ...]] = (
    ("activity", _ANY_STATE, (Presence.CONNECTED, Presence.OUT), Answer.TAKEN),
    ("activity", _ANY_STATE, _IN_SESSION, Answer.IGNORED),
    ("session accept", _ANY_STATE, (Presence.CONNECTED,), Answer.TAKEN),
    ("session refuse", _ANY_STATE, (Presence.CONNECTED, *_IN_SESSION), Answer.TAKEN),
    ("session refuse", _ANY_STATE, (Presence.OUT,), Answer.IGNORED),
    ("group offer", _ANY_STATE, _IN_SESSION, Answer.TAKEN),
    ("group ready", _ANY_STATE, (Presence.JOINING,), Answer.TAKEN),
    ("group offer", _ANY_STATE, (Presence.OUT,), Answer.IGNORED),
    ("group ready", _ANY_STATE, (Presence.OUT,), Answer.IGNORED),
    ("round decline", (State.ROUND,), (Presence.READY, Presence.RESTING), Answer.TAKEN),
    (
        "round decline",
        (State.GATHERING, State.CLOSING, State.ENDED),
        (Presence.READY, Presence.RESTING),
        Answer.IGNORED,
    ),
    ("aggregation", (State.ROUND,), (Presence.READY,), Answer.TAKEN),
    ("sum verified", _ANY_STATE, _IN_SESSION, Answer.TAKEN),
    ("sum verified", _ANY_STATE, (Presence.OUT,), Answer.IGNORED),
    ("done", (State.CLOSING, State.ENDED), (Presence.READY, Presence.RESTING), Answer.TAKEN),
)

TABLE: Final[Mapping[tuple[State, Presence], Mapping[str, Answer]]] = {
    place: {
        kind: answer
        for kind, states, presences, answer in _RULES
        if place[0] in states and place[1] in presences
    }
    for place in product(State, Presence)
}


def is_due(state: State, presence: Presence, kind: str, sender: str) -> bool:
    """Return whether a message is to be taken, or else ignored.

    Args:
        state: Where the session stands.
        presence: What the sender is doing.
        kind: The message's kind.
        sender: Whom to name.

    Raises:
        UnexpectedMessage: Out of turn.
    """
    answer = answer_to(state, presence, kind)
    if answer is Answer.REFUSED:
        raise UnexpectedMessage(f"sent {kind!r} out of turn", peer=sender)
    return answer is Answer.TAKEN


def answer_to(state: State, presence: Presence, kind: str) -> Answer:
    """Return what the coordinator does with a message of a kind from an institution."""
    return TABLE[state, presence].get(kind, Answer.REFUSED)

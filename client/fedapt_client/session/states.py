"""Where an institution stands in its session."""

from enum import Enum, auto


class State(Enum):
    """Where the institution stands."""

    DISCONNECTED = auto()
    WAITING_FOR_OFFER = auto()
    PREPARING = auto()
    JOINING = auto()
    READY = auto()
    TRAINING = auto()
    AGGREGATING = auto()
    CONCLUDING = auto()
    CLOSING = auto()
    ENDED = auto()

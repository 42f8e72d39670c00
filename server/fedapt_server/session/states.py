"""Where a session stands at the coordinator, and what each institution is doing."""

from enum import Enum, auto


class State(Enum):
    """Where the session stands."""

    GATHERING = auto()
    ROUND = auto()
    CLOSING = auto()
    ENDED = auto()


class Presence(Enum):
    """What an institution is doing."""

    ABSENT = auto()
    CONNECTED = auto()
    JOINING = auto()
    READY = auto()
    LEFT = auto()

    @property
    def there(self) -> bool:
        """Whether it is connected and takes part."""
        return self in (Presence.CONNECTED, Presence.JOINING, Presence.READY)

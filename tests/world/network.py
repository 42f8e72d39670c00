"""Connections in memory: frames stay in order within one, and one that is cut loses what is on its way."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["up", "down"]
"""Up is to the coordinator."""


@dataclass(eq=False)
class Connection:
    """One connection of one institution.

    Attributes:
        name: The institution.
        queues: Frames on their way. delivered: Those that have arrived, oldest first.
        broken: Nothing passes any more; an end may not have noticed yet.
        open: Which ends still believe in it.
        held_until: Nothing arrives before that time.
        greeted: Whether the coordinator has read the greeting.
    """

    name: str
    queues: dict[Way, deque[bytes]] = field(default_factory=lambda: {"up": deque(), "down": deque()})
    delivered: dict[Way, list[bytes]] = field(default_factory=lambda: {"up": [], "down": []})
    broken: bool = False
    open: dict[Way, bool] = field(default_factory=lambda: {"up": True, "down": True})
    held_until: float = 0.0
    greeted: bool = False

    def put(self, way: Way, frame: bytes) -> None:
        """Send a frame; on a broken connection it goes nowhere, as with TCP before the end notices."""
        if not self.broken:
            self.queues[way].append(frame)

    def take(self, way: Way) -> bytes:
        frame = self.queues[way].popleft()
        self.delivered[way].append(frame)
        return frame

    def repeat(self, way: Way, which: int) -> bool:
        """Put a frame that has arrived before at the front; returns whether there is one."""
        seen = self.delivered[way]
        if self.broken or not seen:
            return False
        self.queues[way].appendleft(seen[which % len(seen)])
        return True

    def cut(self) -> None:
        self.broken = True
        for queue in self.queues.values():
            queue.clear()

    def ready(self, way: Way, now: float) -> bool:
        """Whether a frame can arrive now."""
        # The receiving end of the way down is the institution's, whose own end is called "up".
        receiver: Way = "up" if way == "down" else "down"
        return bool(self.queues[way]) and self.open[receiver] and not self.broken and self.held_until <= now

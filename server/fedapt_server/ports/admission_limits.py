"""How often one address or one name may knock at a port: fixed memory, whatever comes."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 60.0
MAX_PER_WINDOW: Final = 30
"""Connections from one address in a minute: an institution needs two, also behind a shared address."""
MAX_OPEN_PER_ADDRESS: Final = 8
MAX_OPEN: Final = 64
MAX_ADDRESSES: Final = 4096
"""So many are remembered; beyond it the one that was quiet longest is forgotten."""


@dataclass
class Arrivals:
    """Counts arrivals by key (an address, a name) over the last minute; the caller says what time it is."""

    per_window: int = MAX_PER_WINDOW
    _recent: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def admit(self, key: str, now: float) -> bool:
        """Count one more and return True, or return False: it comes too often."""
        recent = self._recent.setdefault(key, deque(maxlen=self.per_window))
        self._recent.move_to_end(key)
        while len(self._recent) > MAX_ADDRESSES:
            self._recent.popitem(last=False)
        while recent and recent[0] <= now - WINDOW_S:
            recent.popleft()
        if len(recent) >= self.per_window:
            return False
        recent.append(now)
        return True


@dataclass
class AdmissionLimits:
    """Counts connections; the caller says what time it is."""

    _arrivals: Arrivals = field(default_factory=Arrivals)
    _open: dict[str, int] = field(default_factory=dict)

    def enter(self, address: str, now: float) -> str | None:
        """Let a connection in, or return why not; who was let in must `leave`."""
        if not self._arrivals.admit(address, now):
            return "too many connections from this address: wait a minute"
        if self._open.get(address, 0) >= MAX_OPEN_PER_ADDRESS or sum(self._open.values()) >= MAX_OPEN:
            return "too many connections at once: try again in a moment"
        self._open[address] = self._open.get(address, 0) + 1
        return None

    def leave(self, address: str) -> None:
        """A connection that was let in is closed."""
        left = self._open[address] - 1
        if left:
            self._open[address] = left
        else:
            del self._open[address]

"""How often one address may knock at the enrolment port: fixed memory, whatever comes."""

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
class AdmissionLimits:
    """Counts connections; the caller says what time it is."""

    _recent: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)
    _open: dict[str, int] = field(default_factory=dict)

    def enter(self, address: str, now: float) -> str | None:
        """Let a connection in, or return why not; who was let in must `leave`."""
        recent = self._recent.setdefault(address, deque(maxlen=MAX_PER_WINDOW))
        self._recent.move_to_end(address)
        while len(self._recent) > MAX_ADDRESSES:
            self._recent.popitem(last=False)
        while recent and recent[0] <= now - WINDOW_S:
            recent.popleft()
        if len(recent) >= MAX_PER_WINDOW:
            return "too many connections from this address: wait a minute"
        recent.append(now)
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

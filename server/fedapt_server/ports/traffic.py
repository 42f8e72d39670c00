"""What one connection may do to us, counted: without I/O, the caller says what time it is."""

from dataclasses import dataclass, field
from typing import Final

from fedapt_secure.config.ranges import SLOWEST_KBIT_S

MAX_FRAMES_PER_S: Final = 20.0
MAX_FRAMES_AT_ONCE: Final = 200
"""A round takes about six messages of an institution, whatever the number of its neighbours."""
MAX_REFUSED_PER_S: Final = 0.1
MAX_REFUSED_AT_ONCE: Final = 20
"""Messages that do not hold: each is a line in the log."""
PATIENCE_S: Final = 10.0
MIN_BYTES_PER_S: Final = SLOWEST_KBIT_S * 1000 / 8
"""What a message must come in with once `PATIENCE_S` is over. No session plans with slower lines."""
STILL_S: Final = 60.0
"""How long a message that is under way may stand still, however fast it came before."""


@dataclass
class TokenBucket:
    """Allows a rate over time and a burst at once."""

    per_s: float
    burst: float
    _level: float = field(init=False)
    _at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._level = self.burst

    def take(self, now: float) -> bool:
        """Take one token and return True, or return False where there is none."""
        if self._at is not None:
            self._level = min(self.burst, self._level + (now - self._at) * self.per_s)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass
class Traffic:
    """What comes in on one connection.

    A message counts as begun with the first bytes after the last whole one. Frames of control between
    messages come and go; within a message nothing but its end ends it, so that no drip, of bytes or of
    fragments, lasts.
    """

    _frames: TokenBucket = field(default_factory=lambda: TokenBucket(MAX_FRAMES_PER_S, MAX_FRAMES_AT_ONCE))
    _refused: TokenBucket = field(default_factory=lambda: TokenBucket(MAX_REFUSED_PER_S, MAX_REFUSED_AT_ONCE))
    _begun: float | None = None
    _latest: float = 0.0
    _bytes: int = 0
    _fragments: bool = False

    def received(self, size: int, now: float) -> None:
        """Bytes have come; called before the frames in them are."""
        if self._begun is None:
            self._begun, self._bytes = now, 0
        self._latest = now
        self._bytes += size

    def frame(self, now: float, *, data: bool, final: bool) -> bool:
        """A whole frame has come; return False where these are too many.

        Args:
            now: Monotonic time in seconds.
            data: Whether it carries data, and is no control frame.
            final: Whether a message ends with it.
        """
        if data:
            self._fragments = not final
        if not self._fragments:
            self._begun = None
        return self._frames.take(now)

    def refused(self, now: float) -> bool:
        """A message did not hold; return False where these are too many."""
        return self._refused.take(now)

    def stalled(self, now: float) -> None:
        """It is us who do not read at this moment: a message that is under way is not held against it."""
        if self._begun is not None:
            self._begun, self._bytes, self._latest = now, 0, now

    def too_slow(self, now: float) -> bool:
        """Return whether a message that is under way takes too long."""
        if self._begun is None:
            return False
        elapsed = now - self._begun
        too_little = elapsed > PATIENCE_S and self._bytes < elapsed * MIN_BYTES_PER_S
        # No limit on the whole: the largest message that is taken has its time by this.
        return too_little or now - self._latest > STILL_S


@dataclass
class UnsentBytes:
    """How much waits to be sent to one peer: bounded, so that one who does not read costs no more."""

    limit: int
    waiting: int = 0

    def add(self, size: int) -> bool:
        """Count what is to be sent; return False where it is too much."""
        # One message is always taken, whatever its size: it was made for exactly this peer.
        if self.waiting and self.waiting + size > self.limit:
            return False
        self.waiting += size
        return True

    def sent(self, size: int) -> None:
        """It has left."""
        self.waiting -= size


def send_timeout_s(size: int) -> float:
    """Return how long sending a message may take a peer that reads as slowly as one may."""
    return 30.0 + size / MIN_BYTES_PER_S

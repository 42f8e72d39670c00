"""Who was turned away: all are counted, and as many are written down as a disk can take.

Of those who have no certificate only sums are reported, every few seconds; anybody on the network can be
one of them, as often as they like.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from fedapt_server.metrics import Metrics
from fedapt_server.ports.traffic import TokenBucket
from fedapt_server.refusal import Refusal

LINES_PER_S, LINES_AT_ONCE = 1.0, 100
REPORTS_PER_S, REPORTS_AT_ONCE = 1.0, 20
SUM_EVERY_S: Final = 10.0
_WORDS: Final = {
    Refusal.REVOKED: "its certificate was revoked",
    Refusal.TOO_OFTEN: "connects too often",
    Refusal.TOO_MANY: "one connection too many; raise max_connections in server.yaml if they are all wanted",
    Refusal.REPLACED: "has opened further connections in place of this one",
    Refusal.TOO_FAST: "sends too many messages",
    Refusal.TOO_SLOW: "a message took too long to come in",
    Refusal.UNREAD: "does not read what it is sent",
    Refusal.MISBEHAVED: "too much of what it sends does not hold",
}

logger = logging.getLogger("fedapt_server")


class Refusals:
    """Counts, and writes lines within limits.

    Args:
        metrics: Counts everything.
        note: Writes a line of the signed log.
    """

    def __init__(self, metrics: Metrics, note: Callable[[str, dict[str, Any]], None]) -> None:
        self._metrics = metrics
        self._note = note
        self._lines = TokenBucket(LINES_PER_S, LINES_AT_ONCE)
        self._reports = TokenBucket(REPORTS_PER_S, REPORTS_AT_ONCE)
        self._unknown: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def refused(self, why: Refusal, name: str) -> None:
        """Somebody was turned away: one of that name, or nobody knows who."""
        if name:
            self.turned_away(why, f"{name}: {_WORDS.get(why, why.value)}")
            return
        self._metrics.refused(why)
        self._unknown[why.value] += 1
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(SUM_EVERY_S, self._sum_up)

    def turned_away(self, why: Refusal, detail: str) -> None:
        """The holder of a certificate was turned away."""
        self._metrics.refused(why)
        if not self._closed and self._lines.take(asyncio.get_running_loop().time()):
            self._note("turned_away", {"detail": detail})

    def report(self, line: str) -> None:
        """Something was said about a handshake, a list or a connection that operators may want to know."""
        if self._reports.take(asyncio.get_running_loop().time()):
            logger.warning("%s", line, extra={"event": "connection"})

    def close(self) -> None:
        """Report what is left, and nothing any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _sum_up(self) -> None:
        self._timer = None
        counts, self._unknown = dict(self._unknown), Counter()
        if counts:
            logger.warning(
                "%d connections without a good certificate turned away",
                sum(counts.values()),
                extra={"event": "connections_refused", **counts},
            )

"""Figures for Prometheus: counts, times and sizes of messages. Nothing here follows from anybody's data."""

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fedapt_server.refusal import Refusal

ROUND_SECONDS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """The service's figures, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._rounds = Counter(
            "fedapt_rounds", "Attempts at a round that have ended.", ["status"], registry=registry
        )
        self._duration = Histogram(
            "fedapt_round_duration_seconds",
            "Time from a round's start to its end.",
            buckets=ROUND_SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "fedapt_protocol_bytes", "Bytes of messages in rounds.", ["direction"], registry=registry
        )
        self._connected = Gauge(
            "fedapt_connected_institutions", "Institutions with an open connection.", registry=registry
        )
        self._refused = Counter(
            "fedapt_connections_refused",
            "Connections that were turned away or cut.",
            ["reason"],
            registry=registry,
        )
        self._messages_refused = Counter(
            "fedapt_messages_refused", "Messages that did not hold.", registry=registry
        )
        self._round_began: float | None = None
        for status in ("completed", "aborted"):
            self._rounds.labels(status)
        for why in Refusal:
            self._refused.labels(why.value)

    def note(self, type: str, body: Mapping[str, Any], now: float) -> None:
        """Take in one line of the log; ``now`` in seconds that only grow."""
        match type:
            case "round_started":
                self._round_began = now
            case "round_ended":
                self._rounds.labels(body["status"]).inc()
                self._bytes.labels("up").inc(body["bytes_up"])
                self._bytes.labels("down").inc(body["bytes_down"])
                if self._round_began is not None:
                    self._duration.observe(now - self._round_began)
                    self._round_began = None
            case "refused":
                self._messages_refused.inc()

    def connected(self, count: int) -> None:
        """So many institutions are connected now."""
        self._connected.set(count)

    def refused(self, why: Refusal) -> None:
        """A connection was turned away or cut."""
        self._refused.labels(why.value).inc()

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format; may be called from another thread."""
        return generate_latest(self._registry)

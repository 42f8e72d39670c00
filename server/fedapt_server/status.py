"""Where the service stands, put together from what it logs; for the health port, without I/O.

Written by the event loop and read by the threads of the health port.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any


@dataclass(frozen=True)
class Snapshot:
    """Where the service stands at one moment.

    Attributes:
        ok: Whether the service listens, the session that it has is open, and nothing has failed.
        session: The session that is open, or was last; hexadecimal.
        state: ``waiting`` (no session was begun), ``gathering``, ``round``, ``closing`` or ``ended``.
        reason: Why no session is open, where the service knows.
        round, attempt, phase: The newest, where there is one.
        rounds: How many are planned.
        completed: Rounds of this session that gave a sum.
        aborted: Attempts that gave none, since the service runs.
        connected: Institutions with an open connection.
        last_seen: When each was heard of last, ISO 8601, since the service runs.
    """

    ok: bool
    session: str | None
    state: str
    reason: str | None
    round: int | None
    attempt: int | None
    phase: str | None
    rounds: int | None
    completed: int
    aborted: int
    connected: tuple[str, ...]
    last_seen: Mapping[str, str]

    def fields(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"connected": list(self.connected)}


@dataclass
class Status:
    """Follows the service; `note` takes what it logs.

    Attributes:
        serving: Whether it listens and has taken up its session; set by the service.
        failed: Whether something went wrong that is not a party's doing; likewise.
        reason: Why no session is open; likewise.
    """

    serving: bool = False
    failed: bool = False
    reason: str | None = None
    session: str | None = None
    state: str = "waiting"
    round: int | None = None
    attempt: int | None = None
    phase: str | None = None
    rounds: int | None = None
    completed: int = 0
    aborted: int = 0
    _connected: set[str] = field(default_factory=set)
    _last_seen: dict[str, datetime] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def note(self, type: str, body: Mapping[str, Any]) -> None:
        """Take in one line of the log."""
        with self._lock:
            self._note(type, body)

    def _note(self, type: str, body: Mapping[str, Any]) -> None:
        match type:
            case "session_started" | "session_resumed":
                self.session, self.state, self.reason = body["session"], "gathering", None
                self.rounds = body.get("rounds", self.rounds)
                self.round = self.attempt = self.phase = None
                self.completed, self.aborted = body.get("completed_rounds", 0), 0
            case "round_started":
                self.state, self.round, self.attempt = "round", body["round"], body["attempt"]
                self.phase = body["phase"]
            case "phase":
                self.phase = body["phase"]
            case "round_ended":
                self.state, self.phase = "gathering", None
                self.completed += body["status"] == "completed"
                self.aborted += body["status"] == "aborted"
            case "closing":
                self.state = "closing"
            case "session_ended":
                self.state = "ended"

    def joined(self, name: str, now: datetime) -> None:
        """An institution has connected, to a session or to wait for one."""
        with self._lock:
            self._connected.add(name)
            self._last_seen[name] = now

    def gone(self, name: str, now: datetime) -> None:
        """Its connection is closed."""
        with self._lock:
            self._connected.discard(name)
            self._last_seen[name] = now

    def seen(self, name: str, now: datetime) -> None:
        """Something was heard of it."""
        with self._lock:
            self._last_seen[name] = now

    def snapshot(self) -> Snapshot:
        """Return where things stand now."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            ok=self.serving and not self.failed,
            session=self.session,
            state=self.state,
            reason=self.reason,
            round=self.round,
            attempt=self.attempt,
            phase=self.phase,
            rounds=self.rounds,
            completed=self.completed,
            aborted=self.aborted,
            connected=tuple(sorted(self._connected)),
            last_seen={
                name: seen.astimezone(UTC).isoformat(timespec="seconds")
                for name, seen in sorted(self._last_seen.items())
            },
        )

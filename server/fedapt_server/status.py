"""Where the service stands, put together from its store and from what it logs; without I/O.

Written by the event loop and read by the threads of the health port.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from threading import Lock
from typing import Any, Final

from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.progress import Progress

ENDS_KEPT: Final = 50
"""From so many ends of rounds follows how long one takes."""
_DOING: Final = {
    "connected": "was offered the session",
    "ready": "ready",
    "disconnected": "away",
    "done": "has signed the end",
}


@dataclass(frozen=True)
class Doing:
    """What an institution is doing.

    Attributes:
        what: In a few words.
        since: From when on.
        percent: How much of its images is encoded, where it says so.
        reason: Why it is out or sits a round out, a code of `fedapt_secure.protocol.reasons`.
    """

    what: str
    since: datetime
    percent: int | None = None
    reason: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"since": _text(self.since)}


@dataclass(frozen=True)
class Snapshot:
    """Where the service stands at one moment.

    Attributes:
        ok: Whether the service listens, the session that it has is open, and nothing has failed.
        session: The session that is open, or was last; hexadecimal.
        state: ``waiting`` (no session was begun), ``gathering``, ``returning`` (no round can take place until
            somebody comes back), ``round``, ``closing`` or ``ended``.
        reason: Why no session is open, where the service knows.
        round, attempt, phase: The newest, where there is one.
        rounds: How many are planned.
        completed: Rounds of this session that gave a sum.
        aborted: Attempts of this session that gave none.
        ends: When the rounds will be over if they go on as they do, ISO 8601; ``None`` where nothing says so.
        connected: Institutions with an open connection.
        doing: What each institution of the session is doing.
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
    ends: str | None
    connected: tuple[str, ...]
    doing: Mapping[str, Doing]
    last_seen: Mapping[str, str]

    def fields(self) -> dict[str, Any]:
        """Return it as JSON values."""
        doing = {name: one.fields() for name, one in self.doing.items()}
        return asdict(self) | {"connected": list(self.connected), "doing": doing}


@dataclass
class Status:
    """Follows the service; `note` takes what it logs.

    Attributes:
        serving: Whether it listens and has taken up its session; set by the service.
        failed: Whether something went wrong that is not a party's doing; likewise.
    """

    serving: bool = False
    failed: bool = False
    session: str | None = None
    state: str = "waiting"
    round: int | None = None
    attempt: int | None = None
    phase: str | None = None
    rounds: int | None = None
    completed: int = 0
    aborted: int = 0
    _ends: list[datetime] = field(default_factory=list)
    _doing: dict[str, Doing] = field(default_factory=dict)
    _connected: set[str] = field(default_factory=set)
    _last_seen: dict[str, datetime] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def take_up(
        self,
        configuration: SessionConfiguration,
        progress: Progress,
        now: datetime,
        ends: Iterable[datetime] = (),
    ) -> None:
        """Stand where a session stands that the service takes up, from its store.

        Args:
            configuration: The session.
            progress: How far it has come.
            now: The time.
            ends: When rounds of it were completed, by the log.
        """
        with self._lock:
            self.session, self.rounds = configuration.session.hex(), configuration.plan.rounds
            self.state = "ended" if progress.ended else "closing" if progress.closing else "gathering"
            self.round, self.attempt = progress.number or None, progress.attempt or None
            self.phase = None
            self.completed = progress.completed_rounds
            self.aborted = sum(record.status == "aborted" for record in progress.records)
            self._ends = list(ends)[-ENDS_KEPT:]
            self._doing = {name: Doing("away", now) for name in configuration.roster.names}

    def note(self, type: str, body: Mapping[str, Any], now: datetime) -> None:
        """Take in one line of the log, written now."""
        with self._lock:
            self._note_session(type, body, now)
            self._note_institutions(type, body, now)

    def _note_session(self, type: str, body: Mapping[str, Any], now: datetime) -> None:
        match type:
            case "round_started":
                self.state, self.round, self.attempt = "round", body["round"], body["attempt"]
                self.phase = body["phase"]
            case "phase":
                self.phase = body["phase"]
            case "round_ended":
                self.state, self.phase = "gathering", None
                self.round, self.attempt = body["round"], body["attempt"]
                self.aborted += body["status"] == "aborted"
                if body["status"] == "completed":
                    self.completed += 1
                    self._ends = [*self._ends, now][-ENDS_KEPT:]
            case "waiting_for_return":
                self.state = "returning"
            case "closing":
                self.state = "closing"
            case "session_ended":
                self.state = "ended"

    def _note_institutions(self, type: str, body: Mapping[str, Any], now: datetime) -> None:
        name = body.get("name")
        match type:
            case "connected" | "ready" | "done":
                self._doing[str(name)] = Doing(_DOING[type], now)
                if self.state == "returning" and type == "ready":
                    self.state = "gathering"
            case "disconnected":
                before = self._doing.get(str(name))
                # Who is out is out, with or without a connection.
                if before is None or before.what != "out":
                    self._doing[str(name)] = Doing(_DOING[type], now)
            case "left":
                self._doing[str(name)] = Doing("out", now, reason=body["reason"])
            case "declined":
                self._doing[str(name)] = Doing("sits this round out", now, reason=body["reason"])
            case "round_started":
                for one in body["participants"]:
                    self._doing[one] = Doing("training", now)
            case "phase":
                self._change("training", "aggregating", now)
            case "round_ended":
                for what in ("training", "aggregating", "sits this round out"):
                    self._change(what, "ready", now)
            case "closing":
                self._change("ready", "stores and evaluates the model", now)

    def _change(self, before: str, after: str, now: datetime) -> None:
        for name, doing in self._doing.items():
            if doing.what == before:
                self._doing[name] = Doing(after, now)

    def says(self, name: str, what: str, percent: int, now: datetime) -> None:
        """An institution says what it is doing."""
        with self._lock:
            before = self._doing.get(name)
            shown = percent if what == "encoding" else None
            words = {"approval": "waits for its people's approval", "encoding": "encoding images"}
            said = words.get(what, "preparing")
            if before is not None and before.what == said:
                self._doing[name] = replace(before, percent=shown)
            else:
                self._doing[name] = Doing(said, now, shown)

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

    def snapshot(self, reason: str | None = None) -> Snapshot:
        """Return where things stand now.

        Args:
            reason: Why no session is open, where that is so.
        """
        with self._lock:
            return self._snapshot(reason)

    def _snapshot(self, reason: str | None) -> Snapshot:
        return Snapshot(
            ok=self.serving and not self.failed,
            session=self.session,
            state=self.state,
            reason=reason,
            round=self.round,
            attempt=self.attempt,
            phase=self.phase,
            rounds=self.rounds,
            completed=self.completed,
            aborted=self.aborted,
            ends=self._probable_end(),
            connected=tuple(sorted(self._connected)),
            doing=dict(self._doing),
            last_seen={name: _text(seen) for name, seen in sorted(self._last_seen.items())},
        )

    def _probable_end(self) -> str | None:
        """The newest end of a round, and the usual time between two for each that is to come.

        The median: a night in which everything stood still says nothing of the next round.
        """
        if self.state not in ("gathering", "round") or self.rounds is None or len(self._ends) < 2:
            return None
        gaps = [(after - before).total_seconds() for before, after in pairwise(self._ends)]
        to_come = self.rounds - ((self.round or 0) - (self.state == "round"))
        return _text(self._ends[-1] + timedelta(seconds=median(gaps) * max(0, to_come)))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")

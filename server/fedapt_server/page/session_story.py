"""What the coordinator's log says of one session: who was in which sum, how long phases took, who left."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fedapt_secure.audit.evidence.participation import Participation, RoundTaken, of_rounds
from fedapt_secure.log.follower import LONG, LogStory
from fedapt_secure.log.line import LogEntry

COMPLETED: Final = "completed"
FIRST_PHASE: Final = "training"
BETWEEN: Final = "gathering, and between rounds"
CLOSING: Final = "closing: the finished model is stored and signed"


@dataclass
class RoundStory:
    """One round, over all its attempts."""

    attempts: int = 0
    present: set[str] = field(default_factory=set)
    contributors: set[str] = field(default_factory=set)
    completed: bool = False


class SessionStory(LogStory):
    """One session of the coordinator's log.

    Args:
        path: The log's newest file.
        session: Which session, hexadecimal.

    Attributes:
        started: What ``session_started`` holds; ``None`` where the log does not have it.
        began, ended: When.
        rounds: By number.
        seconds: By phase, over all rounds.
        without_sum: What is said of attempts that gave none.
        reasons: Institution to how often it gave which code.
        signed: Who has signed the end.
        bytes_up, bytes_down: To and from the coordinator, in rounds.
        restarts: How often the session was resumed.
    """

    def __init__(self, path: Path, session: str) -> None:
        self._session = session
        super().__init__(path, leave_out=LONG)

    def _forget(self) -> None:
        self.started: Mapping[str, Any] | None = None
        self.began: datetime | None = None
        self.ended: datetime | None = None
        self.rounds: dict[int, RoundStory] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.without_sum: list[str] = []
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.signed: tuple[str, ...] = ()
        self.bytes_up = self.bytes_down = self.restarts = 0
        self._phase = BETWEEN
        self._since: datetime | None = None
        self._open = False

    @property
    def completed(self) -> int:
        """How many rounds gave a sum."""
        return sum(one.completed for one in self.rounds.values())

    @property
    def attempts(self) -> int:
        """How many attempts there were at all rounds."""
        return sum(one.attempts for one in self.rounds.values())

    def participation(self) -> Participation:
        """Return institutions by rounds; rounds stand together where they are too many for a page."""
        names = tuple(self.started["institutions"]) if self.started is not None else ()
        rounds = [
            RoundTaken(number, frozenset(one.present), frozenset(one.contributors), one.completed)
            for number, one in sorted(self.rounds.items())
        ]
        return of_rounds(names, rounds, self._session)

    def _take(self, entry: LogEntry) -> None:
        kind, body = entry.type, entry.body
        if kind in ("session_started", "session_resumed"):
            self._open = body["session"] == self._session
            self._change(BETWEEN, entry.time)
        if not self._open:
            return
        match kind:
            case "session_started":
                self.started, self.began = body, entry.time
            case "session_resumed":
                self.restarts += 1
            case "round_started":
                self._change(FIRST_PHASE, entry.time)
                found = self.rounds.setdefault(body["round"], RoundStory())
                found.attempts += 1
                found.present |= set(body["participants"])
            case "phase":
                self._change(body["phase"], entry.time)
            case "round_ended":
                self._change(BETWEEN, entry.time)
                self._round_ended(body)
            case "declined" | "left":
                self.reasons[body["name"]][body["reason"]] += 1
            case "closing":
                self._change(CLOSING, entry.time)
            case "session_ended":
                self._change(BETWEEN, entry.time)
                self.ended, self.signed, self._open = entry.time, tuple(body["done"]), False

    def _round_ended(self, body: Mapping[str, Any]) -> None:
        found = self.rounds.setdefault(body["round"], RoundStory())
        found.present |= {*body["participants"], *body["dropped"]}
        self.bytes_up += int(body["bytes_up"])
        self.bytes_down += int(body["bytes_down"])
        if body["status"] == COMPLETED:
            found.completed = True
            found.contributors |= set(body["contributors"])
        else:
            said = f"round {body['round']}, attempt {body['attempt']}: {body['detail'] or body['status']}"
            self.without_sum.append(said)

    def _change(self, phase: str, now: datetime) -> None:
        if self._open and self._since is not None:
            self.seconds[self._phase] += max(0.0, (now - self._since).total_seconds())
        self._phase, self._since = phase, now

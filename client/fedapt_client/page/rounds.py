"""Follows an institution's own log while it grows: sessions, their rounds, what was spent, what was refused.

Each line is read once, whatever was read before stays: a page that is open over 300 rounds costs what one
round's lines cost. Whether lines are genuine is not looked at here but by `verified`.
"""

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fedapt_secure.log.follower import LogStory
from fedapt_secure.log.line import LogEntry
from fedapt_secure.log.reader import Kind, LogReader, segments

LAST_LINES: Final = 40
TRIES: Final = 3
AGAIN_AFTER_S: Final = 0.1
_SHOWN: Final = 200


@dataclass
class RoundSeen:
    """What the log says of one round: how far it came, who is in its sum, ε after it."""

    number: int
    began: str = ""
    phase: str = "joined"
    attempts: int = 1
    contributors: list[str] = field(default_factory=list)
    epsilon: float | None = None
    status: str = "open"
    ended: str = ""


@dataclass
class SessionSeen:
    """What the log says of one session.

    Attributes:
        session: Which, hexadecimal.
        accepted: When, ISO 8601.
        rounds: By number.
        planned: How many rounds it has.
        budget: Its planned ε; ``None`` without differential privacy.
        ended: When it ended here; ``closed`` once its record is complete.
    """

    session: str
    accepted: str
    planned: int
    budget: float | None
    rounds: dict[int, RoundSeen] = field(default_factory=dict)
    ended: str = ""
    closed: bool = False
    missing: list[str] = field(default_factory=list)
    model: bool = False

    @property
    def epsilon(self) -> float | None:
        """ε spent so far."""
        found = [one.epsilon for one in self.rounds.values() if one.epsilon is not None]
        return max(found, default=0.0) if self.budget is not None else None


class FollowedLog(LogStory):
    """One log, read on whenever it is asked for.

    Args:
        path: The log's newest file.
    """

    def _forget(self) -> None:
        self.lines = 0
        self.last: deque[dict[str, Any]] = deque(maxlen=LAST_LINES)
        self.sessions: dict[str, SessionSeen] = {}
        self.rehearsed: dict[str, Any] | None = None
        self.refused: deque[dict[str, Any]] = deque(maxlen=20)
        self.current: SessionSeen | None = None
        """The session that was accepted last."""

    def _take(self, entry: LogEntry) -> None:
        kind, body, time = entry.type, entry.body, entry.time.isoformat()
        self.lines = entry.seq + 1
        said = json.dumps(body)
        shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]} ..."
        self.last.append({"seq": entry.seq, "time": time, "type": kind, "body": shown})
        match kind:
            case "session_accepted":
                self._accepted(body, time)
            case "rehearsed":
                self.rehearsed = {"time": time, "reason": body["reason"]}
            case "refused":
                self.refused.append({"time": time, "code": body["code"], "detail": body["detail"]})
            case _ if self.current is not None:
                self._of_session(self.current, kind, body, time)

    def _accepted(self, body: Mapping[str, Any], time: str) -> None:
        name = body["session"]
        if name not in self.sessions:
            plan, privacy = body.get("plan") or {}, body.get("privacy")
            self.sessions[name] = SessionSeen(
                session=name,
                accepted=time,
                planned=int(plan.get("rounds", 0)),
                budget=None if privacy is None else privacy.get("epsilon_budget"),
            )
        self.current = self.sessions[name]

    def _of_session(self, session: SessionSeen, kind: str, body: Mapping[str, Any], time: str) -> None:
        number = int(body.get("round") or 0)
        if kind == "round_joined":
            found = session.rounds.setdefault(number, RoundSeen(number, began=time))
            found.attempts, found.phase, found.status = body["attempt"], "joined", "open"
        elif kind == "spend":
            session.rounds.setdefault(number, RoundSeen(number, began=time)).epsilon = body["epsilon"]
        elif kind == "phase" and number in session.rounds:
            session.rounds[number].phase = body["phase"]
        elif kind == "round_ended" and number in session.rounds:
            found = session.rounds[number]
            found.status, found.ended = body["status"], time
            found.contributors = list(body["contributors"])
        elif kind == "session_ended":
            session.ended, session.model = time, body["bundle"] is not None
        elif kind == "session_closed":
            session.closed, session.missing = True, list(body["missing"])
            session.ended = session.ended or time


@dataclass(frozen=True)
class Verified:
    """What a whole pass over the log found."""

    lines: int
    at: str
    problems: list[str]


def verified(path: Path, identity: bytes | None, now: datetime) -> Verified:
    """Check every line of a log: numbers, hashes, signatures.

    Args:
        path: The log's newest file.
        identity: The public key that signed it, where it is known.
        now: What time it is.

    Raises:
        InvalidInput: If it cannot be read.
    """
    for _ in range(TRIES):
        reader = LogReader(segments(path), identity=identity)
        for _ in reader.entries():
            pass
        # A line that is being written just now is whole a moment later.
        if not any(one.kind is Kind.CUT_OFF for one in reader.problems):
            break
        time.sleep(AGAIN_AFTER_S)
    problems = [f"line {one.line}: {one.message}" for one in reader.problems[:20]]
    return Verified(reader.lines, now.isoformat(timespec="seconds"), problems)

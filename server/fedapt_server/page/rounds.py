"""Follows the coordinator's log while it grows: rounds and who is in their sums, refusals, bytes.

Each line is read once. The log is the coordinator's own: it holds nothing that it should not know.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fedapt_secure.log.follower import LONG, LogStory
from fedapt_secure.log.line import LogEntry
from fedapt_secure.protocol.reasons import meaning_of

LAST_LINES: Final = 40
LAST_ROUNDS: Final = 30
"""So many stand beside each other; of the others the counts are there."""
LAST_REFUSALS: Final = 12
_SHOWN: Final = 200


@dataclass
class Attempt:
    """One attempt at a round: who took part, how far it came, who is in its sum."""

    round: int
    attempt: int
    participants: tuple[str, ...]
    phase: str = "training"
    status: str = "open"
    contributors: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    declined: dict[str, str] = field(default_factory=dict)


class FollowedCoordinator(LogStory):
    """The coordinator's log, read on whenever it is asked for.

    Args:
        path: Its newest file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, leave_out=LONG)

    def _forget(self) -> None:
        self.lines = 0
        self.last: deque[dict[str, Any]] = deque(maxlen=LAST_LINES)
        self.refusals: deque[dict[str, Any]] = deque(maxlen=LAST_REFUSALS)
        self.attempts: deque[Attempt] = deque(maxlen=LAST_ROUNDS)
        self.institutions: tuple[str, ...] = ()
        self.without_sum: list[str] = []
        self.bytes_up = self.bytes_down = 0
        self.ended: dict[str, Any] | None = None

    def _take(self, entry: LogEntry) -> None:
        kind, body, time = entry.type, entry.body, entry.time.isoformat()[:19].replace("T", " ")
        self.lines = entry.seq + 1
        said = json.dumps(body)
        shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]} ..."
        self.last.append({"seq": entry.seq, "time": time, "type": kind, "body": shown})
        match kind:
            case "session_started":
                self._session(body)
            case "round_started":
                about = (body["round"], body["attempt"], tuple(body["participants"]))
                self.attempts.append(Attempt(*about))
            case "left" | "declined":
                self._refused(kind, body, time)
            case "refused" | "turned_away" | "sum_refused":
                name = body.get("name") or "somebody"
                self.refusals.append({"time": time, "name": name, "said": str(body.get("detail"))})
            case "phase" | "round_ended" if self.attempts:
                self._of_round(self.attempts[-1], kind, body, time)
            case "session_ended":
                self.ended = {"time": time, "completed": body["completed_rounds"], "rounds": body["rounds"]}

    def _session(self, body: Mapping[str, Any]) -> None:
        self.institutions = tuple(body["institutions"])
        self.attempts.clear()
        self.without_sum.clear()
        self.bytes_up = self.bytes_down = 0
        self.ended = None

    def _refused(self, kind: str, body: Mapping[str, Any], time: str) -> None:
        code, name = body["reason"], body["name"]
        meaning = meaning_of(code)
        said = f"{code}: {meaning.said}; {meaning.call}"
        self.refusals.append({"time": time, "name": name, "said": said})
        if kind == "declined" and self.attempts:
            self.attempts[-1].declined[name] = code

    def _of_round(self, attempt: Attempt, kind: str, body: Mapping[str, Any], time: str) -> None:
        if kind == "phase":
            attempt.phase = body["phase"]
            return
        attempt.status = body["status"]
        attempt.contributors, attempt.dropped = tuple(body["contributors"]), tuple(body["dropped"])
        self.bytes_up += _total(body["bytes_up"])
        self.bytes_down += _total(body["bytes_down"])
        if attempt.status != "completed":
            said = f"round {attempt.round}, attempt {attempt.attempt}, {time} UTC: {body['detail']}"
            self.without_sum.append(said)


def _total(counted: Any) -> int:
    return sum(counted.values()) if isinstance(counted, Mapping) else int(counted)

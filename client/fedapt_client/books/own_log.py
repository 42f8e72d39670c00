"""What an institution's own log says of its past: sessions and how far each came, and the last policy.

Read line by line, archived parts first, so a log of any length takes no memory. Nothing is verified here:
that is the audit's work.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedapt_client.books.ledger import Ledger
from fedapt_client.session.own_model import CAUGHT_UP, UNRESOLVED, VERIFIED
from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.log.heads import RoundRecord
from fedapt_secure.log.line import SESSION_CLOSED
from fedapt_secure.log.reader import segments

_WANTED = tuple(
    f'"type":"{kind}"'.encode()
    for kind in (
        "session_accepted",
        "spend",
        "policy",
        "round_joined",
        "round_ended",
        VERIFIED,
        UNRESOLVED,
        CAUGHT_UP,
        "session_ended",
        SESSION_CLOSED,
    )
)


@dataclass
class Past:
    """One session in an institution's own log.

    Attributes:
        accepted_at: When it was accepted first, as the log states it.
        joined: Rounds and attempts that were joined, in order.
        ended: How each attempt ended that was seen to its end, by round and attempt.
        noted: What was noted of sums: the line's type, round and attempt.
        bundle: SHA-256 of the finished bundle, hexadecimal, once it was stored.
        unfinished: Whether it ended without a completed round, so that there is no model.
        closed: Whether the log holds the record with which the session ended.
    """

    accepted_at: str | None = None
    joined: list[tuple[int, int]] = field(default_factory=list)
    ended: dict[tuple[int, int], RoundRecord] = field(default_factory=dict)
    noted: set[tuple[str, int, int]] = field(default_factory=set)
    bundle: str | None = None
    unfinished: bool = False
    closed: bool = False


@dataclass(frozen=True)
class OwnLog:
    """What matters of a log when its institution starts again.

    Attributes:
        steps: Sessions that were accepted, hexadecimal, and the steps of each that were spent; ``None``
            stands for sessions without a name.
        policy_hash: Hash of the policy that was logged last.
        sessions: What else is known of the sessions, in the order in which they appear.
    """

    steps: Mapping[str | None, int]
    policy_hash: str | None
    sessions: Mapping[str, Past]


def read_own_log(path: Path) -> OwnLog:
    """Read a log with its archived segments, see `fedapt_secure.log.reader.segments`.

    Raises:
        InvalidInput: If a file cannot be read.
    """
    steps: dict[str | None, int] = {}
    policy_hash: str | None = None
    sessions: dict[str, Past] = {}
    for part in segments(path):
        for kind, time, body in _entries(part):
            if isinstance(session := body.get("session"), str):
                with suppress(KeyError, TypeError, ValueError):  # no such line of ours: the audit's to refuse
                    _note(sessions.setdefault(session, Past()), kind, time, body)
            if kind == "session_accepted":
                steps.setdefault(body.get("session"), 0)
            elif kind == "spend":
                name, total = body.get("session"), body.get("total_steps")
                steps[name] = max(steps.get(name, 0), total if isinstance(total, int) else 0)
            elif kind == "policy":
                policy_hash = body.get("hash")
    return OwnLog(steps, policy_hash, sessions)


def _note(past: Past, kind: str, time: str, body: dict[str, Any]) -> None:
    match kind:
        case "session_accepted":
            past.accepted_at = past.accepted_at or time
        case "round_joined":
            past.joined.append((body["round"], body["attempt"]))
        case "round_ended":
            record = _record(body)
            past.ended[record.round, record.attempt] = record
        case _ if kind in (VERIFIED, UNRESOLVED, CAUGHT_UP):
            past.noted.add((kind, body["round"], body.get("attempt", 0)))
        case "session_ended":
            past.bundle = body["bundle"]
            past.unfinished = past.bundle is None
        case _ if kind == SESSION_CLOSED:
            past.closed = True


def _record(body: dict[str, Any]) -> RoundRecord:
    transcript = body["transcript"]
    return RoundRecord(
        round=body["round"],
        attempt=body["attempt"],
        status=body["status"],
        context=bytes.fromhex(body["context"]),
        transcript=None if transcript is None else bytes.fromhex(transcript),
    )


def _entries(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    try:
        with path.open("rb") as stream:
            for raw in stream:
                if not any(one in raw for one in _WANTED):
                    continue  # parsing every line of a long log would take minutes
                try:
                    fields = json.loads(raw)
                    yield fields["type"], str(fields.get("time")), dict(fields["body"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # what is no log line is the log writer's and the audit's to refuse
    except OSError as error:
        raise system_error(f"the log {path} cannot be read", error) from None


def check_ledger(own: OwnLog, ledger: Ledger, path: Path) -> None:
    """Refuse a ledger that knows less than the log: emptied, replaced, restored, or damaged in its journal.

    Raises:
        InvalidInput: Saying how many sessions or spends it lacks.
    """
    known: dict[str | None, int] = {one.terms.session.hex(): one.steps_taken for one in ledger.sessions}
    missing = sum(session not in known for session in own.steps)
    short = sum(known.get(session, steps) < steps for session, steps in own.steps.items())
    if missing or short:
        lacks = f"{missing} of the sessions" if missing else f"steps of {short} of the sessions"
        raise InvalidInput(
            f"the ledger {path} lacks {lacks} that this institution's log shows: put the right ledger back;"
            " one that forgets spends is not used"
        )

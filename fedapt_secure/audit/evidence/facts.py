"""What all logs say about heads, rounds, spends and refusals, in a private temporary database.

SQLite with an empty file name keeps it in memory while it is small and spills to a nameless temporary file
when it is not: cross-checks are joins, and memory stays flat however long the logs are.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.log.heads import WitnessedHead

COMPLETED: Final = "completed"
_SCHEMA: Final = """
CREATE TABLE head (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    party TEXT, of_log TEXT, seq INTEGER, hash TEXT, session TEXT, round INTEGER, signature TEXT,
    countersigned INTEGER, valid INTEGER
);
CREATE INDEX head_key ON head (party, of_log, seq, hash, session, round, signature);
CREATE TABLE round (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    kind TEXT, session TEXT, round INTEGER, attempt INTEGER, status TEXT, context TEXT, transcript TEXT,
    contributors TEXT, dropped TEXT, participants TEXT, model TEXT
);
CREATE INDEX round_key ON round (session, round, attempt, kind, log);
CREATE TABLE spend (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    session TEXT, round INTEGER, steps INTEGER, total INTEGER, epsilon REAL
);
CREATE INDEX spend_key ON spend (log, session, round);
CREATE TABLE refusal (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    time TEXT, session TEXT, round INTEGER, rule TEXT, error TEXT, detail TEXT, code TEXT
);
CREATE TABLE course (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    type TEXT, session TEXT, time REAL, body TEXT
);
CREATE INDEX course_log ON course (log, line_seq);
CREATE INDEX course_type ON course (type, session, log);
CREATE TABLE moved (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER,
    kind TEXT, session TEXT, round INTEGER, attempt INTEGER, transcript TEXT, names TEXT,
    sum TEXT, tag TEXT, before TEXT, after TEXT, signature TEXT
);
CREATE INDEX moved_key ON moved (session, round, attempt, kind, log);
CREATE TABLE secret (
    log INTEGER, file TEXT, line INTEGER, line_seq INTEGER, session TEXT, commitment TEXT
);
CREATE INDEX secret_key ON secret (session, log);
"""


@dataclass(frozen=True)
class Place:
    """Where a fact stands: index of the log, file name, line in the file, line number in the log."""

    log: int
    file: str
    line: int
    seq: int


@dataclass(frozen=True)
class Step:
    """One line of a log, whole.

    Attributes:
        place: Where it stands. type: Its type. body: Its body.
        session: The session that was under way, or that the line names; ``None`` before the first.
    """

    place: Place
    type: str
    session: str | None
    body: dict[str, Any]


class Facts:
    """The database; close it when the audit is done."""

    def __init__(self) -> None:
        # One open transaction is all there is: nothing here has to survive.
        self._database = sqlite3.connect("", isolation_level="DEFERRED")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Drop the database."""
        self._database.close()

    def add_heads(self, place: Place, heads: Iterable[WitnessedHead], *, countersigned: bool) -> None:
        """Note the heads of a ``witnessed`` line."""
        for head in heads:
            signed = head.signed
            self._insert(
                "head",
                place,
                signed.party,
                signed.log.hex(),
                signed.seq,
                signed.hash.hex(),
                head.session.hex(),
                head.round,
                signed.signature.hex(),
                countersigned,
                None,
            )

    def add_round(
        self, place: Place, kind: str, body: b.RoundStarted | b.RoundJoined | b.Released | b.RoundEnded
    ) -> None:
        """Note a line about an attempt at a round: ``started``, ``joined``, ``released`` or ``ended``.

        Args:
            place: The log line.
            kind: Which of the four.
            body: Its body.
        """
        ended = body if isinstance(body, b.RoundEnded) else None
        self._insert(
            "round",
            place,
            kind,
            body.session,
            body.round,
            body.attempt,
            ended.status if ended else None,
            body.context,
            ended.transcript if ended else None,
            _names(ended.contributors) if ended else None,
            _names(ended.dropped) if ended else None,
            _names(getattr(body, "participants", None)),
            ended.model if ended else None,
        )

    def add_verified(self, place: Place, body: b.VerifiedSum) -> None:
        """Note a verified sum."""
        execution = (body.session, body.round, body.attempt, body.transcript, _names(body.contributors))
        moved = (body.sum, body.tag, body.model_before, body.model, body.signature)
        self._insert("moved", place, "verified", *execution, *moved)

    def add_caught_up(self, place: Place, body: b.CaughtUp) -> None:
        """Note a model that was taken from those who state it."""
        execution = (body.session, body.round, None, None, _names(body.stated_by))
        self._insert("moved", place, "caught up", *execution, None, None, None, body.model, None)

    def add_unresolved(self, place: Place, body: b.Unresolved) -> None:
        """Note an execution whose sum did not come."""
        execution = (body.session, body.round, body.attempt, body.transcript, _names(body.survivors))
        self._insert("moved", place, "unresolved", *execution, None, None, body.model, None, None)

    def add_sum_refused(self, place: Place, session: str, body: b.SumRefused) -> None:
        """Note that an institution did not accept a sum.

        Args:
            place: The log line.
            session: The session of the round under way.
            body: Its body.
        """
        execution = (session, body.round, body.attempt, None, _names([body.name]))
        self._insert("moved", place, "refused", *execution, None, None, None, None, None)

    def add_secret(self, place: Place, body: b.GroupSecret) -> None:
        """Note the commitment to a session's group secret."""
        self._insert("secret", place, body.session, body.commitment)

    def add_spend(self, place: Place, body: b.Spend) -> None:
        """Note a spend."""
        self._insert("spend", place, body.session, body.round, body.steps, body.total_steps, body.epsilon)

    def add_refusal(self, place: Place, time: datetime, body: b.Refused) -> None:
        """Note a refusal.

        Args:
            place: The log line.
            time: When.
            body: Its body.
        """
        moment = time.isoformat(timespec="seconds")
        said = (body.rule, body.error, body.detail, body.code)
        self._insert("refusal", place, moment, body.session, body.round, *said)

    def add_course(
        self, place: Place, type: str, session: str | None, time: datetime, body: Mapping[str, Any]
    ) -> None:
        """Note a line whole, for what follows from one line to the next of a log.

        Args:
            place: The log line.
            type: Its type.
            session: The session that is under way in that log, or that the line names.
            time: When.
            body: Its body.
        """
        self._insert("course", place, type, session, time.timestamp(), json.dumps(body))

    def course(self, log: int) -> Iterator["Step"]:
        """Yield the noted lines of a log in their order."""
        query = "SELECT file, line, line_seq, type, session, body FROM course WHERE log = ? ORDER BY line_seq"
        for file, line, seq, type, session, body in self.rows(query, log):
            yield Step(Place(log, file, line, seq), type, session, json.loads(body))

    def _insert(self, table: str, place: Place, *values: Any) -> None:
        row = (place.log, place.file, place.line, place.seq, *values)
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own names

    def execute(self, statement: str, *values: Any) -> None:
        """Change rows."""
        self._database.execute(statement, values)

    def rows(self, query: str, *values: Any) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query."""
        with closing(self._database.execute(query, values)) as cursor:
            yield from cursor

    def one(self, query: str, *values: Any) -> Sequence[Any]:
        """Return the first row of a query that has one."""
        row: Sequence[Any] = self._database.execute(query, values).fetchone()
        return row


def _names(names: Sequence[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))


def names(text: str | None) -> list[str]:
    """Return the names that a row holds."""
    found: list[str] = json.loads(text) if text else []
    return found

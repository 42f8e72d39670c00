"""What an institution has joined, spent and released, durable before it happens (SQLite, WAL).

Three rules that survive a crash at any statement: a round is joined at most once and only if it is newer
than all before; steps are reserved before training and never given back; an update is released at most
once.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fedapt_crypto.errors import InvalidInput, ReplayedExecution
from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.privacy.budget import PrivacyPlan

_SCHEMA = """
CREATE TABLE IF NOT EXISTS plans (
    session BLOB PRIMARY KEY, epsilon_budget REAL NOT NULL, delta REAL NOT NULL,
    noise_multiplier REAL NOT NULL, sample_rate REAL NOT NULL, max_steps INTEGER NOT NULL,
    declared_records INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS executions (
    session BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, context BLOB NOT NULL,
    PRIMARY KEY (session, round, attempt)
) STRICT;
CREATE TABLE IF NOT EXISTS reservations (
    session BLOB NOT NULL, round INTEGER NOT NULL, steps INTEGER NOT NULL,
    PRIMARY KEY (session, round)
) STRICT;
CREATE TABLE IF NOT EXISTS releases (
    session BLOB NOT NULL, round INTEGER NOT NULL, context BLOB NOT NULL,
    PRIMARY KEY (session, round)
) STRICT;
"""


class Ledger:
    """One institution's durable record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
        with self._transaction() as database:
            database.execute("PRAGMA journal_mode=WAL")
            for statement in _SCHEMA.split(";"):
                database.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction on its own connection, so that any thread may call us."""
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30)) as database:
                database.execute("PRAGMA synchronous=FULL")
                if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                    database.execute("BEGIN IMMEDIATE")
                    try:
                        yield database
                    except BaseException:  # roll back whatever happened, then let it through
                        database.execute("ROLLBACK")
                        raise
                    database.execute("COMMIT")
                else:
                    yield database  # the very first call, which sets the journal mode
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise InvalidInput(f"the ledger {self._path} cannot be used: {error}") from None

    def record_plan(self, session: bytes, plan: PrivacyPlan) -> None:
        """Fix a session's plan before its first step; a different one later is refused.

        Raises:
            InvalidInput: If another plan is on record for this session.
        """
        row = (
            plan.epsilon_budget,
            plan.delta,
            plan.noise_multiplier,
            plan.sample_rate,
            plan.max_steps,
            plan.declared_records,
        )
        with self._transaction() as database:
            found = database.execute(
                "SELECT epsilon_budget, delta, noise_multiplier, sample_rate, max_steps, declared_records"
                " FROM plans WHERE session = ?",
                (session,),
            ).fetchone()
            if found is None:
                database.execute("INSERT INTO plans VALUES (?, ?, ?, ?, ?, ?, ?)", (session, *row))
            elif tuple(found) != row:
                raise InvalidInput("this session already has another privacy plan on record; not changed")

    def join(self, context: RoundContext) -> None:
        """Record that a round is joined.

        Raises:
            ReplayedExecution: If it is not newer than every round joined in this session.
        """
        with self._transaction() as database:
            newest = database.execute(
                "SELECT max(round), max(attempt) FILTER (WHERE round ="
                " (SELECT max(round) FROM executions WHERE session = ?1)) FROM executions WHERE session = ?1",
                (context.session,),
            ).fetchone()
            if newest[0] is not None and (context.round, context.attempt) <= tuple(newest):
                raise ReplayedExecution(
                    f"round {context.round} attempt {context.attempt} is not newer than round {newest[0]}"
                    f" attempt {newest[1]}, which was joined before"
                )
            database.execute(
                "INSERT INTO executions VALUES (?, ?, ?, ?)",
                (context.session, context.round, context.attempt, context.hash),
            )

    def reserve(self, session: bytes, round_number: int, steps: int) -> None:
        """Record that a round's steps are spent, before the first of them.

        A second attempt of the same round runs under the same reservation: its first noise was never
        released (`release` would have burned the round).
        """
        with self._transaction() as database:
            database.execute(
                "INSERT INTO reservations VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (session, round_number, steps),
            )

    def steps_spent(self, session: bytes) -> int:
        """Return the steps reserved in a session so far."""
        with self._transaction() as database:
            query = "SELECT coalesce(sum(steps), 0) FROM reservations WHERE session = ?"
            return int(database.execute(query, (session,)).fetchone()[0])

    def is_reserved(self, session: bytes, round_number: int) -> bool:
        """Return whether a round's steps are on record."""
        with self._transaction() as database:
            query = "SELECT 1 FROM reservations WHERE session = ? AND round = ?"
            return database.execute(query, (session, round_number)).fetchone() is not None

    def release(self, context: RoundContext) -> None:
        """Record that the round's update leaves now; from here on it is burned.

        Raises:
            ReplayedExecution: If this round's update was released before.
        """
        try:
            with self._transaction() as database:
                database.execute(
                    "INSERT INTO releases VALUES (?, ?, ?)", (context.session, context.round, context.hash)
                )
        except sqlite3.IntegrityError:
            raise ReplayedExecution(f"the update of round {context.round} was released before") from None

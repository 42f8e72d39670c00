"""What an institution has joined, spent and released, durable before it happens (SQLite, WAL).

Three rules that survive a crash at any statement: a round is joined at most once and only if it is newer
than all before; steps are reserved before training and never given back; an update is released at most
once.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fedapt_crypto.errors import InvalidInput, ReplayedExecution
from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.privacy.budget import PrivacyPlan

LOCK_TIMEOUT_S = 30.0
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
        try:
            path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the ledger {path} cannot be made: {error.strerror}") from None
        with self._connection() as database:
            self._switch_to_wal(database)
        with self._transaction() as database:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One connection a use, so that any thread may call us."""
        try:
            with closing(
                sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
            ) as database:
                database.execute("PRAGMA synchronous=FULL")
                yield database
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"the ledger {self._path} cannot be used: {error}") from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: all of it is durable when the block ends, or none."""
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:  # roll back whatever happened, then let it through
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @staticmethod
    def _switch_to_wal(database: sqlite3.Connection) -> None:
        """Set the journal mode; SQLite does not wait for others there, so several openers must retry."""
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                database.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

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

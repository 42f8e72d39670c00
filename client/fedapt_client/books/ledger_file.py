"""The ledger's file: SQLite with events that can be added and never changed, durable when a call returns.

Ordering rules that every caller gets:
- a transaction is on disk when its block ends (WAL, synchronous=FULL), or nothing of it ever was;
- rows are only ever inserted: triggers refuse UPDATE and DELETE, and each row of an event carries a
  checksum, so that a disk that turns bits is noticed before a figure is computed from them;
- a file with another schema is refused: an older one lacks data sets, a newer one may know events that
  cost something.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import InvalidInput, Unavailable, system_error
from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_secure.config.database import unusable
from fedapt_secure.protocol.reasons import Reason

LOCK_TIMEOUT_S: Final = 30.0
SCHEMA_VERSION: Final = 3
"""2 has tables of what sessions are bound to. 3 has the same tables, and knows images by their pixels too: an
earlier version would take a picture that was saved anew for another one."""

_EVENTS: Final = {
    "plans": """
        session BLOB PRIMARY KEY, configuration BLOB NOT NULL, mechanism TEXT NOT NULL, noise TEXT NOT NULL,
        unit TEXT NOT NULL, noise_multiplier REAL, sample_rate REAL NOT NULL, max_steps INTEGER NOT NULL,
        delta REAL, epsilon_budget REAL, declared_records INTEGER NOT NULL, composition TEXT NOT NULL,
        rdp_order REAL, dataset BLOB NOT NULL REFERENCES datasets, images BLOB NOT NULL,
        time TEXT NOT NULL""",
    "overlaps": """
        session BLOB NOT NULL REFERENCES plans, dataset BLOB NOT NULL REFERENCES datasets""",
    "executions": """
        session BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, context BLOB NOT NULL,
        time TEXT NOT NULL""",
    "reservations": """
        session BLOB NOT NULL REFERENCES plans, round INTEGER NOT NULL, steps INTEGER NOT NULL,
        time TEXT NOT NULL""",
    "releases": """
        session BLOB NOT NULL, round INTEGER NOT NULL, context BLOB NOT NULL, time TEXT NOT NULL""",
    "groups": """
        session BLOB NOT NULL, commitment BLOB NOT NULL, time TEXT NOT NULL""",
    "openings": """
        session BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, context BLOB NOT NULL,
        execution BLOB NOT NULL, transcript BLOB NOT NULL, survivors TEXT NOT NULL,
        survivors_hash BLOB NOT NULL, time TEXT NOT NULL""",
    "models": """
        session BLOB NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, model BLOB NOT NULL,
        stated BLOB NOT NULL, time TEXT NOT NULL""",
}
_SINCE: Final = {"groups": 2, "openings": 2, "models": 2}
"""Tables that came after schema 1: an earlier file gets them, and is missing nothing else."""
_KEYS: Final = {
    "plans": "",
    "overlaps": ", PRIMARY KEY (session, dataset)",
    "executions": ", PRIMARY KEY (session, round, attempt)",
    "reservations": ", PRIMARY KEY (session, round)",
    "releases": ", PRIMARY KEY (session, round)",
    "groups": ", PRIMARY KEY (session)",
    "openings": ", PRIMARY KEY (session, round, attempt)",
    "models": ", PRIMARY KEY (session, round)",
}
"""Of each session: a plan once, a round reserved once and released once, a group secret once, a model each
round once."""


def _schema(version: int = SCHEMA_VERSION) -> Iterator[str]:
    """Yield the statements that make a file of a version."""
    yield "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT"
    yield "CREATE TABLE datasets (dataset BLOB PRIMARY KEY, time TEXT NOT NULL) STRICT"
    # Fingerprints of images, and of people where the data names them: both make a data set known again.
    yield (
        "CREATE TABLE images (fingerprint BLOB NOT NULL, dataset BLOB NOT NULL REFERENCES datasets,"
        " PRIMARY KEY (fingerprint, dataset)) STRICT, WITHOUT ROWID"
    )
    events = [table for table in _EVENTS if _SINCE.get(table, 1) <= version]
    for table in events:
        body = " ".join(_EVENTS[table].split())
        yield f"CREATE TABLE {table} ({body}, checksum BLOB NOT NULL{_KEYS[table]}) STRICT"
    for table in ("facts", "datasets", "images", *events):
        for change in ("UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}"
                " BEGIN SELECT RAISE(ABORT, 'what a ledger says is never changed'); END"
            )


def _told(error: InvalidInput | Unavailable) -> InvalidInput | Unavailable:
    """Let an error about a file that is no ledger leave as what it is."""
    error.code = error.code or Reason.LEDGER_DIFFERS.value
    return error


class LedgerFile:
    """One ledger on disk.

    Args:
        path: The file; made where missing.

    Raises:
        InvalidInput: If it cannot be made, opened or trusted; says which file and why. Nothing is written
            to a file that is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
        except OSError as error:
            raise system_error(f"the ledger {path} cannot be made", error) from None
        with self.connection() as database:
            _switch_to_wal(database)
        with self.transaction() as database:
            self._check_or_create(database)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """One connection a use, so that any thread may call us.

        Raises:
            InvalidInput: If the ledger cannot be opened or used.
            Unavailable: If the disk is full or broken.
        """
        try:
            with closing(
                sqlite3.connect(self.path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
            ) as database:
                database.execute("PRAGMA synchronous=FULL")
                database.execute("PRAGMA foreign_keys=ON")
                # Comparing fingerprints takes temporary tables: never a file in some other folder.
                database.execute("PRAGMA temp_store=MEMORY")
                yield database
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise _told(unusable(f"the ledger {self.path} cannot be used", self.path, error)) from None
        except UnicodeDecodeError:  # SQLite's own message quotes what it found in a damaged file
            raise _told(InvalidInput(f"the ledger {self.path} cannot be used: damaged")) from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: all of it is durable when the block ends, or none."""
        with self.connection() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:  # roll back whatever happened, then let it through
                if database.in_transaction:  # SQLite itself rolls back when the disk is full
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _check_or_create(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        found = {row[0] for row in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if version == 0 and not found:
            for statement in _schema():
                database.execute(statement)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            return
        if version > SCHEMA_VERSION:
            raise InvalidInput(
                f"the ledger {self.path} was written by a newer version (schema {version}, this one knows"
                f" {SCHEMA_VERSION}): update fedapt-secure; nothing was changed"
            )
        if version == 0:
            raise InvalidInput(
                f"the ledger {self.path} is of an earlier version, which did not tell data sets apart, so"
                " its spends cannot be counted: keep it as evidence and start under a new path only for"
                " images that it never saw"
            )
        if version < SCHEMA_VERSION and found == set(_schema(version)):
            for statement in _schema():
                if statement not in found:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif found != set(_schema()):
            raise InvalidInput(f"the ledger {self.path} cannot be used: its tables are not what we made")
        (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            said = " ".join(verdict.split())  # SQLite breaks lines
            raise InvalidInput(f"the ledger {self.path} cannot be used: damaged, {said}")
        if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise InvalidInput(f"the ledger {self.path} cannot be used: damaged, a data set is missing")
        for table in _EVENTS:
            for _ in self.rows(database, table):
                pass

    def insert(self, database: sqlite3.Connection, table: str, *values: object) -> None:
        """Add one event; a second one with the same key raises `sqlite3.IntegrityError`."""
        row = [*values, _checksum(table, values)]
        database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608

    def rows(
        self, database: sqlite3.Connection, table: str, where: str = "", values: tuple[object, ...] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield events in the order in which they were added, without their checksums.

        Args:
            database: An open connection.
            table: Which table.
            where: A condition in SQL, with ``?`` for values.
            values: What stands for them.

        Raises:
            InvalidInput: If one is not what was written.
        """
        query = f"SELECT * FROM {table} {where} ORDER BY rowid"  # noqa: S608 - both are ours
        for row in database.execute(query, values):
            *content, checksum = row
            if _checksum(table, content) != checksum:
                raise InvalidInput(f"the ledger {self.path} cannot be used: damaged, an entry of {table}")
            yield tuple(content)


def now() -> str:
    """Return the time as events state it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _checksum(table: str, values: tuple[object, ...] | list[object]) -> bytes:
    """Return SHA-256 over a row; it finds damage, not an owner who edits on purpose."""
    plain = [_plain(value) for value in values]
    return hashlib.sha256(json.dumps([table, *plain]).encode()).digest()


def _plain(value: object) -> object:
    if isinstance(value, (int, float)):
        return float(value).hex()  # a REAL column gives 8.0 back for 8
    return value.hex() if isinstance(value, bytes) else value


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

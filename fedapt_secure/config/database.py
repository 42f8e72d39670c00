"""A small SQLite file that loses nothing: WAL, synchronous=FULL, one immediate transaction a change."""

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, Unavailable, system_error
from fedapt_crypto.private_files import PRIVATE_FILE_MODE

LOCK_TIMEOUT_S = 30.0
_PAGE_BYTES: Final = 4096
_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "free disk space",
    sqlite3.SQLITE_IOERR: "free disk space, or see to the disk",
    sqlite3.SQLITE_NOMEM: "free memory",
    sqlite3.SQLITE_BUSY: "stop the other process that uses it",
}
"""What to do where the machine lacks something, by SQLite's primary result code."""
_CODES: Final = {sqlite3.SQLITE_FULL: "no_space", sqlite3.SQLITE_NOMEM: "no_memory"}


class Database:
    """One file, usable by several threads and processes at once.

    Args:
        path: The file; made for its owner only.
        schema: Statements that make the tables where there are none, separated by ``;``.
        title: What the file is, for messages.

    Raises:
        InvalidInput: If it cannot be made or is not such a file; so do all methods.
        Unavailable: If the disk is full or broken, or another process holds it too long; so do all methods.
    """

    def __init__(self, path: Path, schema: str, title: str) -> None:
        self._path = path
        self._title = title
        try:
            path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
        except OSError as error:
            raise system_error(f"{title} {path} cannot be made", error) from None
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"{title} {path} can be read by others: run 'chmod 600 {path}'")
        with self.reading() as database:
            _switch_to_wal(database)
        with self.transaction() as database:
            for statement in schema.split(";"):
                database.execute(statement)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, so that any thread may ask.

        Raises:
            InvalidInput, Unavailable: If the file cannot be read.
        """
        try:
            with closing(
                sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
            ) as database:
                database.execute("PRAGMA synchronous=FULL")
                database.execute("PRAGMA foreign_keys=ON")
                yield database
        except sqlite3.DatabaseError as error:
            raise unusable(f"{self._title} {self._path} cannot be used", self._path, error) from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: all of it is durable when the block ends, or none."""
        with self.reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:  # roll back whatever happened, then let it through
                if database.in_transaction:  # SQLite itself rolls back when the disk is full
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


def unusable(sentence: str, path: Path, error: sqlite3.DatabaseError) -> InvalidInput | Unavailable:
    """Return what to raise where SQLite refused something.

    Args:
        sentence: What could not be done.
        path: The file.
        error: SQLite's answer.

    Returns:
        `Unavailable` where disk, memory or a lock stood in the way, else `InvalidInput`: not such a file.
    """
    code = (error.sqlite_errorcode or 0) & 0xFF if hasattr(error, "sqlite_errorcode") else 0
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        # SQLite does not say why, and its shared memory takes a full disk for an I/O error: ask as it did.
        try:
            with tempfile.TemporaryFile(dir=path.parent) as probe:
                probe.write(bytes(_PAGE_BYTES))
        except OSError as why:
            return system_error(sentence, why)
    remedy = _REMEDIES.get(code)
    said = f"{sentence}: {error}"
    if remedy is None:
        return InvalidInput(said)
    lacking = Unavailable(f"{said}; {remedy}, then start it again")
    lacking.code = _CODES.get(code, lacking.code)
    return lacking


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

"""A small SQLite file that loses nothing: WAL, synchronous=FULL, one immediate transaction a change."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import PRIVATE_FILE_MODE

LOCK_TIMEOUT_S = 30.0


class Database:
    """One file, usable by several threads and processes at once.

    Args:
        path: The file; made for its owner only.
        schema: Statements that make the tables where there are none, separated by ``;``.
        title: What the file is, for messages.

    Raises:
        InvalidInput: If it cannot be made or is not such a file; so do all methods.
    """

    def __init__(self, path: Path, schema: str, title: str) -> None:
        self._path = path
        self._title = title
        try:
            path.touch(mode=PRIVATE_FILE_MODE, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{title} {path} cannot be made: {error.strerror}") from None
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
            InvalidInput: If the file cannot be read.
        """
        try:
            with closing(
                sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
            ) as database:
                database.execute("PRAGMA synchronous=FULL")
                database.execute("PRAGMA foreign_keys=ON")
                yield database
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{self._title} {self._path} cannot be used: {error}") from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: all of it is durable when the block ends, or none."""
        with self.reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:  # roll back whatever happened, then let it through
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


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

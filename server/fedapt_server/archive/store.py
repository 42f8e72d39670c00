"""The coordinator's sessions on disk: SQLite for what happened, safetensors for models.

A model's file is whole and durable before the transaction that names it; what no transaction names any more
is removed after it. So whatever instant the power goes, the store shows the session as it was before a step
or after it.

The seeds of the domain keys lie here until the session has ended and everybody has them; the file is for its
owner only.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from pydantic import ValidationError
from safetensors import SafetensorError

from fedapt_crypto.errors import FedaptError, InvalidInput, Unavailable, system_error
from fedapt_crypto.private_files import make_private_folder, remove_leftovers, write_atomically
from fedapt_secure.config.database import Database
from fedapt_secure.log.heads import RoundRecord, SignedHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector, check_vector
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.protocol.stated import SumStatement
from fedapt_server.session.progress import GivenSum, GroupOffered, Progress, Signed

STORE_FILE: Final = "sessions.sqlite"
MODELS_FOLDER: Final = "sessions"
_TENSOR: Final = "parameters"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    place INTEGER PRIMARY KEY, session BLOB NOT NULL UNIQUE, created TEXT NOT NULL,
    configuration BLOB NOT NULL, key_seeds BLOB NOT NULL,
    number INTEGER NOT NULL, attempt INTEGER NOT NULL,
    model_file TEXT NOT NULL, model_id BLOB NOT NULL, last_end TEXT,
    group_maker TEXT, group_offer BLOB, closing INTEGER NOT NULL DEFAULT 0,
    ended TEXT) STRICT;
CREATE TABLE IF NOT EXISTS attempts (
    session BLOB NOT NULL, place INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (session, place)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sealed_sums (
    session BLOB NOT NULL, place INTEGER NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY (session, place)) STRICT;
CREATE TABLE IF NOT EXISTS given_sums (
    session BLOB PRIMARY KEY, round INTEGER NOT NULL, attempt INTEGER NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS bound_sets (
    session BLOB PRIMARY KEY, names TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS statements (
    session BLOB NOT NULL, name TEXT NOT NULL, statement BLOB NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (session, name)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signatures (
    session BLOB NOT NULL, name TEXT NOT NULL, signature BLOB NOT NULL, head BLOB NOT NULL,
    PRIMARY KEY (session, name)) STRICT, WITHOUT ROWID
"""
_SELECT: Final = """
SELECT session, created, configuration, key_seeds, number, attempt, model_file, model_id, last_end,
    group_maker, group_offer, closing, ended
FROM sessions WHERE {} ORDER BY place DESC LIMIT 1
"""
_SEED_BYTES: Final = 32


@dataclass(frozen=True)
class StoredSession:
    """A session as it lies on disk.

    Attributes:
        configuration: What institutions agreed to.
        key_seeds: One a domain key.
        progress: How far it has come.
        created: When it was created, UTC.
    """

    configuration: SessionConfiguration
    key_seeds: tuple[bytes, ...] = field(repr=False)
    progress: Progress = field(repr=False)
    created: datetime


class SessionStore:
    """All sessions of one coordinator, at most one of them unfinished.

    Args:
        folder: The coordinator's folder.

    Raises:
        InvalidInput: If the store cannot be made or used; so do all methods.
    """

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / STORE_FILE, _SCHEMA, "the coordinator's store")
        self._models = folder / MODELS_FOLDER
        try:
            make_private_folder(self._models)
            remove_leftovers(self._models, older_than_s=0)
        except OSError as error:
            raise system_error(f"{self._models} cannot be used", error) from None

    def unfinished(self) -> StoredSession | None:
        """Return the session that has not ended."""
        return self._newest("ended IS NULL")

    def finished(self) -> StoredSession | None:
        """Return the session that was created last of those that have ended."""
        return self._newest("ended IS NOT NULL")

    def with_model(self) -> StoredSession | None:
        """Return the ended session that was created last of those that completed a round.

        Where there is none, the one that ended last.
        """
        newest = self.finished()
        with self._database.reading() as database:
            ended = "SELECT session FROM sessions WHERE ended IS NOT NULL ORDER BY place DESC"
            sessions = [bytes(row[0]) for row in database.execute(ended)]
            for session in sessions:
                records = _column(database, session, "attempts", "record")
                if any(RoundRecord.from_bytes(one).status == "completed" for one in records):
                    found = session
                    break
            else:
                return newest
        return self.find(found)

    def find(self, session: bytes) -> StoredSession | None:
        """Return a session by its identifier."""
        return self._newest("session = ?", session)

    def create(self, configuration: SessionConfiguration, key_seeds: tuple[bytes, ...]) -> StoredSession:
        """Put a new session on record, durably, before anybody hears of it.

        Raises:
            InvalidInput: If another one has not ended.
        """
        progress, created = Progress.initial(configuration), datetime.now(UTC)
        name = self._write_model(configuration.session, progress)
        with self._database.transaction() as database:
            if database.execute("SELECT 1 FROM sessions WHERE ended IS NULL").fetchone():
                raise InvalidInput("a session has not ended yet; a new one cannot begin beside it")
            database.execute(
                "INSERT INTO sessions (session, created, configuration, key_seeds, number, attempt,"
                " model_file, model_id) VALUES (?, ?, ?, ?, 0, 0, ?, ?)",
                (
                    configuration.session,
                    created.isoformat(timespec="seconds"),
                    configuration.to_bytes(),
                    b"".join(key_seeds),
                    name,
                    progress.model_id,
                ),
            )
        return StoredSession(configuration, key_seeds, progress, created)

    def keep(self, session: bytes, progress: Progress) -> None:
        """Make a session's progress durable; returns when it is.

        Raises:
            InvalidInput: If the store does not know the session any more.
        """
        with self._database.reading() as database:
            before = database.execute(
                "SELECT model_file, model_id FROM sessions WHERE session = ?", (session,)
            ).fetchone()
        if before is None:
            raise InvalidInput("the coordinator's store has lost the session that is running")
        # Where only institutions know the model, what stands for it changes and the first model stays.
        changed = bytes(before[1]) != progress.model_id
        name = self._write_model(session, progress) if changed else str(before[0])
        with self._database.transaction() as database:
            self._update(database, session, progress, name)
            _append(database, session, "attempts", "record", [r.to_bytes() for r in progress.records])
            _append(database, session, "sealed_sums", "sum", [s.to_bytes() for s in progress.sealed_sums])
            _keep_sums(database, session, progress)
            database.executemany(
                "INSERT INTO signatures VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET signature = excluded.signature, head = excluded.head",
                [
                    (session, party, signed.signature, signed.head.to_bytes())
                    for party, signed in progress.signed.items()
                ],
            )
        if name != str(before[0]):
            (self._models / str(before[0])).unlink(missing_ok=True)

    @staticmethod
    def _update(database: sqlite3.Connection, session: bytes, progress: Progress, model_file: str) -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds") if progress.ended else None
        group = progress.group
        database.execute(
            "UPDATE sessions SET number = ?, attempt = ?, model_file = ?, model_id = ?, last_end = ?,"
            " group_maker = ?, group_offer = ?, closing = ?, ended = coalesce(ended, ?) WHERE session = ?",
            (
                progress.number,
                progress.attempt,
                model_file,
                progress.model_id,
                None if progress.last_end is None else json.dumps(progress.last_end),
                None if group is None else group.maker,
                None if group is None else group.payload,
                progress.closing,
                ended,
                session,
            ),
        )

    def _newest(self, condition: str, *arguments: object) -> StoredSession | None:
        query = _SELECT.format(condition)
        with self._database.transaction() as database:
            row = database.execute(query, arguments).fetchone()
            if row is None:
                return None
            try:
                return self._from_row(database, row)
            except Unavailable:
                raise
            except (FedaptError, ValidationError, ValueError, OSError, SafetensorError) as error:
                raise InvalidInput(
                    f"the coordinator's store is damaged ({type(error).__name__}: {error}): restore"
                    f" {STORE_FILE} and {MODELS_FOLDER}/ from the same backup"
                ) from None

    def _from_row(self, database: sqlite3.Connection, row: tuple[Any, ...]) -> StoredSession:
        (
            session,
            created,
            packed,
            seeds,
            number,
            attempt,
            model_file,
            model_id,
            last_end,
            maker,
            offer,
            closing,
            end,
        ) = row
        configuration = SessionConfiguration.from_bytes(packed)
        progress = Progress(
            model=self._read_model(configuration, str(model_file), model_id),
            model_id=model_id,
            number=number,
            attempt=attempt,
            records=tuple(
                RoundRecord.from_bytes(one) for one in _column(database, session, "attempts", "record")
            ),
            last_end=None if last_end is None else json.loads(last_end),
            sealed_sums=tuple(
                m.MissedSum.from_bytes(one) for one in _column(database, session, "sealed_sums", "sum")
            ),
            **_sums(database, session),
            group=None if maker is None else GroupOffered(maker, offer),
            signed={
                name: Signed(signature, SignedHead.from_bytes(head))
                for name, signature, head in database.execute(
                    "SELECT name, signature, head FROM signatures WHERE session = ?", (session,)
                )
            },
            closing=bool(closing),
            ended=end is not None,
        )
        key_seeds = tuple(seeds[at : at + _SEED_BYTES] for at in range(0, len(seeds), _SEED_BYTES))
        return StoredSession(configuration, key_seeds, progress, datetime.fromisoformat(created))

    def _write_model(self, session: bytes, progress: Progress) -> str:
        """Write the model to a file of its own; returns the name."""
        name = f"{session.hex()}-{progress.model_id.hex()[:16]}.safetensors"
        try:
            write_atomically(self._models / name, safetensors.numpy.save({_TENSOR: progress.model}))
        except OSError as error:
            raise system_error(f"the model cannot be written to {self._models}", error) from None
        return name

    def _read_model(self, configuration: SessionConfiguration, name: str, model_id: bytes) -> Vector:
        tensors = safetensors.numpy.load((self._models / name).read_bytes())
        model: Vector = tensors[_TENSOR]
        check_vector(configuration.plan.shape, model)
        if not configuration.blind and model_hash(m.model_to_bytes(model)) != model_id:
            raise ValueError(f"{name} is not the model of the last completed round")
        return model.astype(np.float32, copy=False)


def _keep_sums(database: sqlite3.Connection, session: bytes, progress: Progress) -> None:
    """Put the newest sum on record, once, and what is stated about it."""
    given = progress.pending
    if given is None:
        database.execute("DELETE FROM given_sums WHERE session = ?", (session,))
    else:
        held = database.execute(
            "SELECT round, attempt FROM given_sums WHERE session = ?", (session,)
        ).fetchone()
        if held != (given.round, given.attempt):
            row = (session, given.round, given.attempt, given.to_bytes())
            database.execute("INSERT OR REPLACE INTO given_sums VALUES (?, ?, ?, ?)", row)
    bound = json.dumps(progress.bound)
    database.execute("INSERT OR REPLACE INTO bound_sets VALUES (?, ?)", (session, bound))
    stated = b"" if progress.stated is None else progress.stated.to_bytes()
    database.execute("DELETE FROM statements WHERE session = ? AND statement <> ?", (session, stated))
    database.executemany(
        "INSERT OR IGNORE INTO statements VALUES (?, ?, ?, ?)",
        [(session, name, stated, signature) for name, signature in {"": b"", **progress.statements}.items()]
        if stated
        else (),
    )


def _sums(database: sqlite3.Connection, session: bytes) -> dict[str, Any]:
    """Return the newest sum and what is stated about it, as they belong into a session's progress."""
    given = database.execute("SELECT sum FROM given_sums WHERE session = ?", (session,)).fetchone()
    query = "SELECT name, statement, signature FROM statements WHERE session = ?"
    stated = {
        name: (statement, signature) for name, statement, signature in database.execute(query, (session,))
    }
    statement, _ = stated.pop("", (None, b""))  # nobody has no name
    bound = database.execute("SELECT names FROM bound_sets WHERE session = ?", (session,)).fetchone()
    return {
        "bound": () if bound is None else tuple(json.loads(bound[0])),
        "pending": None if given is None else GivenSum.from_bytes(given[0], max_bytes=m.MAX_FRAME_BYTES * 2),
        "stated": None if statement is None else SumStatement.from_bytes(statement),
        "statements": {name: signature for name, (_, signature) in stated.items()},
    }


def _append(
    database: sqlite3.Connection, session: bytes, table: str, column: str, entries: Sequence[bytes]
) -> None:
    """Add those entries of a growing list that are not there yet."""
    held = database.execute(f"SELECT count(*) FROM {table} WHERE session = ?", (session,)).fetchone()[0]  # noqa: S608
    database.executemany(
        f"INSERT INTO {table} (session, place, {column}) VALUES (?, ?, ?)",  # noqa: S608 - our own names
        [(session, place, entry) for place, entry in enumerate(entries[held:], start=held)],
    )


def _column(database: sqlite3.Connection, session: bytes, table: str, column: str) -> list[bytes]:
    query = f"SELECT {column} FROM {table} WHERE session = ? ORDER BY place"  # noqa: S608 - our own names
    return [row[0] for row in database.execute(query, (session,))]

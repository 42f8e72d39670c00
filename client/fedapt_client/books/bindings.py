"""What an institution has bound itself to in a session, durable before anybody else can rely on it.

Its group secret, the executions in which it has revealed shares, and each new model with what it stated about
the sum. It is in the ledger's file, under the same rules: rows are added and never changed, and a restart, or
a coordinator that says something else, changes nothing about them.
"""

import json
import sqlite3
from dataclasses import dataclass

from fedapt_client.books.ledger_file import LedgerFile, now
from fedapt_crypto.errors import ContextMismatch
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.scheme import Opening, RoundContext


@dataclass(frozen=True)
class ModelRecord:
    """A model that a session has here.

    Attributes:
        round, attempt: The execution whose sum led to it.
        model_id: What stands for it.
        stated: The statement about it as it was sent; empty where others' word was taken for it.
    """

    round: int
    attempt: int
    model_id: bytes
    stated: bytes


class Bindings:
    """What sessions are bound to.

    Args:
        file: The ledger's file.
    """

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    def group_of(self, session: bytes) -> bytes | None:
        """Return the commitment of the group secret that a session has here, if it has one."""
        with self._file.transaction() as database:
            return self._group_of(database, session)

    def bind_group(self, session: bytes, commitment: bytes) -> None:
        """Record a session's group secret, before we sign anything under it; the same again is fine.

        Args:
            session: The session.
            commitment: What stands for the secret, 32 bytes.

        Raises:
            ContextMismatch: If the session has another one here: two would let two groups of institutions
                complete its rounds side by side.
            InvalidInput: If the ledger cannot be written.
        """
        with self._file.transaction() as database:
            held = self._group_of(database, session)
            if held is None:
                self._file.insert(database, "groups", session, commitment, now())
            elif held != commitment:
                raise ContextMismatch(
                    "this session has another group secret here, and keeps it", peer=COORDINATOR
                )

    def open(self, opening: Opening) -> None:
        """Record that shares of an execution are revealed now.

        Raises:
            InvalidInput: If the ledger cannot be written.
        """
        with self._file.transaction() as database:
            self._file.insert(
                database,
                "openings",
                opening.context.session,
                opening.context.round,
                opening.context.attempt,
                opening.context.to_bytes(),
                opening.execution,
                opening.transcript,
                json.dumps(opening.survivors),
                opening.survivors_hash,
                now(),
            )

    def openings(self, session: bytes) -> tuple[Opening, ...]:
        """Return the executions in which shares were revealed, oldest first."""
        with self._file.transaction() as database:
            rows = list(self._file.rows(database, "openings", "WHERE session = ?", (session,)))
        return tuple(
            Opening(
                context=RoundContext.from_bytes(context),
                execution=execution,
                transcript=transcript,
                survivors=tuple(json.loads(survivors)),
                survivors_hash=survivors_hash,
            )
            for _, _, _, context, execution, transcript, survivors, survivors_hash, _ in rows
        )

    def adopt(self, session: bytes, record: ModelRecord) -> None:
        """Record a new model: from now on it is the session's here; the same again is fine.

        Args:
            session: The session.
            record: The model, which is written already.

        Raises:
            ContextMismatch: If the round has led to another model here: one statement a round is signed.
            InvalidInput: If the ledger cannot be written.
        """
        with self._file.transaction() as database:
            held = self._models(database, session)
            if any(one.round == record.round for one in held):
                if not any((one.round, one.model_id) == (record.round, record.model_id) for one in held):
                    raise ContextMismatch(
                        f"round {record.round} has led to another model here", peer=COORDINATOR
                    )
                return
            row = (session, record.round, record.attempt, record.model_id, record.stated, now())
            self._file.insert(database, "models", *row)

    def model_of(self, session: bytes) -> ModelRecord | None:
        """Return a session's newest model, if it has one besides its first."""
        with self._file.transaction() as database:
            return max(self._models(database, session), key=lambda one: one.round, default=None)

    def newest_joined(self, session: bytes) -> tuple[int, int]:
        """Return round and attempt of the newest execution that was joined; zeros before the first."""
        with self._file.transaction() as database:
            rows = list(self._file.rows(database, "executions", "WHERE session = ?", (session,)))
        return max(((row[1], row[2]) for row in rows), default=(0, 0))

    def _models(self, database: sqlite3.Connection, session: bytes) -> list[ModelRecord]:
        rows = self._file.rows(database, "models", "WHERE session = ?", (session,))
        return [ModelRecord(number, attempt, model, stated) for _, number, attempt, model, stated, _ in rows]

    def _group_of(self, database: sqlite3.Connection, session: bytes) -> bytes | None:
        rows = list(self._file.rows(database, "groups", "WHERE session = ?", (session,)))
        return bytes(rows[0][1]) if rows else None

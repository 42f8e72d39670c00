"""What an institution has bound itself to in a session, durable before anybody else can rely on it.

It is in the ledger's file, under the same rules: rows are added and never changed, and a restart, or a
coordinator that says something else, changes nothing about them.
"""

import sqlite3

from fedapt_client.books.ledger_file import LedgerFile, now
from fedapt_crypto.errors import ContextMismatch
from fedapt_crypto.roster import COORDINATOR


class Bindings:
    """The group secret of each session, by its commitment.

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

    def _group_of(self, database: sqlite3.Connection, session: bytes) -> bytes | None:
        rows = list(self._file.rows(database, "groups", "WHERE session = ?", (session,)))
        return bytes(rows[0][1]) if rows else None

"""What the membership record holds: its tables, and their rows as values.

A database of an earlier version is brought up to date when it is opened, see `upgrade`.
"""

import sqlite3
from dataclasses import dataclass

from fedapt_crypto.roster import Member

SCHEMA = """
CREATE TABLE IF NOT EXISTS domains (
    domain_index INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS invitations (
    token_id BLOB PRIMARY KEY, token_hash BLOB NOT NULL, paper_key BLOB NOT NULL,
    name TEXT NOT NULL COLLATE NOCASE, domain_index INTEGER NOT NULL REFERENCES domains,
    created INTEGER NOT NULL, expires INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, withdrawn INTEGER NOT NULL DEFAULT 0,
    member INTEGER REFERENCES members
) STRICT;
CREATE TABLE IF NOT EXISTS members (
    member INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL COLLATE NOCASE,
    domain_index INTEGER NOT NULL REFERENCES domains,
    identity_key BLOB NOT NULL UNIQUE, sealing_key BLOB NOT NULL UNIQUE,
    joined INTEGER NOT NULL, revoked INTEGER, reason TEXT, entry_signature BLOB
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_active_member_a_name ON members (name) WHERE revoked IS NULL;
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, member INTEGER REFERENCES members, public_key BLOB NOT NULL UNIQUE,
    certificate BLOB NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, revoked INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY, changed INTEGER NOT NULL, event TEXT NOT NULL, signed BLOB
) STRICT;
"""


def upgrade(database: sqlite3.Connection, *, now: int) -> None:
    """Bring the tables of an earlier version up to date, within the caller's transaction.

    Members from before entries were signed are left without a signature, and off the roster until they
    renew their certificate: nobody else can sign for them.
    """
    columns = {row[1] for row in database.execute("PRAGMA table_info(members)")}
    if "entry_signature" not in columns:
        database.execute("ALTER TABLE members ADD COLUMN entry_signature BLOB")
        revise(database, now, "entries are signed by their members from now on")


def revise(database: sqlite3.Connection, now: int, event: str) -> None:
    """Begin the roster's next revision.

    Args:
        database: With a transaction open.
        now: The time of the change, in seconds since 1970.
        event: What changed, for the operator.
    """
    database.execute(
        "INSERT INTO revisions SELECT coalesce(max(revision) + 1, 1), ?, ?, NULL FROM revisions", (now, event)
    )


@dataclass(frozen=True)
class Invitation:
    """An invitation as it is kept; times are seconds since 1970.

    ``withdrawn`` is 0 or 1, ``member`` the row of the member who used it.
    """

    token_id: bytes
    token_hash: bytes
    paper_key: bytes
    name: str
    domain_index: int
    created: int
    expires: int
    attempts: int
    withdrawn: int
    member: int | None

    def __repr__(self) -> str:
        return f"Invitation({self.name!r})"


@dataclass(frozen=True)
class MemberRecord:
    """A member, present or past; times are seconds since 1970."""

    row: int
    name: str
    domain: str
    domain_index: int
    identity_key: bytes
    sealing_key: bytes
    joined: int
    revoked: int | None
    reason: str | None
    entry_signature: bytes | None
    certificate_ends: int | None

    def as_member(self) -> Member | None:
        """Return what stands on the roster; ``None`` where its owner has not signed it yet."""
        if self.entry_signature is None:
            return None
        return Member(
            name=self.name,
            identity_key=self.identity_key,
            sealing_key=self.sealing_key,
            domain_index=self.domain_index,
            entry_signature=self.entry_signature,
        )


@dataclass(frozen=True)
class NewCertificate:
    """A certificate to be recorded: PEM, and what is asked of it."""

    serial: int
    public_key: bytes
    certificate: bytes
    not_before: int
    not_after: int

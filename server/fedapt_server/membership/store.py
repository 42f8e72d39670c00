"""Who was invited, who is a member, which certificates there are and which are revoked (SQLite, WAL).

Each public method is one transaction, durable when it returns: a crash at any statement leaves all of it or
nothing. What follows from the tables, the signed roster and the revocation list, is made from them and can
be made again. Nothing here is secret but the names: tokens are kept as hashes.
"""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import Revocation
from fedapt_secure.config.database import Database
from fedapt_server.membership.records import (
    SCHEMA,
    Invitation,
    MemberRecord,
    NewCertificate,
    revise,
    upgrade,
)

MAX_ATTEMPTS = 10
"""After so many failed attempts that named an invitation, nobody can use it any more."""
MAX_CERTIFICATES_A_DAY = 10
"""So many a member gets in 24 hours: enough for every mistake, too few to fill a disk."""
_DAY_S = 86_400
_INVITATIONS = (
    "SELECT token_id, token_hash, paper_key, name, domain_index, created, expires, attempts, withdrawn,"
    " member FROM invitations"
)
_MEMBERS = (
    "SELECT member, m.name, d.name, m.domain_index, identity_key, sealing_key, joined, m.revoked, reason,"
    " entry_signature,"
    " (SELECT max(not_after) FROM certificates c WHERE c.member = m.member)"
    " FROM members m JOIN domains d USING (domain_index)"
)


class Membership:
    """The coordinator's durable record of its federation."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA, "the membership record")
        with self._database.transaction() as database:
            upgrade(database, now=int(datetime.now(UTC).timestamp()))

    def add_domain(self, name: str) -> int:
        """Return the index of a domain; a new one gets the next, and keeps it for good."""
        with self._database.transaction() as database:
            return _domain(database, name)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of all domains, in key order."""
        with self._database.reading() as database:
            rows = database.execute("SELECT name FROM domains ORDER BY domain_index").fetchall()
        return tuple(row[0] for row in rows)

    def invite(
        self,
        token_id: bytes,
        token_hash: bytes,
        paper_key: bytes,
        name: str,
        domain: str,
        *,
        now: int,
        expires: int,
    ) -> bool:
        """Record an invitation; an earlier one of that name that nobody used is withdrawn.

        Returns:
            Whether an earlier one was withdrawn.

        Raises:
            InvalidInput: If somebody of that name is a member.
        """
        with self._database.transaction() as database:
            if database.execute(
                "SELECT 1 FROM members WHERE name = ? AND revoked IS NULL", (name,)
            ).fetchone():
                raise InvalidInput(
                    f"{name!r} is a member already: for new keys, revoke it first ('server revoke {name}')"
                )
            withdrawn = _withdraw(database, name)
            database.execute(
                "INSERT INTO invitations (token_id, token_hash, paper_key, name, domain_index, created,"
                " expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (token_id, token_hash, paper_key, name, _domain(database, domain), now, expires),
            )
        return withdrawn

    def invitation(self, token_id: bytes) -> Invitation | None:
        """Return the invitation that a token names, whatever became of it."""
        with self._database.reading() as database:
            row = database.execute(
                _INVITATIONS + " WHERE token_id = ?",
                (token_id,),
            ).fetchone()
        return None if row is None else Invitation(*row)

    @property
    def open_invitations(self) -> tuple[Invitation, ...]:
        """Invitations that nobody used and that were not withdrawn, also expired ones, oldest first."""
        with self._database.reading() as database:
            rows = database.execute(
                _INVITATIONS + " WHERE member IS NULL AND NOT withdrawn ORDER BY created, name"
            ).fetchall()
        return tuple(Invitation(*row) for row in rows)

    def check_free(self, name: str) -> None:
        """Check that the coordinator may go by a name: certificates say who is who.

        Raises:
            InvalidInput: If it is that of a member, or of one that is invited, in whatever case.
        """
        taken = {member.name.lower() for member in self.members if member.revoked is None}
        if name.lower() in taken | {invitation.name.lower() for invitation in self.open_invitations}:
            raise InvalidInput(
                f"the coordinator's name in its settings, {name!r}, is an institution's here: give it another"
            )

    def count_attempt(self, token_id: bytes) -> None:
        """Count a failed attempt that named this invitation."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE invitations SET attempts = attempts + 1 WHERE token_id = ? AND attempts < ?",
                (token_id, MAX_ATTEMPTS),
            )

    def enrol(
        self,
        invitation: Invitation,
        identity_key: bytes,
        sealing_key: bytes,
        entry_signature: bytes,
        certificate: NewCertificate,
        *,
        now: int,
    ) -> int:
        """Make an institution a member: invitation used, keys, certificate and a new revision, or nothing.

        Returns:
            The member's row.

        Raises:
            InvalidInput: If the invitation was used or withdrawn meanwhile, or one of the keys belongs to
                somebody else.
        """
        with self._database.transaction() as database:
            try:
                member = database.execute(
                    "INSERT INTO members"
                    " (name, domain_index, identity_key, sealing_key, joined, entry_signature)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        invitation.name,
                        invitation.domain_index,
                        identity_key,
                        sealing_key,
                        now,
                        entry_signature,
                    ),
                ).lastrowid
                assert member is not None
                used = database.execute(
                    "UPDATE invitations SET member = ?"
                    " WHERE token_id = ? AND member IS NULL AND NOT withdrawn",
                    (member, invitation.token_id),
                )
                if used.rowcount != 1:
                    raise InvalidInput("the invitation was used or withdrawn meanwhile")
                _record(database, member, certificate)
            except sqlite3.IntegrityError:
                raise InvalidInput(
                    "a name or key in the request belongs to a member, present or past:"
                    " enrol from a new folder"
                ) from None
            revise(database, now, f"{invitation.name} joined")
        return member

    def sign_entry(self, member: int, entry_signature: bytes, *, now: int) -> None:
        """Record a member's signature on its entry, where there is none: it is on the roster from then on."""
        with self._database.transaction() as database:
            changed = database.execute(
                "UPDATE members SET entry_signature = ?"
                " WHERE member = ? AND entry_signature IS NULL AND revoked IS NULL RETURNING name",
                (entry_signature, member),
            ).fetchone()
            if changed is not None:
                revise(database, now, f"{changed[0]} has signed its entry")

    def certify(self, member: int | None, certificate: NewCertificate) -> None:
        """Record another certificate of a member, or one of the coordinator (``None``).

        Raises:
            InvalidInput: If there is a certificate for that key, the member was revoked meanwhile, or got
                too many certificates today.
        """
        with self._database.transaction() as database:
            found = database.execute("SELECT revoked FROM members WHERE member = ?", (member,)).fetchone()
            if member is not None and (found is None or found[0] is not None):
                raise InvalidInput("the member was revoked meanwhile")
            recent = database.execute(
                "SELECT count(*) FROM certificates WHERE member = ? AND not_before > ?",
                (member, certificate.not_before - _DAY_S),
            ).fetchone()
            if recent[0] >= MAX_CERTIFICATES_A_DAY:
                raise InvalidInput(f"{MAX_CERTIFICATES_A_DAY} certificates in 24 hours are enough: wait")
            try:
                _record(database, member, certificate)
            except sqlite3.IntegrityError:
                raise InvalidInput(
                    "there is a certificate for this key already: ask with a fresh key"
                ) from None

    def certificate(self, member: int, public_key: bytes) -> bytes | None:
        """Return the certificate (PEM) that a member has for a TLS key, if there is one."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT certificate FROM certificates WHERE member = ? AND public_key = ?",
                (member, public_key),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def supersede(self, public_key: bytes) -> None:
        """Let another certificate be made for a key, whose present one nobody can use or nobody has got.

        It stays on record, so that revoking its member revokes it too.
        """
        with self._database.transaction() as database:
            database.execute(
                "UPDATE certificates SET public_key = CAST('superseded ' || serial AS BLOB)"
                " WHERE public_key = ?",
                (public_key,),
            )

    def member(self, name: str) -> MemberRecord | None:
        """Return the present member of that name."""
        with self._database.reading() as database:
            row = database.execute(_MEMBERS + " WHERE m.name = ? AND m.revoked IS NULL", (name,)).fetchone()
        return None if row is None else MemberRecord(*row)

    def member_of_row(self, row: int) -> MemberRecord:
        """Return a member, present or past."""
        with self._database.reading() as database:
            return MemberRecord(*database.execute(_MEMBERS + " WHERE m.member = ?", (row,)).fetchone())

    @property
    def members(self) -> tuple[MemberRecord, ...]:
        """All members, present and past, in the order in which they joined."""
        with self._database.reading() as database:
            return tuple(MemberRecord(*row) for row in database.execute(_MEMBERS + " ORDER BY m.member"))

    def revoke(self, name: str, reason: str, *, now: int) -> bool:
        """Take a member off the roster and its certificates out of use, and withdraw its invitation.

        Returns:
            Whether there was a member, and not only an invitation.

        Raises:
            InvalidInput: If nobody of that name is a member or invited.
        """
        with self._database.transaction() as database:
            row = database.execute(
                "SELECT member FROM members WHERE name = ? AND revoked IS NULL", (name,)
            ).fetchone()
            withdrawn = _withdraw(database, name)
            if row is None:
                if not withdrawn:
                    raise InvalidInput(f"nobody named {name!r} is a member or invited: see 'server roster'")
                return False
            database.execute(
                "UPDATE members SET revoked = ?, reason = ? WHERE member = ?", (now, reason, *row)
            )
            database.execute(
                "UPDATE certificates SET revoked = ? WHERE member = ? AND revoked IS NULL", (now, *row)
            )
            revise(database, now, f"{name} revoked")
        return True

    @property
    def revocations(self) -> tuple[Revocation, ...]:
        """All certificates that are revoked."""
        with self._database.reading() as database:
            rows = database.execute(
                "SELECT serial, revoked FROM certificates WHERE revoked IS NOT NULL ORDER BY revoked, serial"
            ).fetchall()
        return tuple(Revocation(int(serial, 16), datetime.fromtimestamp(at, UTC)) for serial, at in rows)

    @property
    def revision(self) -> tuple[int, int, bytes | None]:
        """The newest revision of the roster: number (0 for none), time of change, signed form if made."""
        with self._database.reading() as database:
            row = database.execute(
                "SELECT revision, changed, signed FROM revisions ORDER BY revision DESC LIMIT 1"
            ).fetchone()
        return (0, 0, None) if row is None else (row[0], row[1], row[2])

    def keep_signed(self, revision: int, signed: bytes) -> None:
        """Keep the signed form of a revision, so that everybody gets the same bytes."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE revisions SET signed = ? WHERE revision = ? AND signed IS NULL", (signed, revision)
            )
            # Older ones are of no use to anybody, and each is as large as the roster.
            database.execute("UPDATE revisions SET signed = NULL WHERE revision < ?", (revision,))


def _domain(database: sqlite3.Connection, name: str) -> int:
    row = database.execute("SELECT domain_index FROM domains WHERE name = ?", (name,)).fetchone()
    if row is None:
        database.execute(
            "INSERT INTO domains SELECT coalesce(max(domain_index) + 1, 0), ? FROM domains", (name,)
        )
        return _domain(database, name)
    return int(row[0])


def _withdraw(database: sqlite3.Connection, name: str) -> bool:
    """Withdraw open invitations of a name; says whether there were any."""
    updated = database.execute(
        "UPDATE invitations SET withdrawn = 1 WHERE name = ? AND member IS NULL AND NOT withdrawn", (name,)
    )
    return updated.rowcount > 0


def _record(database: sqlite3.Connection, member: int | None, certificate: NewCertificate) -> None:
    database.execute(
        "INSERT INTO certificates (serial, member, public_key, certificate, not_before, not_after)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            f"{certificate.serial:x}",
            member,
            certificate.public_key,
            certificate.certificate,
            certificate.not_before,
            certificate.not_after,
        ),
    )

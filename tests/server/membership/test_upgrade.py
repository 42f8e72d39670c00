"""Records from before members signed their entries: nothing is lost, and renewing brings one back."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fedapt_client.membership import enrolment
from fedapt_crypto.roster import sign_entry
from fedapt_crypto.seal import SealingKey
from fedapt_secure.cli.app import run as command
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import EnrolmentRefusal
from fedapt_server.membership.enrolment_desk import EnrolmentDesk
from fedapt_server.membership.refused import Refused
from fedapt_server.membership.registrar import MEMBERSHIP_FILE, Registrar
from fedapt_server.membership.store import Membership
from tests.support.offices import Office

FORMER_SCHEMA = """
CREATE TABLE domains (
    domain_index INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE invitations (
    token_id BLOB PRIMARY KEY, token_hash BLOB NOT NULL, paper_key BLOB NOT NULL,
    name TEXT NOT NULL COLLATE NOCASE, domain_index INTEGER NOT NULL REFERENCES domains,
    created INTEGER NOT NULL, expires INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, withdrawn INTEGER NOT NULL DEFAULT 0,
    member INTEGER REFERENCES members
) STRICT;
CREATE TABLE members (
    member INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL COLLATE NOCASE,
    domain_index INTEGER NOT NULL REFERENCES domains,
    identity_key BLOB NOT NULL UNIQUE, sealing_key BLOB NOT NULL UNIQUE,
    joined INTEGER NOT NULL, revoked INTEGER, reason TEXT
) STRICT;
CREATE UNIQUE INDEX one_active_member_a_name ON members (name) WHERE revoked IS NULL;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY, member INTEGER REFERENCES members, public_key BLOB NOT NULL UNIQUE,
    certificate BLOB NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, revoked INTEGER
) STRICT;
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY, changed INTEGER NOT NULL, event TEXT NOT NULL, signed BLOB
) STRICT;
"""
"""The tables as they were."""
KEPT = {
    "domains": "domain_index, name",
    "members": "member, name, domain_index, identity_key, sealing_key, joined, revoked, reason",
    "invitations": "token_id, token_hash, paper_key, name, domain_index, created, expires, attempts,"
    " withdrawn, member",
    "certificates": "serial, member, public_key, certificate, not_before, not_after, revoked",
    "revisions": "revision, changed, event, signed",
}


def former(path: Path) -> Path:
    """Make an empty database with the tables as they were."""
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(FORMER_SCHEMA)
    return path


def filled(path: Path) -> Path:
    """The same with a member, one who was revoked, and a signed roster of four revisions."""
    with closing(sqlite3.connect(former(path))) as database, database:
        database.execute("INSERT INTO domains VALUES (0, 'ink')")
        member = "INSERT INTO members VALUES (?, ?, 0, ?, ?, 1, ?, ?)"
        database.execute(member, (1, "clinic-1", b"i" * 32, b"s" * 1216, None, None))
        database.execute(member, (2, "clinic-2", b"j" * 32, b"t" * 1216, 7, "left"))
        database.execute("INSERT INTO revisions VALUES (4, 7, 'clinic-2 revoked', x'00')")
    return path


def make_former(office: Office) -> None:
    """Take an office's records back to the time before entries were signed."""
    path = office.folder.path / MEMBERSHIP_FILE
    now = path.rename(path.with_suffix(".now"))
    for file in path.parent.glob(MEMBERSHIP_FILE + "-*"):
        file.rename(Path(str(now) + file.name.removeprefix(MEMBERSHIP_FILE)))
    with closing(sqlite3.connect(former(path))) as database, database:
        database.execute("ATTACH ? AS now", (str(now),))
        for table, columns in KEPT.items():
            database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM now.{table}")


class TestTables:
    def test_members_stay_without_a_signature_and_the_roster_gets_a_revision(self, tmp_path: Path) -> None:
        records = Membership(filled(tmp_path / "membership.sqlite"))
        present, past = records.members
        assert (present.name, present.identity_key, present.sealing_key) == (
            "clinic-1",
            b"i" * 32,
            b"s" * 1216,
        )
        assert (past.name, past.revoked, past.reason) == ("clinic-2", 7, "left")
        assert {member.entry_signature for member in records.members} == {None}
        assert {member.as_member() for member in records.members} == {None}
        revision, changed, signed = records.revision
        assert (revision, signed) == (5, None)
        assert changed > 7

    def test_once(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "membership.sqlite")
        first = Membership(path).revision
        assert Membership(path).revision == first

    def test_new_records_begin_with_no_revision(self, tmp_path: Path) -> None:
        assert Membership(tmp_path / "membership.sqlite").revision == (0, 0, None)

    def test_the_tables_are_those_of_a_new_one(self, tmp_path: Path) -> None:
        Membership(tmp_path / "new.sqlite")
        Membership(former(tmp_path / "old.sqlite"))
        columns = []
        for name in ("new.sqlite", "old.sqlite"):
            with closing(sqlite3.connect(tmp_path / name)) as database:
                columns.append(
                    {table: list(database.execute(f"PRAGMA table_info({table})")) for table in KEPT}
                )
        assert columns[0] == columns[1]

    def test_only_one_who_is_a_member_signs_and_only_once(self, tmp_path: Path) -> None:
        records = Membership(filled(tmp_path / "membership.sqlite"))
        for row in (2, 3):
            records.sign_entry(row, bytes(64), now=8)
        assert records.revision[0] == 5
        for signature in (b"1" * 64, b"2" * 64):
            records.sign_entry(1, signature, now=9)
        assert records.member("clinic-1").entry_signature == b"1" * 64
        assert records.revision == (6, 9, None)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two institutions that have enrolled."""
    office = Office(tmp_path)
    for name in ("clinic-1", "clinic-2"):
        office.enrol(name)
    return office


@pytest.fixture
def before(office: Office) -> e.RosterFile:
    """What their roster would be if they had signed; the records are taken back after that."""
    roster = office.roster()
    make_former(office)
    return roster


def renewal(folder: PartyFolder) -> e.Renewal:
    return enrolment.begin_renewal(folder, enrolment.load_federation(folder), bytes(32))


def asked(registrar: Registrar, name: str) -> e.TaggedMessage:
    return EnrolmentDesk(registrar, name).receive(e.RosterWanted().to_bytes()).message


@pytest.mark.usefixtures("before")
class TestRenewal:
    def test_nobody_is_on_the_roster_until_somebody_renews(
        self, office: Office, before: e.RosterFile
    ) -> None:
        registrar = office.reopened()
        assert registrar.roster_file() is None
        assert not office.folder.roster_file.exists()
        for name in ("clinic-1", "clinic-2"):
            assert asked(registrar, name) == e.NotAccepted(reason=EnrolmentRefusal.ENTRY_UNSIGNED)
        registrar.renew(renewal(office.institution("clinic-1")), bytes(32))
        first = registrar.roster_file()
        assert first is not None
        assert first.content.names == ("clinic-1",)
        assert first.revision == before.revision + 2
        assert office.folder.roster() == first.content
        assert isinstance(asked(registrar, "clinic-1"), e.RosterSent)
        assert asked(registrar, "clinic-2") == e.NotAccepted(reason=EnrolmentRefusal.ENTRY_UNSIGNED)
        registrar.renew(renewal(office.institution("clinic-2")), bytes(32))
        both = registrar.roster_file()
        assert both is not None
        assert both.content.members == before.content.members  # the signatures are those of enrolment
        both.check(registrar.coordinator_key)

    def test_the_operator_sees_who_has_not(self, office: Office, capfd: pytest.CaptureFixture[str]) -> None:
        arguments = ["server", "roster", "--dir", str(office.folder.path)]
        assert command(arguments) == ExitStatus.DONE
        said = capfd.readouterr().out
        assert "nobody is on the roster yet" in said
        assert said.count("│ not signed │") == 2
        assert "has to run 'fedapt-secure client renew'" in " ".join(said.split())
        for name in ("clinic-1", "clinic-2"):
            office.reopened().renew(renewal(office.institution(name)), bytes(32))
        assert command(arguments) == ExitStatus.DONE
        assert "not signed" not in capfd.readouterr().out
        assert command([*arguments, "--json"]) == ExitStatus.DONE
        members = json.loads(capfd.readouterr().out)["members"]
        assert [member["entry_signed"] for member in members] == [True, True]

    def test_a_second_renewal_changes_no_roster(self, office: Office) -> None:
        registrar, folder = office.reopened(), office.institution("clinic-1")
        registrar.renew(renewal(folder), bytes(32))
        roster = registrar.roster_file()
        registrar.renew(renewal(folder), bytes(32))
        assert registrar.roster_file() == roster

    def test_a_signature_on_another_entry_is_refused(self, office: Office) -> None:
        registrar, folder = office.reopened(), office.institution("clinic-1")
        honest, identity = renewal(folder), folder.identity()
        federation = enrolment.load_federation(folder)
        authority = bytes.fromhex(federation.authority_fingerprint)
        own = folder.sealing_key().public_key
        coordinator = bytes(32)  # that of another one
        for signature in (
            sign_entry(identity, authority, coordinator, "clinic-1", own),
            sign_entry(identity, authority, coordinator, "clinic-1", SealingKey.fresh().public_key),
            bytes(64),
        ):
            unsigned = honest.model_copy(update={"entry_signature": signature})
            with pytest.raises(Refused, match="roster entry") as caught:
                registrar.renew(e.signed(identity, unsigned), bytes(32))
            assert caught.value.told is EnrolmentRefusal.REQUEST_UNSOUND
        assert registrar.roster_file() is None

    def test_who_left_is_not_on_it(self, office: Office) -> None:
        registrar = office.reopened()
        registrar.renew(renewal(office.institution("clinic-1")), bytes(32))
        registrar.revoke("clinic-2", "left")
        with pytest.raises(Refused, match="not a member"):
            registrar.renew(renewal(office.institution("clinic-2")), bytes(32))
        assert registrar.roster_file().content.names == ("clinic-1",)
        assert asked(registrar, "clinic-2") == e.NotAccepted(reason=EnrolmentRefusal.NOT_A_MEMBER)

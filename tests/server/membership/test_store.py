"""The records: each change is whole or not there, and what was revoked or used stays so."""

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_server.membership.records import NewCertificate
from fedapt_server.membership.store import MAX_ATTEMPTS, MAX_CERTIFICATES_A_DAY, Membership

NOW = 1_800_000_000
DAY = 86_400


def certificate(serial: int, not_before: int = NOW) -> NewCertificate:
    key = b"key %d" % serial
    return NewCertificate(serial, key, b"PEM %d" % serial, not_before, not_before + 90 * DAY)


def invite(records: Membership, number: int, name: str = "clinic-1", domain: str = "ink") -> bytes:
    token_id = number.to_bytes(8, "big")
    records.invite(token_id, bytes(32), bytes(32), name, domain, now=NOW, expires=NOW + DAY)
    return token_id


ENTRY = bytes(64)
"""A signature that nobody checks here."""


def enrol(records: Membership, number: int, name: str = "clinic-1", domain: str = "ink") -> int:
    invitation = records.invitation(invite(records, number, name, domain))
    assert invitation is not None
    key = number.to_bytes(32, "big")
    return records.enrol(invitation, key, key + b"sealing", ENTRY, certificate(number), now=NOW)


@pytest.fixture
def records(tmp_path: Path) -> Membership:
    return Membership(tmp_path / "membership.sqlite")


class TestDomains:
    def test_each_keeps_its_index(self, records: Membership) -> None:
        assert [records.add_domain(name) for name in ("ink", "chalk", "ink", "print")] == [0, 1, 0, 2]
        enrol(records, 1, domain="chalk")
        records.revoke("clinic-1", "", now=NOW)
        assert records.domains == ("ink", "chalk", "print")

    def test_several_institutions_share_one(self, records: Membership) -> None:
        enrol(records, 1, "clinic-1", "ink")
        enrol(records, 2, "clinic-2", "ink")
        assert {member.domain_index for member in records.members} == {0}


class TestInvitations:
    def test_a_later_one_makes_the_earlier_void(self, records: Membership) -> None:
        first, second = invite(records, 1), invite(records, 2, "CLINIC-1")
        assert records.invitation(first).withdrawn
        assert not records.invitation(second).withdrawn
        assert [found.name for found in records.open_invitations] == ["CLINIC-1"]

    def test_a_member_is_not_invited_again(self, records: Membership) -> None:
        enrol(records, 1)
        with pytest.raises(InvalidInput, match="is a member already: for new keys, revoke it first"):
            invite(records, 2, "Clinic-1")
        assert records.open_invitations == ()

    def test_it_is_used_once(self, records: Membership) -> None:
        invitation = records.invitation(invite(records, 1))
        records.enrol(invitation, bytes(32), b"s", ENTRY, certificate(1), now=NOW)
        with pytest.raises(InvalidInput):
            records.enrol(invitation, b"2" * 32, b"s2", ENTRY, certificate(2), now=NOW)
        assert [member.name for member in records.members] == ["clinic-1"]

    def test_a_withdrawn_one_is_not_used(self, records: Membership) -> None:
        invitation = records.invitation(invite(records, 1))
        assert not records.revoke("clinic-1", "", now=NOW)
        with pytest.raises(InvalidInput, match="used or withdrawn meanwhile"):
            records.enrol(invitation, bytes(32), b"s", ENTRY, certificate(1), now=NOW)
        assert records.members == ()
        assert records.revision[0] == 0

    def test_attempts_are_counted_to_the_limit(self, records: Membership) -> None:
        token_id = invite(records, 1)
        for _ in range(MAX_ATTEMPTS + 5):
            records.count_attempt(token_id)
        assert records.invitation(token_id).attempts == MAX_ATTEMPTS

    def test_an_unknown_one(self, records: Membership) -> None:
        assert records.invitation(bytes(8)) is None
        records.count_attempt(bytes(8))


class TestMembers:
    @pytest.mark.parametrize("same", ["identity", "sealing", "tls"])
    def test_nobody_gets_a_key_of_another(self, records: Membership, same: str) -> None:
        enrol(records, 1)
        invitation = records.invitation(invite(records, 2, "clinic-2"))
        identity = (1 if same == "identity" else 2).to_bytes(32, "big")
        sealing = (1 if same == "sealing" else 2).to_bytes(32, "big") + b"sealing"
        tls = NewCertificate(2, b"key 1" if same == "tls" else b"key 2", b"PEM", NOW, NOW + DAY)
        with pytest.raises(InvalidInput, match="belongs to a member, present or past"):
            records.enrol(invitation, identity, sealing, ENTRY, tls, now=NOW)
        assert len(records.members) == 1
        assert records.invitation(invitation.token_id).member is None

    def test_a_revoked_one_may_come_back_with_other_keys_only(self, records: Membership) -> None:
        first = enrol(records, 1)
        assert records.revoke("clinic-1", "lost a laptop", now=NOW + 1)
        invitation = records.invitation(invite(records, 2))
        with pytest.raises(InvalidInput, match="enrol from a new folder"):
            records.enrol(invitation, (1).to_bytes(32, "big"), b"other", ENTRY, certificate(3), now=NOW)
        second = records.enrol(invitation, b"2" * 32, b"s2", ENTRY, certificate(2), now=NOW + 2)
        assert second > first
        assert records.member("clinic-1").row == second
        past = records.member_of_row(first)
        assert (past.revoked, past.reason) == (NOW + 1, "lost a laptop")

    def test_all_certificates_of_a_revoked_one_are_revoked(self, records: Membership) -> None:
        row, other = enrol(records, 1), enrol(records, 2, "clinic-2")
        records.certify(row, certificate(11))
        records.certify(other, certificate(12))
        records.certify(None, certificate(13))
        records.revoke("clinic-1", "", now=NOW)
        assert {revocation.serial for revocation in records.revocations} == {1, 11}
        with pytest.raises(InvalidInput, match="revoked meanwhile"):
            records.certify(row, certificate(14))

    def test_nobody_of_that_name(self, records: Membership) -> None:
        enrol(records, 1)
        records.revoke("clinic-1", "", now=NOW)
        for name in ("clinic-1", "clinic-2"):
            with pytest.raises(InvalidInput, match="nobody named"):
                records.revoke(name, "", now=NOW)

    def test_certificates_a_day_are_bounded(self, records: Membership) -> None:
        row = enrol(records, 1)
        for number in range(MAX_CERTIFICATES_A_DAY - 1):
            records.certify(row, certificate(100 + number))
        with pytest.raises(InvalidInput, match="in 24 hours are enough"):
            records.certify(row, certificate(200))
        records.certify(row, certificate(201, NOW + 2 * DAY))

    def test_serial_numbers_are_larger_than_sqlite_s_integers(self, records: Membership) -> None:
        row = enrol(records, 1)
        large = (1 << 159) - 1
        records.certify(row, certificate(large))
        records.revoke("clinic-1", "", now=NOW)
        assert large in {revocation.serial for revocation in records.revocations}


class TestRevisions:
    def test_each_change_counts(self, records: Membership) -> None:
        assert records.revision == (0, 0, None)
        enrol(records, 1)
        assert records.revision[0] == 1
        enrol(records, 2, "clinic-2")
        invite(records, 3, "clinic-3")  # changes no roster
        assert records.revision[0] == 2
        records.revoke("clinic-1", "", now=NOW)
        assert records.revision[0] == 3

    def test_the_first_signed_form_is_kept(self, records: Membership) -> None:
        enrol(records, 1)
        records.keep_signed(1, b"first")
        records.keep_signed(1, b"second")
        assert records.revision[2] == b"first"


class TestFile:
    def test_others_must_not_read_it(self, tmp_path: Path, records: Membership) -> None:
        path = tmp_path / "membership.sqlite"
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)
        with pytest.raises(InvalidInput, match=f"run 'chmod 600 {path}'"):
            Membership(path)

    def test_a_broken_one_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "membership.sqlite"
        path.write_bytes(b"rubbish" * 100)
        path.chmod(0o600)
        with pytest.raises(InvalidInput, match=f"the membership record {path} cannot be used"):
            Membership(path)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="cannot be made: No such file"):
            Membership(tmp_path / "nowhere" / "membership.sqlite")

    def test_it_is_durable(self, tmp_path: Path, records: Membership) -> None:
        with sqlite3.connect(tmp_path / "membership.sqlite") as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def dying(path: Path, statement: int) -> int:
    """Change the records in a child process that dies before a statement, as in a power cut; its status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = statement

    class Mortal(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(*arguments)

    try:
        records = Membership(path)
        connect = sqlite3.connect
        sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Mortal)  # type: ignore[assignment]
        enrol(records, 2, "clinic-2", "chalk")
        records.revoke("clinic-1", "reason", now=NOW)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.slow  # a process for each statement
def test_killed_at_any_statement_a_change_is_whole_or_not_there(tmp_path: Path) -> None:
    for statement in range(1, 60):
        path = tmp_path / f"{statement}.sqlite"
        enrol(Membership(path), 1)
        status = dying(path, statement)
        records = Membership(path)
        names = {member.name for member in records.members if member.revoked is None}
        revision = records.revision[0]
        assert (names, revision) in (
            ({"clinic-1"}, 1),
            ({"clinic-1", "clinic-2"}, 2),
            ({"clinic-2"}, 3),
        )
        assert {r.serial for r in records.revocations} == ({1} if revision == 3 else set())
        second = records.invitation((2).to_bytes(8, "big"))
        assert (second is not None and second.member is not None) == (revision > 1)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    else:
        raise AssertionError("there are more statements than were tried")
    assert statement > 15
    assert revision == 3

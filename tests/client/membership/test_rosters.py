"""Approving a roster: what changed is said, and what must not be is refused."""

from pathlib import Path

import pytest

from fedapt_client.membership import rosters
from fedapt_crypto.errors import ContextMismatch, InvalidInput, PeerError, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from tests.support.offices import Office
from tests.support.rosters import roster_of


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def said(before: e.RosterFile | None, after: e.RosterFile) -> list[str]:
    return [f"{change.name} {change.what}" for change in rosters.changes(before, after)]


def resigned(office: Office, file: e.RosterFile, **changes: object) -> e.RosterFile:
    return e.signed(office.folder.identity(), file.model_copy(update=changes))


class TestApproval:
    def test_what_is_approved_is_what_is_used(self, office: Office) -> None:
        folder = office.enrol()
        assert not rosters.is_approved(folder, office.roster())
        roster = rosters.approve(folder, office.roster())
        assert folder.roster() == roster
        assert rosters.is_approved(folder, office.roster())
        assert rosters.approved(folder) == office.roster()

    def test_a_changed_one_needs_approval_again_and_says_what_changed(self, office: Office) -> None:
        folder = office.enrol("clinic-1", "ink")
        office.enrol("clinic-2", "chalk")
        first = office.roster()
        rosters.approve(folder, first)
        assert said(None, first) == ["clinic-1 is new", "clinic-2 is new"]
        office.enrol("clinic-3", "ink")
        office.registrar.revoke("clinic-2", "")
        assert said(first, office.roster()) == ["clinic-2 left", "clinic-3 is new"]
        assert not rosters.is_approved(folder, office.roster())
        assert folder.roster() == first.content  # until people here say otherwise

    def test_a_member_with_other_keys_is_named(self, office: Office) -> None:
        folder = office.enrol("clinic-1")
        office.enrol("clinic-2", "ink")
        first = office.roster()
        rosters.approve(folder, first)
        office.registrar.revoke("clinic-2", "")
        office.path /= "again"
        office.path.mkdir()
        office.enrol("clinic-2", "chalk")
        changed = said(first, office.roster())
        assert changed[0].startswith("clinic-2 has another identity key (was ")
        assert changed[1:] == [
            "clinic-2 has another sealing key",
            "clinic-2 moved from domain 'ink' to 'chalk'",
        ]


class TestRefusals:
    def test_an_older_one(self, office: Office) -> None:
        folder = office.enrol("clinic-1")
        first = office.roster()
        office.enrol("clinic-2")
        rosters.approve(folder, office.roster())
        with pytest.raises(ContextMismatch, match="revision 1, and 2 was approved here: it went back"):
            rosters.approve(folder, first)

    def test_two_of_one_revision(self, office: Office) -> None:
        folder = office.enrol("clinic-1")
        rosters.approve(folder, office.roster())
        other = resigned(office, office.roster(), domains=("chalk",))
        with pytest.raises(ContextMismatch, match="two different rosters as revision 1"):
            rosters.approve(folder, other)

    def test_one_of_another_coordinator(self, office: Office) -> None:
        folder = office.enrol()
        with pytest.raises(VerificationFailed):
            rosters.approve(folder, e.signed(Identity.generate(), office.roster()))

    def test_one_without_us_or_with_other_keys_of_ours(self, office: Office) -> None:
        folder = office.enrol("clinic-1")
        office.enrol("clinic-2")
        roster = office.roster()
        without = roster.content.only(("clinic-2",))
        with pytest.raises(InvalidInput, match="'clinic-1' is not on this roster"):
            rosters.approve(folder, resigned(office, roster, roster=without.to_bytes()))
        ours, theirs = roster.content.members
        swapped = (
            ours.model_copy(update={"identity_key": theirs.identity_key}),
            theirs.model_copy(update={"identity_key": ours.identity_key}),
        )
        false = Roster(
            authority_fingerprint=roster.content.authority_fingerprint,
            coordinator_key=roster.content.coordinator_key,
            members=swapped,
        )
        with pytest.raises(VerificationFailed, match="roster entry"):
            rosters.approve(folder, resigned(office, roster, roster=false.to_bytes()))

    def test_one_with_a_sealing_key_that_its_owner_did_not_sign(self, office: Office) -> None:
        """Whoever is not there to notice is as safe: the coordinator has no signature for its own key."""
        folder = office.enrol("clinic-1")
        office.enrol("clinic-2")
        roster = office.roster()
        ours, absent = roster.content.members
        thief = SealingKey.fresh().public_key
        for entry in (
            absent.model_copy(update={"sealing_key": thief}),
            absent.model_copy(update={"name": "clinic-3"}),
            absent.model_copy(update={"entry_signature": ours.entry_signature}),
        ):
            false = Roster(
                authority_fingerprint=roster.content.authority_fingerprint,
                coordinator_key=roster.content.coordinator_key,
                members=(ours, entry),
            )
            with pytest.raises(VerificationFailed, match="roster entry"):
                rosters.approve(folder, resigned(office, roster, roster=false.to_bytes()))
        elsewhere = Roster(
            authority_fingerprint=bytes(32),
            coordinator_key=roster.content.coordinator_key,
            members=roster.content.members,
        )
        with pytest.raises(VerificationFailed, match="roster entry"):
            rosters.approve(folder, resigned(office, roster, roster=elsewhere.to_bytes()))

    def test_one_of_another_authority_that_its_members_signed(self, office: Office) -> None:
        """As where one coordinator runs two federations of the same institutions."""
        folder, office_key = office.enrol("clinic-1"), office.registrar.coordinator_key
        keys = folder.identity(), folder.sealing_key().public_key
        elsewhere = roster_of(office_key, [("clinic-1", *keys, 0)], authority=bytes(32))
        elsewhere.check_entries()
        with pytest.raises(VerificationFailed, match="another authority than the one that is pinned here"):
            rosters.approve(folder, resigned(office, office.roster(), roster=elsewhere.to_bytes()))

    def test_one_that_is_none(self, office: Office) -> None:
        folder = office.enrol()
        with pytest.raises(PeerError):
            rosters.approve(folder, resigned(office, office.roster(), roster=b"rubbish"))
        office.enrol("clinic-2", "chalk")
        short = resigned(office, office.roster(), domains=("ink",))
        with pytest.raises(PeerError, match="domain that it does not have"):
            rosters.approve(folder, short)

    def test_refused_ones_leave_the_approved_one(self, office: Office) -> None:
        folder = office.enrol()
        rosters.approve(folder, office.roster())
        before = folder.roster_file.read_bytes()
        with pytest.raises(VerificationFailed):
            rosters.approve(folder, e.signed(Identity.generate(), office.roster()))
        assert folder.roster_file.read_bytes() == before

    def test_files(self, office: Office) -> None:
        folder = office.enrol()
        data = e.to_file(office.roster())
        rosters.approve(folder, e.from_file(data, e.RosterFile, "roster.txt"))
        with pytest.raises(InvalidInput, match="expected one block"):
            e.from_file(data[:-80], e.RosterFile, "roster.txt")


class TestRevocationLists:
    def test_the_newest_is_kept(self, office: Office) -> None:
        folder = office.enrol("clinic-1")
        office.enrol("clinic-2")
        old = office.folder.revocation_file.read_bytes()
        office.registrar.revoke("clinic-2", "")
        new = office.folder.revocation_file.read_bytes()
        rosters.store_revocations(folder, old)
        rosters.store_revocations(folder, new)
        with pytest.raises(ContextMismatch, match="older list"):
            rosters.store_revocations(folder, old)
        assert folder.revocation_file.read_bytes() == new

    def test_one_of_another_authority_is_refused(self, office: Office, tmp_path: Path) -> None:
        folder: PartyFolder = office.enrol()
        other = Office(tmp_path / "other")
        with pytest.raises(VerificationFailed):
            rosters.store_revocations(folder, other.folder.revocation_file.read_bytes())
        assert not folder.revocation_file.exists()

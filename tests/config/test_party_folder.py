"""A party's folder: keys that are never overwritten, modes, and a roster that cannot be edited."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.certificates import facts
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import Identity, fingerprint
from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_crypto.seal import SealingKey
from fedapt_secure.config.party_folder import PartyFolder, roster_from_json, roster_to_json
from tests.crypto.secagg.harness import make_parties
from tests.support.issuing import certify, sign
from tests.support.rosters import changed, former_json


@pytest.fixture
def folder(tmp_path: Path) -> PartyFolder:
    return PartyFolder(tmp_path / "parties" / "clinic-1")


class TestKeys:
    def test_what_was_made_is_loaded(self, folder: PartyFolder) -> None:
        identity, sealing_key = folder.create()
        assert folder.identity().public_key == identity.public_key
        assert folder.identity().private_bytes() == identity.private_bytes()
        assert folder.sealing_key().public_key == sealing_key.public_key

    def test_every_folder_gets_its_own(self, tmp_path: Path) -> None:
        made = [PartyFolder(tmp_path / name).create() for name in ("a", "b")]
        assert len({identity.public_key for identity, _ in made}) == 2
        assert len({sealing_key.public_key for _, sealing_key in made}) == 2

    @pytest.mark.parametrize("left", [("identity.key",), ("sealing.key",), ("identity.key", "sealing.key")])
    def test_they_are_never_overwritten(self, folder: PartyFolder, left: tuple[str, ...]) -> None:
        folder.create()
        for file in (folder.identity_file, folder.sealing_file):
            if file.name not in left:
                file.unlink()
        before = {file.name: file.read_bytes() for file in folder.path.iterdir()}
        assert before.keys() == set(left)
        with pytest.raises(InvalidInput, match="already holds keys; they are not overwritten"):
            folder.create()
        assert {file.name: file.read_bytes() for file in folder.path.iterdir()} == before

    def test_a_missing_key_is_named(self, folder: PartyFolder) -> None:
        folder.create()
        folder.identity_file.unlink()
        with pytest.raises(InvalidInput, match=f"^{re.escape(str(folder.identity_file))}: No such file"):
            folder.identity()

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_what_is_no_key_is_named_and_not_shown(self, folder: PartyFolder, size: int) -> None:
        folder.create()
        for file, load in (
            (folder.identity_file, folder.identity),
            (folder.sealing_file, folder.sealing_key),
        ):
            file.write_bytes(b"k" * size)
            with pytest.raises(InvalidInput, match=f"^{re.escape(str(file))} is not a key file") as caught:
                load()
            assert "kkk" not in str(caught.value)


class TestModes:
    def test_the_folder_is_0700_and_every_file_0600(self, folder: PartyFolder) -> None:
        folder.create()
        certify(CertificateAuthority.create("test"), folder, "clinic-1")
        folder.approve_roster(make_parties(3)[0])
        assert folder.path.stat().st_mode & 0o777 == 0o700
        modes = {file.name: file.stat().st_mode & 0o777 for file in folder.path.iterdir()}
        names = ["ca.crt", "identity.key", "roster.json", "sealing.key", "tls.crt", "tls.key"]
        assert modes == dict.fromkeys(names, 0o600)

    def test_an_open_folder_is_closed(self, folder: PartyFolder) -> None:
        folder.path.mkdir(parents=True, mode=0o755)
        folder.create()
        assert folder.path.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o601, 0o610, 0o666, 0o644])
    def test_a_file_that_others_can_reach_is_refused_with_the_fix(
        self, folder: PartyFolder, mode: int
    ) -> None:
        folder.create()
        folder.approve_roster(make_parties(3)[0])
        loads = {
            folder.identity_file: folder.identity,
            folder.sealing_file: folder.sealing_key,
            folder.roster_file: folder.roster,
        }
        for file, load in loads.items():
            file.chmod(mode)
            with pytest.raises(InvalidInput, match=re.escape(f"run 'chmod 600 {file}'")):
                load()
            file.chmod(0o600)
            load()


class TestCertificate:
    def test_what_was_installed_is_there(self, folder: PartyFolder) -> None:
        folder.create()
        authority = CertificateAuthority.create("test")
        keys = []
        for _ in range(2):  # renewing replaces
            certificate = certify(authority, folder, "clinic-1")
            keys.append(folder.private_key_file.read_bytes())
            assert folder.certificate_file.read_bytes() == certificate
            assert TlsKey.from_pem(keys[-1]).public_key == facts(certificate).public_key
            assert folder.authority_file.read_bytes() == authority.certificate_pem
            assert not folder.next_certificate_file.exists()
            assert not folder.next_private_key_file.exists()
        assert keys[0] != keys[1]

    def test_one_for_another_key_is_not_installed(self, folder: PartyFolder) -> None:
        folder.create()
        authority = CertificateAuthority.create("test")
        before = certify(authority, folder, "clinic-1")
        folder.pending_tls_key()
        with pytest.raises(VerificationFailed, match="another key"):
            folder.install_certificate(before, authority.certificate_pem)
        stranger = CertificateAuthority.create("test")
        theirs = sign(stranger, folder.pending_tls_key(), "clinic-1")
        with pytest.raises(VerificationFailed, match="authority"):
            folder.install_certificate(theirs, authority.certificate_pem)
        assert folder.certificate_file.read_bytes() == before

    @pytest.mark.parametrize("done", range(3))
    def test_an_interrupted_change_is_finished(self, folder: PartyFolder, done: int) -> None:
        folder.create()
        authority = CertificateAuthority.create("test")
        certify(authority, folder, "clinic-1")
        key = folder.pending_tls_key()
        certificate = sign(authority, key, "clinic-1")
        if done > 0:  # as `install_certificate` would have got so far
            folder.next_certificate_file.write_bytes(certificate)
            folder.next_certificate_file.chmod(0o600)
        if done > 1:
            folder.next_private_key_file.replace(folder.private_key_file)
        if done == 0:
            folder.install_certificate(certificate, authority.certificate_pem)
        assert folder.certificate().public_key == key.public_key
        assert TlsKey.from_pem(folder.private_key_file.read_bytes()).public_key == key.public_key
        assert folder.pending_tls_key().public_key != key.public_key


ROSTER, _ = make_parties(3)
TEXT = roster_to_json(ROSTER)
FILE = Path("roster.json")


def edited(change) -> str:
    fields = json.loads(TEXT)
    change(fields)
    return json.dumps(fields, indent=2) + "\n"


EDITS = {
    "a name": lambda f: f["members"][0].update(name="clinic-9"),
    "a domain": lambda f: f["members"][0].update(domain_index=2),
    "an identity key": lambda f: f["members"][0].update(identity_key="00" * 32),
    "a sealing key": lambda f: f["members"][0].update(sealing_key="00" * 1216),
    "a fingerprint": lambda f: f["members"][0].update(fingerprint="0000"),
    "the coordinator": lambda f: f.update(coordinator_key="00" * 32),
    "its fingerprint": lambda f: f.update(coordinator_fingerprint="0000"),
    "the hash": lambda f: f.update(roster_hash="00" * 32),
    "no hash": lambda f: f.pop("roster_hash"),
    "one removed": lambda f: f["members"].pop(),
    "one twice": lambda f: f["members"].append(f["members"][0]),
    "swapped": lambda f: f["members"].reverse(),
    "nobody": lambda f: f.update(members=[]),
    "a field more": lambda f: f.update(comment="approved"),
    "a member's field more": lambda f: f["members"][0].update(admin=True),
    "a key's case": lambda f: f.update(coordinator_key=f["coordinator_key"].upper() + " "),
    "a key that is none": lambda f: f.update(coordinator_key="xyz"),
    "a key of a wrong type": lambda f: f.update(coordinator_key=7),
    "members of a wrong type": lambda f: f.update(members="all"),
}


class TestRoster:
    def test_the_approved_one_comes_back(self, folder: PartyFolder) -> None:
        folder.create()
        folder.approve_roster(ROSTER)
        assert folder.roster() == ROSTER
        assert folder.roster().hash == ROSTER.hash

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 6))
    def test_round_trip(self, n: int) -> None:
        roster, _ = make_parties(n)
        assert roster_from_json(roster_to_json(roster).encode(), FILE) == roster

    def test_one_with_shorter_fingerprints_is_the_same_roster(self, folder: PartyFolder) -> None:
        """Approved before they had 160 bits."""
        earlier = re.sub("((?:[0-9a-f]{4} ){7}[0-9a-f]{4}) [0-9a-f]{4} [0-9a-f]{4}", r"\1", TEXT)
        assert earlier.count("fingerprint") == TEXT.count("fingerprint")
        assert len(earlier) == len(TEXT) - 4 * 10  # of three members and the coordinator
        assert roster_from_json(earlier.encode(), FILE) == ROSTER

    def test_people_find_names_and_fingerprints_in_it(self) -> None:
        fields = json.loads(TEXT)
        assert fields["roster_hash"] == ROSTER.hash.hex()
        assert fields["coordinator_fingerprint"] == fingerprint(ROSTER.coordinator_key)
        shown = [(member["name"], member["fingerprint"]) for member in fields["members"]]
        assert shown == [(member.name, fingerprint(member.identity_key)) for member in ROSTER.members]

    @pytest.mark.parametrize("edit", EDITS)
    def test_edited_by_hand_it_is_refused(self, folder: PartyFolder, edit: str) -> None:
        text = edited(EDITS[edit])
        assert text != TEXT
        folder.create()
        folder.approve_roster(ROSTER)
        folder.roster_file.write_text(text)
        message = f"^{re.escape(str(folder.roster_file))} is not a roster, or was edited; get it again"
        with pytest.raises(InvalidInput, match=message):
            folder.roster()

    def test_an_edit_that_changes_nothing_is_none(self) -> None:
        assert edited(lambda fields: None) == TEXT, "what refuses above is the edit"

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", "7", '"text"', "{}", TEXT + " ", TEXT[:-1], TEXT * 2]
    )
    def test_what_is_no_roster(self, text: str) -> None:
        with pytest.raises(InvalidInput, match=r"^roster\.json is not a roster"):
            roster_from_json(text.encode(), FILE)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(TEXT) - 1), st.characters(min_codepoint=32, max_codepoint=126))
    def test_any_changed_character_is_noticed(self, position: int, character: str) -> None:
        text = TEXT[:position] + character + TEXT[position + 1 :]
        if text == TEXT:
            assert roster_from_json(text.encode(), FILE) == ROSTER
        else:
            with pytest.raises(InvalidInput, match="was edited"):
                roster_from_json(text.encode(), FILE)

    def test_one_from_before_entries_were_signed_says_what_to_do(self, folder: PartyFolder) -> None:
        folder.create()
        folder.approve_roster(ROSTER)
        folder.roster_file.write_text(former_json(ROSTER))
        with pytest.raises(InvalidInput) as caught:
            folder.roster()
        assert str(caught.value) == (
            f"{folder.roster_file} is from before members signed their entries: at each institution run"
            " 'fedapt-secure client renew', then 'fedapt-secure client roster show' and approve the new one"
        )

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"sealing_key": SealingKey.fresh().public_key}, "clinic-2: its roster entry"),
            ({"identity_key": Identity.generate().public_key}, "clinic-2: its roster entry"),
            ({"name": "clinic-9"}, "clinic-9: its roster entry"),
            ({"entry_signature": ROSTER.members[0].entry_signature}, "clinic-2: its roster entry"),
            ({"identity_key": bytes(32)}, "clinic-2: the identity key is none"),
            ({"sealing_key": bytes(1216)}, "clinic-2: the sealing key is none"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_an_entry_that_is_not_its_owner_s(
        self, folder: PartyFolder, change: dict[str, object], named: str
    ) -> None:
        folder.create()
        folder.approve_roster(changed(ROSTER, "clinic-2", **change))
        with pytest.raises(InvalidInput, match=f"roster.json cannot be relied on: {named}"):
            folder.roster()

    def test_the_domain_is_the_coordinator_s_to_say(self, folder: PartyFolder) -> None:
        moved = changed(ROSTER, "clinic-2", domain_index=7)
        folder.create()
        folder.approve_roster(moved)
        assert folder.roster() == moved

    def test_a_missing_one_is_named(self, folder: PartyFolder) -> None:
        folder.create()
        with pytest.raises(InvalidInput, match=f"^{re.escape(str(folder.roster_file))}: No such file"):
            folder.roster()


def test_nothing_secret_is_shown(folder: PartyFolder) -> None:
    identity, sealing_key = folder.create()
    authority = CertificateAuthority.create("test")
    certify(authority, folder, "clinic-1")
    tls_key = TlsKey.from_pem(folder.private_key_file.read_bytes())
    myself = ROSTER.members[0].model_copy(
        update={"identity_key": identity.public_key, "sealing_key": sealing_key.public_key}
    )
    shown = roster_to_json(ROSTER.model_copy(update={"members": (myself,)}))
    for thing in (folder, identity, sealing_key, tls_key, authority):
        shown += f"{thing!r} {thing!s} {thing}"
    assert str(folder.path) in shown
    assert identity.public_key.hex() in shown
    for secret in (identity.private_bytes(), folder.sealing_file.read_bytes()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    for pem in (tls_key.private_pem(), authority.key.private_pem()):
        for line in pem.decode().splitlines()[1:-1]:
            assert line not in shown

"""Changing what protects a party's keys: all of them or, interrupted, none lost."""

from pathlib import Path

import pytest

from fedapt_crypto import private_files, protected_keys
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_crypto.protected_keys import Passphrase
from fedapt_secure.config import key_files, passphrase
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.transport import client_context
from tests.support.issuing import certify

OLD, NEW = Passphrase("the old passphrase"), Passphrase("the new passphrase")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protected_keys, "_LOG2_COST", 4)
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)


def party(path: Path, protection: Passphrase | None) -> PartyFolder:
    folder = PartyFolder(path / "clinic-1", protection)
    folder.create()
    certify(CertificateAuthority.create("test"), folder, "clinic-1")
    folder.store_authority_key(TlsKey.generate())
    folder.pending_tls_key()
    return folder


def keys(folder: PartyFolder) -> tuple[bytes, ...]:
    return (
        folder.identity().public_key,
        folder.sealing_key().public_key,
        folder.authority_key().public_key,
        folder.pending_tls_key().public_key,
    )


@pytest.mark.parametrize(("before", "after"), [(None, NEW), (OLD, NEW), (OLD, None), (OLD, OLD)])
def test_the_same_keys_under_another_protection(
    tmp_path: Path, before: Passphrase | None, after: Passphrase | None
) -> None:
    folder = party(tmp_path, before)
    assert folder.protected == (before is not None)
    known = keys(folder)
    assert len(folder.change_passphrase(after)) == 5
    changed = PartyFolder(folder.path, after)
    assert keys(changed) == known
    assert changed.protected == (after is not None)
    client_context(changed)  # OpenSSL reads the key too, and asks nobody
    for path in folder.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_passphrase_changes_nothing(tmp_path: Path) -> None:
    folder = party(tmp_path, OLD)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(InvalidInput, match="the passphrase is wrong"):
        PartyFolder(folder.path, Passphrase("not the passphrase")).change_passphrase(NEW)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


@pytest.mark.parametrize("done", range(6))
def test_interrupted_it_is_finished_by_running_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    folder = party(tmp_path, OLD)
    known, left = keys(folder), done

    def mortal(path: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        private_files.write_atomically(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(key_files, "write_atomically", mortal)
        try:
            folder.change_passphrase(NEW)
        except KeyboardInterrupt:
            assert done < 5
    folder.change_passphrase(NEW)
    assert keys(PartyFolder(folder.path, NEW)) == known


def test_a_protected_key_without_a_passphrase_says_where_to_give_it(tmp_path: Path) -> None:
    folder = PartyFolder(party(tmp_path, OLD).path)
    for load in (folder.identity, folder.sealing_key, folder.authority_key, lambda: client_context(folder)):
        with pytest.raises(InvalidInput, match="protected by a passphrase: give it in FEDAPT_PASSPHRASE"):
            load()


def test_files_cannot_take_each_other_s_place(tmp_path: Path) -> None:
    folder = party(tmp_path, OLD)
    folder.identity_file.write_bytes(folder.sealing_file.read_bytes())
    with pytest.raises(
        InvalidInput, match=r"identity\.key: the passphrase is wrong, or the file was changed"
    ):
        folder.identity()


class TestSources:
    def test_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = PartyFolder(party(tmp_path, OLD).path)
        assert passphrase.from_environment() is None
        monkeypatch.setenv(passphrase.VARIABLE, "the old passphrase")
        folder.identity()
        monkeypatch.delenv(passphrase.VARIABLE)
        file = tmp_path / "passphrase"
        file.write_text("the old passphrase\nand nothing of this line\n")
        file.chmod(0o400)
        monkeypatch.setenv(passphrase.FILE_VARIABLE, str(file))
        folder.identity()

    @pytest.mark.parametrize("content", [b"", b"\n", b"\n second", b"\xff\xfe"])
    def test_a_file_that_holds_none(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "passphrase"
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(InvalidInput, match="the first line must be the passphrase"):
            passphrase.from_file(file)

    def test_a_file_that_others_can_read(self, tmp_path: Path) -> None:
        file = tmp_path / "passphrase"
        file.write_text("the old passphrase")
        file.chmod(0o644)
        with pytest.raises(InvalidInput, match="chmod 600"):
            passphrase.from_file(file)


def test_leftovers_of_killed_writes_are_removed(tmp_path: Path) -> None:
    for name in (".identity.key.a1b2_c3d", ".lock", "identity.key", ".hidden", ".tls.key.next.abcdefgh"):
        (tmp_path / name).touch()
    private_files.remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5  # they may be in use
    private_files.remove_leftovers(tmp_path, older_than_s=0)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "identity.key", ".hidden"}

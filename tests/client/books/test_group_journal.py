"""The group key's journal on a real disk."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.books.group_journal import GroupJournal
from fedapt_crypto.errors import InvalidInput, VerificationFailed

SESSION = bytes(range(16))
HASHES = st.binary(min_size=32, max_size=32)


def file_of(folder: Path) -> Path:
    return folder / f"group-{SESSION.hex()}.json"


@settings(deadline=None)  # a busy disk takes as long as it likes
@given(encrypted=st.sets(HASHES, max_size=5), sums=st.dictionaries(HASHES, HASHES, max_size=5))
def test_what_is_recorded_lasts(encrypted: set[bytes], sums: dict[bytes, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = GroupJournal(folder, SESSION)
        for execution in encrypted:
            journal.encrypting(execution)
        for execution, sum_hash in sums.items():
            journal.decrypting(execution, sum_hash, 3)
        again = GroupJournal(folder, SESSION)
        for execution in encrypted:
            with pytest.raises(InvalidInput):
                again.encrypting(execution)
        for execution, sum_hash in sums.items():
            again.decrypting(execution, sum_hash, 3)
            with pytest.raises(VerificationFailed):
                again.decrypting(execution, bytes(b ^ 1 for b in sum_hash), 3)
        assert again.decrypted_pieces(apart_from=b"") == 3 * len(sums)
        assert not again.discarded


def test_a_burned_key_is_on_disk_before_anything_else_happens(tmp_path: Path) -> None:
    GroupJournal(tmp_path, SESSION).discard()
    assert GroupJournal(tmp_path, SESSION).discarded
    assert not GroupJournal(tmp_path, bytes(16)).discarded, "another session has another key"


def test_the_file_is_private(tmp_path: Path) -> None:
    GroupJournal(tmp_path, SESSION).encrypting(bytes(32))
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"discarded": false}',
        json.dumps({"discarded": "no", "encrypted": [], "sums": {}}).encode(),
        json.dumps({"discarded": False, "encrypted": ["00"], "sums": {}}).encode(),
        json.dumps({"discarded": False, "encrypted": [], "sums": {}, "more": 1}).encode(),
        b"\xff" * 40,
    ],
)
def test_a_broken_file_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    file_of(tmp_path).write_bytes(content)
    with pytest.raises(InvalidInput, match="cannot be read"):
        GroupJournal(tmp_path, SESSION)
    assert file_of(tmp_path).read_bytes() == content


def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    journal = GroupJournal(tmp_path / "gone", SESSION)
    with pytest.raises(InvalidInput, match="cannot be written"):
        journal.encrypting(bytes(32))

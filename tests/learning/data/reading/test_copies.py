import hashlib
from pathlib import Path

import pytest

from fedapt_secure.learning.data.reading import copies
from fedapt_secure.learning.data.reading.copies import equal_files, file_digest


def test_a_file_and_its_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").digest()
    assert file_digest(tmp_path / "b") == "No such file or directory"
    assert file_digest(tmp_path) == "Is a directory"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three equal ones, two equal ones, and some that differ in size, at the beginning or far behind."""
    long = bytes(1 << 17)
    contents = [b"a", b"bb", b"bb", b"cc", b"bb", long, long[:-1] + b"x", b"y" + long[1:], long, b""]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    return sorted(tmp_path.iterdir())


def test_files_beyond_the_first_of_equal_ones_are_counted(files):
    assert equal_files(files) == 3
    assert equal_files(files[:2]) == equal_files([]) == 0


def test_what_cannot_be_read_is_equal_to_none(files, tmp_path):
    assert equal_files([*files, tmp_path / "gone", tmp_path / "gone"]) == 3


def test_only_what_may_be_equal_is_read(files, monkeypatch):
    whole, begun = [], []
    monkeypatch.setattr(
        copies, "file_digest", lambda path, inner=file_digest: whole.append(path.name) or inner(path)
    )
    inner = copies._beginning
    monkeypatch.setattr(copies, "_beginning", lambda path: begun.append(path.name) or inner(path))
    assert equal_files(files) == 3
    assert sorted(begun) == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert sorted(whole) == ["1", "2", "4", "5", "6", "8"]

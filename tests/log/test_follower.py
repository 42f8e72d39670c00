"""Following a log while it grows, is rotated, and arrives in pieces."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log import follower as following
from fedapt_secure.log.follower import LogFollower
from fedapt_secure.log.line import WITNESSED, LogEntry, parse_line
from fedapt_secure.log.reader import segments
from tests.audit.logs import entries, open_log, ticking, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clinic-1.jsonl"


def test_only_what_is_new(path: Path) -> None:
    follower = LogFollower(path)
    assert list(follower.new_entries()) == [], "a log that is not there yet"
    writer = open_log(path)
    assert [entry.type for entry in follower.new_entries()] == ["log_opened"]
    for number in range(3):
        writer.write("one", {"number": number})
        writer.write("two", {"number": number})
        new = [(entry.seq, entry.type) for entry in follower.new_entries()]
        assert new == [(2 * number + 1, "one"), (2 * number + 2, "two")]
        assert list(follower.new_entries()) == []
    writer.close()
    assert len(list(LogFollower(path).new_entries())) == 7, "another one starts at the beginning"


def test_an_entry_not_taken_comes_again(path: Path) -> None:
    write(path, "a", "b")
    follower = LogFollower(path)
    assert next(follower.new_entries()).type == "log_opened"
    assert [entry.type for entry in follower.new_entries()] == ["a", "b"]


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 3000))
@settings(deadline=None, max_examples=40)
def test_rotations_between_looks(looks: list[int], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        follower, found = LogFollower(path), []
        writer = open_log(path, segment_bytes=size)
        for count in looks:
            for _ in range(count):
                writer.write("a", {})
            found += follower.new_entries()
        writer.close()
        found += follower.new_entries()
        assert found == entries(path)


def test_a_rotation_that_a_crash_left_half_done(path: Path) -> None:
    write(path, *["a"] * 6, segment_bytes=2000)
    waiting = path.rename(path.with_name("later"))
    follower = LogFollower(path)
    found = list(follower.new_entries())
    assert found[-1].type == "log_rotated"
    assert list(follower.new_entries()) == []
    waiting.rename(path)
    assert next(follower.new_entries()).type == "log_continued"


def test_a_closed_file_that_has_still_the_old_name(path: Path) -> None:
    write(path, *["a"] * 6, segment_bytes=2000)
    last = segments(path)[-2]
    path.unlink()
    last.rename(path)
    follower = LogFollower(path)
    found = [entry.type for entry in follower.new_entries()]
    assert found[-1] == "log_rotated"
    assert list(follower.new_entries()) == [], "not the same lines again"


@given(st.integers(0, 5), st.data())
@settings(deadline=None)
def test_a_log_that_arrives_in_pieces_is_read_once_and_whole(count: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "log.jsonl", Path(folder) / "copy.jsonl"
        write(path, *["a"] * count, clock=ticking())
        whole = path.read_bytes()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
        found: list[LogEntry] = []
        follower = LogFollower(copy)
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            with copy.open("ab") as stream:
                stream.write(whole[start:stop])
            found += follower.new_entries()
            assert len(found) == whole[:stop].count(b"\n"), "each line as soon as it is whole"
        assert found == entries(path)


def test_a_broken_line_is_named(path: Path) -> None:
    write(path, "a")
    with path.open("a") as stream:
        stream.write("rubbish\n")
    found = LogFollower(path).new_entries()
    assert [next(found).type, next(found).type] == ["log_opened", "a"]
    with pytest.raises(InvalidInput, match=f"{path}, number 2, is not a log line"):
        next(found)


def test_a_line_out_of_place_is_named(path: Path) -> None:
    write(path, "a", "b")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2]]))
    found = LogFollower(path).new_entries()
    assert next(found).type == "log_opened"
    with pytest.raises(InvalidInput, match="number 1, is out of place"):
        next(found)


def test_long_lines_are_counted_and_not_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counting(raw: bytes, where: str) -> LogEntry:
        entry = parse_line(raw, where)
        parsed.append(entry.type)
        return entry

    monkeypatch.setattr(following, "parse_line", counting)
    write(path, "a", WITNESSED, "b", WITNESSED)
    follower = LogFollower(path, leave_out=following.LONG)
    found = [(entry.seq, entry.type) for entry in follower.new_entries()]
    assert found == [(0, "log_opened"), (1, "a"), (3, "b")]
    assert parsed == ["log_opened", "a", "b"]


def test_what_is_left_out_is_still_in_its_place(path: Path) -> None:
    write(path, "a", WITNESSED, "b")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1], lines[3]]))
    with pytest.raises(InvalidInput, match="out of place"):
        list(LogFollower(path, leave_out=following.LONG).new_entries())


def test_a_log_that_did_not_grow_is_not_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_log(path)
    follower = LogFollower(path)
    assert len(list(follower.new_entries())) == 1
    opened: list[int] = []
    real = follower._open
    monkeypatch.setattr(follower, "_open", lambda: opened.append(1) or real())
    assert list(follower.new_entries()) == []
    assert not opened
    writer.write("a", {})
    assert [entry.type for entry in follower.new_entries()] == ["a"]
    assert opened
    writer.close()

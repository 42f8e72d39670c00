"""Reading with problems collected: where, of which kind; in one thread or several; in flat memory."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import Identity
from fedapt_secure.log import reader as reader_module
from fedapt_secure.log.line import GENESIS, SegmentHeader, line_bytes, opened_body
from fedapt_secure.log.reader import LogReader, read_log, segments
from tests.audit.logs import BEGINNING, IDENTITY, PARTY, open_log, problems, ticking, write

ROOT = Path(__file__).parent.parent.parent
KEY = IDENTITY.public_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "clinic-1.jsonl"
    write(path, *[f"a{number}" for number in range(6)], clock=ticking())
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def signed(seq: int, type: str, body: dict, prev: bytes, identity: Identity = IDENTITY) -> bytes:
    return line_bytes(seq, BEGINNING, type, body, prev, identity) + b"\n"


def test_a_sound_log_has_no_problems(path: Path) -> None:
    for threads in (1, 2, 4):
        reader = LogReader([path], identity=KEY, threads=threads)
        found = list(reader.entries())
        assert [one.line for one in found] == [one.entry.seq + 1 for one in found] == list(range(1, 8))
        assert (reader.problems, reader.lines, reader.first_seq) == ([], 7, 0)
        assert reader.header is not None
        assert (reader.header.party, reader.header.role) == (PARTY, "institution")
        assert reader.head is not None
        assert (reader.head.log, reader.head.hash) == (reader.header.log, found[-1].entry.hash)


class TestKinds:
    """One case for each kind; the numbers are lines of the file."""

    def rewrite(self, path: Path, new: list[bytes]) -> list[tuple]:
        path.write_bytes(b"".join(new))
        found = problems(path)
        for threads in (2, 3):
            assert problems(path, threads=threads) == found, "the same whatever the number of threads"
        return found

    def test_a_flipped_letter(self, path: Path) -> None:
        old = lines(path)
        old[3] = old[3].replace(b'"a2"}', b'"b2"}')
        assert self.rewrite(path, old) == [("signature", 4), ("chain", 5)]

    def test_a_deleted_line(self, path: Path) -> None:
        old = lines(path)
        assert self.rewrite(path, [*old[:3], *old[4:]]) == [("sequence", 4)]

    def test_the_first_line_deleted(self, path: Path) -> None:
        found = self.rewrite(path, lines(path)[1:])
        assert found[0] == ("header", 1)

    def test_swapped_lines(self, path: Path) -> None:
        old = lines(path)
        old[3], old[4] = old[4], old[3]
        assert {kind for kind, _ in self.rewrite(path, old)} == {"sequence", "time"}

    def test_a_repeated_line(self, path: Path) -> None:
        old = lines(path)
        assert self.rewrite(path, [*old[:4], *old[3:]]) == [("sequence", 5)]

    def test_an_inserted_line_of_another_key(self, path: Path) -> None:
        old = lines(path)
        alien = signed(4, "a3", {}, b"\0" * 32, Identity.generate())
        assert ("signature", 5) in self.rewrite(path, [*old[:4], alien, *old[4:]])

    def test_a_cut_tail_within_a_line(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-10])
        assert problems(path) == [("cut off", 7)]

    def test_a_cut_tail_between_lines_shows_in_no_lone_log(self, path: Path) -> None:
        assert self.rewrite(path, lines(path)[:-2]) == []

    def test_rubbish_and_lines_too_long(self, path: Path) -> None:
        old = lines(path)
        long = b"x" * (9 << 20) + b"\n"
        found = self.rewrite(path, [*old[:2], b"rubbish\n", long, b"\n", *old[2:]])
        assert found == [("not a log line", 3), ("not a log line", 4), ("not a log line", 5)]

    def test_a_rewritten_log_under_another_key(self, path: Path) -> None:
        stranger = Identity.generate()
        header = SegmentHeader(bytes(16), PARTY, "institution", stranger.public_key)
        path.write_bytes(signed(0, "log_opened", opened_body(header), GENESIS, stranger))
        assert problems(path) == [("signature", 1), ("identity", 1)]
        assert problems(path, identity=None) == [], "a lone log cannot show whose key it should be"

    def test_a_log_that_does_not_begin(self, path: Path) -> None:
        header = SegmentHeader(bytes(16), PARTY, "institution", KEY)
        path.write_bytes(signed(3, "log_opened", opened_body(header), b"x" * 32))
        assert problems(path) == [("sequence", 1)]

    def test_a_header_inside(self, path: Path) -> None:
        header = SegmentHeader(bytes(16), PARTY, "institution", KEY)
        extra = signed(7, "log_opened", opened_body(header), bytes(32))
        assert ("segment", 8) in self.rewrite(path, [*lines(path), extra])

    @pytest.mark.parametrize("data", [b"", b"\n", b"rubbish\n", b"\xff" * 100])
    def test_nothing_like_a_log(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "other.jsonl"
        path.write_bytes(data)
        assert problems(path)
        assert problems(path, identity=None)

    def test_a_missing_file_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="No such file"):
            problems(tmp_path / "none.jsonl")

    def test_no_more_than_so_many_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader_module, "MAX_PROBLEMS", 5)
        path = tmp_path / "other.jsonl"
        path.write_bytes(b"rubbish\n" * 20)
        reader = LogReader([path])
        assert list(reader.entries()) == []
        assert (len(reader.problems), reader.problem_count) == (5, 20)


class TestSegments:
    @pytest.fixture
    def rotated(self, tmp_path: Path) -> Path:
        path = tmp_path / "log.jsonl"
        write(path, *["a"] * 20, segment_bytes=1500, clock=ticking())
        assert len(segments(path)) > 4
        return path

    def test_a_missing_part_in_the_middle(self, rotated: Path) -> None:
        segments(rotated)[2].unlink()
        assert [kind for kind, _ in problems(rotated)] == ["sequence"]

    def test_two_parts_swapped(self, rotated: Path) -> None:
        first, second = segments(rotated)[1:3]
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
        assert {"sequence"} < {kind for kind, _ in problems(rotated)} | {"x"}

    def test_a_part_of_another_log_of_the_same_party(self, rotated: Path, tmp_path: Path) -> None:
        other = tmp_path / "other" / "log.jsonl"
        write(other, *["a"] * 20, segment_bytes=1500, clock=ticking())
        segments(rotated)[1].write_bytes(segments(other)[1].read_bytes())
        assert ("segment", 1) in problems(rotated)

    def test_a_part_without_its_last_line(self, rotated: Path) -> None:
        part = segments(rotated)[1]
        part.write_bytes(b"".join(lines(part)[:-1]))
        assert [kind for kind, _ in problems(rotated)] == ["sequence", "segment"]

    def test_files_joined_into_one(self, rotated: Path, tmp_path: Path) -> None:
        joined = tmp_path / "joined.jsonl"
        joined.write_bytes(b"".join(part.read_bytes() for part in segments(rotated)))
        assert {kind for kind, _ in problems(joined)} == {"segment"}

    def test_other_files_in_the_folder_are_left_alone(self, rotated: Path, tmp_path: Path) -> None:
        before = segments(rotated)
        for name in ("log.1.jsonl", "log.00000000x0.jsonl", "log.jsonl.torn-1", "blog.0000000000.jsonl"):
            (tmp_path / name).write_text("x")
        assert segments(rotated) == before

    def test_a_party_with_dots_and_brackets_in_its_file_name(self, tmp_path: Path) -> None:
        for name in ("clinic-1.eu.jsonl", "c[1]*.jsonl", "clinic-1.jsonl"):
            write(tmp_path / name, *["a"] * 9, segment_bytes=1500)
        for name in ("clinic-1.eu.jsonl", "c[1]*.jsonl", "clinic-1.jsonl"):
            assert len(segments(tmp_path / name)) > 2
            assert problems(tmp_path / name) == []


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_no_change_of_bytes_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Flip, insert or delete anywhere but at the very end: there is always a problem."""
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    write(path, "a", "b", "c", clock=ticking())
    data = path.read_bytes()
    position = rng.randrange(len(data) - 1)
    match rng.randrange(4):
        case 0:
            new = data[:position] + bytes((data[position] ^ 1 << rng.randrange(8),)) + data[position + 1 :]
        case 1:
            new = data[:position] + rng.randbytes(rng.randint(1, 40)) + data[position:]
        case 2:
            new = data[:position] + data[position + rng.randint(1, 40) :]
        case _:
            old = data.splitlines(keepends=True)
            moved = old.pop(rng.randrange(3))
            old.insert(rng.randrange(4), moved)
            new = b"".join(old)
    path.write_bytes(new)
    whole_lines_cut = data.startswith(new) and new.endswith(b"\n")
    assert (problems(path) == []) == (new == data or whole_lines_cut)


class TestReadLog:
    def test_entries_before_the_damage_are_still_given(self, path: Path) -> None:
        old = lines(path)
        path.write_bytes(b"".join([*old[:3], b"rubbish\n", *old[3:]]))
        entries = read_log(path, identity=KEY)
        assert [next(entries).type for _ in range(3)] == ["log_opened", "a0", "a1"]
        with pytest.raises(InvalidInput, match=f"{path}, line 4: not a log line"):
            next(entries)

    def test_a_cut_off_end(self, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InvalidInput, match="line 7: the last line is cut off"):
            list(read_log(path))


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, resource; from fedapt_secure.log.reader import LogReader\n"
        "n = sum(1 for _ in LogReader([pathlib.Path(sys.argv[1])], threads=2).entries())\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (10, 4000):
        path = tmp_path / f"{count}.jsonl"
        writer = open_log(path)
        for number in range(count):
            writer.write("a", {"number": number, "filler": "x" * 4000})
        writer.close()
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        lines_read, peak = map(int, done.stdout.split())
        assert lines_read == count + 1
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 12 << 10, "kibibytes; the log has 17 MB"

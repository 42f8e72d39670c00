"""Logs on real files: written, continued, rotated, recovered after crashes, refused when damaged."""

import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, RollbackDetected, Unavailable
from fedapt_crypto.identity import Identity
from fedapt_secure.log import file as logfile
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.reader import LogReader, segments
from fedapt_secure.log.writer import LogWriter
from tests.audit.logs import BEGINNING, IDENTITY, PARTY, entries, open_log, problems, ticking, types, write
from tests.log.test_line import BODY

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "clinic-1.jsonl"


class TestWriter:
    @settings(deadline=None, max_examples=50)
    @given(st.lists(BODY, max_size=5))
    def test_what_is_written_is_read(self, bodies: list[dict[str, object]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            writer = open_log(path)
            for body in bodies:
                writer.write("type", body)
            found = entries(path)  # before closing: every line is with the operating system
            assert path.read_bytes().count(b"\n") == len(bodies) + 1, "one line each, whatever is in them"
            writer.close()
        assert [entry.body for entry in found[1:]] == bodies
        assert [entry.seq for entry in found] == list(range(len(bodies) + 1))

    def test_a_line_has_exactly_these_fields(self, path: Path) -> None:
        write(path, "joined")
        opened, joined = (json.loads(raw) for raw in path.read_text().splitlines())
        assert list(opened) == list(joined) == ["seq", "time", "type", "body", "prev", "sig"]
        assert (
            opened["body"].items()
            >= {
                "format": "fedapt-log/1",
                "party": PARTY,
                "role": "institution",
                "identity": IDENTITY.public_key.hex(),
                "continues": None,
            }.items()
        )
        assert (opened["type"], opened["prev"]) == ("log_opened", "0" * 64)
        assert (joined["seq"], joined["type"], joined["body"]) == (1, "joined", {"of": "joined"})
        first = path.read_bytes().splitlines()[0]
        assert joined["prev"] == hashlib.sha256(first).hexdigest()

    def test_two_logs_have_two_identifiers(self, path: Path, tmp_path: Path) -> None:
        write(path)
        write(tmp_path / "other.jsonl")
        ids = {entries(one)[0].body["log"] for one in (path, tmp_path / "other.jsonl")}
        assert len(ids) == 2

    def test_times_are_in_utc_and_never_go_back(self, path: Path) -> None:
        before = datetime.now(UTC)
        write(path, "a", "b")
        first, _, last = entries(path)
        assert first.time.utcoffset() == timedelta(0)
        assert before <= first.time <= last.time <= datetime.now(UTC)

    def test_a_clock_set_back_is_held_and_said_once(self, path: Path) -> None:
        times = [0, 10, 4, 5, 10, 11, 3]
        clock = iter([BEGINNING + timedelta(seconds=second) for second in times])
        writer = open_log(path, clock=clock.__next__)
        for _ in times[1:]:
            writer.write("a", {})
        writer.close()
        found = entries(path)
        assert [entry.type for entry in found] == [
            "log_opened", "a", "clock_set_back", "a", "a", "a", "a", "clock_set_back", "a"
        ]  # fmt: skip
        seconds = [(entry.time - BEGINNING).seconds for entry in found]
        assert seconds == [0, 10, 10, 10, 10, 10, 11, 11, 11]
        assert found[2].body == {"clock": "2026-01-01T00:00:04.000000+00:00"}

    def test_an_existing_log_is_continued(self, path: Path) -> None:
        write(path, "a", "b")
        before = path.read_bytes()
        write(path)
        assert path.read_bytes() == before
        write(path, "c", verify_all=True)
        assert path.read_bytes().startswith(before)
        assert types(path) == ["log_opened", "a", "b", "c"]

    @pytest.mark.parametrize(
        "body", [{"x": math.nan}, {"x": math.inf}, {"x": [{"y": -math.inf}]}, {"x": b"1"}]
    )
    def test_what_is_not_json_is_refused_and_leaves_no_trace(self, path: Path, body: dict) -> None:
        writer = open_log(path)
        writer.write("a", {})
        before = path.read_bytes()
        with pytest.raises((ValueError, TypeError), match="JSON"):
            writer.write("bad", body)
        assert path.read_bytes() == before
        writer.write("b", {})
        writer.close()
        assert types(path) == ["log_opened", "a", "b"]

    def test_threads_share_it(self, path: Path) -> None:
        writer = open_log(path, segment_bytes=20_000)
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for count in range(50):
                writer.write(f"thread_{number}", {"count": count, "filler": "x" * 500})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        found = entries(path)
        for number in range(8):
            counts = [entry.body["count"] for entry in found if entry.type == f"thread_{number}"]
            assert counts == list(range(50))

    def test_closed_is_closed(self, path: Path) -> None:
        writer = open_log(path)
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.write("b", {})
        assert types(path) == ["log_opened"]

    def test_nothing_secret_in_its_text_form(self, path: Path) -> None:
        writer = open_log(path)
        assert IDENTITY.private_bytes().hex() not in repr(vars(writer)) + repr(writer)
        writer.close()
        assert IDENTITY.private_bytes().hex() not in path.read_text()


class TestDurability:
    """Which lines are on disk when `write` returns: those that something sent afterwards relies on."""

    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        sizes, sync = [], os.fsync

        def counting(descriptor: int) -> None:
            sizes.append(os.fstat(descriptor).st_size)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", counting)
        return sizes

    def test_by_type_by_argument_and_for_a_head(self, path: Path, synced: list[int]) -> None:
        writer = open_log(path)
        synced.clear()
        writer.write("phase", {})
        assert synced == []
        for kind in ("session_accepted", "spend", "released", "session_closed"):
            writer.write(kind, {})
            assert synced.pop() == path.stat().st_size
        writer.write("phase", {}, durable=True)
        assert synced.pop() == path.stat().st_size
        writer.write("spend", {}, durable=False)
        assert synced == []
        head = writer.head()
        assert synced.pop() == path.stat().st_size
        assert writer.head() == head
        assert synced == [], "nothing new to make durable"
        last = entries(path)[-1]
        assert (head.seq, head.hash) == (last.seq, last.hash)
        writer.close()

    def test_a_full_disk_leaves_the_log_as_it_was(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = open_log(path)
        writer.write("a", {})
        before, put = path.read_bytes(), os.pwrite

        def half(descriptor: int, data: bytes, offset: int) -> int:
            if offset > len(before):
                raise OSError(errno.ENOSPC, "No space left on device")
            return put(descriptor, data[: len(data) // 2], offset)

        monkeypatch.setattr(logfile, "pwrite", half)
        with pytest.raises(Unavailable, match="No space left"):
            writer.write("b", {})
        assert path.read_bytes() == before
        monkeypatch.setattr(logfile, "pwrite", put)
        writer.write("c", {})
        writer.close()
        assert types(path) == ["log_opened", "a", "c"]

    def test_a_disk_that_fails_to_sync_ends_the_log(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = open_log(path)

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(Unavailable, match="Input/output"):
                writer.write("spend", {})
        with pytest.raises(ValueError, match="closed"):
            writer.write("a", {})
        writer.close()
        write(path, "again")
        assert types(path) == ["log_opened", "spend", "again"]

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidInput, match="cannot open the log"):
            open_log(tmp_path / "file" / "log.jsonl")


class TestOneWriter:
    def test_a_second_writer_is_refused(self, path: Path) -> None:
        writer = open_log(path)
        with pytest.raises(InvalidInput, match=f"^the log {path} is in use by another process"):
            open_log(path)
        writer.close()
        open_log(path).close()

    def test_also_from_another_process_and_after_a_rotation(self, path: Path) -> None:
        writer = open_log(path, segment_bytes=1)
        writer.write("a", {})
        assert len(segments(path)) > 1
        code = (
            "from tests.audit.logs import open_log; import pathlib, sys; open_log(pathlib.Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 1
        assert "is in use by another process" in done.stderr
        writer.close()
        assert subprocess.run(command, check=False, cwd=ROOT).returncode == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"party": "clinic-2"}, "another party or key"),
            ({"role": "coordinator"}, "another party or key"),
            ({"identity": Identity.generate()}, "another party or key"),
        ],
    )
    def test_another_party_does_not_write_it(self, path: Path, options: dict, message: str) -> None:
        write(path, "a")
        with pytest.raises(InvalidInput, match=message):
            open_log(path, **options)


class TestTornTail:
    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_cut_off_line_is_set_aside_and_said(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            write(path, "first", "last")
            whole = path.read_bytes()
            last = whole.rindex(b"\n", 0, -1) + 1
            cut = data.draw(st.integers(last + 1, len(whole) - 1))
            path.write_bytes(whole[:cut])
            assert problems(path) == [("cut off", 3)]
            write(path, "next")
            torn = whole[last:cut]
            assert types(path) == ["log_opened", "first", "torn_tail", "next"]
            body = entries(path)[2].body
            assert body == {
                "bytes": len(torn),
                "sha256": hashlib.sha256(torn).hexdigest(),
                "file": "log.jsonl.torn-1",
            }
            assert path.with_name(body["file"]).read_bytes() == torn
            assert path.read_bytes().startswith(whole[:last])

    def test_again_and_again(self, path: Path) -> None:
        for number in range(1, 4):
            write(path, "a")
            with path.open("ab") as stream:
                stream.write(b"x" * number * 1000)
        write(path)
        torn = [entry.body for entry in entries(path) if entry.type == "torn_tail"]
        assert [(body["bytes"], body["file"]) for body in torn] == [
            (1000, "clinic-1.jsonl.torn-1"),
            (2000, "clinic-1.jsonl.torn-2"),
            (3000, "clinic-1.jsonl.torn-3"),
        ]

    def test_all_of_a_log_is_for_its_owner_only_whatever_the_umask(self, path: Path) -> None:
        before = os.umask(0)
        try:
            write(path, *["a"] * 20, segment_bytes=2000)
            with path.open("ab") as stream:
                stream.write(b"torn")
            write(path)
        finally:
            os.umask(before)
        made = sorted(path.parent.iterdir())
        assert len(made) > 4
        assert any(file.name.endswith(".torn-1") for file in made)
        assert {file.stat().st_mode & 0o777 for file in made} == {0o600}

    @pytest.mark.parametrize("size", [0, 1, 100])
    def test_the_very_first_line(self, path: Path, size: int) -> None:
        write(path)
        whole = path.read_bytes()
        path.write_bytes(whole[:size])
        write(path, "a")
        assert types(path) == ["log_opened", *(["torn_tail"] if size else []), "a"]

    def test_something_else_entirely_is_not_touched(self, path: Path) -> None:
        write(path, "a")
        with path.open("ab") as stream:
            stream.write(b"x" * (5 << 20))
        before = path.stat().st_size
        with pytest.raises(InvalidInput, match="not a log of this program"):
            open_log(path)
        assert path.stat().st_size == before

    def test_a_witnessed_line_that_is_torn_is_a_rollback(self, path: Path) -> None:
        writer = open_log(path)
        writer.write("a", {})
        head = writer.head()
        writer.close()
        path.write_bytes(path.read_bytes()[:-5])
        writer = open_log(path)
        with pytest.raises(RollbackDetected, match="lacks a line"):
            writer.check_holds([head])
        writer.close()


class TestRotation:
    def test_one_log_in_many_files(self, path: Path) -> None:
        write(path, *["a"] * 20, segment_bytes=2000)
        files = segments(path)
        assert len(files) > 3
        assert files[-1] == path
        found = entries(path)
        assert [entry.seq for entry in found] == list(range(len(found)))
        assert [entry.type for entry in found].count("a") == 20
        assert all(file.stat().st_size < 3000 for file in files)
        for file in files[:-1]:
            first = json.loads(file.read_bytes().splitlines()[0])
            last = json.loads(file.read_bytes().splitlines()[-1])
            assert file.name == f"clinic-1.{first['seq']:010}.jsonl"
            assert (last["type"], last["body"]) == ("log_rotated", {"segment": file.name})
        opened = hashlib.sha256(files[0].read_bytes().splitlines()[0]).hexdigest()
        for file in files[1:]:
            first = json.loads(file.read_bytes().splitlines()[0])
            assert (first["type"], first["body"]["segment_of"]) == ("log_continued", opened)

    def test_the_bytes_are_those_of_a_single_log(self, tmp_path: Path) -> None:
        """Apart from the lines that say so, rotation changes nothing: one chain through all files."""
        path = tmp_path / "log.jsonl"
        write(path, *["a"] * 10, segment_bytes=1000, clock=ticking())
        lines = b"".join(file.read_bytes() for file in segments(path)).splitlines()
        for before, after in pairwise(lines):
            assert json.loads(after)["prev"] == hashlib.sha256(before).hexdigest()

    def test_a_rotated_log_is_continued_at_any_size(self, path: Path) -> None:
        for size in (10_000, 1000, 1, 5000, 1):
            write(path, "a", "b", segment_bytes=size, verify_all=True)
        assert types(path).count("a") == 5
        assert problems(path) == []

    def test_the_default_is_64_mib(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = open_log(path)
        assert writer._segment_bytes == 64 << 20
        writer.close()

    def test_archived_parts_may_be_moved_away(self, path: Path, tmp_path: Path) -> None:
        write(path, *["a"] * 20, segment_bytes=1500)
        files = segments(path)
        missing = len(files) // 2
        for file in files[:missing]:
            file.rename(tmp_path / file.name)
        reader = LogReader(segments(path), identity=IDENTITY.public_key)
        first, *_ = (found.entry.seq for found in reader.entries())
        assert first == reader.first_seq > 0
        assert reader.problems == []
        write(path, "b", segment_bytes=1500, verify_all=True)
        assert problems(path) == []
        for file in segments(path)[:-1]:
            file.rename(tmp_path / file.name)
        write(path, "c")
        assert types(path)[-1] == "c"

    def test_a_name_that_is_taken_is_not_overwritten(self, path: Path) -> None:
        writer = open_log(path, segment_bytes=1000)
        taken = path.with_name("clinic-1.0000000000.jsonl")
        taken.write_bytes(b"something else")
        writer.write("a", {})
        with pytest.raises(InvalidInput, match="is there already"):
            writer.write("a", {"x": "x" * 1000})
        assert taken.read_bytes() == b"something else"
        with pytest.raises(ValueError, match="closed"):
            writer.write("a", {})

    def test_the_current_file_missing_is_refused(self, path: Path) -> None:
        write(path, *["a"] * 9, segment_bytes=1500)
        path.unlink()
        last = segments(path)[-1]
        last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-1]))
        with pytest.raises(InvalidInput, match="is missing, though earlier parts"):
            open_log(path)

    def test_an_emptied_current_file_is_refused(self, path: Path) -> None:
        write(path, *["a"] * 9, segment_bytes=1500)
        path.write_bytes(b"")
        with pytest.raises(InvalidInput, match="is empty, though earlier parts"):
            open_log(path)


class TestOpening:
    """The ends are checked at every start, everything on request."""

    def changed(self, path: Path, line: int, old: bytes, new: bytes) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        assert old in lines[line]
        lines[line] = lines[line].replace(old, new)
        path.write_bytes(b"".join(lines))

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (-1, "last line .* was not signed"),
            (-2, "last line .* does not follow"),
            (0, "first line .* not signed"),
        ],
    )
    def test_a_changed_end(self, path: Path, line: int, message: str) -> None:
        write(path, "a1", "a2", "a3", clock=ticking())
        self.changed(path, line, b"2026", b"2025")
        before = path.read_bytes()
        with pytest.raises(InvalidInput, match=message):
            open_log(path)
        assert path.read_bytes() == before

    def test_a_missing_line_before_the_end(self, path: Path) -> None:
        write(path, "a1", "a2", "a3")
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], lines[3]]))
        with pytest.raises(InvalidInput, match="does not follow"):
            open_log(path)

    def test_a_changed_middle_is_found_when_asked_for(self, path: Path) -> None:
        write(path, "a1", "a2", "a3", "a4", clock=ticking())
        self.changed(path, 1, b'"a1"}', b'"b1"}')
        open_log(path).close()
        with pytest.raises(InvalidInput, match="line 2: the signature does not verify"):
            open_log(path, verify_all=True)

    def test_a_log_that_begins_with_its_second_line(self, path: Path) -> None:
        write(path, "a1")
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
        with pytest.raises(InvalidInput, match="does not begin a log"):
            open_log(path)

    def test_opening_a_long_log_is_cheap(self, path: Path) -> None:
        write(path, *["a"] * 3000)
        started = time.perf_counter()
        open_log(path).close()
        assert time.perf_counter() - started < 0.2


class TestHolding:
    """Does our log have what others hold of it?"""

    def test_every_line_of_every_segment(self, path: Path) -> None:
        writer = open_log(path, segment_bytes=1500)
        heads = []
        for _ in range(20):
            writer.write("a", {})
            heads.append(writer.head())
        writer.check_holds(heads)
        for head in heads:
            for wrong in (
                LogHead(head.log, head.seq, bytes(32)),
                LogHead(bytes(16), head.seq, head.hash),
                LogHead(head.log, head.seq + 1000, head.hash),
            ):
                with pytest.raises(RollbackDetected, match="log_continues"):
                    writer.check_holds([*heads, wrong])
        writer.close()

    def test_an_older_copy_lacks_what_came_after(self, path: Path) -> None:
        write(path, "a")
        old = path.read_bytes()
        writer = open_log(path)
        writer.write("b", {})
        head = writer.head()
        writer.close()
        path.write_bytes(old)
        writer = open_log(path)
        writer.write("other", {})
        writer.write("history", {})
        with pytest.raises(RollbackDetected, match=f"number {head.seq} of log {head.log.hex()}"):
            writer.check_holds([head])
        writer.close()

    def test_archived_parts_are_not_checked(self, path: Path) -> None:
        writer = open_log(path, segment_bytes=1500)
        writer.write("a", {})
        early = writer.head()
        for _ in range(20):
            writer.write("a", {})
        segments(path)[0].unlink()
        writer.check_holds([LogHead(early.log, early.seq, bytes(32))])
        writer.close()

    def test_a_new_log_in_the_place_of_a_lost_one(self, path: Path, tmp_path: Path) -> None:
        writer = open_log(path)
        writer.write("a", {})
        lost = writer.head()
        writer.close()
        path.unlink()
        writer = open_log(path, segment_bytes=1500)
        with pytest.raises(RollbackDetected) as caught:
            writer.check_holds([lost])
        writer.close()
        told = str(caught.value).rpartition("log_continues: ")[2].partition("'")[0]
        path.unlink()
        writer = open_log(path, segment_bytes=1500, continues=LogHead.parse(told))
        for _ in range(9):
            writer.write("a", {})
        writer.check_holds([lost, LogHead(lost.log, lost.seq - 1, bytes(32))])
        for wrong in (LogHead(lost.log, lost.seq, bytes(32)), LogHead(lost.log, lost.seq + 1, lost.hash)):
            with pytest.raises(RollbackDetected):
                writer.check_holds([wrong])
        writer.close()
        assert entries(path)[0].body["continues"]["log"] == lost.log.hex()
        writer = open_log(path)
        writer.check_holds([lost])
        writer.close()


class TestKills:
    """A real process killed at any step: what it was told is durable is there, and the log goes on."""

    def run_and_die(self, path: Path, step: int) -> tuple[int, list[int]]:
        """Fork a writer that kills itself before so many system calls; return how it ended, what it said."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                self.die_at(step)
                log = open_log(path, segment_bytes=1500)
                for count in range(8):
                    log.write("spend", {"count": count})
                    os.write(writer, bytes((count,)))
                log.close()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            said = list(stream.read())
        _, status = os.waitpid(child, 0)
        return status, said

    def die_at(self, step: int) -> None:
        left = [step]

        def counting(call):
            def counted(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return counted

        for name in ("fsync", "ftruncate", "open", "rename"):
            setattr(os, name, counting(getattr(os, name)))
        logfile.pwrite = counting(os.pwrite)
        Path.rename = counting(Path.rename)

    @pytest.mark.slow  # a process for each call
    def test_before_every_system_call(self, tmp_path: Path) -> None:
        kills = 0
        for step in range(1, 200):
            path = tmp_path / str(step) / "log.jsonl"
            path.parent.mkdir()
            status, said = self.run_and_die(path, step)
            _, said_again = self.run_and_die(path, 7)
            write(path, "after", segment_bytes=1500, verify_all=True)
            assert problems(path) == []
            found = [entry.body["count"] for entry in entries(path) if entry.type == "spend"]
            for count in range(8):
                assert found.count(count) >= said.count(count) + said_again.count(count)
            if os.WIFEXITED(status):
                break
            kills += 1
        assert kills > 40, "the writer makes fewer system calls than this test thinks"

    def test_at_any_moment(self, path: Path) -> None:
        code = (
            "import sys, pathlib; from tests.audit.logs import open_log\n"
            "log = open_log(pathlib.Path(sys.argv[1]), segment_bytes=4000)\n"
            "for count in range(10**9):\n"
            "    log.write('spend', {'count': count}); print(count, flush=True)"
        )
        acknowledged = 0
        for attempt in range(6):
            with subprocess.Popen(
                [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
            ) as child:
                assert child.stdout.readline() == "0\n"
                time.sleep(0.02 * attempt + 0.003)
                os.kill(child.pid, signal.SIGKILL)
                acknowledged += len(child.stdout.read().split()) + 1
        write(path, "after", verify_all=True)
        assert problems(path) == []
        assert types(path).count("spend") >= acknowledged > 6


def test_the_writer_reads_no_more_of_a_log_than_its_ends(path: Path) -> None:
    write(path, *["a"] * 200)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff" * 50_000 + b"\n", *lines[-2:]]))
    LogWriter(path, party=PARTY, role="institution", identity=IDENTITY).close()

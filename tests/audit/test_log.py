"""Logs on real files: written, continued, refused when damaged, and followed while they grow."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.audit.log import LogEntry, LogWriter, parse_line, read_log
from fedapt_secure.simulate.follow import LogFollower

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "clinic-1.jsonl"


def write(path: Path, *types: str) -> None:
    writer = LogWriter(path)
    for one in types:
        writer.write(one, {"of": one})
    writer.close()


def types(path: Path) -> list[str]:
    return [entry.type for entry in read_log(path)]


class TestWriter:
    @settings(deadline=None)
    @given(BODIES)
    def test_what_is_written_is_read(self, bodies: list[dict[str, object]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            writer = LogWriter(path)
            for body in bodies:
                writer.write("type", body)
            entries = list(read_log(path))  # before closing: every line is flushed
            assert path.read_bytes().count(b"\n") == len(bodies), "one line each, whatever is in them"
            writer.close()
        assert [entry.body for entry in entries] == bodies
        assert [entry.seq for entry in entries] == list(range(len(bodies)))

    def test_times_are_aware_and_in_utc(self, path: Path) -> None:
        before = datetime.now(UTC)
        write(path, "a", "b")
        first, second = read_log(path)
        assert first.time.utcoffset() == second.time.utcoffset() == timedelta(0)
        assert before <= first.time <= second.time <= datetime.now(UTC)

    def test_a_line_has_exactly_these_fields(self, path: Path) -> None:
        write(path, "joined")
        fields = json.loads(path.read_text())
        assert list(fields) == ["seq", "time", "type", "body"]
        assert (fields["seq"], fields["type"], fields["body"]) == (0, "joined", {"of": "joined"})

    def test_an_existing_log_is_continued(self, path: Path) -> None:
        write(path, "a", "b")
        before = path.read_bytes()
        write(path)
        assert path.read_bytes() == before
        write(path, "c")
        assert path.read_bytes().startswith(before)
        assert [(entry.seq, entry.type) for entry in read_log(path)] == [(0, "a"), (1, "b"), (2, "c")]

    @pytest.mark.parametrize(
        "body", [{"x": math.nan}, {"x": math.inf}, {"x": [{"y": -math.inf}]}, {"x": b"1"}]
    )
    def test_what_is_not_json_is_refused_and_leaves_no_trace(
        self, path: Path, body: dict[str, object]
    ) -> None:
        writer = LogWriter(path)
        writer.write("a", {})
        before = path.read_bytes()
        with pytest.raises((ValueError, TypeError), match="JSON"):
            writer.write("bad", body)
        assert path.read_bytes() == before
        writer.write("b", {})
        writer.close()
        assert types(path) == ["a", "b"]

    def test_threads_share_it(self, path: Path) -> None:
        writer = LogWriter(path)
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait()
            for count in range(50):
                writer.write(f"thread-{number}", {"count": count, "filler": "x" * 500})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        entries = list(read_log(path))
        assert len(entries) == 400
        for number in range(8):
            counts = [entry.body["count"] for entry in entries if entry.type == f"thread-{number}"]
            assert counts == list(range(50))

    def test_closed_is_closed(self, path: Path) -> None:
        writer = LogWriter(path)
        writer.write("a", {})
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match="closed"):
            writer.write("b", {})
        assert types(path) == ["a"]

    def test_what_was_written_survives_a_kill(self, path: Path) -> None:
        code = (
            "import sys, pathlib; from fedapt_secure.audit.log import LogWriter\n"
            "LogWriter(pathlib.Path(sys.argv[1])).write('released', {})\n"
            "print('ready', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout.readline() == "ready\n"
            os.kill(child.pid, signal.SIGKILL)
            assert child.wait(timeout=60) == -signal.SIGKILL
        assert types(path) == ["released"]
        write(path, "again")
        assert types(path) == ["released", "again"]


class TestDamage:
    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_last_line_that_was_cut_off_is_refused_and_not_repaired(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            write(path, "first", "lást")
            whole = path.read_bytes()
            last = whole.index(b"\n") + 1
            cut = data.draw(st.integers(last + 1, len(whole) - 1))
            path.write_bytes(whole[:cut])
            with pytest.raises(InvalidInput, match=f"{path}, line 2, is cut off"):
                list(read_log(path))
            with pytest.raises(InvalidInput, match="line 2"):
                LogWriter(path)
            assert path.read_bytes() == whole[:cut]

    @pytest.mark.parametrize(
        ("order", "line", "number"),
        [([1], 1, 1), ([0, 2], 2, 2), ([0, 0], 2, 0), ([0, 2, 1], 2, 2), ([-1], 1, 7)],
    )
    def test_lines_missing_repeated_or_swapped(
        self, path: Path, order: list[int], line: int, number: int
    ) -> None:
        write(path, "a", "b", "c")
        lines = path.read_text().splitlines(keepends=True)
        lines.append(lines[0].replace('"seq":0', '"seq":7'))
        path.write_text("".join(lines[seq] for seq in order))
        message = f"{path}, line {line}: sequence number {number} out of order"
        with pytest.raises(InvalidInput, match=message):
            list(read_log(path))
        with pytest.raises(InvalidInput, match=message):
            LogWriter(path)

    def test_entries_before_the_damage_are_still_given(self, path: Path) -> None:
        write(path, "a", "b")
        with path.open("a") as stream:
            stream.write("rubbish\n")
        entries = read_log(path)
        assert [next(entries).type, next(entries).type] == ["a", "b"]
        with pytest.raises(InvalidInput, match="line 3, is not a log line"):
            next(entries)

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "\n",
            "null",
            "[]",
            "{}",
            "7",
            '"text"',
            '{"seq":0,"time":"2026-01-01T00:00:00+00:00","type":"a"}',
            '{"seq":0,"time":"yesterday","type":"a","body":{}}',
            '{"seq":0,"time":7,"type":"a","body":{}}',
            '{"seq":null,"time":"2026-01-01T00:00:00+00:00","type":"a","body":{}}',
            '{"seq":"x","time":"2026-01-01T00:00:00+00:00","type":"a","body":{}}',
            '{"time":"2026-01-01T00:00:00+00:00","type":"a","body":{}}',
            '{"seq":0,"time":"2026-01-01T00:00:00+00:00","type":"a","body":{}}{}',
        ],
    )
    def test_what_is_no_log_line(self, line: str) -> None:
        with pytest.raises(InvalidInput, match="^here is not a log line$"):
            parse_line(line, "here")

    def test_a_good_line(self) -> None:
        entry = parse_line('{"seq":3,"time":"2026-01-01T00:00:00+00:00","type":"a","body":{"b":1}}', "here")
        assert entry == LogEntry(3, datetime(2026, 1, 1, tzinfo=UTC), "a", {"b": 1})


class TestFollower:
    def test_only_what_is_new(self, path: Path) -> None:
        follower = LogFollower(path)
        assert list(follower.new_entries()) == [], "a log that is not there yet"
        writer = LogWriter(path)
        assert list(follower.new_entries()) == []
        for number in range(3):
            writer.write("one", {"number": number})
            writer.write("two", {"number": number})
            new = [(entry.seq, entry.type) for entry in follower.new_entries()]
            assert new == [(2 * number, "one"), (2 * number + 1, "two")]
            assert list(follower.new_entries()) == []
        writer.close()
        assert len(list(LogFollower(path).new_entries())) == 6, "another one starts at the beginning"

    def test_an_entry_not_taken_comes_again(self, path: Path) -> None:
        write(path, "a", "b", "c")
        follower = LogFollower(path)
        assert next(follower.new_entries()).type == "a"
        assert [entry.type for entry in follower.new_entries()] == ["b", "c"]

    @given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.data())
    @settings(deadline=None)
    def test_a_log_that_arrives_in_pieces_is_read_once_and_whole(
        self, texts: list[str], data: st.DataObject
    ) -> None:
        lines = [
            json.dumps(
                {"seq": seq, "time": "2026-01-01T00:00:00+00:00", "type": text, "body": {"ü": text}},
                ensure_ascii=False,
            )
            for seq, text in enumerate(texts)
        ]
        whole = "".join(line + "\n" for line in lines).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
        found: list[LogEntry] = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log.jsonl"
            follower = LogFollower(path)
            for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                with path.open("ab") as stream:
                    stream.write(whole[start:stop])
                found += follower.new_entries()
                assert len(found) == whole[:stop].count(b"\n"), "each line as soon as it is whole"
        assert [(entry.seq, entry.type) for entry in found] == list(enumerate(texts))

    def test_a_broken_line_is_named(self, path: Path) -> None:
        write(path, "a")
        with path.open("a") as stream:
            stream.write("rubbish\n")
        entries = LogFollower(path).new_entries()
        assert next(entries).type == "a"
        with pytest.raises(InvalidInput, match=f"{path}, line 2, is not a log line"):
            next(entries)

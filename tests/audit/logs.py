"""Shared by the log tests: one party, its writer with a clock that ticks, and its files."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedapt_crypto.identity import Identity
from fedapt_secure.log.line import LogEntry
from fedapt_secure.log.reader import LogReader, read_log, segments
from fedapt_secure.log.writer import LogWriter

IDENTITY = Identity.from_private_bytes(bytes(range(32)))
PARTY = "clinic-1"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def ticking(start: datetime = BEGINNING) -> Callable[[], datetime]:
    def ticks() -> Iterator[datetime]:
        now = start
        while True:
            now += timedelta(milliseconds=250)
            yield now

    return ticks().__next__


def open_log(path: Path, **options) -> LogWriter:
    fields = {"party": PARTY, "role": "institution", "identity": IDENTITY}
    return LogWriter(path, **(fields | options))


def write(path: Path, *types: str, **options) -> None:
    writer = open_log(path, **options)
    for one in types:
        writer.write(one, {"of": one})
    writer.close()


def entries(path: Path) -> list[LogEntry]:
    return list(read_log(path, identity=IDENTITY.public_key))


def types(path: Path) -> list[str]:
    return [entry.type for entry in entries(path)]


def problems(path: Path, *, identity: bytes | None = IDENTITY.public_key, threads: int = 1) -> list[tuple]:
    """What a reader finds wrong: (kind, line)."""
    reader = LogReader(segments(path) or [path], identity=identity, threads=threads)
    for _ in reader.entries():
        pass
    assert len(reader.problems) == reader.problem_count
    return [(problem.kind.value, problem.line) for problem in reader.problems]

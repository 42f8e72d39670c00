"""Read logs in one pass with flat memory: every line's form, place, time and signature, on several cores.

Nothing here raises for a line that does not hold: an auditor wants all that is wrong, with file and line.
Whoever only wants to read a log that is in order takes `read_log`.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, VerificationFailed, system_error
from fedapt_secure.log.line import (
    GENESIS,
    LOG_CONTINUED,
    LOG_OPENED,
    LOG_ROTATED,
    MAX_LINE_BYTES,
    LogEntry,
    LogHead,
    SegmentHeader,
    parse_line,
    read_header,
    verify_line,
)

MAX_PROBLEMS: Final = 1000
"""More are counted but not kept: a log of another program would be one problem a line."""
_BATCH_LINES: Final = 256
_BATCH_BYTES: Final = 1 << 20
_SEGMENT = re.compile(r"\.([0-9]{10,18})\Z")


class Kind(StrEnum):
    """What can be wrong with a line."""

    NOT_A_LINE = "not a log line"
    CUT_OFF = "cut off"
    HEADER = "header"
    IDENTITY = "identity"
    SIGNATURE = "signature"
    SEQUENCE = "sequence"
    CHAIN = "chain"
    TIME = "time"
    SEGMENT = "segment"


@dataclass(frozen=True)
class Problem:
    """Something that does not hold.

    Attributes:
        party: Whose log it is as far as its first line says so.
        file: The segment.
        line: Number of the line in that file, from 1; 0 for the file as a whole.
        kind: What kind of problem it is.
        message: One sentence for people.
    """

    party: str | None
    file: Path
    line: int
    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Located:
    """An entry and where it stands; ``line`` is its number in the file, from 1."""

    entry: LogEntry
    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class _Unread:
    file: Path
    line: int
    kind: Kind
    message: str


def segment_path(path: Path, first_seq: int) -> Path:
    """Return the name that a segment of the log ``path`` gets when it is rotated away."""
    return path.with_name(f"{path.stem}.{first_seq:010}{path.suffix}")


def segments(path: Path) -> list[Path]:
    """Return the files of a log in order: segments that were rotated away, then ``path`` if it is there."""
    found: dict[int, Path] = {}
    for other in path.parent.glob(f"{_escaped(path.stem)}.*{_escaped(path.suffix)}"):
        match = _SEGMENT.search(other.stem)
        if match is not None and other == segment_path(path, int(match[1])):
            found[int(match[1])] = other
    return [found[first] for first in sorted(found)] + ([path] if path.exists() else [])


def _escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


class LogReader:
    """One pass over one log.

    Args:
        files: Its segments in order, see `segments`; the first may be missing (archived elsewhere).
        identity: The party's Ed25519 public key from a roster; ``None`` takes the one the log itself names.
        threads: How many threads check signatures; they run beside each other.

    Attributes:
        header: What the first line says, once it is read.
        problems: What does not hold so far, in order; at most `MAX_PROBLEMS`.
        problem_count: How many there are.
        first_seq: Number of the first line; above 0 where the log's start was not given.
        lines: How many lines have been read.
    """

    def __init__(self, files: Sequence[Path], *, identity: bytes | None = None, threads: int = 1) -> None:
        self._files = tuple(files)
        self._identity = identity
        self._threads = threads
        self._begun = False
        self.header: SegmentHeader | None = None
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.first_seq = self._file_first = 0
        self.lines = 0
        self._first_hash: bytes | None = None
        self._previous: Located | None = None

    def entries(self) -> Iterator[Located]:
        """Yield every line whose own signature verifies, in order; what does not hold goes to `problems`.

        A line that is genuine but out of place is yielded too, after its problem has been noted.

        Raises:
            InvalidInput: If a file cannot be read.
        """
        for found, genuine in self._checked(_lines(self._files)):
            self.lines += 1
            if isinstance(found, _Unread):
                self._note(found, found.kind, found.message)
                continue
            if not genuine and self._identity is not None:
                self._note(found, Kind.SIGNATURE, "the signature does not verify")
            self._check_place(found)
            self._previous = found
            if genuine:
                yield found
        if self.lines == 0 and self._files:
            self._note(_Unread(self._files[-1], 0, Kind.HEADER, ""), Kind.HEADER, "the log is empty")

    @property
    def head(self) -> LogHead | None:
        """The log's head as far as it is read."""
        if self.header is None or self._previous is None:
            return None
        return LogHead(self.header.log, self._previous.entry.seq, self._previous.entry.hash)

    def _note(self, where: Located | _Unread, kind: Kind, message: str) -> None:
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            party = self.header.party if self.header is not None else None
            place = f"{where.file}, line {where.line}: " if where.line else f"{where.file}: "
            self.problems.append(Problem(party, where.file, where.line, kind, place + message))

    def _checked(self, lines: Iterable[Located | _Unread]) -> Iterator[tuple[Located | _Unread, bool]]:
        """Yield each line with whether its signature verifies, in order."""
        if self._threads <= 1:
            for found in lines:
                self._begin(found)
                yield found, self._genuine(found)
            return
        waiting: deque[tuple[list[Located | _Unread], Future[list[bool]]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            for batch in _batches(lines):
                for found in batch:
                    self._begin(found)
                waiting.append((batch, pool.submit(lambda batch: [self._genuine(x) for x in batch], batch)))
                if len(waiting) > 2 * self._threads:
                    done, results = waiting.popleft()
                    yield from zip(done, results.result(), strict=True)
            for done, results in waiting:
                yield from zip(done, results.result(), strict=True)

    def _genuine(self, found: Located | _Unread) -> bool:
        if isinstance(found, _Unread) or self._identity is None:
            return False
        try:
            verify_line(found.entry, self._identity, signer="the log's party")
        except VerificationFailed:
            return False
        return True

    def _begin(self, found: Located | _Unread) -> None:
        """Take the party's key from the log's first line, if none was given."""
        if self._begun or not isinstance(found, Located):
            return
        self._begun = True
        if self._identity is None:
            try:
                self._identity = read_header(found.entry, "").identity
            except InvalidInput:
                return

    def _check_place(self, found: Located) -> None:
        """Check that a line follows the one before: number, hash, time, and what stands where in a file."""
        entry, before = found.entry, self._previous
        if found.line == 1 or before is None:
            self._check_header(found)
        elif entry.type in (LOG_OPENED, LOG_CONTINUED):
            self._note(found, Kind.SEGMENT, f"a line {entry.type!r} stands inside a file")
        if before is None:
            self.first_seq = self._file_first = entry.seq
            if entry.type == LOG_OPENED and (entry.seq != 0 or entry.prev != GENESIS):
                self._note(found, Kind.SEQUENCE, "the log's first line does not begin its chain")
            return
        if entry.seq != before.entry.seq + 1:
            message = f"number {entry.seq} where {before.entry.seq + 1} is due"
            self._note(found, Kind.SEQUENCE, f"{message}: lines are missing, repeated or moved")
        elif entry.prev != before.entry.hash:
            self._note(found, Kind.CHAIN, "the line before is not the one that this line was chained to")
        if entry.time < before.entry.time:
            self._note(found, Kind.TIME, "the time is earlier than that of the line before")
        if before.entry.type == LOG_ROTATED:
            self._check_segment_name(before)
        if found.line == 1:
            self._file_first = entry.seq
        if (before.entry.type == LOG_ROTATED) != (found.line == 1):
            self._note(found, Kind.SEGMENT, "a file ends or begins where the log was not rotated")

    def _check_segment_name(self, rotated: Located) -> None:
        """A file's last line says how the file is called from then on: by the number of its first line."""
        ends = f".{self._file_first:010}.jsonl"
        if not str(rotated.entry.body.get("segment")).endswith(ends):
            self._note(rotated, Kind.SEGMENT, f"segment is not the name of this file, which ends in {ends}")

    def _check_header(self, found: Located) -> None:
        try:
            header = read_header(found.entry, f"{found.file}, line {found.line}")
        except InvalidInput as error:
            self._note(found, Kind.HEADER, str(error))
            return
        if self.header is None:
            self.header = header
            self._first_hash = header.segment_of or found.entry.hash
            if self._identity is not None and header.identity != self._identity:
                self._note(found, Kind.IDENTITY, "the log names another identity than the party's")
            return
        first = self.header
        same = (header.log, header.party, header.role, header.identity, header.continues)
        if same != (first.log, first.party, first.role, first.identity, first.continues):
            self._note(found, Kind.SEGMENT, "the file belongs to another log")
        elif header.segment_of != self._first_hash:
            self._note(found, Kind.SEGMENT, "the file does not belong to the log that begins here")


def read_log(path: Path, *, identity: bytes | None = None) -> Iterator[LogEntry]:
    """Yield a log's entries in order, of all its segments, each checked.

    Args:
        path: The log's current file.
        identity: As for `LogReader`.

    Raises:
        InvalidInput: At the first line that does not hold.
    """
    reader = LogReader(segments(path) or [path], identity=identity)
    for found in reader.entries():
        if reader.problems:
            break
        yield found.entry
    if reader.problems:
        raise InvalidInput(reader.problems[0].message)


def _batches(lines: Iterable[Located | _Unread]) -> Iterator[list[Located | _Unread]]:
    """Group lines so that handing them to a thread costs little, and few long ones are held at once."""
    batch: list[Located | _Unread] = []
    size = 0
    for found in lines:
        batch.append(found)
        size += len(found.entry.signed_bytes) if isinstance(found, Located) else 0
        if len(batch) >= _BATCH_LINES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _lines(files: Iterable[Path]) -> Iterator[Located | _Unread]:
    for file in files:
        try:
            with file.open("rb") as stream:
                yield from _lines_of(file, iter(lambda: stream.readline(MAX_LINE_BYTES + 2), b""))
        except OSError as error:
            raise system_error(f"{file}", error) from None


def _lines_of(file: Path, raws: Iterator[bytes]) -> Iterator[Located | _Unread]:
    number, inside = 0, False
    for raw in raws:
        if not inside:
            number += 1
        whole, began_inside = raw.endswith(b"\n"), inside
        inside = not whole
        if began_inside:
            continue  # the rest of a line that was too long
        if not whole:
            if len(raw) > MAX_LINE_BYTES:
                yield _Unread(file, number, Kind.NOT_A_LINE, "longer than any log line")
            else:
                yield _Unread(file, number, Kind.CUT_OFF, "the last line is cut off")
            continue
        try:
            yield Located(parse_line(raw[:-1], ""), file, number)
        except InvalidInput:
            yield _Unread(file, number, Kind.NOT_A_LINE, "not a log line")

"""Read logs while they are being written: for progress, for pages, for summaries."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.log.line import LOG_ROTATED, SESSION_CLOSED, WITNESSED, LogEntry, glance, parse_line
from fedapt_secure.log.reader import segment_path

LONG: Final = frozenset({WITNESSED, SESSION_CLOSED})
"""Lines with something of every party in them: among a thousand parties, nearly all bytes of all logs."""


class LogFollower:
    """Yields the entries that were added to a log since the last look, across its rotations.

    Signatures and chain are an auditor's business, not looked at here.

    Args:
        path: The log's current file.
        leave_out: Types of entries that are counted and neither parsed nor yielded.
    """

    def __init__(self, path: Path, leave_out: Collection[str] = ()) -> None:
        self._path = path
        self._leave_out = frozenset(leave_out) - {LOG_ROTATED}
        self._seen: tuple[int, int] | None = None
        self._segment_first = self._next_seq = 0
        self._offset = 0

    def new_entries(self) -> Iterator[LogEntry]:
        """Yield complete new lines; half a line is left for the next look.

        Raises:
            InvalidInput: If a line does not parse or is out of place.
        """
        found = self._look()
        if found is not None and found == self._seen:
            return
        while True:
            reading = self._segment_first
            yield from self._new_in_segment()
            if self._segment_first == reading:
                break
        self._seen = found  # as it was before: what came while we read is found by the next look

    def _new_in_segment(self) -> Iterator[LogEntry]:
        stream = self._open()
        if stream is None:
            return
        with stream:
            stream.seek(self._offset)
            for raw in stream:
                if not raw.endswith(b"\n"):
                    return
                where = f"{self._path}, number {self._next_seq},"
                left_out = glance(raw)
                if left_out is not None and left_out[1] in self._leave_out and left_out[0] == self._next_seq:
                    self._offset += len(raw)
                    self._next_seq += 1
                    continue
                entry = parse_line(raw[:-1], where)
                if entry.seq != self._next_seq:
                    if self._offset == 0:
                        return  # the log's next file has not got its name yet
                    raise InvalidInput(f"{where} is out of place")
                self._offset += len(raw)
                self._next_seq += 1
                if entry.type == LOG_ROTATED:
                    self._segment_first, self._offset = self._next_seq, 0
                yield entry

    def _look(self) -> tuple[int, int] | None:
        """Return which file has the log's name, and its size: with a thousand logs most looks end here."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size

    def _open(self) -> BinaryIO | None:
        """Open the file that holds the segment, whichever name it has by now."""
        archived = segment_path(self._path, self._segment_first)
        try:
            current = self._path.open("rb")
        except FileNotFoundError:
            current = None
        # Looked at only now: were it rotated away before we opened, its new name would be there.
        if not archived.exists():
            return current
        if current is not None:
            current.close()
        return archived.open("rb")


class LogStory(ABC):
    """What a log says so far, entry by entry; a log that was cut or replaced is told from its start again.

    Args:
        path: The log's current file.
        leave_out: Types of entries that are not taken.
    """

    def __init__(self, path: Path, leave_out: Collection[str] = ()) -> None:
        self._path = path
        self._leave_out = leave_out
        self._size = 0
        self._begin()

    @abstractmethod
    def _forget(self) -> None:
        """Know nothing of the log."""

    @abstractmethod
    def _take(self, entry: LogEntry) -> None:
        """Take in one entry; each comes once."""

    def read_on(self) -> None:
        """Take what has come since the last look."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < self._size:
            self._begin()
        self._size = size
        try:
            self._read()
        except InvalidInput:  # other lines are there than before; what is wrong with them is the auditor's
            self._begin()
            with suppress(InvalidInput):
                self._read()

    def _begin(self) -> None:
        self._follower = LogFollower(self._path, self._leave_out)
        self._forget()

    def _read(self) -> None:
        for entry in self._follower.new_entries():
            self._take(entry)

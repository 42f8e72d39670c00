"""Read logs while they are being written: the one source for progress display and summary."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.audit.line import LOG_ROTATED, LogEntry, parse_line
from fedapt_secure.audit.reader import segment_path


class LogFollower:
    """Yields the entries that were added to a log since the last look, across its rotations.

    Signatures and chain are an auditor's business; what is read here was written by this run's own parties.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segment_first = self._next_seq = 0
        self._offset = 0

    def new_entries(self) -> Iterator[LogEntry]:
        """Yield complete new lines; half a line is left for the next look.

        Raises:
            InvalidInput: If a line does not parse or is out of place.
        """
        while True:
            reading = self._segment_first
            yield from self._new_in_segment()
            if self._segment_first == reading:
                return

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

"""Read logs while they are being written: the one source for progress display and summary."""

from collections.abc import Iterator
from pathlib import Path

from fedapt_secure.audit.log import LogEntry, decode_line, parse_line


class LogFollower:
    """Yields the entries that were added to a log since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines = 0

    def new_entries(self) -> Iterator[LogEntry]:
        """Yield complete new lines; half a line is left for the next look."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._lines += 1
                where = f"{self._path}, line {self._lines},"
                yield parse_line(decode_line(line, where), where)

"""The hash of every line of one log by its number, on disk beyond a few megabytes.

A witnessed head says "line n of that log had this hash"; with a million lines the answer must not need them
in memory, nor a second reading.
"""

import os
import tempfile
from typing import IO, Final

HASH_BYTES: Final = 32
_IN_MEMORY_BYTES: Final = 4 << 20
_UNKNOWN: Final = bytes(HASH_BYTES)


class LineHashes:
    """Hashes by line number; numbers of lines that were not genuine stay unknown."""

    def __init__(self) -> None:
        self.first_seq: int | None = None
        self.count = 0
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115

    def put(self, seq: int, hash: bytes, lines_read: int) -> None:
        """Note a line's hash, the first line's first.

        A number that this many lines cannot have reached is left out: the reader reports it, and it must not
        make a file of its size.
        """
        if self.first_seq is None:
            self.first_seq = seq
        position = seq - self.first_seq
        if not 0 <= position < lines_read:
            return
        if position > self.count:
            self._file.seek(0, os.SEEK_END)
            self._file.write(_UNKNOWN * (position - self.count))
        self._file.seek(position * HASH_BYTES)
        self._file.write(hash)
        self.count = max(self.count, position + 1)

    @property
    def next_seq(self) -> int:
        """Number of the line that would come next."""
        return (self.first_seq or 0) + self.count

    def at(self, seq: int) -> bytes | None:
        """Return the hash of a line, ``None`` where the log does not hold it as a genuine line."""
        if self.first_seq is None or not self.first_seq <= seq < self.next_seq:
            return None
        self._file.seek((seq - self.first_seq) * HASH_BYTES)
        found = self._file.read(HASH_BYTES)
        return None if found == _UNKNOWN else found

    def close(self) -> None:
        """Free the temporary file."""
        self._file.close()

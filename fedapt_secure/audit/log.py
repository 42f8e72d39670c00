"""One party's log: JSON lines ``{seq, time, type, body}``, appended and flushed one by one.

What goes in: identifiers, phases, hashes, plans, spends, refusals. Never anything that follows from
data without noise (losses, batch sizes, clip counts), and never a secret.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from fedapt_crypto.errors import InvalidInput

JsonBody = Mapping[str, Any]


@dataclass(frozen=True)
class LogEntry:
    """One line of a log."""

    seq: int
    time: datetime
    type: str
    body: JsonBody


class LogWriter:
    """Appends to one log; safe to share between threads.

    An existing log is continued; a last line that was cut off by a crash is refused, not repaired.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._seq = sum(1 for _ in read_log(path)) if path.exists() else 0
        self._stream = path.open("a", encoding="utf-8")
        self._lock = Lock()

    def write(self, type: str, body: JsonBody) -> None:
        """Append one line and flush it to the operating system."""
        with self._lock:
            line = {
                "seq": self._seq,
                "time": datetime.now(UTC).isoformat(),
                "type": type,
                "body": dict(body),
            }
            self._stream.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
            self._stream.flush()
            self._seq += 1

    def close(self) -> None:
        """Make the log durable and close it."""
        with self._lock:
            if not self._stream.closed:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()


def parse_line(line: str, where: str) -> LogEntry:
    """Parse one line of a log; raises `InvalidInput` naming ``where``."""
    try:
        fields = json.loads(line)
        entry = LogEntry(
            int(fields["seq"]), datetime.fromisoformat(fields["time"]), str(fields["type"]), fields["body"]
        )
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"{where} is not a log line") from None
    return entry


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield a log's entries in order.

    Raises:
        InvalidInput: If a line does not parse or a sequence number is out of order.
    """
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream):
            entry = parse_line(line, f"{path}, line {number + 1},")
            if entry.seq != number:
                raise InvalidInput(f"{path}, line {number + 1}: sequence number {entry.seq} out of order")
            yield entry

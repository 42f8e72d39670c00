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
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

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


def decode_line(raw: bytes, where: str) -> str:
    """Return a line as text; raises `InvalidInput` where it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{where} is not a log line") from None


def parse_line(line: str, where: str) -> LogEntry:
    """Parse one whole line of a log, strictly; raises `InvalidInput` naming ``where``."""
    try:
        fields = _LogLine.model_validate(json.loads(line, parse_constant=_no_constant))
    except (ValueError, RecursionError):  # pydantic's and json's errors are ValueErrors
        raise InvalidInput(f"{where} is not a log line") from None
    return LogEntry(fields.seq, datetime.fromisoformat(fields.time), fields.type, fields.body)


class _LogLine(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    seq: Annotated[int, Field(ge=0)]
    time: str
    type: str
    body: dict[str, Any]

    @field_validator("time")
    @classmethod
    def _aware(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time without its zone")
        return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield a log's entries in order.

    Raises:
        InvalidInput: If a line does not parse or a sequence number is out of order.
    """
    with path.open("rb") as stream:
        for number, raw in enumerate(stream):
            where = f"{path}, line {number + 1},"
            if not raw.endswith(b"\n"):
                raise InvalidInput(f"{where} is cut off: the last write was lost; archive this log first")
            entry = parse_line(decode_line(raw, where), where)
            if entry.seq != number:
                raise InvalidInput(f"{path}, line {number + 1}: sequence number {entry.seq} out of order")
            yield entry

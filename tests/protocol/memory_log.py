"""A log in memory with the heads of a real one, for sessions without files."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fedapt_crypto.errors import RollbackDetected
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.heads import WitnessedHead
from fedapt_secure.log.line import (
    GENESIS,
    LogEntry,
    LogHead,
    SegmentHeader,
    line_bytes,
    opened_body,
    parse_line,
)
from fedapt_secure.log.witness import highest_heads

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryLog:
    """What `LogWriter` offers to a shell, without its file."""

    def __init__(self, party: str, identity: Identity, id: bytes | None = None) -> None:
        self.party = party
        self.identity = identity
        self.id = id or identity.public_key[:16]
        self.entries: list[LogEntry] = []
        self.lines: list[bytes] = []
        role = "coordinator" if party == COORDINATOR else "institution"
        self.write("log_opened", opened_body(SegmentHeader(self.id, party, role, identity.public_key)))

    def write(self, type: str, body: dict[str, Any]) -> None:
        prev = self.entries[-1].hash if self.entries else GENESIS
        seq = len(self.entries)
        raw = line_bytes(seq, BEGINNING + timedelta(seconds=seq), type, body, prev, self.identity)
        self.lines.append(raw)
        self.entries.append(parse_line(raw, "here"))

    def head(self) -> LogHead:
        return LogHead(self.id, len(self.entries) - 1, self.entries[-1].hash)

    def highest_heads(self) -> tuple[WitnessedHead, ...]:
        """What a party that starts now finds in it."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(line + b"\n" for line in self.lines))
            file.flush()
            return highest_heads([Path(file.name)])

    def check_holds(self, heads: tuple[LogHead, ...]) -> None:
        for head in heads:
            line = self.entries[head.seq] if head.seq < len(self.entries) else None
            if head.log != self.id or line is None or line.hash != head.hash:
                raise RollbackDetected(f"{self.party} lacks line {head.seq}")

    def bodies(self, type: str) -> list[Any]:
        return [entry.body for entry in self.entries if entry.type == type]

"""Write one party's log: signed JSON lines, each chained to the one before, in files of bounded size.

What goes in: identifiers, phases, hashes, plans, spends, refusals. Never anything that follows from
data without noise (losses, batch sizes, clip counts), and never a secret.
"""

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

from fedapt_crypto.errors import (
    FedaptError,
    InvalidInput,
    RollbackDetected,
    RunFailed,
    Unavailable,
    VerificationFailed,
    system_error,
)
from fedapt_crypto.identity import Identity
from fedapt_secure.log.file import (
    FILE_MODE,
    first_entry,
    hash_of_line,
    lock,
    lock_log,
    read_tail,
    set_aside,
    sync_folder,
    write_at,
)
from fedapt_secure.log.line import (
    GENESIS,
    LOG_CONTINUED,
    LOG_ID_BYTES,
    LOG_OPENED,
    LOG_ROTATED,
    SESSION_CLOSED,
    JsonBody,
    LogEntry,
    LogHead,
    SegmentHeader,
    line_bytes,
    opened_body,
    parse_line,
    read_header,
    verify_line,
)
from fedapt_secure.log.reader import read_log, segment_path, segments

DEFAULT_SEGMENT_BYTES: Final = 64 << 20
DURABLE_TYPES: Final = frozenset(
    {"session_accepted", "group_made", "spend", "released", "refused", SESSION_CLOSED}
)
"""Lines that what is sent next relies on: they are on disk when `LogWriter.write` returns."""


def _now() -> datetime:
    return datetime.now(UTC)


class LogWriter:
    """Appends to one log; safe to share between threads, closed to other processes.

    An existing log is continued after a check of its first and last lines. A last line that was cut off by a
    crash was seen by nobody: it is set aside in a file of its own, and a ``torn_tail`` line says so.

    Args:
        path: The log's current file; rotated segments lie beside it.
        party, role: Whose log it is; role is ``coordinator`` or ``institution``.
        identity: The party's signing key.
        continues: For a new log in the place of a lost one: the highest head of that one that others hold.
        segment_bytes: A file of at least this size is rotated away.
        verify_all: Check every line of an existing log and not its ends only.
        clock: The time, aware.

    Raises:
        InvalidInput: If the log cannot be opened, is in use, is another party's, or does not hold.
        Unavailable, RunFailed: If it cannot be written, for want of space or otherwise.
    """

    def __init__(
        self,
        path: Path,
        *,
        party: str,
        role: str,
        identity: Identity,
        continues: LogHead | None = None,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        verify_all: bool = False,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.path = path
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lock = Lock()
        self._seq, self._prev = 0, GENESIS
        self._last_time: datetime | None = None
        self._set_back = self._unsynced = False
        self._size = self._segment_first = 0
        self._header = SegmentHeader(
            secrets.token_bytes(LOG_ID_BYTES), party, role, identity.public_key, continues=continues
        )
        self._descriptor, archived = lock_log(path)
        try:
            self._open(archived)
            if verify_all:
                for _ in read_log(path, identity=identity.public_key):
                    pass
        except BaseException:
            self._give_up()
            raise

    @property
    def party(self) -> str:
        """Whose log it is."""
        return self._header.party

    def write(self, type: str, body: JsonBody, *, durable: bool | None = None) -> None:
        """Append one line.

        Args:
            type: What happened, ``[a-z][a-z0-9_]*``.
            body: The details, JSON values only.
            durable: Whether it must be on disk, and not with the operating system only, when this returns; by
                default `DURABLE_TYPES` are.

        Raises:
            ValueError, TypeError: If the body is not JSON, or the log is closed; nothing was written.
            Unavailable, RunFailed: If the disk does not take it; the log ends where it did before.
        """
        with self._lock:
            if self._descriptor < 0:
                raise ValueError("the log is closed")
            self._append(type, body)
            if type in DURABLE_TYPES if durable is None else durable:
                self._sync()
            if self._size >= self._segment_bytes:
                self._rotate()

    def head(self) -> LogHead:
        """Return the log's head, of lines that are all on disk: whoever is told it may hold us to it."""
        with self._lock:
            self._sync()
            return self._head()

    def sync(self) -> None:
        """Have all lines so far on disk; raises as `write` does."""
        with self._lock:
            self._sync()

    def check_holds(self, heads: Iterable[LogHead]) -> None:
        """Check that this log has lines that others have witnessed.

        Lines in segments that were archived elsewhere are not checked.

        Raises:
            RollbackDetected: If it lacks one, or has another in its place.
        """
        with self._lock:
            for head in heads:
                if not self._holds(head):
                    raise RollbackDetected(
                        f"the log {self.path} lacks a line that others have witnessed, number {head.seq} of"
                        f" log {head.log.hex()}: put its newest copy back; if that is lost for good, move"
                        f" what is left away and start a new log with 'log_continues: {head}' in the settings"
                    )

    def close(self) -> None:
        """Make the log durable and close it."""
        with self._lock:
            if self._descriptor >= 0:
                try:
                    self._sync()
                finally:
                    self._give_up()

    def _head(self) -> LogHead:
        return LogHead(self._header.log, self._seq - 1, self._prev)

    def _open(self, archived: bool) -> None:
        tail = read_tail(self._descriptor, self.path)
        if tail.last is None:
            self._open_new(tail.torn)
            return
        self._take_header()
        last = self._check_end(tail.last, tail.before)
        self._seq, self._prev, self._last_time = last.seq + 1, last.hash, last.time
        self._size = tail.whole_bytes
        if archived and (last.type != LOG_ROTATED or tail.torn):
            raise InvalidInput(f"the log {self.path} is missing, though earlier parts of it are there")
        if last.type == LOG_ROTATED:  # a crash came between this line and the next file
            self._begin_segment(rename=not archived)
        elif tail.torn:
            # The line is written over what is torn: at no moment is the tail gone and nothing says so.
            self._append("torn_tail", set_aside(self.path, tail.torn))
            os.ftruncate(self._descriptor, self._size)
            self._sync()

    def _open_new(self, torn: bytes) -> None:
        if len(segments(self.path)) > 1:
            raise InvalidInput(f"the log {self.path} is empty, though earlier parts of it are there")
        aside = set_aside(self.path, torn) if torn else None
        os.ftruncate(self._descriptor, 0)
        self._write_line(self._clock(), LOG_OPENED, opened_body(self._header))
        if aside is not None:
            self._append("torn_tail", aside)
        self._sync()
        sync_folder(self.path.parent)

    def _take_header(self) -> None:
        """Take over what the file's first line says, if it is this party's log."""
        first = first_entry(self._descriptor, self.path)
        header = read_header(first, str(self.path))
        own = self._header
        if (header.party, header.role, header.identity) != (own.party, own.role, own.identity):
            raise InvalidInput(f"{self.path} is the log of another party or key; it is not written to")
        self._verify(first, "first")
        self._header = header
        self._segment_first = first.seq

    def _check_end(self, last: bytes, before: bytes | None) -> LogEntry:
        """Check the last line and that it follows the one before."""
        entry = parse_line(last, f"the last line of {self.path}")
        self._verify(entry, "last")
        if before is not None:
            previous = parse_line(before, f"the last line but one of {self.path}")
        elif entry.type == LOG_CONTINUED:
            earlier = segments(self.path)[:-1]
            if not earlier:
                return entry  # archived elsewhere
            previous = self._last_of(earlier[-1])
        elif entry.seq == 0 and entry.prev == GENESIS:
            return entry
        else:
            raise InvalidInput(f"the log {self.path} does not begin with its first line")
        if (entry.seq, entry.prev) != (previous.seq + 1, previous.hash):
            raise InvalidInput(f"the last line of {self.path} does not follow the one before: it was changed")
        return entry

    def _last_of(self, segment: Path) -> LogEntry:
        with segment.open("rb") as stream:
            last = read_tail(stream.fileno(), segment).last
        return parse_line(last or b"", f"the last line of {segment}")

    def _verify(self, entry: LogEntry, which: str) -> None:
        try:
            verify_line(entry, self._identity.public_key, signer=self._header.party)
        except VerificationFailed:
            raise InvalidInput(f"the {which} line of {self.path} was not signed with our key") from None

    def _append(self, type: str, body: JsonBody) -> None:
        """Write a line, which `line_bytes` signs; a failed write leaves the log as it was."""
        now, last = self._clock(), self._last_time
        if last is not None and now < last:
            if not self._set_back:
                self._set_back = True
                held = {"clock": now.astimezone(UTC).isoformat(timespec="microseconds")}
                self._write_line(last, "clock_set_back", held)
            now = last
        else:
            self._set_back = False
        self._write_line(now, type, body)

    def _write_line(self, time: datetime, type: str, body: JsonBody) -> None:
        raw = line_bytes(self._seq, time, type, body, self._prev, self._identity)
        try:
            write_at(self._descriptor, raw + b"\n", self._size)
        except OSError as error:
            with suppress(OSError):  # what cannot be cut off now is a torn tail to the next writer
                os.ftruncate(self._descriptor, self._size)
            raise self._failed("write", error) from None
        entry = parse_line(raw, str(self.path))
        self._seq, self._prev, self._last_time = entry.seq + 1, entry.hash, entry.time
        self._size += len(raw) + 1
        self._unsynced = True

    def _sync(self) -> None:
        if not self._unsynced:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._give_up()  # what of it is on disk cannot be known any more
            raise self._failed("write", error) from None
        self._unsynced = False

    def _failed(self, doing: str, error: OSError) -> FedaptError:
        found = system_error(f"cannot {doing} the log {self.path}", error)
        return found if isinstance(found, Unavailable) else RunFailed(str(found))

    def _give_up(self) -> None:
        """Write no more; the next one to open the log begins with what is on disk."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _rotate(self) -> None:
        """Close this file and go on in a new one."""
        target = segment_path(self.path, self._segment_first)
        self._append(LOG_ROTATED, {"segment": target.name})
        self._sync()
        self._begin_segment(rename=True)

    def _begin_segment(self, *, rename: bool) -> None:
        """Give the closed file its name and start the next; a crash at any point is made up for at opening.

        The new file is complete and locked before it gets the log's name, and until then the old one stays
        locked: there is no moment at which another process could begin to write.
        """
        old, fresh = self._descriptor, self.path.with_name(f".{self.path.name}.new")
        try:
            target = segment_path(self.path, self._segment_first)
            if rename:
                self._rename_to(target)
            first = self._header.segment_of or hash_of_line(target, 0)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._descriptor = lock(os.open(fresh, flags, FILE_MODE), fresh)
            self._header = replace(self._header, segment_of=first)
            self._segment_first, self._size = self._seq, 0
            time = max(self._clock(), self._last_time or self._clock())
            self._write_line(time, LOG_CONTINUED, opened_body(self._header))
            self._sync()
            fresh.rename(self.path)
            sync_folder(self.path.parent)
        except BaseException as error:
            if self._descriptor == old:
                self._descriptor = -1
            self._give_up()
            if isinstance(error, OSError):
                raise self._failed("rotate", error) from None
            raise
        finally:
            os.close(old)

    def _rename_to(self, target: Path) -> None:
        if target.exists():
            raise InvalidInput(f"cannot rotate the log {self.path}: {target} is there already")
        self.path.rename(target)

    def _holds(self, head: LogHead) -> bool:
        """Whether this log has the line with that number and hash, as far as its files are here."""
        own = self._head()
        if head.log != own.log:
            lost = self._header.continues
            return lost is not None and head.log == lost.log and (head.seq < lost.seq or head == lost)
        if head.seq >= own.seq:
            return head == own
        if head.seq >= self._segment_first:
            return hash_of_line(self.path, head.seq - self._segment_first) == head.hash
        for file in reversed(segments(self.path)[:-1]):
            first = int(file.stem.rpartition(".")[2])
            if first <= head.seq:
                found = hash_of_line(file, head.seq - first)
                return found is None or found == head.hash
        return True

"""The file under a log: locked against a second writer, its end read back, its torn tail set aside."""

import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from os import pwrite
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_secure.log.line import MAX_LINE_BYTES, LogEntry, parse_line
from fedapt_secure.log.reader import segments

_BLOCK_BYTES: Final = 1 << 16
FILE_MODE: Final = PRIVATE_FILE_MODE
"""A log is for others to read where its party gives it to them, and not from the party's folder."""


@dataclass(frozen=True)
class Tail:
    """How a log's file ends.

    Attributes:
        last, before: Its last two whole lines, without newline; ``before`` is ``None`` if there is one only.
        whole_bytes: Up to here it consists of whole lines.
        torn: What stands after them: the beginning of a line whose write a crash interrupted.
    """

    last: bytes | None
    before: bytes | None
    whole_bytes: int
    torn: bytes


def lock_log(path: Path) -> tuple[int, bool]:
    """Open a log for writing, for this writer alone.

    Returns:
        A descriptor, and whether it is of the last rotated segment because ``path`` itself is not there.

    Raises:
        InvalidInput: If another process writes it, or it cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                target, archived = path, False
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                earlier = segments(path)
                archived = bool(earlier)
                target = earlier[-1] if archived else path
                flags = os.O_RDWR | os.O_CLOEXEC | (0 if archived else os.O_CREAT)
                descriptor = os.open(target, flags, FILE_MODE)
            lock(descriptor, path)
            # Another writer may have rotated the log between our opening and our locking it.
            if _is_still(descriptor, target) and path.exists() != archived:
                return descriptor, archived
            os.close(descriptor)
    except OSError as error:
        raise system_error(f"cannot open the log {path}", error) from None


def lock(descriptor: int, path: Path) -> int:
    """Take the lock of an open log, and return it; raises `InvalidInput` if another writer has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InvalidInput(f"the log {path} is in use by another process: stop that one first") from None
    except OSError as error:
        os.close(descriptor)
        raise system_error(f"cannot lock the log {path}", error) from None
    return descriptor


def in_use(path: Path) -> bool:
    """Whether a process writes this log just now; asking changes nothing."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def last_entry(path: Path) -> LogEntry | None:
    """Return the last whole line of a log that may be written meanwhile; ``None`` where there is none.

    Raises:
        InvalidInput: If it is not a log line.
    """
    try:
        with path.open("rb") as stream:
            last = read_tail(stream.fileno(), path).last
    except OSError:
        return None
    return None if last is None else parse_line(last, f"the last line of {path}")


def last_time(path: Path) -> datetime | None:
    """Return when a log's last whole line was written, rotated or not; ``None`` where none can be read."""
    for file in reversed(segments(path)):
        with suppress(InvalidInput):  # whoever opens the log says what is wrong with it
            entry = last_entry(file)
            if entry is not None:
                return entry.time
    return None


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def read_tail(descriptor: int, path: Path) -> Tail:
    """Return how a log's file ends, reading no more than that.

    Raises:
        InvalidInput: If it ends in something too long for a log line.
    """
    size = start = os.fstat(descriptor).st_size
    blocks: list[bytes] = []
    newlines = 0
    while start > 0 and newlines < 3:
        if size - start > 3 * MAX_LINE_BYTES:
            raise InvalidInput(f"{path} is not a log of this program: its lines are too long")
        step = min(_BLOCK_BYTES, start)
        start -= step
        blocks.append(os.pread(descriptor, step, start))
        newlines += blocks[-1].count(b"\n")
    whole, newline, torn = b"".join(reversed(blocks)).rpartition(b"\n")
    if len(torn) > MAX_LINE_BYTES:
        raise InvalidInput(f"{path} is not a log of this program: it does not end in a log line")
    if not newline:
        return Tail(None, None, 0, torn)
    lines = whole.split(b"\n")
    if start > 0:
        del lines[0]  # its beginning was not read
    return Tail(lines[-1], lines[-2] if len(lines) > 1 else None, size - len(torn), torn)


def first_entry(descriptor: int, path: Path) -> LogEntry:
    """Return the first line of a log's file; raises `InvalidInput` where it is none."""
    raw = b""
    while b"\n" not in raw and len(raw) <= MAX_LINE_BYTES:
        block = os.pread(descriptor, _BLOCK_BYTES, len(raw))
        if not block:
            break
        raw += block
    return parse_line(raw.partition(b"\n")[0], f"{path}, line 1,")


def set_aside(path: Path, torn: bytes) -> dict[str, object]:
    """Store a torn tail durably beside its log, and return what the log is to say about it."""
    number = 1
    while True:
        name = path.with_name(f"{path.name}.torn-{number}")
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except FileExistsError:
            number += 1
            continue
        try:
            write_at(descriptor, torn, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
        return {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest(), "file": name.name}


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        written = pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_of_line(file: Path, index: int) -> bytes | None:
    """Return the SHA-256 of the line with this index in a file, from 0; ``None`` if it has fewer."""
    with file.open("rb") as stream:
        for number, raw in enumerate(stream):
            if number == index:
                return hashlib.sha256(raw.removesuffix(b"\n")).digest()
    return None

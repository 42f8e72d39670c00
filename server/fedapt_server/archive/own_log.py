"""What the coordinator's own log says about times past: read once when something starts, without checks."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import system_error
from fedapt_secure.log.line import LogEntry, parse_line

_LAST_SEEN_TYPES: Final = ("connected", "disconnected", "ready", "done")


def last_round_end(files: Sequence[Path], session: bytes) -> tuple[int, int] | None:
    """Return round and attempt of a session's last ``round_ended``.

    Args:
        files: The segments of the log, oldest first.
        session: The session's identifier.

    Raises:
        InvalidInput: If a line of that type is none of ours.
    """
    wanted = session.hex()
    for file in reversed(files):
        found = None
        for entry in _entries(file, ("round_ended",)):
            if entry.body.get("session") == wanted:
                found = entry
        if found is not None:
            return int(found.body["round"]), int(found.body["attempt"])
    return None


def has_begun(files: Sequence[Path], session: bytes) -> bool:
    """Return whether the log says that a session was started: a crash may have come before that line."""
    wanted = session.hex()
    return any(
        entry.body.get("session") == wanted
        for file in reversed(files)
        for entry in _entries(file, ("session_started",))
    )


def completed_ends(files: Sequence[Path], session: bytes) -> list[datetime]:
    """Return when rounds of a session were completed, by the newest segment of the log."""
    wanted = session.hex()
    return [
        entry.time
        for file in files[-1:]
        for entry in _entries(file, ("round_ended",))
        if entry.body.get("session") == wanted and entry.body.get("status") == "completed"
    ]


def last_seen(files: Sequence[Path]) -> dict[str, datetime]:
    """Return when each institution came, went or was ready last, by the newest segment of the log."""
    return {
        str(entry.body["name"]): entry.time
        for file in files[-1:]
        for entry in _entries(file, _LAST_SEEN_TYPES)
    }


def _entries(file: Path, types: Sequence[str]) -> Iterator[LogEntry]:
    marks = [f'"type":"{type}"'.encode() for type in types]
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if raw.endswith(b"\n") and any(mark in raw for mark in marks):
                    entry = parse_line(raw[:-1], f"{file}, line {number},")
                    if entry.type in types:
                        yield entry
    except OSError as error:
        raise system_error(f"cannot read {file}", error) from None

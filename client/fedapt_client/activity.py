"""What the institution's process is doing, kept in one small file for ``client status``.

Ledger and log say what has happened. What is going on between two lines of the log (images are being
encoded, somebody is being asked, the coordinator is away) is nowhere but in the process. It is written down
at each change, the percentage at most once a second. Nothing depends on the file: a full disk stops nobody,
it is taken away then, for a state that is not right any more is worse than none. It holds no secret.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from fedapt_crypto.private_files import PRIVATE_FILE_MODE
from fedapt_secure.protocol.reasons import ReasonCode

ACTIVITY_FILE: Final = "activity.json"
EVERY_S: Final = 1.0
"""A change of the percentage alone is written no more often than this."""


class What(StrEnum):
    """What can be going on."""

    STARTING = "starting"
    AWAY = "away"
    """There is no connection to the coordinator."""
    WAITING = "waiting"
    """Connected, and no session is open."""
    APPROVAL = "approval"
    PREPARING = "preparing"
    ENCODING = "encoding"
    READY = "ready"
    """Takes part, and waits for the coordinator to begin a round or to end the session."""
    TRAINING = "training"
    AGGREGATING = "aggregating"
    SITS_OUT = "sits_out"
    CONCLUDING = "concluding"
    CLOSING = "closing"
    OUT = "out"
    ENDED = "ended"


class Activity(BaseModel):
    """What a process is doing, or was when it ended.

    Attributes:
        what: What. since: From when on, ISO 8601.
        process: The number of the process that says so.
        session: Which session, hexadecimal. configuration: Hash of what is to be approved.
        round, rounds: Which round, of how many.
        percent: How much of the images is encoded.
        reason: Why it is out, sits out or was stopped, a code of `fedapt_secure.protocol.reasons`.
        final: Whether it sits out all later rounds too.
        again: When it looks at the session again, ISO 8601.
        away_since: From when on there was no connection, over all processes since.
        stopped_by: The code of the error that ended the process.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    what: What
    since: str
    process: int
    session: str | None = None
    configuration: str | None = None
    round: int | None = None
    rounds: int | None = None
    percent: int | None = None
    reason: ReasonCode | None = None
    final: bool = False
    again: str | None = None
    away_since: str | None = None
    stopped_by: ReasonCode | None = None

    @property
    def of_living_process(self) -> bool:
        """Whether the process that wrote it can still be there."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True  # it is another user's
        return True


def read_activity(path: Path) -> Activity | None:
    """Return what was written last; ``None`` where that cannot be told."""
    try:
        return Activity.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class ActivityFile:
    """Writes down what this process is doing; may be told from any thread.

    Args:
        path: The file.
        now: What time it is. clock: Seconds that only grow.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._written_at = clock()
        before = read_activity(path)
        away_since = before.away_since if before is not None else None
        self.activity = self._made(What.STARTING, {"away_since": away_since})
        self._write()

    def set(self, what: What, **about: Any) -> None:
        """Say what is going on from now on; the same as before changes nothing.

        Args:
            what: What.
            about: Fields of `Activity`.
        """
        with self._lock:
            before = self.activity
            if what is What.AWAY:
                about["away_since"] = before.away_since or self._text()
            made = self._made(what, about)
            if made.model_copy(update={"since": before.since}) == before:
                return
            self.activity = made
            self._write()

    def encoded(self, done: int, total: int) -> None:
        """Say how much of the images is encoded."""
        percent = 100 * done // total if total else 100
        with self._lock:
            before = self.activity
            if before.what is What.ENCODING:
                self.activity = before.model_copy(update={"percent": percent})
                if self._clock() - self._written_at < EVERY_S:
                    return
            else:
                self.activity = self._made(What.ENCODING, {"session": before.session, "percent": percent})
            self._write()

    def stopped_by(self, code: str) -> None:
        """Say which error ends the process; what it was doing stays."""
        with self._lock:
            self.activity = self.activity.model_copy(update={"stopped_by": code})
            self._write()

    def _made(self, what: What, about: dict[str, Any]) -> Activity:
        return Activity(what=what, since=self._text(), process=os.getpid(), **about)

    def _text(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="seconds")

    def _write(self) -> None:
        """Let readers see the old or the new; a power cut may leave neither, and then nothing is claimed."""
        self._written_at = self._clock()
        beside = self._path.with_name(f".{self._path.name}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, PRIVATE_FILE_MODE), "wb") as stream:
                stream.write(self.activity.model_dump_json(exclude_defaults=True).encode())
            beside.replace(self._path)
        except OSError:
            for path in (beside, self._path):
                with suppress(OSError):
                    path.unlink()

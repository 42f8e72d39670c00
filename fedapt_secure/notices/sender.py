"""Hands events on to a command or a webhook: in a thread of its own, a few times, in nobody's way."""

import json
import logging
import os
import subprocess
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from queue import Full, Queue
from threading import Event as Signal
from threading import Thread
from typing import Any, Final, NoReturn
from urllib.error import HTTPError

from fedapt_secure.notices.settings import Event, NotifySettings

TIMEOUT_S: Final = 20.0
PAUSES_S: Final = (2.0, 10.0, 60.0)
"""Before another attempt; after the last one the event is given up, and a warning says so."""
MAX_WAITING: Final = 100
LAST_S: Final = 5.0
"""How long a process that ends waits for what is still to be told."""
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
"""What of our surroundings a command gets: no passphrase is among it."""
logger = logging.getLogger("fedapt_secure")
Fields = dict[str, Any]


class Notifier:
    """Tells people of events.

    Args:
        settings: What is done; ``None`` for nothing.
        party: Who tells.
        pauses_s: Before each further attempt, in seconds.
        now: What time it is.
    """

    def __init__(
        self,
        settings: NotifySettings | None,
        party: str,
        *,
        pauses_s: tuple[float, ...] = PAUSES_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._party = party
        self._pauses_s = pauses_s
        self._now = now
        self._queue: Queue[Fields | None] = Queue(MAX_WAITING)
        self._ending = Signal()
        self._told: set[tuple[str, str | None, str | None, str]] = set()
        self._thread: Thread | None = None
        if settings is not None:
            self._thread = Thread(target=self._send_all, name="notify", daemon=True)
            self._thread.start()

    def tell(
        self, event: Event, session: str | None = None, code: str | None = None, *, once: str = ""
    ) -> None:
        """Hand an event on, once for each session, code and ``once``; returns at once.

        Args:
            event: What.
            session: Which session, hexadecimal.
            code: Why, a code of `fedapt_secure.protocol.reasons`.
            once: What else tells it from events that were told of; it is not handed on.
        """
        if self._settings is None or event not in self._settings.on:
            return
        about = (event.value, session, code, once)
        if about in self._told:
            return
        self._told.add(about)
        time = self._now().isoformat(timespec="seconds")
        fields = {"event": event.value, "party": self._party, "session": session, "code": code, "time": time}
        try:
            self._queue.put_nowait(fields)
        except Full:
            logger.warning("people are not told of %s: too much is waiting", event.value)

    def close(self) -> None:
        """Let what waits be told, for a few seconds; not waited for any longer."""
        if self._thread is None:
            return
        self._ending.set()
        try:
            self._queue.put_nowait(None)
        except Full:
            return
        self._thread.join(LAST_S)

    def _send_all(self) -> None:
        while (fields := self._queue.get()) is not None:
            if self._settings is not None and self._settings.command is not None:
                self._insist(fields, self._run, "command")
            if self._settings is not None and self._settings.webhook is not None:
                self._insist(fields, self._post, "webhook")

    def _insist(self, fields: Fields, send: Callable[[Fields], str | None], what: str) -> None:
        for pause_s in (*self._pauses_s, None):
            wrong = send(fields)
            if wrong is None:
                return
            if pause_s is None or self._ending.wait(pause_s):
                break
        logger.warning("people are not told of %s: the %s of notify %s", fields["event"], what, wrong)

    def _run(self, fields: Fields) -> str | None:
        """Run the command; returns what is wrong, in words without anything of it."""
        assert self._settings is not None
        assert self._settings.command is not None
        named = {f"FEDAPT_{name.upper()}": str(value or "") for name, value in fields.items()}
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            done = subprocess.run(  # noqa: S603 - what the settings of this party's own people name
                self._settings.command,
                input=json.dumps(fields).encode(),
                env=kept | named,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return f"has not ended within {TIMEOUT_S:g} s"
        except (OSError, ValueError) as error:
            return f"cannot be run: {getattr(error, 'strerror', None) or 'not a program'}"
        return None if done.returncode == 0 else f"ended with status {done.returncode}"

    def _post(self, fields: Fields) -> str | None:
        """Post the webhook; returns what is wrong, in words without anything of its address."""
        assert self._settings is not None
        assert self._settings.webhook is not None
        headers = {"Content-Type": "application/json", "User-Agent": "fedapt-secure"}
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see NotifySettings
            self._settings.webhook, json.dumps(fields).encode(), headers, method="POST"
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                answer.read(1 << 16)
        except HTTPError as error:
            error.close()
            return f"was answered with status {error.code}"
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            return f"cannot be posted: {type(reason).__name__}"
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was to be told is for the address that the settings name, and for no other."""

    def redirect_request(self, *arguments: Any, **_: Any) -> NoReturn:
        request, stream, code, message, headers = arguments[:5]
        raise HTTPError(request.full_url, code, message, headers, stream)


_OPENER: Final = urllib.request.build_opener(_NoRedirect)

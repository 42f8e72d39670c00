"""Of what the coordinator's people are told: which lines of its log, with which session and code."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fedapt_secure.notices.sender import Notifier
from fedapt_secure.notices.settings import Event, NotifySettings

SOON: Final = timedelta(days=14)
"""A certificate that is not renewed in time is known of so long before."""


class CoordinatorNotices(Notifier):
    """Follows what the service logs.

    Args:
        settings: What is done; ``None`` for nothing.
        party: The coordinator's name.
        now: What time it is.
    """

    def __init__(
        self,
        settings: NotifySettings | None,
        party: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(settings, party, now=now)
        self._session: str | None = None

    def note(self, type: str, body: Mapping[str, Any]) -> None:
        """Take in one line of the log, as it is written."""
        match type:
            case "session_started" | "session_resumed":
                self._session = body["session"]
                if type == "session_started":
                    self.tell(Event.OFFER, self._session)
            case "left":
                self.tell(Event.REFUSAL, self._session, body["reason"])
            case "session_ended":
                self.tell(Event.END, body["session"])
            case "cannot_continue":
                self.tell(Event.FAILURE, self._session)
            case "certificate" if datetime.fromisoformat(body["not_after"]) - self._now() < SOON:
                self.tell(Event.CERTIFICATE)

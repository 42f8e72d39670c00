"""Of what the coordinator's people are told: which lines of its log, with which session and code."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fedapt_crypto.certificates import CertificateFacts, expires_soon
from fedapt_secure.notices.sender import Notifier
from fedapt_secure.notices.settings import Event, NotifySettings

MEMBER: Final = "member"
"""The code where it is not the coordinator's own certificate; whose, is on its page and in no notice."""


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
        self._late: set[tuple[str, datetime]] = set()

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

    def expiring(self, own: CertificateFacts, members: Mapping[str, datetime], lifetime: timedelta) -> None:
        """Look whether a certificate expires soon: the own one, or those of members; each is told of once.

        Args:
            own: The coordinator's.
            members: Institution to when its certificate ends.
            lifetime: How long certificates of members are valid.
        """
        now = self._now()
        if own.expires_soon(now):
            self.tell(Event.CERTIFICATE, once=own.not_after.isoformat())
        late = {(name, ends) for name, ends in members.items() if expires_soon(ends, lifetime, now)}
        if late - self._late:
            self.tell(Event.CERTIFICATE, code=MEMBER, once=str(sorted(late)))
        self._late = late

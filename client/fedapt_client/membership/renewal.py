"""Renews the institution's certificate while it runs; a failure is a warning, the old one is still valid."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from fedapt_client.membership import desk, enrolment
from fedapt_client.membership.connecting import Place
from fedapt_client.narration import tell
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import FedaptError
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.notices.settings import Event

DAY_S: Final = 24 * 3600.0
PAUSE_S: Final = 3600.0
"""Not more often than this: a coordinator that is away would be asked at every attempt to reconnect."""


class Renewal:
    """Looks after one institution's certificate.

    Args:
        folder: The party's folder. settings: Its settings.
        write: Writes a line of the signed log.
        notify: Tells people that the certificate expires.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        folder: PartyFolder,
        settings: ClientSettings,
        write: Callable[[str, dict[str, Any]], None],
        notify: Callable[[Event], None] = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._place = Place(settings.host, settings.enrolment_port, settings.proxy)
        self._name = settings.name
        self._write = write
        self._notify = notify
        self._clock = clock
        self._tried_at: float | None = None

    async def daily(self) -> None:
        """Look once a day, for ever."""
        while True:
            await asyncio.sleep(DAY_S)
            await self.if_due()

    async def if_due(self) -> None:
        """Renew the certificate in the last third of its life; the next connection uses the new one."""
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < PAUSE_S:
            return
        try:
            if not enrolment.renewal_due(self._folder):
                return
            self._tried_at = now
            await desk.renew(self._folder, enrolment.load_federation(self._folder), self._place)
        except FedaptError as error:
            sentence = f"the certificate was not renewed: {error}"
            tell(self._name, "renewal_failed", sentence, level=logging.WARNING)
            if self._folder.certificate().expires_soon(datetime.now(UTC)):
                self._notify(Event.CERTIFICATE)
            return
        self._write("certificate", self._folder.certificate_fields())

"""Looks after the coordinator's own certificate: renewed in time, not served where nobody would accept it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fedapt_crypto.certificates import CertificateFacts
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.clocks import SET_CLOCK, moment
from fedapt_server.membership.certifying import ANYWAY, ClockDoubted
from fedapt_server.membership.registrar import Registrar


class EvenTime:
    """What the clock would say if it had run evenly since this was made: setting it changes nothing here."""

    def __init__(self) -> None:
        self._since = datetime.now(UTC)
        self._started = time.clock_gettime(time.CLOCK_BOOTTIME)  # it runs on while the machine sleeps

    def __call__(self) -> datetime:
        """Return that time."""
        return self._since + timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - self._started)


class OwnCertificate:
    """One coordinator's certificate. Whoever uses this holds the folder: the log's lock, or a port.

    Args:
        folder: The coordinator's folder.
        registrar: Renews; ``None`` where the authority's key is not here.
        clock: What time it is.
    """

    def __init__(
        self,
        folder: PartyFolder,
        registrar: Registrar | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._registrar = registrar
        self._clock = clock
        self._even: EvenTime | None = None
        self._doubted = False

    def ready(self) -> str | None:
        """Renew it if that is due.

        Returns:
            What speaks against this machine's clock, where the certificate is valid all the same; once.

        Raises:
            InvalidInput: If it is not valid now: nobody would accept it.
        """
        why = self._look()
        now, about = self._clock(), self._folder.certificate()
        if not about.valid(now):
            # Not due says nothing of one that begins later; where it is due, the refusal says all.
            raise InvalidInput(why if why is not None and about.expired(now) else not_valid(about, now))
        before, self._doubted = self._doubted, why is not None
        return None if before else why

    def _look(self) -> str | None:
        if self._registrar is None:
            return None
        why = self._registrar.certifier.doubt(None if self._even is None else self._even())
        if why is None and self._even is None:
            self._even = EvenTime()  # from a time that could be believed
        if self._folder.certificate().renewal_due(self._clock()):
            try:
                self._registrar.renew_own(ran_until=None if self._even is None else self._even())
            except ClockDoubted as doubt:
                return str(doubt)
        return None if why is None else f"{why}: if that is not the time, {SET_CLOCK}"


def not_valid(about: CertificateFacts, now: datetime) -> str:
    """Return one line that says why a coordinator does not serve a certificate, and what to do."""
    if now < about.not_before:
        when = f"is valid only from {moment(about.not_before)} on"
        made = ": the clock is wrong, or it was when the certificate was made"
    else:
        when, made = f"expired on {moment(about.not_after)}", ""
    return (
        f"the coordinator's certificate {when}, and this machine's clock says {moment(now)}, so that no"
        f" institution would accept it{made}; if that is the time, run '{ANYWAY}'; if not, {SET_CLOCK}"
    )

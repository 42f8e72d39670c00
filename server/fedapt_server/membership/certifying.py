"""Sign certificates, the coordinator's own and members', if this machine's clock can be believed.

A certificate that was made under a clock ahead is one that nobody accepts until that time has come. So the
own one is renewed only by a clock that fits the log's last line and the certificate before it, and begins at
the newest of these, not at a time that nothing but the clock vouches for. Members are certified while the own
certificate is valid. An operator who knows better says so.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from fedapt_crypto.certificates import facts
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.pki import CertificateAuthority
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.file import last_time
from fedapt_secure.protocol.clocks import SET_CLOCK, Sign, doubt, moment
from fedapt_server.membership.records import NewCertificate
from fedapt_server.settings import ServerSettings

ANYWAY: Final = "fedapt-secure server renew --clock-is-right"
Signed = tuple[NewCertificate, bytes]
"""What is recorded of a certificate, and the certificate (PEM)."""


class ClockDoubted(InvalidInput):
    """Nothing was signed, since this machine's clock contradicts what happened before."""


class Certifier:
    """The authority's pen.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        authority: Signs.
        clock: What time it is.
    """

    def __init__(
        self,
        folder: PartyFolder,
        settings: ServerSettings,
        authority: CertificateAuthority,
        clock: Callable[[], datetime],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._authority = authority
        self._clock = clock

    def own(self, request: bytes, *, clock_is_right: bool, ran_until: datetime | None) -> Signed:
        """Sign the coordinator's own next certificate, for the addresses in its settings.

        Args:
            request: PKCS#10, DER.
            clock_is_right: An operator says so: the clock is not doubted.
            ran_until: What the clock would say if it had run evenly since this process started.

        Raises:
            ClockDoubted: If the clock does not fit what is known.
            InvalidInput: If the authority is not valid now.
        """
        begins = now = self._clock()
        if not clock_is_right:
            why = self.doubt(ran_until)
            if why is not None:
                raise ClockDoubted(
                    f"the coordinator's certificate was not renewed: {why}; if that is the time, run"
                    f" '{ANYWAY}'; if not, {SET_CLOCK}"
                )
            # Not more than a third of its life back, or it would be due again at once.
            newest = max((sign.when for sign in self._signs()), default=now)
            begins = max(newest, now - self._lifetime / 3)
        return self._sign(request, self._settings.name, self._settings.addresses, begins)

    def doubt(self, ran_until: datetime | None) -> str | None:
        """Return why the clock should not be believed; ``None`` where nothing speaks against it."""
        return doubt(self._clock(), self._signs(), ran_until=ran_until)

    def member(self, request: bytes, name: str) -> Signed:
        """Sign a member's certificate.

        Raises:
            ClockDoubted: If the coordinator's own certificate is not valid now.
            InvalidInput: If the authority is not valid now.
            PeerError: If the request is not in order.
        """
        self.check_clock()
        return self._sign(request, name, (), self._clock())

    def check_clock(self) -> None:
        """Check that the own certificate is valid now; raises `ClockDoubted` where it is not."""
        about, now = self._folder.certificate(), self._clock()
        if not about.valid(now):
            raise ClockDoubted(
                f"nothing was signed: the coordinator's own certificate is valid from"
                f" {moment(about.not_before)} to {moment(about.not_after)}, and this machine's clock says"
                f" {moment(now)}; if that is the time, run '{ANYWAY}' first; if not, {SET_CLOCK}"
            )

    @property
    def _lifetime(self) -> timedelta:
        return timedelta(days=self._settings.certificate_days)

    def _signs(self) -> list[Sign]:
        """Return what is known to have happened before now."""
        found = []
        if self._folder.certificate_file.exists() or self._folder.next_certificate_file.exists():
            begins = self._folder.certificate().not_before
            found.append(Sign("the beginning of the certificate in use", begins))
        logged = last_time(self._folder.path / self._settings.log)
        if logged is not None:
            found.append(Sign("the log's last line", logged))
        return found

    def _sign(self, request: bytes, name: str, addresses: tuple[str, ...], begins: datetime) -> Signed:
        pem = self._authority.sign_request(
            request,
            name,
            server_addresses=addresses,
            now=self._clock(),
            begins=begins,
            lifetime=self._lifetime,
        )
        about = facts(pem)
        return NewCertificate(
            serial=about.serial,
            public_key=about.public_key,
            certificate=pem,
            not_before=int(about.not_before.timestamp()),
            not_after=int(about.not_after.timestamp()),
        ), pem

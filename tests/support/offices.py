"""A coordinator's office and institutions for tests: real files and keys, a clock that tests set."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fedapt_client.membership import desk, enrolment
from fedapt_client.membership.connecting import Place
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.join_string import JoinString
from fedapt_server.membership.enrolment_service import EnrolmentService
from fedapt_server.membership.founding import found, write_settings
from fedapt_server.membership.registrar import Registrar
from fedapt_server.settings import ServerSettings

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@dataclass
class Clock:
    """What time it is, until a test says otherwise."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Office:
    """A founded federation under ``path``, and what its service logged."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    addresses: tuple[str, ...] = (HOST,)
    days: int = 90

    def __post_init__(self) -> None:
        self.settings = ServerSettings(
            federation="test",
            addresses=self.addresses,
            host=HOST,
            port=free_port(),
            enrolment_port=free_port(),
            certificate_days=self.days,
        )
        self.folder = PartyFolder(self.path / "coordinator")
        self.registrar = found(self.folder, self.settings, clock=self.clock)
        write_settings(self.folder, self.settings)
        self.log: list[tuple[str, dict[str, Any]]] = []

    @property
    def place(self) -> Place:
        return Place(HOST, self.settings.enrolment_port)

    def reopened(self) -> Registrar:
        """The registrar as another process would open it."""
        return Registrar(self.folder, self.settings, clock=self.clock)

    def invite(self, name: str = "clinic-1", domain: str = "ink", **valid: float) -> JoinString:
        return self.registrar.invite(name, domain, timedelta(**(valid or {"days": 1})))[0]

    def institution(self, name: str = "clinic-1") -> PartyFolder:
        return PartyFolder(self.path / name)

    def enrol(self, name: str = "clinic-1", domain: str = "ink") -> PartyFolder:
        """Enrol an institution without a connection."""
        join, folder = self.invite(name, domain), self.institution(name)
        request = enrolment.begin(folder, join, now=self.clock())
        assert request is not None
        answer = self.registrar.enrol(*self.registrar.admit(join.token, request.to_bytes()))
        enrolment.finish(folder, join, request, answer, enrolment.Options(host=HOST))
        return folder

    def expire(self, folder: PartyFolder, name: str, addresses: tuple[str, ...] = ()) -> None:
        """Give a party a certificate that was over a minute ago."""
        request = folder.pending_tls_key().request(name)
        over = self.folder.authority().sign_request(
            request, name, server_addresses=addresses, now=self.clock(), lifetime=timedelta(minutes=-1)
        )
        folder.install_certificate(over, self.folder.authority_file.read_bytes())

    def roster(self) -> e.RosterFile:
        signed = self.registrar.roster_file()
        assert signed is not None
        return signed

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[EnrolmentService]:
        """The real service on its real port."""
        service = EnrolmentService(self.registrar, lambda event, body: self.log.append((event, body)))
        await service.start()
        try:
            yield service
        finally:
            await service.stop()

    def reasons(self) -> str:
        """Everything that was logged about refusals, in one string."""
        return " | ".join(str(body.get("reason")) for _, body in self.log if "reason" in body)


async def enrol_online(office: Office, join: JoinString, folder: PartyFolder) -> e.Certified:
    """What ``client enroll`` does, once."""
    request = enrolment.begin(folder, join)
    assert request is not None
    answer, host = await desk.enrol(folder, join, request, None)
    enrolment.finish(folder, join, request, answer, enrolment.Options(host=host))
    return answer


def run(work: Any) -> Any:
    """Run a coroutine, with a bound: nothing here may hang."""
    return asyncio.run(asyncio.wait_for(work, 60))

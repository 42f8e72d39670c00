"""Run the coordinator as a process: its ports, what it watches, and how it stops.

The first SIGTERM or SIGINT ends it in order; a second one ends it at once, which is safe at any moment.
"""

import asyncio
import logging
import resource
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fedapt_crypto.errors import FedaptError, InvalidInput
from fedapt_crypto.private_files import read_private
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.joining.revocation import Revocations
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.transport import watch_revocations
from fedapt_server.membership.enrolment_service import EnrolmentService
from fedapt_server.membership.own_certificate import OwnCertificate
from fedapt_server.membership.registrar import Registrar
from fedapt_server.notices import CoordinatorNotices
from fedapt_server.ports.health_port import HealthPort
from fedapt_server.service import CoordinatorService
from fedapt_server.settings import ServerSettings

LOOK_AT_CERTIFICATE_S: Final = 60.0
FILE_HANDLES: Final = 16_384

logger = logging.getLogger("fedapt_server")


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes:
        once: End when the session has ended.
        new_session: Begin a session also where the plan is the one of the session that ended last.
        end_session: End the session that is open, with the rounds that it has completed.
        enrolment: Serve the enrolment port too.
        health: Serve the health port too, if the settings name one.
    """

    once: bool = False
    new_session: bool = False
    end_session: bool = False
    enrolment: bool = True
    health: bool = True


def run(
    folder: PartyFolder,
    settings: ServerSettings,
    options: Options,
    on_end: Callable[[str], Path] | None = None,
) -> None:
    """Serve until stopped, or with ``once`` until the session has ended.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        options: What the command line asks for.
        on_end: Called from another thread once a session has ended, with its name; returns what it wrote.
            What it refuses is a warning.

    Raises:
        InvalidInput: If a file or a port cannot be used.
        RunFailed: If with ``once`` no round was completed, or if the service cannot go on.
    """
    _allow_file_handles()
    plan = read_plan(folder, settings)
    if plan is None and options.once:
        raise InvalidInput(f"{folder.path / settings.session} is missing: write it, or leave --once out")
    reports = _Reports(on_end)
    try:
        asyncio.run(_serve(folder, settings, plan, options, reports))
    finally:
        reports.close()


def read_plan(folder: PartyFolder, settings: ServerSettings) -> SessionPlan | None:
    """Return the session in the operator's file; ``None`` if there is no file.

    Raises:
        InvalidInput: If what is in it is not a session.
    """
    path = folder.path / settings.session
    return build(SessionPlan, read_yaml(path), source=str(path)) if path.exists() else None


async def _serve(
    folder: PartyFolder,
    settings: ServerSettings,
    plan: SessionPlan | None,
    options: Options,
    reports: "_Reports",
) -> None:
    stop = stop_on_signals()
    office = _Office(folder, settings)
    service = CoordinatorService(
        folder,
        settings,
        plan,
        stay=not options.once,
        again=options.new_session,
        end=options.end_session,
        prepare=office.open,
        told=reports.note,
    )
    registrar = office.registrar
    renewed: list[Callable[[], None]] = [service.port.renewed]
    revoked: list[Callable[[frozenset[int]], None]] = [service.port.revoked]
    async with AsyncExitStack() as stack:
        stack.callback(service.close)
        if options.enrolment and registrar is not None:
            enrolment = EnrolmentService(registrar, _log_enrolment)
            await enrolment.start()
            stack.push_async_callback(enrolment.stop)
            renewed.append(enrolment.renewed)
            revoked.append(enrolment.revoked)
        if options.health and settings.health_port:
            health = HealthPort(settings.health_port, service.snapshot, service.metrics.text)
            stack.callback(health.close)
            logger.info("health and metrics", extra={"event": "health_listening", "port": health.port})
        tell = partial(office.tell_expiring, service.notices)
        tell()
        tasks = [_spawn(_watch_certificate(folder, office.certificate, renewed, tell))]
        if folder.revocation_file.exists():
            revocations = Revocations(folder.revocation_file, read_private(folder.authority_file))
            tasks.append(_spawn(watch_revocations(revocations, lambda new: _all(revoked, new), _report)))
        for task in tasks:
            stack.callback(task.cancel)
        await service.run(stop)
        await asyncio.to_thread(reports.close)
        if stop.is_set():
            logger.info("stopped", extra={"event": "stopped"})


class _Reports:
    """Has sessions that have ended reported, one by one, in nobody's way.

    Args:
        write: Writes a report; ``None`` for none.
    """

    def __init__(self, write: Callable[[str], Path] | None) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, "report")

    def note(self, type: str, body: Mapping[str, Any]) -> None:
        """Take in one line of the log, once it is written."""
        if type == "session_ended" and self._write is not None:
            self._thread.submit(self._report, self._write, body["session"])

    def close(self) -> None:
        """Wait for the report that is being written."""
        self._thread.shutdown()

    @staticmethod
    def _report(write: Callable[[str], Path], session: str) -> None:
        try:
            path = write(session)
        except FedaptError as error:
            logger.warning("no report was written: %s", error, extra={"event": "no_report"})
        except Exception:  # a report is no reason to end a service, and the next one is written again
            logger.exception("no report was written", extra={"event": "no_report"})
        else:
            logger.info("what came of the session, as a page: %s", path, extra={"event": "report"})


class _Office:
    """What of the folder is for one process alone.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
    """

    registrar: Registrar | None = None
    certificate: OwnCertificate

    def __init__(self, folder: PartyFolder, settings: ServerSettings) -> None:
        self._folder = folder
        self._settings = settings

    def open(self) -> None:
        """Open the records and renew the certificate if it is due; only for who holds the folder.

        Raises:
            InvalidInput: If a file cannot be used, or nobody would accept the certificate now.
        """
        if self._folder.authority_key_file.exists():
            self.registrar = Registrar(self._folder, self._settings)
        self.certificate = OwnCertificate(self._folder, self.registrar)
        _warn(self.certificate.ready())

    def tell_expiring(self, notices: CoordinatorNotices) -> None:
        """Tell people of certificates that expire soon, the coordinator's and members'."""
        records = self.registrar.membership.members if self.registrar is not None else ()
        ends = {
            one.name: datetime.fromtimestamp(one.certificate_ends, UTC)
            for one in records
            if one.certificate_ends is not None and one.revoked is None
        }
        lifetime = timedelta(days=self._settings.certificate_days)
        notices.expiring(self._folder.certificate(), ends, lifetime)


def _spawn(work: Any) -> "asyncio.Task[None]":
    return asyncio.create_task(work)


def _all(listeners: list[Callable[[frozenset[int]], None]], serials: frozenset[int]) -> None:
    for listener in listeners:
        listener(serials)


def _report(line: str) -> None:
    logger.warning("%s", line, extra={"event": "revocation_list"})


def stop_on_signals() -> asyncio.Event:
    """Return what the first SIGTERM or SIGINT sets; a second one ends the process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def first() -> None:
        logger.info("stopping; a second signal ends it at once", extra={"event": "stopping"})
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return stop


async def _watch_certificate(
    folder: PartyFolder, own: OwnCertificate, renewed: list[Callable[[], None]], tell: Callable[[], None]
) -> None:
    """Renew the own certificate in time, and use a renewed one, whoever renewed it, if it is valid now."""
    used = folder.certificate().serial
    while True:
        await asyncio.sleep(LOOK_AT_CERTIFICATE_S)
        try:
            _warn(await asyncio.to_thread(own.ready))
            certificate = folder.certificate()
            if certificate.serial != used:
                for listener in renewed:
                    listener()
                used = certificate.serial
                until = certificate.not_after.date().isoformat()
                logger.info("certificate renewed", extra={"event": "certificate_renewed", "until": until})
            tell()
        except InvalidInput as error:
            logger.warning("%s", error, extra={"event": "certificate"})


def _warn(line: str | None) -> None:
    if line is not None:
        logger.warning("%s", line, extra={"event": "certificate"})


def _log_enrolment(event: str, body: dict[str, Any]) -> None:
    fields = {("institution" if key == "name" else key): value for key, value in body.items()}
    logger.info("%s", event.replace("_", " "), extra={"event": event} | fields)


def _allow_file_handles() -> None:
    """Take as many file handles as we may: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILE_HANDLES if hard == resource.RLIM_INFINITY else min(FILE_HANDLES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

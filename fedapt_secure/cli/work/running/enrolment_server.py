"""``server enroll``: the enrolment service by itself, until it has done what it was started for."""

import asyncio
import contextlib
import json
import signal
import sys
from datetime import UTC, datetime
from typing import Any

from fedapt_server.membership.enrolment_service import EnrolmentService
from fedapt_server.membership.own_certificate import OwnCertificate
from fedapt_server.membership.registrar import Registrar


def serve_enrolment(registrar: Registrar, *, once: bool, seconds: float | None, as_json: bool) -> None:
    """Serve until somebody has enrolled (``once``), the time is over, or a signal comes.

    Raises:
        InvalidInput: If the port is taken, a file cannot be used, or nobody would accept the certificate now.
    """
    asyncio.run(_serve(registrar, once=once, seconds=seconds, as_json=as_json))


async def _serve(registrar: Registrar, *, once: bool, seconds: float | None, as_json: bool) -> None:
    service = EnrolmentService(registrar, lambda event, body: _log(event, body, as_json=as_json))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await service.start()
    try:
        _renew(registrar, service, as_json=as_json)
    except BaseException:
        await service.stop()
        raise
    waiting = [asyncio.create_task(stopped.wait())]
    if once:
        waiting.append(asyncio.create_task(service.enrolled.wait()))
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await service.stop()
        _log("enrolment_closed", {}, as_json=as_json)


def _renew(registrar: Registrar, service: EnrolmentService, *, as_json: bool) -> None:
    """Renew the certificate if it is due; only now, for who has the port is alone here."""
    folder = registrar.folder
    before = folder.certificate().serial
    doubt = OwnCertificate(folder, registrar).ready()
    if doubt is not None:
        _log("certificate_not_renewed", {"reason": doubt}, as_json=as_json)
    about = folder.certificate()
    if about.serial != before:
        service.renewed()
        _log("certificate_renewed", {"until": about.not_after.date().isoformat()}, as_json=as_json)


def _log(event: str, body: dict[str, Any], *, as_json: bool) -> None:
    """Write one line to standard error; values that came from outside cannot break out of it."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    if as_json:
        line = json.dumps({"time": time, "event": event, **body})
    else:
        details = " ".join(f"{key}={json.dumps(value)}" for key, value in body.items() if value is not None)
        line = f"{time} {event} {details}".rstrip()
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

"""Run all parties of a federation on this machine: as tasks of one process, or one process each."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fedapt_client.__main__ import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput, PolicyRefused, RunFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.line import LogEntry
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol.session import SessionPlan
from fedapt_secure.simulate.federation import Federation, connect_institutions
from fedapt_secure.simulate.follow import LONG, LogFollower
from fedapt_secure.simulate.patience import allow_file_handles, close_retry_s, retry_for_s
from fedapt_secure.simulate.turnstile import Turnstile
from fedapt_server.__main__ import SETTINGS_FILE as SERVER_FILE
from fedapt_server.service import CoordinatorService
from fedapt_server.settings import ServerSettings

Watch = Callable[[str, LogEntry], None]
"""(party, log entry), for every line that any party logs, while it runs."""
EncodingProgress = Callable[[str, int, int], None]
"""(institution, images done, images in all)."""

POLL_S = 0.1
START_TIMEOUT_S = 60.0
LAST_WORDS_S = 20.0
REFUSED = 2
"""Exit status of a party that was given something unusable, or whose policy forbids the session."""
Party = Coroutine[Any, Any, None]


async def run(federation: Federation, watch: Watch, encoding: EncodingProgress | None = None) -> None:
    """Run the session to its end.

    Args:
        federation: The run.
        watch: Told of every log line.
        encoding: Told while institutions encode images, from their threads; not with a process a party.

    Raises:
        RunFailed: If a party fails; names it.
        InvalidInput: If a party refuses its settings, data or the session.
    """
    start_coordinator = _coordinator_process if federation.settings.processes else _coordinator_task
    count = len(federation.institutions)
    in_process = partial(_institution_task, retry_for_s(count), close_retry_s(count), encoding)
    start_institution = _institution_process if federation.settings.processes else in_process
    if not federation.settings.processes:
        allow_file_handles(count)
    turnstile = Turnstile()

    async def started(name: str) -> None:
        async with turnstile.starting(name):
            await start_institution(federation.folder.party(name))

    def look(party: str, entry: LogEntry) -> None:
        if party == COORDINATOR and entry.type == "connected":
            turnstile.arrived(entry.body["name"])
        watch(party, entry)

    async with _watching(federation, look) as port:
        coordinator = asyncio.create_task(start_coordinator(federation.folder.party(COORDINATOR)))
        tasks = [coordinator]
        try:
            await _first_of(coordinator, port)
            connect_institutions(federation, port.result())
            tasks += [asyncio.create_task(started(name), name=name) for name in federation.institutions]
            await _all_or_first_failure(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(coordinator: "asyncio.Task[None]", port: "asyncio.Future[int]") -> None:
    waiting: set[asyncio.Future[Any]] = {coordinator, port}
    done, _ = await asyncio.wait(waiting, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    if coordinator in done:
        coordinator.result()
    if port not in done:
        raise RunFailed("the coordinator did not start to listen; see its log")


async def _all_or_first_failure(tasks: "list[asyncio.Task[None]]") -> None:
    done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    # An institution's own error says more than the coordinator's, which only follows from it. A process
    # takes a moment to end with it.
    if running and [task for task in done if task.exception() is not None] == [tasks[0]]:
        more, _ = await asyncio.wait(running, timeout=LAST_WORDS_S, return_when=asyncio.FIRST_EXCEPTION)
        done |= more
    for task in sorted(done, key=lambda task: task is tasks[0]):
        task.result()


@asynccontextmanager
async def _watching(federation: Federation, watch: Watch) -> AsyncIterator["asyncio.Future[int]"]:
    """Follow all logs; the value becomes the coordinator's port once it listens."""
    names = (COORDINATOR, *federation.institutions)
    followers = {name: LogFollower(federation.folder.log(name), leave_out=LONG) for name in names}
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def look() -> None:
        for name, follower in followers.items():
            for entry in follower.new_entries():
                if entry.type == "listening" and not port.done():
                    port.set_result(int(entry.body["port"]))
                watch(name, entry)

    async def poll() -> None:
        while True:
            look()
            await asyncio.sleep(POLL_S)

    poller = asyncio.create_task(poll())
    try:
        yield port
    finally:
        poller.cancel()
        await asyncio.gather(poller, return_exceptions=True)
        look()


async def _coordinator_task(folder: Path) -> None:
    settings = build(ServerSettings, read_yaml(folder / SERVER_FILE), source=SERVER_FILE)
    plan = build(SessionPlan, read_yaml(folder / settings.session), source=str(settings.session))
    await CoordinatorService(PartyFolder(folder), settings, plan).run()


async def _institution_task(
    retry_s: float, close_s: float, encoding: EncodingProgress | None, folder: Path
) -> None:
    settings = build(ClientSettings, read_yaml(folder / CLIENT_FILE), source=CLIENT_FILE)
    progress = None if encoding is None else partial(encoding, folder.name)
    try:
        await InstitutionRunner(
            folder, settings, retry_for_s=retry_s, close_retry_s=close_s, progress=progress
        ).run()
    except PolicyRefused as error:
        raise InvalidInput(f"{folder.name} refuses: {error}") from None


async def _coordinator_process(folder: Path) -> None:
    await _process("fedapt_server", folder)


async def _institution_process(folder: Path) -> None:
    await _process("fedapt_client", folder)


async def _process(module: str, folder: Path) -> None:
    """Run ``python -m module --dir folder`` and wait for it; killed when we are cancelled."""
    # Many processes on one machine: one thread each, or they spend their time waiting for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--dir", str(folder), stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        if process.returncode == REFUSED:
            raise InvalidInput(f"{folder.name} refuses: {lines[-1]}")
        raise RunFailed(f"{folder.name} ended with status {process.returncode}: {lines[-1]}")

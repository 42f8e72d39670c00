"""Run a federation's session: the coordinator first, then everybody else, all logs followed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fedapt_crypto.errors import RunFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.follower import LONG, LogFollower
from fedapt_secure.log.line import LogEntry
from fedapt_secure.simulate.running.turnstile import Turnstile
from fedapt_secure.simulate.setup.federation import Federation, connect_institutions

Watch = Callable[[str, LogEntry], None]
"""(party, log entry), for every line that any party logs, while it runs."""
EncodingProgress = Callable[[str, int, int], None]
"""(institution, images done, images in all)."""

POLL_S = 0.1
START_TIMEOUT_S = 60.0
LAST_WORDS_S = 20.0


async def run(federation: Federation, watch: Watch, encoding: EncodingProgress | None = None) -> None:
    """Run the session to its end.

    Args:
        federation: The run.
        watch: Told of every log line.
        encoding: Told while institutions encode images, from their threads; where the engine can.

    Raises:
        RunFailed: If a party fails; names it.
        InvalidInput: If a party refuses its settings, data or the session.
    """
    engine, count = federation.engine, len(federation.institutions)
    turnstile = Turnstile()

    async def started(name: str) -> None:
        async with turnstile.starting(name):
            progress = None if encoding is None else partial(encoding, name)
            await engine.run_institution(federation.folder.party(name), count, progress)

    def look(party: str, entry: LogEntry) -> None:
        if party == COORDINATOR and entry.type == "connected":
            turnstile.arrived(entry.body["name"])
        watch(party, entry)

    await engine.place([federation.folder.party(name) for name in federation.institutions])
    async with _watching(federation, look) as port:
        coordinator = asyncio.create_task(engine.run_coordinator(federation.folder.party(COORDINATOR)))
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

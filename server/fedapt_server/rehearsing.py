"""Ask all institutions what a session would be there, before one is offered: the coordinator's I/O shell."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from websockets.exceptions import ConnectionClosed

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import FedaptError, InvalidInput, PeerError, VerificationFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.line import JsonBody, LogHead
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.transport import binary
from fedapt_server.archive.starting import new_configuration, reason_to_wait
from fedapt_server.metrics import Metrics
from fedapt_server.narration import narrate
from fedapt_server.ports.refusals import Refusals
from fedapt_server.ports.rounds_port import GuardedConnection, RoundsPort
from fedapt_server.refusal import Refusal
from fedapt_server.running import read_plan, stop_on_signals
from fedapt_server.session.rehearsal import Answer, CoordinatorRehearsal
from fedapt_server.settings import ServerSettings

HELLO_TIMEOUT_S: Final = 10

logger = logging.getLogger("fedapt_server")


class RehearsalService:
    """Serves the rounds port for as long as a rehearsal takes.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        plan: The session to ask about.
        wait_s: How long to wait for institutions that are not connected, in seconds.

    Raises:
        InvalidInput: If a file cannot be used, the service runs, or no session of the plan can be made.
    """

    def __init__(
        self, folder: PartyFolder, settings: ServerSettings, plan: SessionPlan, wait_s: float
    ) -> None:
        roster = folder.roster() if folder.roster_file.exists() else None
        reason = reason_to_wait(plan, roster, None, again=True)
        if reason is not None or roster is None:
            raise InvalidInput(f"there is nothing to rehearse: {reason}")
        configuration, _ = new_configuration(
            plan, roster, settings.experiment_seed, settings.max_message_bytes
        )
        identity, lost = folder.identity(), settings.log_continues
        self._hides = hidden(configuration).said
        self._wait_s = wait_s
        self._rehearsal = CoordinatorRehearsal(configuration, identity)
        self._refusals = Refusals(Metrics(), self._note)
        self._port = RoundsPort(
            folder, settings, self._serve_one, self._refusals.refused, self._refusals.report
        )
        self._there: set[str] = set()
        self._changed = asyncio.Event()
        self._log = LogWriter(
            folder.path / settings.log,
            party=COORDINATOR,
            role="coordinator",
            identity=identity,
            continues=LogHead.parse(lost) if lost is not None else None,
        )

    async def run(self, stop: asyncio.Event) -> dict[str, Answer | None]:
        """Ask, and return what everybody answered: when all have, or all who are connected after a while.

        Args:
            stop: Set when it is to end with what is known by then.

        Raises:
            InvalidInput: If the port cannot be used.
            RunFailed, Unavailable: If the log cannot be written.
        """
        try:
            port = await self._port.start()
            fields = {"event": "rehearsing", "port": port, "sums": self._hides}
            logger.info("asking institutions", extra=fields)
            await self._until_answered(stop)
            self._note("rehearsal", self._rehearsal.body())
        finally:
            await self._port.stop()
            self._refusals.close()
            self._log.close()
        return self._rehearsal.answers

    @property
    def all_ready(self) -> bool:
        """Whether everybody would take part."""
        return self._rehearsal.all_ready

    async def _until_answered(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_s
        stopped = asyncio.create_task(stop.wait())
        while self._rehearsal.missing and not stop.is_set():
            left_s = until - loop.time()
            if left_s <= 0 and not self._rehearsal.missing & self._there:
                break
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            timeout = left_s if left_s > 0 else None
            await asyncio.wait({stopped, changed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        stopped.cancel()

    async def _serve_one(self, connection: GuardedConnection) -> None:
        name = connection.name
        try:
            await self._greet(connection)
            self._there.add(name)
            self._changed.set()
            if name in self._rehearsal.missing:
                await connection.send(self._rehearsal.question())
            async for frame in connection:
                self._take(name, binary(frame))
        except ConnectionClosed:
            pass
        except (FedaptError, TimeoutError) as error:
            detail = str(error) if isinstance(error, FedaptError) else f"{name}: {type(error).__name__}"
            self._refusals.turned_away(Refusal.GREETING, detail)
        finally:
            self._there.discard(name)
            self._changed.set()

    async def _greet(self, connection: GuardedConnection) -> None:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            frame = binary(await connection.recv())
        hello = decode_one_of(frame, m.FROM_INSTITUTION, max_bytes=m.Hello.max_bytes)
        if not isinstance(hello, m.Hello) or hello.name != connection.name:
            raise VerificationFailed("does not greet in the certificate's name", peer=connection.name)
        if hello.name not in self._rehearsal.answers:
            raise VerificationFailed("is not on the roster", peer=connection.name)

    def _take(self, name: str, data: bytes) -> None:
        try:
            heard = self._rehearsal.receive(name, data)
        except PeerError as error:
            self._refusals.turned_away(Refusal.MISBEHAVED, f"{name}: {error}")
            return
        fields = {"event": "rehearsing", "institution": name}
        if isinstance(heard, Answer):
            logger.info("institution has answered", extra=fields | {"answer": heard.reason or "ready"})
            self._changed.set()
        else:
            logger.info(
                "institution is at work", extra=fields | {"doing": heard.doing, "percent": heard.percent}
            )

    def _note(self, type: str, body: JsonBody) -> None:
        self._log.write(type, body)
        narrate(logger, type, body)


def run_rehearsal(
    folder: PartyFolder, settings: ServerSettings, plan_file: Path | None, wait_s: float
) -> tuple[dict[str, Answer | None], bool]:
    """Ask all institutions about a session; return their answers, and whether all would take part.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        plan_file: The session's plan; by default the one that the settings name.
        wait_s: How long to wait for institutions that are not connected, in seconds.

    Raises:
        InvalidInput: If there is no plan, or nothing can be asked.
    """
    if plan_file is not None:
        settings = settings.model_copy(update={"session": plan_file.absolute()})
    plan = read_plan(folder, settings)
    if plan is None:
        raise InvalidInput(f"{folder.path / settings.session} is missing: write it, or name one with --plan")

    async def ask() -> tuple[dict[str, Answer | None], bool]:
        service = RehearsalService(folder, settings, plan, wait_s)
        return await service.run(stop_on_signals()), service.all_ready

    return asyncio.run(ask())

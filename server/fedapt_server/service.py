"""The coordinator's I/O shell: a websocket server with mutual TLS, one timer, one log."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fedapt_crypto import domain_keys
from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import FedaptError, PeerError, RollbackDetected, RunFailed, VerificationFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_secure.audit.line import LogHead
from fedapt_secure.audit.log import LogWriter
from fedapt_secure.audit.reader import segments
from fedapt_secure.audit.witness import highest_heads
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration, SessionPlan
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, binary, certificate_name, server_context
from fedapt_server.actions import Action, CheckLog, End, Log, SendTo, SetTimer, TakeHead
from fedapt_server.session import CoordinatorSession
from fedapt_server.settings import ServerSettings

HELLO_TIMEOUT_S = 10
FLUSH_TIMEOUT_S = 5


class CoordinatorService:
    """Serves one session.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        plan: The session to run.
    """

    def __init__(self, folder: Path, settings: ServerSettings, plan: SessionPlan) -> None:
        self._folder = PartyFolder(folder)
        self._settings = settings
        identity = self._folder.identity()
        roster = self._folder.roster()
        number = settings.experiment_seed
        seeds = tuple(
            domain_keys.draw_seed() if number is None else domain_keys.experiment_seed(number, index)
            for index in range(len(plan.domains))
        )
        session = secrets.token_bytes(SESSION_BYTES)
        self._configuration = SessionConfiguration(
            session=session,
            plan=plan,
            roster=roster,
            key_commitments=tuple(
                domain_keys.commitment(seed, session, index) for index, seed in enumerate(seeds)
            ),
        )
        witnessed = highest_heads(segments(folder / settings.log))
        self._session = CoordinatorSession(self._configuration, seeds, identity, witnessed)
        lost = settings.log_continues
        # Last: it is locked from here on, and `run` closes it.
        self._log = LogWriter(
            folder / settings.log,
            party=COORDINATOR,
            role="coordinator",
            identity=identity,
            continues=LogHead.parse(lost) if lost is not None else None,
        )
        self._connections: dict[str, ServerConnection] = {}
        self._outboxes: dict[str, asyncio.Queue[bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._completed_rounds: asyncio.Future[int]

    async def run(self) -> None:
        """Serve until the session has ended.

        Raises:
            RunFailed: If no round was completed.
        """
        self._completed_rounds = asyncio.get_running_loop().create_future()
        settings = self._settings
        try:
            tls = server_context(self._folder)
            async with serve(
                self._serve_one, settings.host, settings.port, ssl=tls, **WEBSOCKET_OPTIONS
            ) as server:
                port = next(iter(server.sockets)).getsockname()[1]
                self._log.write("certificate", self._folder.certificate_fields())
                self._log.write("listening", {"host": settings.host, "port": port})
                await self._tell(self._session.start)
                completed = await self._completed_rounds
                await self._flush()
        finally:
            self._set_timer(None)
            self._log.close()
        if completed == 0:
            raise RunFailed("no round was completed; the coordinator's log says why")

    async def _serve_one(self, connection: ServerConnection) -> None:
        try:
            name = await self._greet(connection)
        except (FedaptError, ConnectionClosed, TimeoutError) as error:
            detail = str(error) if isinstance(error, FedaptError) else type(error).__name__
            self._log.write("turned_away", {"detail": detail})
            return
        outbox: asyncio.Queue[bytes] = asyncio.Queue()
        replaced = self._connections.pop(name, None)
        self._connections[name], self._outboxes[name] = connection, outbox
        if replaced is not None:
            replaced.transport.abort()
        sender = asyncio.create_task(_drain(outbox, connection))
        try:
            await self._tell(self._session.connected, name)
            async for frame in connection:
                await self._tell(self._session.receive, name, binary(frame))
        except RollbackDetected as error:
            body = {"name": COORDINATOR, "error": type(error).__name__, "detail": str(error)}
            self._log.write("refused", body)
            self._fail(error)
        except (ConnectionClosed, PeerError):
            pass  # either way the institution is gone, which is what the session is told below
        except Exception as error:
            self._fail(error)
            raise
        finally:
            sender.cancel()
            if self._connections.get(name) is connection:
                del self._connections[name], self._outboxes[name]
                await self._tell(self._session.disconnected, name)

    async def _greet(self, connection: ServerConnection) -> str:
        """Return the institution's name, which certificate, roster and greeting must agree on."""
        name = certificate_name(connection.transport.get_extra_info("ssl_object"))
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            frame = binary(await connection.recv())
        hello = decode_one_of(frame, m.FROM_INSTITUTION, max_bytes=m.Hello.max_bytes)
        if not isinstance(hello, m.Hello) or hello.name != name:
            raise VerificationFailed("the greeting is not in the certificate's name", peer=name)
        if name not in self._configuration.roster.names:
            raise VerificationFailed("is not on the roster", peer=name)
        return name

    async def _tell(self, event: Callable[..., list[Action]], *arguments: object) -> None:
        """Let the session take an event and carry out what it asks for.

        One event at a time, in a thread: adding ciphertexts or long vectors takes a while, and meanwhile
        connections are to be answered.
        """
        async with self._one_at_a_time:
            self._carry_out(await asyncio.to_thread(event, *arguments))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendTo():
                    outbox = self._outboxes.get(action.name)
                    if outbox is not None:
                        outbox.put_nowait(action.data)
                case Log():
                    self._log.write(action.type, action.body)
                case TakeHead():
                    self._carry_out(action.then(self._log.head()))
                case CheckLog():
                    self._log.check_holds(action.heads)
                case SetTimer():
                    self._set_timer(action.seconds)
                case End():
                    if not self._completed_rounds.done():
                        self._completed_rounds.set_result(action.completed_rounds)

    async def _flush(self) -> None:
        """Wait until what the session sent last has left; a slow institution does not hold us up for long."""
        waiting = [asyncio.create_task(outbox.join()) for outbox in self._outboxes.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=FLUSH_TIMEOUT_S)
            for task in late:
                task.cancel()

    def _set_timer(self, seconds: float | None) -> None:
        """Set the one timer anew, or stop it: also where it has gone off and waits for its turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._alarm is not None and self._alarm is not asyncio.current_task():
            self._alarm.cancel()
            self._alarm = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._alarm = asyncio.create_task(self._time_out())

    async def _time_out(self) -> None:
        try:
            await self._tell(self._session.timeout)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """End the session: a mistake of ours must not leave institutions waiting."""
        if not self._completed_rounds.done():
            self._completed_rounds.set_exception(error)


async def _drain(outbox: asyncio.Queue[bytes], connection: ServerConnection) -> None:
    """Send what is queued, in order; a slow institution holds up nobody else."""
    try:
        while True:
            data = await outbox.get()
            try:
                await connection.send(data)
            finally:
                outbox.task_done()
    except ConnectionClosed:
        return

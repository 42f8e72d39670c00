"""The coordinator as a service: one session at a time, its connections, one timer, one store, one log."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import (
    FedaptError,
    PeerError,
    RollbackDetected,
    RunFailed,
    VerificationFailed,
)
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.line import JsonBody, LogHead
from fedapt_secure.log.reader import segments
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.transport import binary
from fedapt_server.archive import finished
from fedapt_server.archive.own_log import last_round_end
from fedapt_server.archive.starting import reason_to_wait
from fedapt_server.archive.store import SessionStore, StoredSession
from fedapt_server.archive.taking_up import ends_of_rounds, open_session, take_up
from fedapt_server.metrics import Metrics
from fedapt_server.narration import narrate
from fedapt_server.notices import CoordinatorNotices
from fedapt_server.ports.outbox import Outbox, flush
from fedapt_server.ports.refusals import Refusals
from fedapt_server.ports.rounds_port import GuardedConnection, RoundsPort
from fedapt_server.ports.traffic import send_timeout_s
from fedapt_server.refusal import Refusal
from fedapt_server.session.actions import Action, CheckLog, Doing, End, Keep, Log, SendTo, SetTimer, TakeHead
from fedapt_server.session.machine import CoordinatorSession
from fedapt_server.session.progress import Progress
from fedapt_server.session.states import State
from fedapt_server.settings import ServerSettings
from fedapt_server.status import Snapshot, Status

HELLO_TIMEOUT_S: Final = 10

logger = logging.getLogger("fedapt_server")
logger.addHandler(logging.NullHandler())


class CoordinatorService:
    """Serves a session: one that was interrupted, or a new one.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        plan: The session to run, if one is planned.
        stay: Go on after the session has ended, and also where none can begin; until stopped.
        again: Begin a session also where the plan is the one of the session that ended last.
        end: Let no further round of an interrupted session begin, and close its record.
        prepare: Done once the folder is this service's alone, before anything in it is changed.
        told: Takes in each line of the log once it is written.

    Raises:
        InvalidInput: If a file cannot be used, or no session can begin and the service does not stay.
    """

    def __init__(
        self,
        folder: PartyFolder,
        settings: ServerSettings,
        plan: SessionPlan | None,
        *,
        stay: bool = False,
        again: bool = False,
        end: bool = False,
        prepare: Callable[[], None] | None = None,
        told: Callable[[str, JsonBody], None] | None = None,
    ) -> None:
        self._folder, self._settings = folder, settings
        self._plan, self._stay, self._end, self._told = plan, stay, end, told
        self._identity = folder.identity()
        self.status, self.metrics = Status(), Metrics()
        self.notices = CoordinatorNotices(settings.notify, settings.name)
        self._refusals = Refusals(self.metrics, self._note)
        self.port = RoundsPort(
            folder, settings, self._serve_one, self._refusals.refused, self._refusals.report
        )
        self._outboxes: dict[str, Outbox] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._stopping = False
        self._over: asyncio.Future[int]
        self._store = SessionStore(folder.path)
        lost, seed = settings.log_continues, settings.experiment_seed
        # Locked from here on, and `run` closes it: of two services in one folder the second ends here.
        self._log = LogWriter(
            folder.path / settings.log,
            party=COORDINATOR,
            role="coordinator",
            identity=self._identity,
            continues=LogHead.parse(lost) if lost is not None else None,
        )
        try:
            if prepare is not None:
                prepare()
            self._stored = take_up(
                self._store,
                plan,
                self._roster(),
                again=again,
                stay=stay,
                experiment_seed=seed,
                max_message_bytes=settings.max_message_bytes,
            )
            self._session = None if self._stored is None else self._open(self._stored)
        except BaseException:
            self._log.close()
            raise

    def snapshot(self) -> Snapshot:
        """Return where the service stands; why no session is open as things are now, not as they were."""
        return self.status.snapshot(self._why_waiting())

    def _why_waiting(self) -> str | None:
        """Return why no session is open, and what to do; ``None`` while one is."""
        session = self._session
        if session is not None and session.state is not State.ENDED:
            return None
        ended = None if self._stored is None else self._stored.configuration.plan
        reason = reason_to_wait(self._plan, self._roster(), ended, again=False)
        return reason or "a session can begin: run 'fedapt-secure server run' again"

    def _open(self, stored: StoredSession) -> CoordinatorSession:
        ends = ends_of_rounds(stored, self._log.path)
        self.status.take_up(stored.configuration, stored.progress, datetime.now(UTC), ends)
        return open_session(stored, self._identity, self._log.path)

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Serve until the session has ended, or until stopped.

        Args:
            stop: Set when the service is to end; a session that has not ended is resumed by the next one.

        Raises:
            RunFailed: If the session ended without a completed round and the service does not stay.
            InvalidInput: If the port or a file cannot be used, or our own log went back.
        """
        self._over = asyncio.get_running_loop().create_future()
        try:
            port = await self.port.start()
            self._note("certificate", self._folder.certificate_fields())
            self._note("listening", {"host": self._settings.host, "port": port})
            await self._begin()
            self.status.serving = True
            completed = await self._until(stop or asyncio.Event())
            await flush(self._outboxes.values())
        finally:
            await self._stop()
        if completed == 0:
            raise RunFailed("no round was completed; the coordinator's log says why")

    def close(self) -> None:
        """Let go of the log; for a service that did not come to run."""
        self._log.close()

    async def _begin(self) -> None:
        if self._stored is not None and self._session is not None:
            logged = last_round_end(segments(self._log.path), self._stored.configuration.session)
            await self._tell(self._session.start, logged)
        if self._end and self._session is not None and self._session.state is State.GATHERING:
            await self._tell(self._session.stop)
        waiting = self._why_waiting()
        if waiting is not None:
            logger.info("no session is open: %s", waiting, extra={"event": "waiting"})

    async def _until(self, stop: asyncio.Event) -> int | None:
        """Wait for the end; return the number of completed rounds if it is the session's."""
        stopped = asyncio.create_task(stop.wait())
        waiting: set[asyncio.Future[object]] = {stopped, self._over}  # type: ignore[arg-type]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done() and self._over.exception() is None and self._stay:
            self._over = asyncio.get_running_loop().create_future()
            return await self._until(stop)
        stopped.cancel()
        return self._over.result() if self._over.done() else None

    async def _stop(self) -> None:
        """Close what is open. The session is told nothing: that connections end now says nothing of peers."""
        async with self._one_at_a_time:
            self._stopping = True
            self._set_timer(None)
        await self.port.stop()
        self._refusals.close()
        self._log.close()
        await asyncio.to_thread(self.notices.close)

    async def _serve_one(self, connection: GuardedConnection) -> None:
        name = connection.name
        try:
            first = await self._greet(connection)
            if isinstance(first, m.ModelRequest):
                await self._give_model(connection, first)
                return
            takes_part = self._takes_part(name)
        except ConnectionClosed as error:
            self._closed(name, error, Refusal.GREETING)
            return
        except (FedaptError, TimeoutError) as error:
            detail = str(error) if isinstance(error, FedaptError) else f"{name}: {type(error).__name__}"
            self._refusals.turned_away(Refusal.GREETING, detail)
            return
        outbox = Outbox(connection, self._settings.max_message_bytes)
        replaced = self._outboxes.get(name)
        self._outboxes[name] = outbox
        if replaced is not None:
            replaced.connection.transport.abort()
        self.status.joined(name, datetime.now(UTC))
        self.metrics.connected(len(self._outboxes))
        try:
            await (self._take_part(connection) if takes_part else self._stand_by(connection, outbox))
        except ConnectionClosed as error:
            self._closed(name, error, None)
        finally:
            outbox.close()
            if self._outboxes.get(name) is outbox:
                del self._outboxes[name]
                self.status.gone(name, datetime.now(UTC))
                self.metrics.connected(len(self._outboxes))
                if takes_part and self._session is not None:
                    await self._tell(self._session.disconnected, name)

    def _closed(self, name: str, error: ConnectionClosed, otherwise: Refusal | None) -> None:
        """A connection has ended; note it where it was us, for a message that is too large."""
        too_large = error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG
        why = Refusal.TOO_LARGE if too_large else otherwise
        if why is not None and not self._stopping:
            reason = "a message is too large" if too_large else "went without a greeting"
            self._refusals.turned_away(why, f"{name}: {reason}")

    async def _greet(self, connection: GuardedConnection) -> m.Hello | m.ModelRequest:
        """Return the first message, whose name must be the certificate's."""
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            frame = binary(await connection.recv())
        hello = decode_one_of(frame, m.FROM_INSTITUTION, max_bytes=m.Hello.max_bytes)
        if not isinstance(hello, m.Hello | m.ModelRequest) or hello.name != connection.name:
            raise VerificationFailed("the greeting is not in the certificate's name", peer=connection.name)
        return hello

    def _takes_part(self, name: str) -> bool:
        """Return whether the session is for an institution; else it may wait for the next one.

        One that has ended is offered again also to who has signed its end: it may have been killed before
        the closed record came. Who has the record enters no session twice.

        Raises:
            VerificationFailed: If it is on no roster.
        """
        if self._stored is not None and name in self._stored.configuration.roster.names:
            return True
        roster = self._roster()
        if roster is None or name not in roster.names:
            raise VerificationFailed("is not on the roster", peer=name)
        return False

    async def _take_part(self, connection: GuardedConnection) -> None:
        """Let the session hear what an institution says."""
        assert self._session is not None
        try:
            await self._tell(self._session.connected, connection.name)
            async for frame in connection:
                self.status.seen(connection.name, datetime.now(UTC))
                actions = await self._tell(self._session.receive, connection.name, binary(frame))
                refused = any(isinstance(action, Log) and action.type == "refused" for action in actions)
                if refused and not connection.traffic.refused(connection.loop.time()):
                    connection.cut(Refusal.MISBEHAVED)
        except RollbackDetected as error:
            body = {"name": COORDINATOR, "error": type(error).__name__, "detail": str(error)}
            self._note("refused", body)
            self._fail(error)
        except PeerError as error:
            self._refusals.turned_away(Refusal.MISBEHAVED, f"{connection.name}: {error}")
        except ConnectionClosed:
            raise
        except Exception as error:
            self._fail(error)
            raise

    async def _stand_by(self, connection: GuardedConnection, outbox: Outbox) -> None:
        """Keep the connection of one who waits; it has nothing to say."""
        ended = self._store.finished()
        outbox.put(m.Standby(finished=None if ended is None else ended.configuration.session).to_bytes())
        logger.info(
            "institution waits for a session", extra={"event": "standby", "institution": connection.name}
        )
        await connection.recv()
        connection.cut(Refusal.MISBEHAVED)

    async def _give_model(self, connection: GuardedConnection, request: m.ModelRequest) -> None:
        if request.session is None:
            stored = await asyncio.to_thread(self._store.with_model)
        else:
            stored = await asyncio.to_thread(self._store.find, request.session)
        message = finished.answer(stored, request, self._identity)
        data = message.to_bytes()
        logger.info(
            "finished model asked for",
            extra={"event": "model_asked", "institution": request.name, "given": message.kind},
        )
        async with asyncio.timeout(send_timeout_s(len(data))):
            await connection.send(data)

    async def _tell(self, event: Callable[..., list[Action]], *arguments: object) -> list[Action]:
        """Let the session take an event, carry out what it asks for, and return that.

        One event at a time, in a thread: adding ciphertexts or long vectors takes a while, and meanwhile
        connections are to be answered.
        """
        async with self._one_at_a_time:
            if self._stopping:
                return []
            actions = await asyncio.to_thread(event, *arguments)
            await self._carry_out(actions)
            return actions

    async def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendTo():
                    outbox = self._outboxes.get(action.name)
                    if outbox is not None:
                        outbox.put(action.data)
                case Log():
                    self._note(action.type, action.body)
                case Keep():
                    assert self._stored is not None
                    await asyncio.to_thread(self._keep, self._stored.configuration.session, action.progress)
                case TakeHead():
                    await self._carry_out(action.then(self._log.head()))
                case CheckLog():
                    self._log.check_holds(action.heads)
                case SetTimer():
                    self._set_timer(action.seconds)
                case Doing():
                    self.status.says(action.name, action.doing, action.percent, datetime.now(UTC))
                case End():
                    if not self._over.done():
                        self._over.set_result(action.completed_rounds)

    def _keep(self, session: bytes, progress: Progress) -> None:
        self._log.sync()
        self._store.keep(session, progress)

    def _note(self, type: str, body: JsonBody) -> None:
        """Write a line of the log, and let operators know."""
        self._log.write(type, body)
        self.status.note(type, body, datetime.now(UTC))
        self.metrics.note(type, body, asyncio.get_running_loop().time())
        self.notices.note(type, body)
        narrate(logger, type, body)
        if self._told is not None:
            self._told(type, body)

    def _roster(self) -> Roster | None:
        """Return the roster as it is now; ``None`` while nobody is enrolled."""
        return self._folder.roster() if self._folder.roster_file.exists() else None

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
        assert self._session is not None
        try:
            await self._tell(self._session.timeout)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """End the service: a mistake of ours must not leave institutions waiting."""
        self.status.failed = True
        if not self._over.done():
            self._over.set_exception(error)

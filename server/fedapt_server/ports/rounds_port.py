"""The rounds port's I/O shell: mutual TLS, websockets, and limits that hold whatever comes.

Unknown certificates are refused by TLS, before any byte of the application. Who has a good one may still
misbehave: what a connection may cost in memory, messages and time is counted in `traffic`.
"""

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import DATA_OPCODES, Frame

from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.keepalive import PatientConnection
from fedapt_secure.protocol.transport import (
    TLS_HANDSHAKE_TIMEOUT_S,
    WEBSOCKET_OPTIONS,
    certificate_name,
    certificate_serial,
    reload_certificate,
    server_context,
)
from fedapt_server.ports.admission_limits import Arrivals
from fedapt_server.ports.front_door import FrontDoor, Guest, guest_key
from fedapt_server.ports.library_log import library_logger
from fedapt_server.ports.lobby import Lobby
from fedapt_server.ports.traffic import Traffic
from fedapt_server.refusal import Refusal
from fedapt_server.settings import ServerSettings

CONNECTIONS_PER_CERTIFICATE: Final = 2
"""One that is broken and not noticed yet, and the one that takes its place."""
ARRIVALS_PER_MINUTE: Final = 60
"""By certificate: an institution whose connection keeps breaking comes back every few seconds."""
WATCH_S: Final = 1.0
COLLECT_S: Final = 10.0
"""At least so long between two full collections, however many connections end."""
Refused = Callable[[Refusal, str], None]
"""Takes a reason and whom it concerns (a name, or empty); the sentence in the log is made of both."""


class GuardedConnection(PatientConnection, ServerConnection):
    """A connection that is counted, and cut when it goes too far.

    Attributes:
        name, serial: Of the peer's certificate.
        traffic: What came in.
    """

    port: "RoundsPort"
    name: str = ""
    serial: int = -1
    traffic: Traffic

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is done: the peer has a certificate of our authority."""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.name, self.serial = certificate_name(tls), certificate_serial(tls) or -1
        self.traffic = Traffic()
        super().connection_made(transport)
        self.port.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out."""
        self.port.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before it is looked at."""
        self.traffic.received(len(data), self.loop.time())
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """Count a whole frame; the opening request of HTTP is none.

        Pings count too: their answers are written whether the peer reads them or not.
        """
        if isinstance(event, Frame):
            data = event.opcode in DATA_OPCODES
            if not self.traffic.frame(self.loop.time(), data=data, final=event.fin):
                self.cut(Refusal.TOO_FAST)
                return
        super().process_event(event)

    def look(self, now: float) -> None:
        """Cut it if a message takes too long to come in."""
        if not self.transport.is_reading():
            self.traffic.stalled(now)
        elif self.traffic.too_slow(now):
            self.cut(Refusal.TOO_SLOW)

    def cut(self, why: Refusal) -> None:
        """End it without a word: whoever goes too far does not wait for an answer."""
        if not self.transport.is_closing():
            self.port.refused(why, self.name)
        self.transport.abort()


class RoundsPort:
    """Serves connections of certificate holders.

    Args:
        folder: The coordinator's folder.
        settings: Its settings.
        serve_one: Takes a connection whose websocket is open, until it is done with it.
        refused: Told about everyone who was turned away.
        report: Takes one line about what cannot be counted: a bad revocation list, a reason from TLS.
    """

    def __init__(
        self,
        folder: PartyFolder,
        settings: ServerSettings,
        serve_one: Callable[[GuardedConnection], Awaitable[None]],
        refused: Refused,
        report: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._serve_one = serve_one
        self.refused = refused
        self._report = report
        self._arrivals = Arrivals(ARRIVALS_PER_MINUTE)
        self._by_name: dict[str, list[GuardedConnection]] = {}
        self._context: ssl.SSLContext
        self._door: FrontDoor | None = None
        self._server: Server | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def connections(self) -> list[GuardedConnection]:
        """All that are through TLS."""
        return [connection for held in self._by_name.values() for connection in held]

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            InvalidInput: If the port is taken or a file cannot be used.
        """
        settings = self._settings
        self._context = server_context(self._folder, self._report)
        lobby: Lobby[Guest] = Lobby(timeout_s=2 * TLS_HANDSHAKE_TIMEOUT_S)
        self._door = FrontDoor(settings.host, settings.port, lobby, lambda why: self.refused(why, ""))

        class Ours(GuardedConnection):
            port = self

        # One message in hand, two waiting: what a connection may hold of its peer's in memory.
        options = WEBSOCKET_OPTIONS | {
            "max_size": settings.max_message_bytes,
            "max_queue": (2, 1),
            "ping_timeout": settings.answer_within_s,
        }
        self._server = await serve(
            self._handle,
            sock=self._door.handover,
            ssl=self._context,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            create_connection=Ours,
            logger=library_logger("rounds", self._report),
            server_header=None,
            **options,
        )
        self._door.open()
        self._watcher = asyncio.create_task(self._watch())
        return self._door.port

    async def stop(self) -> None:
        """Close the port, then all connections with a goodbye."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._door is not None:
            self._door.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def entered(self, connection: GuardedConnection) -> None:
        """TLS is done: from here on it counts by its certificate."""
        transport = connection.transport
        key = guest_key(transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
        if self._door is not None:
            self._door.through(key)
        name = connection.name
        held = self._by_name.setdefault(name, [])
        held.append(connection)
        if not self._arrivals.admit(name, connection.loop.time()):
            connection.cut(Refusal.TOO_OFTEN)
        elif len(held) > CONNECTIONS_PER_CERTIFICATE:
            held[0].cut(Refusal.REPLACED)
        elif len(self.connections) > self._settings.max_connections:
            connection.cut(Refusal.TOO_MANY)

    def left(self, connection: GuardedConnection) -> None:
        """A connection is gone."""
        self._ended = True
        held = self._by_name.get(connection.name, [])
        if connection in held:
            held.remove(connection)
        if not held:
            self._by_name.pop(connection.name, None)

    def revoked(self, serials: frozenset[int]) -> None:
        """Cut the connections of certificates that are no longer to be trusted."""
        for connection in self.connections:
            if connection.serial in serials:
                connection.cut(Refusal.REVOKED)

    def renewed(self) -> None:
        """Use the certificate that lies in the folder now, for connections that come from here on.

        Raises:
            InvalidInput: If it cannot be used; the one in use stays.
        """
        reload_certificate(self._context, self._folder)

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, GuardedConnection)
        await self._serve_one(connection)

    async def _watch(self) -> None:
        """Cut who is too slow, and free what is gone.

        An ended connection is a circle of objects with its TLS buffers among them, half a mebibyte and more.
        Python finds such circles by counting objects, not bytes: left to itself it keeps a hundred of them.
        """
        collected = 0.0
        while True:
            await asyncio.sleep(WATCH_S)
            now = asyncio.get_running_loop().time()
            for connection in self.connections:
                connection.look(now)
            if self._ended and now - collected > COLLECT_S:
                self._ended, collected = False, now
                gc.collect()

"""The enrolment port's I/O shell: TLS, websockets, limits. What is decided, the desk decides.

A component with `start` and `stop`, to run by itself (``server enroll``) or beside the rounds.
"""

import asyncio
import http
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fedapt_crypto.errors import FedaptError, PeerError
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import EnrolmentRefusal
from fedapt_secure.protocol.joining.revocation import Revocations
from fedapt_secure.protocol.transport import (
    TLS_HANDSHAKE_TIMEOUT_S,
    binary,
    certificate_name,
    certificate_serial,
    enrolment_context,
    reload_certificate,
)
from fedapt_server.membership.enrolment_desk import EnrolmentDesk, State
from fedapt_server.membership.registrar import Registrar
from fedapt_server.ports.admission_limits import AdmissionLimits
from fedapt_server.ports.front_door import FrontDoor, Guest, guest_key
from fedapt_server.ports.library_log import library_logger
from fedapt_server.ports.lobby import Lobby
from fedapt_server.ports.traffic import MIN_BYTES_PER_S

CONVERSATION_TIMEOUT_S: Final = 20.0
"""From the first byte of HTTP to the last answer, without what that takes: a slow drip ends here."""
REQUEST_TIMEOUT_S: Final = 10.0
Log = Callable[[str, dict[str, Any]], None]
"""Takes an event and its details; never a secret among them."""


class _Counted(ServerConnection):
    """A connection that is counted from the end of its TLS handshake until it is lost, however it ends."""

    limits: AdmissionLimits
    door: FrontDoor
    clock: Callable[[], float]
    serial: int | None = None
    address: str = "unknown"
    refusal: str | None = "not counted"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        self.door.through(guest_key(peer, transport.get_extra_info("sockname")))
        self.serial = certificate_serial(transport.get_extra_info("ssl_object"))
        self.refusal = self.limits.enter(self.address, self.clock())
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.refusal is None:
            self.limits.leave(self.address)
            self.refusal = "gone"
        super().connection_lost(exc)


class EnrolmentService:
    """Serves enrolment, renewal and roster.

    Args:
        registrar: Decides.
        log: Told everything that happens.
        clock: Seconds that only grow, for the limits.
    """

    def __init__(
        self, registrar: Registrar, log: Log, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registrar = registrar
        self._log = log
        self._clock = clock
        self._limits = AdmissionLimits()
        folder = registrar.folder
        self._revocations = Revocations(folder.revocation_file, folder.authority_file.read_bytes())
        self._context: ssl.SSLContext
        self._door: FrontDoor | None = None
        self._server: Server | None = None
        self.enrolled = asyncio.Event()

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            InvalidInput: If the port is taken or a file cannot be used.
        """
        settings = self._registrar.settings
        self._context = enrolment_context(self._registrar.folder, self._turned_away)
        lobby: Lobby[Guest] = Lobby(timeout_s=2 * TLS_HANDSHAKE_TIMEOUT_S)
        port = settings.enrolment_port
        self._door = FrontDoor(settings.host, port, lobby, lambda _: None, setting="enrolment_port")
        self._server = await self._listen(self._context, self._door)
        self._door.open()
        self._log("enrolment_listening", {"host": settings.host, "port": self._door.port})
        return self._door.port

    async def _listen(self, context: ssl.SSLContext, front: FrontDoor) -> Server:
        class Counted(_Counted):
            limits = self._limits
            door = front
            clock = staticmethod(self._clock)

        return await serve(
            self._serve_one,
            sock=front.handover,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            create_connection=Counted,
            process_request=self._admit,
            logger=library_logger(
                "enrolment", lambda line: self._log("conversation_broken", {"reason": line})
            ),
            open_timeout=REQUEST_TIMEOUT_S,
            max_size=e.MAX_REQUEST_FRAME_BYTES,
            max_queue=2,
            compression=None,
            ping_interval=None,
            close_timeout=2,
            server_header=None,
        )

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._door is not None:
            self._door.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def revoked(self, serials: frozenset[int]) -> None:
        """Cut the connections of certificates that are no longer to be trusted."""
        for connection in () if self._server is None else self._server.connections:
            if isinstance(connection, _Counted) and connection.serial in serials:
                connection.transport.abort()

    def renewed(self) -> None:
        """Use the certificate that lies in the folder now, for connections that come from here on.

        Raises:
            InvalidInput: If it cannot be used; the one in use stays.
        """
        reload_certificate(self._context, self._registrar.folder)

    def _turned_away(self, reason: str) -> None:
        self._log("turned_away", {"reason": reason})

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a connection that is one too many, before anything of it is looked at."""
        del request
        assert isinstance(connection, _Counted)
        if connection.refusal is None:
            return None
        self._log("turned_away", {"address": connection.address, "reason": connection.refusal})
        return connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, f"{connection.refusal}\n")

    async def _serve_one(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Counted)
        address = connection.address
        try:
            async with asyncio.timeout(CONVERSATION_TIMEOUT_S) as limit:
                await self._converse(connection, address, limit)
        except (ConnectionClosed, TimeoutError, FedaptError) as error:
            reason = str(error) if isinstance(error, FedaptError) else type(error).__name__
            self._log("conversation_broken", {"address": address, "reason": reason})

    async def _converse(self, connection: ServerConnection, address: str, limit: asyncio.Timeout) -> None:
        tls = connection.transport.get_extra_info("ssl_object")
        serial = certificate_serial(tls)
        member = None if serial is None else certificate_name(tls)
        if serial is not None and member is not None:
            try:
                self._revocations.check(serial, member, self._turned_away)
            except PeerError:
                self._log("not_accepted", {"address": address, "name": member, "reason": "revoked"})
                await connection.send(e.NotAccepted(reason=EnrolmentRefusal.REVOKED).to_bytes())
                return
        desk = EnrolmentDesk(self._registrar, member)
        await connection.send(desk.welcome().to_bytes())
        while desk.state is not State.ENDED:
            try:
                frame = await connection.recv()
            except ConnectionClosed:
                return  # only looked: the first connection of an enrolment, or a doctor
            # In a thread: records are written durably, and signatures take a while.
            answer = await asyncio.to_thread(desk.receive, binary(frame))
            if answer.event is not None:
                self._log(answer.event, {"address": address, **answer.details})
            data = answer.message.to_bytes()
            # A large roster takes its time on a slow line; only who has a certificate or a token gets one.
            limit.reschedule((limit.when() or 0.0) + len(data) / MIN_BYTES_PER_S)
            await connection.send(data)
            if answer.event == "enrolled":
                self.enrolled.set()

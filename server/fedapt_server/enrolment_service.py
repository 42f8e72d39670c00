"""The enrolment port's I/O shell: TLS, websockets, limits. What is decided, the desk decides.

A component with `start` and `stop`, to run by itself (``server enroll``) or beside the rounds.
"""

import asyncio
import http
import logging
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fedapt_crypto.errors import FedaptError, InvalidInput, PeerError
from fedapt_secure.protocol import enrolment as e
from fedapt_secure.protocol.revocation import Revocations
from fedapt_secure.protocol.transport import (
    TLS_HANDSHAKE_TIMEOUT_S,
    binary,
    certificate_name,
    certificate_serial,
    enrolment_context,
)
from fedapt_server.admission_limits import AdmissionLimits
from fedapt_server.enrolment_desk import EnrolmentDesk, State
from fedapt_server.registrar import Registrar

CONVERSATION_TIMEOUT_S: Final = 20.0
"""From the first byte of HTTP to the last answer: a slow drip ends here."""
REQUEST_TIMEOUT_S: Final = 10.0
Log = Callable[[str, dict[str, Any]], None]
"""Takes an event and its details; never a secret among them."""


class _Counted(ServerConnection):
    """A connection that is counted from the end of its TLS handshake until it is lost, however it ends."""

    limits: AdmissionLimits
    clock: Callable[[], float]
    address: str = "unknown"
    refusal: str | None = "not counted"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else "unknown"
        self.refusal = self.limits.enter(self.address, self.clock())
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.refusal is None:
            self.limits.leave(self.address)
            self.refusal = "gone"
        super().connection_lost(exc)


class _Forward(logging.Handler):
    """Makes one line of what the websocket library has to say, and of mistakes of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        reason = f"{record.getMessage()}: {type(error).__name__}" if error else record.getMessage()
        self._log("conversation_broken", {"reason": reason})


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
        self._server: Server | None = None
        self.enrolled = asyncio.Event()

    async def start(self) -> int:
        """Listen; return the port.

        Raises:
            InvalidInput: If the port is taken or a file cannot be used.
        """
        settings = self._registrar.settings
        context = enrolment_context(self._registrar.folder, self._turned_away)
        logger = logging.Logger("enrolment")  # one of our own: nobody else's settings apply to it
        logger.addHandler(_Forward(self._log))
        try:
            self._server = await self._listen(context, logger)
        except OSError as error:
            where = f"{settings.host}:{settings.enrolment_port}"
            raise InvalidInput(
                f"cannot listen on {where} ({error.strerror}): change host or enrolment_port in server.yaml"
            ) from None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        self._log("enrolment_listening", {"host": settings.host, "port": port})
        return port

    async def _listen(self, context: ssl.SSLContext, logger: logging.Logger) -> Server:
        settings = self._registrar.settings

        class Counted(_Counted):
            limits = self._limits
            clock = staticmethod(self._clock)

        return await serve(
            self._serve_one,
            settings.host,
            settings.enrolment_port,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            create_connection=Counted,
            process_request=self._admit,
            logger=logger,
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
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

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
            async with asyncio.timeout(CONVERSATION_TIMEOUT_S):
                await self._converse(connection, address)
        except (ConnectionClosed, TimeoutError, FedaptError) as error:
            reason = str(error) if isinstance(error, FedaptError) else type(error).__name__
            self._log("conversation_broken", {"address": address, "reason": reason})

    async def _converse(self, connection: ServerConnection, address: str) -> None:
        tls = connection.transport.get_extra_info("ssl_object")
        serial = certificate_serial(tls)
        member = None if serial is None else certificate_name(tls)
        if serial is not None and member is not None:
            try:
                self._revocations.check(serial, member, self._turned_away)
            except PeerError as error:
                self._log("not_accepted", {"address": address, "name": member, "reason": "revoked"})
                refusal = e.NotAccepted(reason=str(error).removeprefix(f"{member}: "))
                await connection.send(refusal.to_bytes())
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
            await connection.send(answer.message.to_bytes())
            if answer.event == "enrolled":
                self.enrolled.set()

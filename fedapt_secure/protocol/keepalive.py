"""Connections that are not cut while they move: how both ends tell a slow line from one that is broken.

A ping waits behind all that was sent before it, and its answer behind all that the other side is sending. On
a line of 128 kbit/s a message of 2 MB takes two minutes; who allows a minute for the answer cuts a transfer
that makes progress. So the time for an answer grows by what these bytes take on the slowest line that counts
as one: what was sent since the last answer, and what arrives meanwhile. A peer that neither answers nor sends
at that rate is gone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.frames import CloseCode

from fedapt_secure.config.ranges import SLOWEST_KBIT_S

SLOWEST_BYTES_PER_S: Final = SLOWEST_KBIT_S * 1000 / 8


class PatientConnection(Connection):
    """What a websocket connection of either side is mixed with; ``ping_timeout`` is for an idle line.

    Attributes:
        bytes_received: All that came, as the socket gave it.
        bytes_sent: Of all messages that have gone to the system's buffers.
    """

    bytes_received = 0
    bytes_sent = 0
    _bytes_under_way = 0
    _bytes_answered = 0
    _waiting: tuple[asyncio.Timeout, ...] = ()

    def data_received(self, data: bytes) -> None:
        """Count what comes before it is looked at; whoever waits for it waits longer."""
        self.bytes_received += len(data)
        for limit in self._waiting:
            when = limit.when()
            if when is not None and not limit.expired():
                limit.reschedule(when + len(data) / SLOWEST_BYTES_PER_S)
        super().data_received(data)

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        """Send as the library does, and count."""
        size = len(message) if isinstance(message, bytes) else 0
        self._bytes_under_way += size
        try:
            await super().send(message, text=text)
            self.bytes_sent += size
        finally:
            self._bytes_under_way -= size

    async def keepalive(self) -> None:
        """Send pings, and end a connection that does not answer within the time its traffic takes.

        It takes the place of the library's, which knows of no traffic.
        """
        if self.ping_interval is None:
            return
        latency = 0.0
        while True:
            await asyncio.sleep(max(0.0, self.ping_interval - latency))
            try:
                # It is written when the message that is under way has been: who does not read holds it up.
                async with asyncio.timeout(self._allowed_s(self._bytes_under_way)):
                    answered = asyncio.ensure_future(await self.ping())
            except TimeoutError:
                self.transport.abort()
                return
            before = self.bytes_sent
            if not await self._answers(answered, before - self._bytes_answered):
                async with self.send_context():
                    self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                return
            latency, self._bytes_answered = answered.result(), before

    def _allowed_s(self, size_bytes: float) -> float | None:
        """Return how long the peer may take for an answer with so much before it; ``None`` for ever."""
        return None if self.ping_timeout is None else self.ping_timeout + size_bytes / SLOWEST_BYTES_PER_S

    async def _answers(self, answered: asyncio.Future[float], queued_bytes: int) -> bool:
        """Wait for the answer to a ping; return False where it does not come in time."""
        start, received = self.loop.time(), self.bytes_received
        while not answered.done():
            allowed = self._allowed_s(queued_bytes + self.bytes_received - received)
            left = None if allowed is None else start + allowed - self.loop.time()
            if left is not None and left <= 0:
                return False
            await asyncio.wait((answered,), timeout=left)
        return not answered.cancelled() and answered.exception() is None


class PatientClient(PatientConnection, ClientConnection):
    """An institution's connection."""


@asynccontextmanager
async def patience(connection: Connection, seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` after so long, and after what arrives in the block takes on the slowest line.

    Args:
        connection: A `PatientConnection`.
        seconds: How long nothing at all may come.
    """
    assert isinstance(connection, PatientConnection)
    async with asyncio.timeout(seconds) as limit:
        connection._waiting = (*connection._waiting, limit)
        try:
            yield
        finally:
            connection._waiting = tuple(one for one in connection._waiting if one is not limit)

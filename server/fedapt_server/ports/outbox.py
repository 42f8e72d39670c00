"""What waits to be sent to one institution: in order, bounded, and never in anybody else's way."""

import asyncio
from collections.abc import Iterable
from typing import Final

from websockets.exceptions import ConnectionClosed

from fedapt_server.ports.rounds_port import GuardedConnection
from fedapt_server.ports.traffic import MIN_BYTES_PER_S, UnsentBytes, send_timeout_s
from fedapt_server.refusal import Refusal

MESSAGES_OF_FULL_SIZE: Final = 4
"""A round's start, its sums, its end and the session's, to one who is slow."""
FLUSH_TIMEOUT_S: Final = 5


class Outbox:
    """Sends in a task of its own; cuts the connection of one who does not read.

    Args:
        connection: Where to.
        max_message_bytes: The largest message there is.
    """

    def __init__(self, connection: GuardedConnection, max_message_bytes: int) -> None:
        self.connection = connection
        self._unsent = UnsentBytes(MESSAGES_OF_FULL_SIZE * max_message_bytes)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._sender = asyncio.create_task(self._send_all())

    def put(self, data: bytes) -> None:
        """Send after all that was put before."""
        if self._unsent.add(len(data)):
            self._queue.put_nowait(data)
        else:
            self.connection.cut(Refusal.UNREAD)

    @property
    def waiting(self) -> int:
        """How many bytes have not left yet."""
        return self._unsent.waiting

    async def empty(self) -> None:
        """Wait until everything has left."""
        await self._queue.join()

    def close(self) -> None:
        """Send nothing any more."""
        self._sender.cancel()

    async def _send_all(self) -> None:
        while True:
            data = await self._queue.get()
            try:
                # Not left to keepalive: a ping that cannot be written has no time limit.
                async with asyncio.timeout(send_timeout_s(len(data))):
                    await self.connection.send(data)
            except TimeoutError:
                self.connection.cut(Refusal.UNREAD)
                return
            except ConnectionClosed:
                return
            finally:
                self._unsent.sent(len(data))
                self._queue.task_done()


async def flush(outboxes: Iterable[Outbox]) -> None:
    """Wait until what was put last has left; who does not read does not hold us up for long."""
    largest, waiting = 0, []
    for outbox in outboxes:
        largest = max(largest, outbox.waiting)
        waiting.append(asyncio.create_task(outbox.empty()))
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=FLUSH_TIMEOUT_S + largest / MIN_BYTES_PER_S)
        for task in late:
            task.cancel()

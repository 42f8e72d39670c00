"""A bad line between a coordinator and its institutions: a TCP proxy that delays, throttles and resets.

It stands in for ``tc netem``, which not every kernel has. Bytes are never changed or left out: TCP does not
let that through. What a lossy line does to those who use it is to delay, and in the end to break, a
connection; so a "lost" chunk resets the connection that it was on.
"""

import asyncio
import contextlib
import math
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.offices import HOST

CHUNK_BYTES = 1 << 14


@dataclass
class FaultyLink:
    """One line; all connections to ``port`` go over it to ``target``.

    Attributes:
        port: Where it listens. target: Where the coordinator does.
        delay_s: How long each chunk takes, in either direction.
        loss: Share of chunks that cost their connection.
        bytes_per_s: What a connection carries in either direction.
        seed: Of the dice that choose them.
        connections, chunks, resets: What it has seen.
    """

    port: int
    target: int
    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = math.inf
    seed: int = 0
    connections: int = 0
    chunks: int = 0
    resets: int = 0
    _through: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._through.set()

    @contextmanager
    def up(self) -> Iterator["FaultyLink"]:
        """Run in a thread of its own."""
        listening = threading.Event()
        stop = asyncio.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._connected, HOST, self.port)
            listening.set()
            await stop.wait()
            server.close()

        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),))
        thread.start()
        assert listening.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left))
            self._loop.close()

    def cut(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._loop.call_soon_threadsafe(self._through.clear)

    def mend(self) -> None:
        """Let through what waits, and all that follows."""
        self._loop.call_soon_threadsafe(self._through.set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ends = [writer]
        try:
            await self._through.wait()
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
            ends.append(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, far_writer))
                both.create_task(self._pump(far_reader, writer))
        except (OSError, ExceptionGroup):
            pass
        finally:
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry chunks one way; each leaves ``delay_s`` after it came, whatever comes meanwhile."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        carrying = asyncio.create_task(self._carry(under_way, writer))
        try:
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                await under_way.put((self._loop.time() + self.delay_s, chunk))
                if not chunk:
                    break
            await carrying
        finally:
            carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await carrying
        raise ConnectionResetError  # the other direction ends with it

    async def _carry(
        self, under_way: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        free = 0.0
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - self._loop.time())
            await self._through.wait()
            if not chunk:
                return
            self.chunks += 1
            free = max(free, self._loop.time()) + len(chunk) / self.bytes_per_s
            await asyncio.sleep(free - self._loop.time())
            if self._dice.random() < self.loss:
                self.resets += 1
                writer.transport.abort()
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()

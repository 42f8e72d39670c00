"""The process that faces browsers: takes two sockets from the one that started it, and gives up all else.

    python -m SITE_PACKAGE PIPE LISTENER

All that it needs is loaded first. Then it confines itself (`landlock`) and only then looks at a connection.
It ends when the other process does.
"""

import asyncio
import itertools
import socket
import sys
from typing import Any, Final

import anyio._backends._asyncio
import jinja2.debug
import uvicorn
import uvicorn.lifespan.off
import uvicorn.loops.asyncio
import uvicorn.protocols.http.h11_impl

from fedapt_crypto.errors import Unavailable
from fedapt_secure.web import landlock
from fedapt_secure.web.access import Doors, Role
from fedapt_secure.web.application import Application, Where
from fedapt_secure.web.pipe import LENGTH, MAX_BYTES, packed, receive, unpacked
from fedapt_secure.web.site import Site

LOADED: Final = (
    anyio._backends._asyncio,
    jinja2.debug,
    uvicorn.lifespan.off,
    uvicorn.loops.asyncio,
    "".encode("idna"),
)
"""What libraries import when they are first used: nothing can be then."""
ANSWER_S: Final = 30.0
STOP_S: Final = 4.0


class Pipe:
    """The other process: asked, and listened to for links that it gives out.

    Args:
        connection: The socket between the two.
        doors: Who is let in.
    """

    def __init__(self, connection: socket.socket, doors: Doors) -> None:
        self._connection = connection
        self._doors = doors
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._gone = False

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """Return the answer to a question; raises `ConnectionError` once nobody is there."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self.tell({"ask": number, "what": what, **fields})
            async with asyncio.timeout(ANSWER_S):
                return await answer
        finally:
            del self._waiting[number]

    async def open(self) -> None:
        """Take the socket over into the event loop."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)

    def tell(self, fields: dict[str, Any]) -> None:
        """Send a message; raises `ConnectionError` once nobody is there."""
        if self._writer is None or self._gone:
            raise ConnectionError("the process that reads the folder has ended")
        self._writer.write(packed(fields))

    async def listen(self) -> None:
        """Take answers and links until the other process has gone."""
        assert self._reader is not None
        try:
            while True:
                (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                if size > MAX_BYTES:
                    return
                self._take(unpacked(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._gone = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the process that reads the folder has ended"))

    def _take(self, fields: dict[str, Any]) -> None:
        if "link" in fields:
            self._doors.expect(bytes.fromhex(fields["link"]), Role(fields["role"]))
            return
        answer = self._waiting.get(fields["answer"])
        if answer is not None and not answer.done():
            answer.set_result(fields["fields"])


def main(site: Site) -> int:
    """Serve a site until the process that started this one ends; returns the exit status."""
    pipe, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    setup = receive(pipe, MAX_BYTES)
    return 0 if setup is None else asyncio.run(_serve(site, pipe, listener, setup))


async def _serve(
    site: Site, connection: socket.socket, listener: socket.socket, setup: dict[str, Any]
) -> int:
    doors = Doors()
    pipe = Pipe(connection, doors)
    where = Where(tuple(setup["hosts"]), setup["scheme"], tuple(setup["allowed"]))
    config = uvicorn.Config(
        Application(site, pipe, doors, where).asgi,
        lifespan="off",
        http="h11",
        ws="none",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        access_log=False,  # links have secrets in them
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=128,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=1 << 14,
        ssl_certfile=setup["certificate"],
        ssl_keyfile=setup["key"],
    )
    config.load()
    server = uvicorn.Server(config)
    await pipe.open()
    if setup["confined"]:
        try:
            landlock.confine()
        except Unavailable as error:
            pipe.tell({"failed": str(error)})
            return 0
    pipe.tell({"ready": True})
    serving = asyncio.create_task(server.serve([listener]))
    await pipe.listen()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=STOP_S)
    return 0

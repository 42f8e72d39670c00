"""What an institution tells the coordinator that it is doing: for people who look, nothing follows."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fedapt_secure.protocol import messages as m


async def say(connection: ClientConnection, doing: m.Doing, percent: int = 0) -> None:
    """Say what we are doing, and how much of it is done, in tens of percent."""
    await connection.send(m.Activity(doing=doing, percent=percent).to_bytes())


def said_from_a_thread(connection: ClientConnection) -> Callable[[int], None]:
    """Return what says from another thread how much is encoded."""
    loop = asyncio.get_running_loop()

    async def encoding(percent: int) -> None:
        with suppress(ConnectionClosed):  # who waits for the next message will see it
            await say(connection, "encoding", percent)

    def each_tenth(percent: int) -> None:
        asyncio.run_coroutine_threadsafe(encoding(percent), loop)

    return each_tenth

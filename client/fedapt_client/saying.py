"""What an institution tells the coordinator that it is doing, and how it waits for its own people."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from fedapt_client.books.approval import NotApproved
from fedapt_secure.protocol import messages as m

APPROVAL_EVERY_S: Final = 1.0
"""How often a session that waits for people is looked at again, where they decide elsewhere."""


async def say(connection: ClientConnection, doing: m.Doing, percent: int = 0) -> None:
    """Say what we are doing, and how much of it is done, in tens of percent."""
    await connection.send(m.Activity(doing=doing, percent=percent).to_bytes())


async def until_approved(connection: ClientConnection, check: Callable[[], None], *, elsewhere: bool) -> None:
    """Return once people have agreed to a session.

    Args:
        connection: To the coordinator that offers it.
        check: Asks them, or looks whether they have; another thread is to run it.
        elsewhere: Whether they decide elsewhere: then it is looked for again and again.

    Raises:
        NotApproved: If nobody has agreed, and nobody decides elsewhere.
        Declined: If somebody said no.
        ConnectionResetError: If the connection ends meanwhile: what they decide stays on record.
    """
    while True:
        try:
            return await asyncio.to_thread(check)
        except NotApproved:
            if not elsewhere:
                raise
        with suppress(TimeoutError):
            async with asyncio.timeout(APPROVAL_EVERY_S):
                await connection.wait_closed()
            raise ConnectionResetError("the coordinator has gone while people decided")


def said_from_a_thread(connection: ClientConnection) -> Callable[[int], None]:
    """Return what says from another thread how much is encoded."""
    loop = asyncio.get_running_loop()

    async def encoding(percent: int) -> None:
        with suppress(ConnectionClosed):  # who waits for the next message will see it
            await say(connection, "encoding", percent)

    def each_tenth(percent: int) -> None:
        asyncio.run_coroutine_threadsafe(encoding(percent), loop)

    return each_tenth

"""Who waits for whom: frames are counted at both ends of each connection, so that time can be made to pass.

No test waits for a deadline. The coordinator's one timer goes off as soon as every party waits for a frame
and none is on its way, and not before: so nobody honest is late, however slow the machine is.
"""

from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection


@dataclass
class Meter:
    """Frames of one institution's present connection.

    Attributes:
        given, taken: Frames that the coordinator has sent, and that the institution has taken.
        said, heard: Likewise the other way.
        waiting: Whether the institution waits for a frame, all that it took before being dealt with.
        connected: Whether the institution has a connection.
        away: Whether it had one and lost it.
    """

    given: int = 0
    taken: int = 0
    said: int = 0
    heard: int = 0
    waiting: bool = False
    connected: bool = False
    away: bool = False

    @property
    def at_rest(self) -> bool:
        """Whether nothing is on its way, and nothing is being worked on."""
        return self.connected and self.waiting and self.given == self.taken and self.said == self.heard


class Counted:
    """An institution's end of a connection, counted; everything else is the connection's own."""

    def __init__(self, connection: ClientConnection, meter: Meter) -> None:
        self._connection = connection
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def send(self, data: bytes) -> None:
        self._meter.said += 1
        await self._connection.send(data)

    async def recv(self) -> bytes | str:
        self._meter.waiting = True
        data = await self._connection.recv()
        self._meter.waiting = False
        self._meter.taken += 1
        return data

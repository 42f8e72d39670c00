"""Let institutions start a few at a time, so that a thousand do not all shake hands with one processor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = 16
"""Half of what the rounds port lets one address do at a time."""


class Turnstile:
    """Holds back who starts while others have not connected yet.

    Args:
        at_once: How many may be on their way.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._on_their_way: set[str] = set()

    @asynccontextmanager
    async def starting(self, name: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it until `arrived` or the end of the block."""
        await self._places.acquire()
        self._on_their_way.add(name)
        try:
            yield
        finally:
            self.arrived(name)

    def arrived(self, name: str) -> None:
        """An institution has connected, or ended: its place is free. Said again, it changes nothing."""
        if name in self._on_their_way:
            self._on_their_way.remove(name)
            self._places.release()

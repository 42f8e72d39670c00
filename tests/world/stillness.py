"""An event loop that stands still, and a websocket without a socket: the real shell between them.

`InstitutionRunner` is written for asyncio. Here its coroutine is resumed by hand, one frame at a time, and
what it would do in another thread is done at once, so that nothing depends on a scheduler.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosedError


class _Done:
    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, Any]:
        return self._value
        yield  # what makes this a generator


class _NextFrame:
    def __await__(self) -> Generator[None, bytes, bytes]:
        return (yield)


class StillLoop(asyncio.AbstractEventLoop):
    """Runs what belongs into a thread at once; knows nothing else of a loop."""

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *arguments: Any) -> _Done:
        return _Done(function(*arguments))


class Outlet(Protocol):
    """Takes the frames that an institution sends."""

    def __call__(self, data: bytes) -> None:
        """Raise `ConnectionClosedError` where the connection is known to be gone."""


class Wire:
    """What `websockets` hands to the shell, as far as the shell uses it."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    async def send(self, data: bytes) -> None:
        self._outlet(data)

    async def recv(self) -> bytes:
        return await _NextFrame()


def resume(coroutine: Any, frame: bytes | None) -> bool:
    """Run a coroutine to the next frame that it waits for; returns False when it has returned."""
    return _step(coroutine.send, frame)


def disconnect(coroutine: Any) -> None:
    """Let a coroutine see that its connection is gone."""
    try:
        _step(coroutine.throw, ConnectionClosedError(None, None))
    except ConnectionClosedError:
        return


def _step(how: Callable[[Any], Any], what: Any) -> bool:
    asyncio._set_running_loop(StillLoop())
    try:
        how(what)
    except StopIteration:
        return False
    finally:
        asyncio._set_running_loop(None)
    return True

"""Connect to the coordinator, and say in words of our own what is wrong where that fails.

Whoever answers there, or on the way, may be anybody. The text of an HTTP answer, the reason in a websocket's
close, a redirect: none of it is printed, logged or followed. What is taken are numbers: an HTTP status, a
close code.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)

from fedapt_crypto.errors import RunFailed
from fedapt_secure.protocol.keepalive import PatientClient
from fedapt_secure.protocol.tls_advice import explain

CONNECTION_ERRORS: Final = (ConnectionClosed, OSError, TimeoutError, EOFError, WebSocketException)
"""What a connection may end with when the other side is not there, or is not whom we expect."""
_SILENT: Final = logging.Logger("connecting")
_SILENT.addHandler(logging.NullHandler())
"""In place of the library's: what it has to say quotes the other side."""


@dataclass(frozen=True)
class Place:
    """Where a coordinator is reached, and through which proxy if any."""

    host: str
    port: int
    proxy: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address as websockets take it."""
        return f"wss://[{self.host}]:{self.port}" if ":" in self.host else f"wss://{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"  # never the proxy: there may be a password in it


class Unreachable(RunFailed):
    """No connection, or none that is to be trusted; the message says why and what to do."""


class _Straight(connect):
    """Connects to where it was told to, and nowhere else: the library would follow redirects."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error: an answer that redirects is no coordinator's."""
        return exc


def open_connection(place: Place, context: SSLContext, **options: Any) -> connect:
    """Return a connection to open; what goes wrong is one of `CONNECTION_ERRORS`.

    Args:
        place: Where to.
        context: TLS.
        options: As websockets take them.
    """
    return _Straight(
        place.url,
        ssl=context,
        proxy=place.proxy,
        logger=_SILENT,
        create_connection=PatientClient,
        **options,
    )


@asynccontextmanager
async def unreachable(place: Place) -> AsyncIterator[None]:
    """Let whatever goes wrong with a connection in the block be one line.

    Raises:
        Unreachable: With that line.
    """
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise Unreachable(why(error, place)) from error


def why(error: Exception, place: Place) -> str:
    """Return one line about one of `CONNECTION_ERRORS`: no word of the other side's, and no password."""
    match error:
        case InvalidProxy() | ProxyError():
            return f"{place}: {_proxy_trouble(error)}"
        case InvalidStatus() if error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return f"{place}: too many connections from this address: wait a minute, then try again"
        case InvalidStatus():
            return f"{place}: no coordinator answers there (HTTP {error.response.status_code})"
        case InvalidHandshake():
            return f"{place}: something other than a coordinator answers there"
        case ConnectionClosed():
            closed = error.rcvd or error.sent
            how = "broke off" if closed is None else f"was closed (code {closed.code})"
            return f"{place}: the connection {how}"
    return explain(error, str(place))


def _proxy_trouble(error: InvalidProxy | ProxyError) -> str:
    """Say what is wrong with the proxy; never its URL, there may be a password in it."""
    if isinstance(error, InvalidProxy):
        return "the proxy in client.yaml is not a valid address"
    response = getattr(error, "response", None)
    if response is not None and response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return "the proxy wants a name and password: proxy: http://NAME:PASSWORD@HOST:PORT in client.yaml"
    status = f" (HTTP {response.status_code})" if response is not None else ""
    return f"the proxy does not connect{status}: ask whoever runs it to allow CONNECT to this host and port"

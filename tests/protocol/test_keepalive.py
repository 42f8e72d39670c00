"""Keepalive over real sockets and a slow line: what moves is not cut, what stands still is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fedapt_secure.protocol.keepalive import PatientClient, PatientConnection, patience
from tests.support.faulty_link import FaultyLink
from tests.support.offices import HOST, free_port

pytestmark = pytest.mark.timeout(120)
SIZE = 400_000
BYTES_PER_S = 200_000.0
OPTIONS = {
    "ping_interval": 0.05,
    "ping_timeout": 0.2,
    "max_size": 2 * SIZE,
    "compression": None,
    "close_timeout": 1,
}
"""A message takes two seconds, an answer to a ping may take a fifth of one."""


class PatientServer(PatientConnection, ServerConnection):
    pass


@pytest.fixture
def link() -> Iterator[FaultyLink]:
    link = FaultyLink(free_port(), free_port(), bytes_per_s=BYTES_PER_S)
    with link.up():
        yield link
        link.mend()


@asynccontextmanager
async def line(link: FaultyLink, *, patient: bool = True) -> AsyncIterator[tuple[ClientConnection, Server]]:
    """A client whose server answers each message by one of the same size, with a slow line between."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    ours, its = (PatientServer, PatientClient) if patient else (ServerConnection, ClientConnection)
    url = f"ws://{HOST}:{link.port}"
    async with (
        serve(echo, HOST, link.target, create_connection=ours, **OPTIONS) as server,
        connect(url, create_connection=its, proxy=None, **OPTIONS) as client,
    ):
        yield client, server


async def there_and_back(link: FaultyLink, *, patient: bool) -> int:
    async with line(link, patient=patient) as (client, _):
        await client.send(bytes(SIZE))
        return len(await client.recv())


def test_a_message_that_takes_longer_than_an_answer_arrives_both_ways(link: FaultyLink) -> None:
    assert asyncio.run(there_and_back(link, patient=True)) == SIZE


def test_the_library_itself_cuts_it(link: FaultyLink) -> None:
    """What this guards against; where it no longer holds, our own keepalive may go."""
    with pytest.raises(ConnectionClosed):
        asyncio.run(there_and_back(link, patient=False))


@pytest.mark.parametrize(
    "sent", [b"first", pytest.param(bytes(40_000), marks=pytest.mark.slow)], ids=["idle", "under way"]
)
def test_a_line_that_goes_silent_is_noticed(link: FaultyLink, sent: bytes) -> None:
    """A message in the pipe has the time that it would take on the slowest line, and no more."""

    async def silent() -> None:
        async with line(link) as (client, server):
            await client.send(b"first")
            await client.recv()
            link.cut()
            await client.send(sent)
            (other,) = server.connections
            await asyncio.gather(client.wait_closed(), other.wait_closed())

    asyncio.run(silent())


def test_patience_counts_what_arrives(link: FaultyLink) -> None:
    async def wait(seconds: float, *sent: bytes) -> int:
        async with line(link) as (client, _), patience(client, seconds):
            for message in sent:
                await client.send(message)
            return len(await client.recv())

    assert asyncio.run(wait(3.0, bytes(SIZE))) == SIZE, "it takes four seconds, and moves"
    with pytest.raises(TimeoutError):
        asyncio.run(wait(0.5))

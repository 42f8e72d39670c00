"""The rounds port by itself, over real TLS: who does not read, too many at once, a renewed certificate."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fedapt_crypto.errors import InvalidInput, Unavailable
from fedapt_secure.protocol.transport import client_context
from fedapt_server.ports.outbox import MESSAGES_OF_FULL_SIZE, Outbox
from fedapt_server.ports.rounds_port import ARRIVALS_PER_MINUTE, GuardedConnection, RoundsPort
from fedapt_server.refusal import Refusal
from tests.support.attacks import GONE, is_cut
from tests.support.offices import HOST, Office, run

MESSAGE_BYTES = 1 << 20


class Rounds:
    """A port that greets, and what it said about those it turned away."""

    def __init__(self, office: Office, **settings: int) -> None:
        self.office = office
        self.settings = office.settings.model_copy(update={"max_message_bytes": MESSAGE_BYTES, **settings})
        self.refused: list[tuple[Refusal, str]] = []
        self.reports: list[str] = []
        self.port = RoundsPort(
            office.folder,
            self.settings,
            self.serve_one,
            lambda why, name: self.refused.append((why, name)),
            self.reports.append,
        )
        self.outboxes: list[Outbox] = []

    async def serve_one(self, connection: GuardedConnection) -> None:
        self.outboxes.append(Outbox(connection, MESSAGE_BYTES))
        self.outboxes[-1].put(b"welcome")
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
            await connection.wait_closed()

    async def __aenter__(self) -> "Rounds":
        await self.port.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.stop()

    @asynccontextmanager
    async def member(self, name: str) -> AsyncIterator[ClientConnection]:
        context = client_context(self.office.institution(name))
        url = f"wss://{HOST}:{self.settings.port}"
        async with connect(url, ssl=context, proxy=None, max_size=None, max_queue=1) as connection:
            yield connection


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    office.enrol("clinic-1")
    office.enrol("clinic-2")
    return office


def test_who_does_not_read_is_cut_and_costs_a_bounded_amount(office: Office) -> None:
    async def story() -> None:
        async with Rounds(office) as rounds, rounds.member("clinic-1") as connection:
            assert await connection.recv() == b"welcome"
            outbox = rounds.outboxes[0]
            message = bytes(MESSAGE_BYTES)
            for _ in range(100):  # far more than the kernel's buffers hold
                outbox.put(message)
                assert outbox._unsent.waiting <= MESSAGES_OF_FULL_SIZE * MESSAGE_BYTES
                await asyncio.sleep(0)
            assert (Refusal.UNREAD, "clinic-1") in rounds.refused
            await asyncio.wait_for(outbox.connection.wait_closed(), 10)

    run(story())


def test_too_many_in_all(office: Office) -> None:
    async def story() -> None:
        async with Rounds(office, max_connections=1) as rounds, rounds.member("clinic-1") as first:
            assert await first.recv() == b"welcome"
            with contextlib.suppress(*GONE):
                async with rounds.member("clinic-2") as second:
                    assert await is_cut(second)
            assert rounds.refused == [(Refusal.TOO_MANY, "clinic-2")]
            await (await first.ping())

    run(story())


@pytest.mark.slow  # seconds of waiting
def test_coming_back_too_often(office: Office) -> None:
    async def story() -> None:
        async with Rounds(office) as rounds:
            for _ in range(ARRIVALS_PER_MINUTE):
                async with rounds.member("clinic-1") as connection:
                    await connection.recv()
            with contextlib.suppress(*GONE):
                async with rounds.member("clinic-1") as connection:
                    assert await is_cut(connection)
            assert set(rounds.refused) == {(Refusal.TOO_OFTEN, "clinic-1")}
            async with rounds.member("clinic-2") as connection:
                assert await connection.recv() == b"welcome"

    run(story())


def test_a_renewed_certificate_is_used_without_a_restart(office: Office) -> None:
    async def serial(rounds: Rounds) -> str:
        async with rounds.member("clinic-1") as connection:
            return connection.transport.get_extra_info("peercert")["serialNumber"]

    async def story() -> None:
        async with Rounds(office) as rounds, rounds.member("clinic-2") as open_connection:
            before = await serial(rounds)
            office.registrar.renew_own()
            assert await serial(rounds) == before
            rounds.port.renewed()
            assert int(await serial(rounds), 16) == office.folder.certificate().serial != int(before, 16)
            await (await open_connection.ping())
            office.folder.certificate_file.write_bytes(b"rubbish")
            with pytest.raises(InvalidInput):
                rounds.port.renewed()
            assert int(await serial(rounds), 16) != int(before, 16), "the last good one stays"

    run(story())


def test_a_port_that_is_taken(office: Office) -> None:
    async def story() -> None:
        async with Rounds(office):
            with pytest.raises(Unavailable, match="change host or port in server.yaml"):
                await Rounds(office).port.start()

    run(story())

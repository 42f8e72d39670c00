"""The rounds port of a real coordinator process under attack, while honest institutions do their session."""

import asyncio
import contextlib
import json
import signal
import ssl
import time
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.transport import client_context, looking_context
from tests.support import attacks
from tests.support.attacks import CLIENT_HELLO_START, World, client_hello, half_open, is_cut, lets_in
from tests.support.offices import Office

pytestmark = pytest.mark.integration

HALF_OPEN = 1_000
MEMORY_MIB = 400
"""Of the coordinator, whatever comes; about 120 when nothing does."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Five institutions; 1 to 3 are enough for a round, 4 and 5 misbehave."""
    return World.make(tmp_path_factory.mktemp("hostile"), institutions=5)


def run(work, seconds: float = 120):
    return asyncio.run(asyncio.wait_for(work, seconds))


async def outsiders(world: World, tmp_path: Path) -> None:
    """Those whom TLS refuses: no byte of theirs reaches the application."""
    port = world.settings.port
    for where in (port, world.settings.enrolment_port):
        assert await attacks.plain_http(where) == b""
    assert not await lets_in(world, looking_context([])), "no certificate"
    stranger = Office(tmp_path / "other").enrol()
    stranger.authority_file.write_bytes(world.home.authority_file.read_bytes())
    assert not await lets_in(world, client_context(stranger)), "another authority"
    assert not await lets_in(world, expired(world, tmp_path)), "expired"
    assert await lets_in(world, client_context(world.party("clinic-5"))), "and a good one is let in"


def expired(world: World, tmp_path: Path) -> ssl.SSLContext:
    """A certificate of the right authority whose time is over."""
    registrar = world.registrar
    authority = CertificateAuthority.load(world.home.authority_file.read_bytes(), world.home.authority_key())
    key = TlsKey.generate()
    pem = authority.sign_request(
        key.request("clinic-5"), "clinic-5", now=registrar._clock(), lifetime=timedelta(minutes=-1)
    )
    (tmp_path / "old.crt").write_bytes(pem)
    (tmp_path / "old.key").write_bytes(key.private_pem())
    context = looking_context([])
    context.load_cert_chain(tmp_path / "old.crt", tmp_path / "old.key")
    return context


async def misbehaving(world: World) -> None:
    """What the holder of a good certificate may try: each ends with its connection, and with nothing else."""
    async with world.member("clinic-5") as connection:
        await connection.send("text")
        assert await is_cut(connection)
    async with world.knocking(client_context(world.party("clinic-5"))) as connection:
        await connection.send(m.Hello(name="clinic-1").to_bytes())
        assert await is_cut(connection), "a greeting in another name"
    async with world.knocking(client_context(world.party("clinic-5"))) as connection:
        await connection.send(m.GroupReady(signature=bytes(64)).to_bytes())
        assert await is_cut(connection), "no greeting at all"
    async with world.member("clinic-5") as connection:
        await attacks.stream_frame(connection, 1 << 30)
        assert await is_cut(connection), "a frame of 1 GiB, announced"
    async with world.member("clinic-5") as connection:
        sent = await attacks.stream_fragments(connection, 1 << 30)
        assert await is_cut(connection), "a message of 1 GiB, in fragments"
        assert sent < 256 << 20
    async with world.member("clinic-5") as connection:
        assert await attacks.flood_pings(connection, 1 << 30) < 64 << 20
    async with world.member("clinic-5") as connection:
        replayed = m.GroupReady(signature=bytes(64)).to_bytes()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1_000):
                await connection.send(replayed)
        assert await is_cut(connection), "one message again and again"


async def dripping(world: World) -> float:
    """A frame that comes in byte by byte; return how long it lasted."""
    began = time.monotonic()
    async with world.member("clinic-4") as connection:
        dripped = asyncio.create_task(attacks.drip(connection))
        assert await is_cut(connection, 40)
        dripped.cancel()
    return time.monotonic() - began


async def too_many(world: World) -> None:
    """A third connection with one certificate ends the first."""
    async with contextlib.AsyncExitStack() as stack:
        context = client_context(world.party("clinic-5"))
        held = [await stack.enter_async_context(world.knocking(context)) for _ in range(3)]
        assert await is_cut(held[0])
        assert not await is_cut(held[2], 0.2)


async def revoked(world: World) -> None:
    """An open connection ends, and no new one begins."""
    async with world.member("clinic-5") as connection:
        await asyncio.to_thread(world.registrar.revoke, "clinic-5", "misbehaves")
        assert await is_cut(connection)
    assert not await lets_in(world, client_context(world.party("clinic-5")))


@pytest.mark.slow  # tests/hostile and tests/crypto have the like in less
def test_the_honest_complete_their_session_whatever_the_others_do(world: World, tmp_path: Path) -> None:
    kinds = (b"", CLIENT_HELLO_START, client_hello())
    honest = [f"clinic-{number}" for number in range(1, 5)]

    async def story() -> None:
        slow = asyncio.create_task(dripping(world))
        await outsiders(world, tmp_path)
        await misbehaving(world)
        assert await slow < 40
        await too_many(world)
        await revoked(world)
        held = await asyncio.to_thread(lambda: list(half_open(world.settings.port, HALF_OPEN, kinds)))
        try:
            assert world.memory_mib() < MEMORY_MIB
            assert world.handles() < 600
            await asyncio.gather(*(world.institution(name) for name in honest))
        finally:
            for connection in held:
                connection.close()

    with world.running():
        run(story())
        health = world.health()
        refused = world.refused()
        assert world.memory_mib() < MEMORY_MIB
        world.process.send_signal(signal.SIGTERM)
        assert world.process.wait(20) == 0
    assert health["state"] == "ended"
    assert health["completed"] == world.federation.settings.rounds
    ended = [line["body"] for line in world.log() if line["type"] == "round_ended"]
    assert {tuple(body["contributors"]) for body in ended if body["status"] == "completed"} == {tuple(honest)}
    for reason in (
        "not_tls", "handshake", "crowded", "greeting", "too_large", "too_fast", "too_slow", "replaced",
        "misbehaved", "revoked",
    ):  # fmt: skip
        assert refused[reason], reason
    for line in world.stderr.read_text().splitlines():
        assert json.loads(line)["event"], "no traceback, and nothing of a library's own"

"""Hostile traffic against a rounds port, and a real coordinator process for it to hit."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.settings import ClientSettings
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml, write_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.transport import client_context
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_server.membership.registrar import Registrar
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from fedapt_server.settings import ServerSettings
from tests.support.offices import HOST, free_port

GONE = (OSError, ConnectionClosed, InvalidHandshake, EOFError, TimeoutError)


@dataclass
class World:
    """A founded federation whose coordinator runs as ``fedapt-secure server run``."""

    federation: Federation
    settings: ServerSettings
    process: "subprocess.Popen[bytes] | None" = None
    stderr: Path = field(default_factory=Path)

    @classmethod
    def make(cls, path: Path, *, institutions: int = 3, rounds: int = 3) -> "World":
        settings = SimulateSettings(
            rounds=rounds, clients=institutions, no_dp=True, local_steps=1, out=path / "world"
        )
        federation = prepare(settings)
        server = ServerSettings(
            host=HOST,
            port=free_port(),
            enrolment_port=free_port(),
            health_port=free_port(),
            log=Path("../../logs") / f"{COORDINATOR}.jsonl",
        )
        home = federation.folder.party(COORDINATOR)
        write_yaml(home / SERVER_FILE, server, comment="For a test.")
        plan = home / "session.yaml"
        # Who does not come is not waited for so long.
        text = plan.read_text().replace("gather_timeout_s: 30.0", "gather_timeout_s: 1.0")
        plan.write_text(text.replace("round_timeout_s: 600.0", "round_timeout_s: 10.0"))
        connect_institutions(federation, server.port)
        return cls(federation, server, stderr=path / "stderr.txt")

    @property
    def home(self) -> PartyFolder:
        return PartyFolder(self.federation.folder.party(COORDINATOR))

    @property
    def registrar(self) -> Registrar:
        return Registrar(self.home, self.settings)

    def party(self, name: str) -> PartyFolder:
        return PartyFolder(self.federation.folder.party(name))

    @contextmanager
    def running(self, *options: str) -> Iterator["World"]:
        command = [
            sys.executable,
            "-c",
            "from fedapt_secure.cli import main; main()",
            "server",
            "run",
            "--json-log",
            "--dir",
            str(self.home.path),
        ]
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen([*command, *options], stderr=stderr)
        try:
            self.until(lambda: (self.health() or {}).get("ok"))
            yield self
        finally:
            if self.process.poll() is None:
                self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def until(self, true: Any, *, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process is None or self.process.poll() is None, self.stderr.read_text()
            assert time.monotonic() < deadline, self.stderr.read_text()
            time.sleep(0.05)

    def health(self) -> dict[str, Any] | None:
        try:
            return json.loads(self.get("/healthz"))
        except OSError:
            return None

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(HOST, self.settings.health_port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def refused(self) -> dict[str, int]:
        """Refused connections by reason, as Prometheus sees them."""
        found = {}
        for line in self.get("/metrics").decode().splitlines():
            if line.startswith("fedapt_connections_refused_total{"):
                found[line.split('"')[1]] = int(float(line.split()[-1]))
        return found

    def memory_mib(self, what: str = "VmHWM") -> float:
        """The process' memory: VmHWM is the most it ever had, VmRSS what it has now."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(what)

    def handles(self) -> int:
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def log(self) -> list[dict[str, Any]]:
        path = self.federation.folder.log(COORDINATOR)
        return [json.loads(line) for line in path.read_text().splitlines()]

    async def institution(self, name: str) -> None:
        """Take part as the real institution does, in this process."""
        folder = self.party(name).path
        settings = build(ClientSettings, read_yaml(folder / CLIENT_FILE), source=CLIENT_FILE)
        await InstitutionRunner(folder, settings).run()

    @asynccontextmanager
    async def knocking(self, context: ssl.SSLContext) -> AsyncIterator[ClientConnection]:
        url = f"wss://{HOST}:{self.settings.port}"
        async with connect(
            url, ssl=context, proxy=None, max_size=None, ping_interval=None, open_timeout=20
        ) as c:
            yield c

    @asynccontextmanager
    async def member(self, name: str) -> AsyncIterator[ClientConnection]:
        """A connection with a member's certificate on which it has said hello."""
        async with self.knocking(client_context(self.party(name))) as connection:
            await connection.send(m.Hello(name=name).to_bytes())
            await asyncio.wait_for(connection.recv(), 20)
            yield connection


async def is_cut(connection: ClientConnection, within_s: float = 20) -> bool:
    """Whether the coordinator ends a connection; whatever it still says is read."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                await connection.recv()
    except ConnectionClosed:
        return True
    except TimeoutError:
        return False


async def lets_in(world: World, context: ssl.SSLContext) -> bool:
    """Whether one byte of the application comes through: the opening of a websocket."""
    try:
        async with asyncio.timeout(20), world.knocking(context):
            return True
    except GONE:
        return False


async def plain_http(port: int) -> bytes:
    """Ask in plain HTTP; return what comes back."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except OSError:
        return b""
    finally:
        writer.close()


CLIENT_HELLO_START = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def client_hello() -> bytes:
    """A whole ClientHello, of one who will say no more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    handshake = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


def half_open(
    port: int, count: int, kinds: tuple[bytes, ...], *, source: str = HOST
) -> Iterator[socket.socket]:
    """Open connections that stay in the handshake: they say one of the ``kinds`` and then nothing."""
    for number in range(count):
        connection = socket.create_connection((HOST, port), timeout=20, source_address=(source, 0))
        data = kinds[number % len(kinds)]
        if data:
            with contextlib.suppress(OSError):
                connection.send(data)
        yield connection


async def stream_frame(connection: ClientConnection, announced: int, chunk: int = 1 << 16) -> int:
    """Write one masked frame that announces so many bytes until the other side ends it; return how many."""
    connection.transport.write(b"\x82\xff" + announced.to_bytes(8, "big") + bytes(4))
    return await _write(connection, bytes(chunk), announced)


async def stream_fragments(connection: ClientConnection, total: int, fragment: int = 1 << 20) -> int:
    """Write a message in fragments until the other side ends it; return how many bytes went."""
    head = b"\x02\xff" + fragment.to_bytes(8, "big") + bytes(4)
    following = b"\x00\xff" + fragment.to_bytes(8, "big") + bytes(4)
    connection.transport.write(head + bytes(fragment))
    return await _write(connection, following + bytes(fragment), total)


async def _write(connection: ClientConnection, block: bytes, total: int) -> int:
    sent = 0
    while sent < total and not connection.transport.is_closing():
        connection.transport.write(block)
        sent += len(block)
        while (
            connection.transport.get_write_buffer_size() > 4 << 20 and not connection.transport.is_closing()
        ):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
    return sent


async def drip(connection: ClientConnection) -> None:
    """Announce a frame and send a byte of it now and then, for as long as it is listened to."""
    connection.transport.write(b"\x82\xfe\x10\x00" + bytes(4))
    while not connection.transport.is_closing():
        await asyncio.sleep(0.2)
        connection.transport.write(b"x")


async def flood_pings(connection: ClientConnection, total: int = 64 << 20) -> int:
    """Send pings, each of which is to be answered; return how many bytes went before it was cut."""
    ping = b"\x89\xfd" + bytes(4) + bytes(125)
    return await _write(connection, ping * 100, total)

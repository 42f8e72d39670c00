"""Whoever answers at the coordinator's address cannot put a word on the institution's screen or into its log.

The hostile one has the coordinator's own keys and certificate, so that TLS lets it in everywhere. It answers
with a marker and with sequences that steer a terminal, in every place that takes text: frames, field names,
HTTP status lines, headers and bodies, redirects, the reason of a close.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fedapt_client.membership import rosters
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import ClientSettings
from fedapt_crypto.encoding import encode
from fedapt_crypto.errors import FedaptError
from fedapt_secure.cli.app import run as command
from fedapt_secure.config.structured_log import configure
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import NOT_KNOWN, SAID, EnrolmentRefusal
from tests.support.offices import HOST, Office

pytestmark = pytest.mark.integration
MARKER = "owned"
ESCAPES = "\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e"
WORDS = f"{ESCAPES}{MARKER} by me{ESCAPES}"
PLAIN = f"{MARKER} by me"
"""Where a line of HTTP or a URL must not break, or the client would stop earlier than it is to be tried."""
Listener = Callable[[Office, ServerConnection], Awaitable[None]]


async def greet(office: Office, connection: ServerConnection) -> None:
    welcome = e.Welcome(
        authority=office.registrar.authority_der, time=office.registrar.now(), nonce=bytes(32)
    )
    await connection.send(welcome.to_bytes())
    await connection.recv()


def frame(**fields: object) -> Listener:
    async def listen(office: Office, connection: ServerConnection) -> None:
        await greet(office, connection)
        await connection.send(encode(fields))

    return listen


async def closes_with_words(office: Office, connection: ServerConnection) -> None:
    await greet(office, connection)
    await connection.close(4000, WORDS)


async def closes_before_a_word(office: Office, connection: ServerConnection) -> None:
    await connection.close(1011, WORDS)


async def sends_text(office: Office, connection: ServerConnection) -> None:
    await connection.send(WORDS)


async def welcomes_with_more(office: Office, connection: ServerConnection) -> None:
    await connection.send(encode({"kind": "welcome", WORDS: WORDS}))


async def certifies_with_words(office: Office, connection: ServerConnection) -> None:
    """Signed by the right coordinator: who has its keys may name the federation as it likes."""
    await greet(office, connection)
    identity = office.folder.identity()
    answer = {
        "kind": "certified",
        "name": "clinic-1",
        "domain": WORDS,
        "federation": WORDS,
        "certificate": b"x",
        "authority": office.registrar.authority_der,
        "coordinator_name": WORDS,
        "coordinator_key": identity.public_key,
        "rounds_port": 1,
        "request_hash": bytes(32),
        "signature": bytes(64),
    }
    await connection.send(encode(answer))


SPOKEN: dict[str, Listener] = {
    "a sentence where a code is due": frame(kind="not accepted", reason=WORDS),
    "a code that nobody knows": frame(kind="not accepted", reason=MARKER),
    "a code and more": frame(kind="not accepted", reason="revoked", **{WORDS: WORDS}),
    "a kind of message": frame(kind=WORDS),
    "another message": frame(kind="roster sent", roster=WORDS.encode(), revocation_list=WORDS.encode()),
    "an answer full of words": certifies_with_words,
    "the reason of a close": closes_with_words,
    "the reason of an early close": closes_before_a_word,
    "a text frame": sends_text,
    "a field's name": welcomes_with_more,
}


def http(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body.encode())}", "", body]
    return "\r\n".join(lines).encode()


ANSWERED: dict[str, bytes] = {
    "a body": http("403 Forbidden", body=WORDS),
    "a status line": http(f"500 {PLAIN}"),
    "a header": http("101 Switching Protocols", f"Upgrade: {PLAIN}", "Connection: Upgrade"),
    "a redirect": http("302 Found", f"Location: wss://{MARKER}.example/{MARKER}"),
    "a redirect to nowhere": http("302 Found", f"Location: gopher://{MARKER}"),
    "a date": http("403 Forbidden", f"Date: {PLAIN}"),
    "no HTTP": WORDS.encode() + b"\r\n\r\n",
}
HOSTILE = (*SPOKEN, *ANSWERED)


@contextmanager
def hostile(office: Office, port: int, how: str) -> Iterator[None]:
    """The hostile coordinator on a port, in a thread of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(office.folder.certificate_file, office.folder.private_key_file)
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def listen(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await SPOKEN[how](office, connection)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWERED[how])
            await writer.drain()
        writer.close()

    async def main() -> None:
        started = (
            serve(listen, HOST, port, ssl=context)
            if how in SPOKEN
            else await asyncio.start_server(answer, HOST, port, ssl=context)
        )
        async with started:
            ready.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def assert_nothing_of_it(text: str) -> None:
    assert text.strip(), "something has to be said"
    assert MARKER not in text
    assert "title" not in text
    for line in text.splitlines():
        assert line.isprintable(), line


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setenv("COLUMNS", "400")
    return Office(tmp_path)


@pytest.mark.parametrize("how", HOSTILE)
def test_who_enrols_prints_nothing_of_it(how: str, office: Office, capfd: pytest.CaptureFixture[str]) -> None:
    join, folder = office.invite(), office.institution()
    with hostile(office, office.settings.enrolment_port, how):
        status = command(["client", "enroll", join.to_text(), "--dir", str(folder.path)])
    assert status == 1
    assert_nothing_of_it("".join(capfd.readouterr()))
    assert not (folder.path / "federation.json").exists()
    kept = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert MARKER.encode() not in kept


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("asked", [("renew",), ("roster", "show"), ("doctor",)], ids=" ".join)
def test_a_member_prints_nothing_of_it(
    asked: tuple[str, ...], how: str, office: Office, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = office.enrol()
    with hostile(office, office.settings.enrolment_port, how):
        status = command(["client", *asked, "--dir", str(folder.path)])
    assert status == 1
    assert_nothing_of_it("".join(capfd.readouterr()))


@pytest.mark.parametrize("how", HOSTILE)
def test_a_service_logs_nothing_of_it(how: str, office: Office, capfd: pytest.CaptureFixture[str]) -> None:
    folder = office.enrol()
    for name in ("clinic-2", "clinic-3"):
        office.enrol(name)
    rosters.approve(folder, office.roster())
    settings = ClientSettings(name="clinic-1", port=office.settings.port, host=HOST, data=folder.path)
    configure(json=False)
    runner = InstitutionRunner(folder.path, settings, retry_for_s=0.3, stay=True)
    ended = ""
    with hostile(office, office.settings.port, how):
        try:
            asyncio.run(asyncio.wait_for(runner.run(), 1))
        except FedaptError as error:
            ended = str(error)
        except TimeoutError:
            pass
    assert_nothing_of_it(ended + "\n" + "".join(capfd.readouterr()))
    assert MARKER not in (folder.path / settings.log).read_text()


def test_every_code_has_a_sentence_and_others_have_one() -> None:
    assert set(SAID) == set(EnrolmentRefusal)
    assert len(set(SAID.values())) == len(SAID)
    assert all(text.isprintable() and "'" not in text[:1] for text in (*SAID.values(), NOT_KNOWN))

"""The enrolment port under attack, over real sockets: who gets nothing, and that the honest still get in."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from fedapt_client.membership import desk, enrolment
from fedapt_client.membership.connecting import Place, Unreachable
from fedapt_client.membership.desk import NotAccepted
from fedapt_crypto.certificates import facts, to_der
from fedapt_crypto.errors import InvalidInput, PeerError
from fedapt_crypto.identity import fingerprint_bytes
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.join_string import fresh_token
from fedapt_secure.protocol.joining.revocation import Revocations
from fedapt_secure.protocol.transport import (
    certificate_name,
    client_context,
    looking_context,
    server_context,
    watch_revocations,
)
from fedapt_server.membership import enrolment_service
from fedapt_server.ports.admission_limits import MAX_OPEN_PER_ADDRESS, MAX_PER_WINDOW
from tests.support.offices import HOST, Office, enrol_online, run

pytestmark = pytest.mark.integration


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@asynccontextmanager
async def knocking(office: Office) -> AsyncIterator[ClientConnection]:
    """A connection that verifies nothing, as an attacker's does."""
    url = f"wss://{HOST}:{office.settings.enrolment_port}"
    async with connect(url, ssl=looking_context([]), proxy=None, max_size=None) as connection:
        yield connection


async def ask(office: Office, data: bytes | str) -> e.TaggedMessage:
    async with knocking(office) as connection:
        await connection.recv()
        await connection.send(data)
        return e.NotAccepted.from_bytes(await connection.recv())


def test_the_honest_way(office: Office) -> None:
    async def story() -> None:
        async with office.serving():
            folder = office.institution()
            await enrol_online(office, office.invite(), folder)
            roster = await desk.fetch_roster(folder, office.place)
            assert roster.content.names == ("clinic-1",)
            assert folder.revocation_file.exists()
            before = folder.certificate().serial
            await desk.renew(folder, enrolment.load_federation(folder), office.place)
            assert folder.certificate().serial != before
            await desk.fetch_roster(folder, office.place)  # with the new one

    run(story())
    assert [event for event, _ in office.log] == [
        "enrolment_listening", "enrolled", "roster_sent", "renewed", "roster_sent",
    ]  # fmt: skip


class TestPinning:
    def test_another_authority_never_gets_the_token(self, office: Office, tmp_path: Path) -> None:
        """An impostor at the address: own authority, everything else alike. It hears nothing at all."""
        impostor = Office(tmp_path / "impostor")
        heard: list[bytes] = []

        async def listen(connection: ServerConnection) -> None:
            der = impostor.registrar.authority_der
            await connection.send(e.Welcome(authority=der, time=0, nonce=bytes(32)).to_bytes())
            with contextlib.suppress(ConnectionClosed):
                heard.append(await connection.recv())

        async def story() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(impostor.folder.certificate_file, impostor.folder.private_key_file)
            async with serve(listen, HOST, office.settings.enrolment_port, ssl=context):
                with pytest.raises(Unreachable, match="the token was not sent"):
                    await enrol_online(office, office.invite(), office.institution())

        run(story())
        assert heard == []
        assert not (office.institution().path / "tls.crt").exists()

    def test_a_middlebox_that_passes_on_the_right_authority_never_gets_it_either(
        self, office: Office, tmp_path: Path
    ) -> None:
        """It knows the public certificate of the right authority, and has none that this one issued."""
        impostor = Office(tmp_path / "impostor")
        heard: list[bytes] = []

        async def listen(connection: ServerConnection) -> None:
            der = office.registrar.authority_der
            await connection.send(e.Welcome(authority=der, time=0, nonce=bytes(32)).to_bytes())
            with contextlib.suppress(ConnectionClosed):
                heard.append(await connection.recv())

        async def story() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(impostor.folder.certificate_file, impostor.folder.private_key_file)
            async with serve(listen, HOST, office.settings.enrolment_port, ssl=context):
                with pytest.raises(Unreachable, match="intercepts TLS"):
                    await enrol_online(office, office.invite(), office.institution())

        run(story())
        assert heard == []

    def test_a_member_s_certificate_is_no_coordinator_s(self, office: Office) -> None:
        """A member listens at the coordinator's address with its own certificate of the right authority."""
        member = office.enrol("clinic-2")
        heard: list[bytes] = []

        async def listen(connection: ServerConnection) -> None:
            der = office.registrar.authority_der
            await connection.send(e.Welcome(authority=der, time=0, nonce=bytes(32)).to_bytes())
            with contextlib.suppress(ConnectionClosed):
                heard.append(await connection.recv())

        async def story() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(member.certificate_file, member.private_key_file)
            async with serve(listen, HOST, office.settings.enrolment_port, ssl=context):
                with pytest.raises(Unreachable):
                    await enrol_online(office, office.invite(), office.institution())

        run(story())
        assert heard == []

    @pytest.mark.parametrize("what", ["coordinator", "authority", "name", "request", "key"])
    def test_an_answer_that_is_not_what_was_asked_for_installs_nothing(
        self, office: Office, what: str
    ) -> None:
        join, folder = office.invite(), office.institution()
        request = enrolment.begin(folder, join)
        assert request is not None
        answer = office.registrar.enrol(*office.registrar.admit(join.token, request.to_bytes()))
        other = office.enrol("clinic-2")
        match what:
            case "coordinator":
                mallory = other.identity()
                answer = e.signed(mallory, answer.model_copy(update={"coordinator_key": mallory.public_key}))
            case "authority":
                theirs = Office(office.path / "theirs").registrar.authority_der
                answer = e.signed(office.folder.identity(), answer.model_copy(update={"authority": theirs}))
            case "name":
                answer = e.signed(office.folder.identity(), answer.model_copy(update={"name": "clinic-2"}))
            case "request":
                answer = e.signed(
                    office.folder.identity(), answer.model_copy(update={"request_hash": bytes(32)})
                )
            case "key":
                theirs = to_der(other.certificate_file.read_bytes())
                answer = e.signed(office.folder.identity(), answer.model_copy(update={"certificate": theirs}))
        with pytest.raises(PeerError):
            enrolment.finish(folder, join, request, answer, enrolment.Options())
        for name in ("tls.crt", "ca.crt", "client.yaml", "federation.json"):
            assert not (folder.path / name).exists()
        with pytest.raises(InvalidInput, match="is not an enrolled institution's folder"):
            enrolment.load_federation(folder)


class TestTokens:
    def test_every_bad_token_gets_one_answer(self, office: Office) -> None:
        """Replayed after use, guessed, unknown, expired, withdrawn: the outside sees no difference."""
        used = office.invite("clinic-1")
        withdrawn = office.invite("clinic-2")
        office.registrar.revoke("clinic-2", "")
        expired = office.invite("clinic-3", seconds=1)
        office.clock.pass_(seconds=2)
        fresh = office.invite("clinic-4")

        async def story() -> set[str]:
            async with office.serving():
                await enrol_online(office, used, office.institution("clinic-1"))
                thief = office.institution("thief")
                stolen = enrolment.begin(thief, used)
                assert stolen is not None
                tokens = [
                    used.token, withdrawn.token, expired.token, fresh_token(), fresh.token[:8] + bytes(24),
                ]  # fmt: skip
                answers = [
                    await ask(office, e.Enrol(token=t, request=stolen.to_bytes()).to_bytes()) for t in tokens
                ]
                return {answer.reason for answer in answers}

        assert run(story()) == {"token_refused"}
        for reason in ("other keys", "withdrawn", "expired", "no invitation", "only begins like"):
            assert reason in office.reasons()
        assert [member.name for member in office.registrar.membership.members] == ["clinic-1"]

    def test_two_at_once_with_one_token(self, office: Office) -> None:
        join = office.invite()

        async def story() -> list[object]:
            async with office.serving():
                folders = [office.institution(f"folder-{number}") for number in range(2)]
                return await asyncio.gather(
                    *(enrol_online(office, join, folder) for folder in folders), return_exceptions=True
                )

        outcomes = run(story())
        assert sorted(isinstance(outcome, e.Certified) for outcome in outcomes) == [False, True]
        [refusal] = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert isinstance(refusal, NotAccepted)
        assert len(office.registrar.membership.members) == 1

    def test_a_lost_answer_is_asked_for_again(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        join, folder = office.invite(), office.institution()

        async def story() -> None:
            async with office.serving():
                request = enrolment.begin(folder, join)
                assert request is not None
                await desk.enrol(folder, join, request, None)  # and here the institution's power goes
                assert office.registrar.membership.member("clinic-1") is not None
                await enrol_online(office, join, folder)

        run(story())
        assert enrolment.load_federation(folder).name == "clinic-1"
        assert office.registrar.membership.revision[0] == 1


class TestRubbish:
    @pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", bytes(1000), b"\xdd\xff\xff\xff\xff", "text"])
    def test_malformed_messages(self, office: Office, data: bytes | str) -> None:
        async def story() -> None:
            async with office.serving():
                if isinstance(data, str):
                    with pytest.raises(ConnectionClosed):
                        await ask(office, data)
                else:
                    assert (await ask(office, data)).reason == "message_unknown"
                await enrol_online(office, office.invite(), office.institution())

        run(story())

    def test_oversized_messages(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                for size in (e.MAX_REQUEST_FRAME_BYTES + 1, 8 << 20):
                    with pytest.raises(ConnectionClosed) as caught:
                        await ask(office, bytes(size))
                    assert caught.value.rcvd is None or caught.value.rcvd.code == 1009
                await enrol_online(office, office.invite(), office.institution())

        run(story())

    def test_plain_http_and_no_tls(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                for greeting in (
                    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"\x16\x03\x01\x00\x05hello",
                    bytes(64),
                ):
                    reader, writer = await asyncio.open_connection(HOST, office.settings.enrolment_port)
                    writer.write(greeting)
                    with contextlib.suppress(OSError):
                        await asyncio.wait_for(reader.read(), 10)
                    writer.close()
                await enrol_online(office, office.invite(), office.institution())

        run(story())
        assert "no TLS connection" in office.reasons()

    def test_http_without_a_websocket_is_counted_out_again(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                for _ in range(MAX_OPEN_PER_ADDRESS + 2):
                    reader, writer = await asyncio.open_connection(
                        HOST, office.settings.enrolment_port, ssl=looking_context([])
                    )
                    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    await asyncio.wait_for(reader.read(), 10)
                    writer.close()
                await enrol_online(office, office.invite(), office.institution())

        run(story())


class TestLimits:
    def test_a_slow_drip_ends(self, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(enrolment_service, "CONVERSATION_TIMEOUT_S", 0.5)

        async def drip(connection: ClientConnection) -> None:
            connection.transport.write(b"\x82\xfe\x10\x00\x00\x00\x00\x00")  # announces a frame of 4 KiB
            while True:
                await asyncio.sleep(0.05)
                connection.transport.write(b"x")

        async def story() -> float:
            async with office.serving(), knocking(office) as connection:
                await connection.recv()
                start = time.monotonic()
                dripping = asyncio.create_task(drip(connection))
                with contextlib.suppress(ConnectionClosed):
                    await connection.recv()
                dripping.cancel()
                return time.monotonic() - start

        assert run(story()) < 10
        assert "TimeoutError" in office.reasons()

    def test_half_open_handshakes_do_not_keep_others_out(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                idle = [
                    await asyncio.open_connection(HOST, office.settings.enrolment_port) for _ in range(200)
                ]
                await enrol_online(office, office.invite(), office.institution())
                for _, writer in idle:
                    writer.close()

        run(story())

    def test_one_address_has_so_many_connections_at_once(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                async with contextlib.AsyncExitStack() as stack:
                    for _ in range(MAX_OPEN_PER_ADDRESS):
                        await stack.enter_async_context(knocking(office))
                    with pytest.raises(InvalidStatus) as caught:
                        await stack.enter_async_context(knocking(office))
                    assert caught.value.response.status_code == 429
                await asyncio.sleep(0.1)
                async with knocking(office) as connection:
                    e.Welcome.from_bytes(await connection.recv())

        run(story())
        assert "too many connections at once" in office.reasons()

    def test_one_address_has_so_many_connections_a_minute(self, office: Office) -> None:
        async def story() -> None:
            async with office.serving():
                for _ in range(MAX_PER_WINDOW):
                    async with knocking(office) as connection:
                        await connection.recv()
                with pytest.raises(
                    Unreachable, match="too many connections from this address: wait a minute"
                ):
                    await enrol_online(office, office.invite(), office.institution())

        run(story())


class TestCertificates:
    def test_a_revoked_one_is_refused_without_a_restart(self, office: Office) -> None:
        folder = office.enrol()

        async def story() -> None:
            async with office.serving():
                await desk.fetch_roster(folder, office.place)
                office.reopened().revoke("clinic-1", "left")  # as another process does
                with pytest.raises(NotAccepted, match="revoked: ask the coordinator's operator"):
                    await desk.fetch_roster(folder, office.place)
                with pytest.raises(NotAccepted, match="revoked"):
                    await desk.renew(folder, enrolment.load_federation(folder), office.place)

        run(story())
        assert "revoked" in office.reasons()

    def test_the_rounds_port_refuses_a_revoked_one_within_the_handshake(self, office: Office) -> None:
        """Before any byte of the application, and without a restart: the list is looked at each time."""
        folder, other = office.enrol("clinic-1"), office.enrol("clinic-2")
        let_in: list[str] = []
        reports: list[str] = []

        async def greet(connection: ServerConnection) -> None:
            let_in.append(certificate_name(connection.transport.get_extra_info("ssl_object")))
            await connection.send(b"welcome")

        async def knock(party: PartyFolder) -> bool:
            url = f"wss://{HOST}:{office.settings.port}"
            with contextlib.suppress(OSError, WebSocketException, EOFError):
                async with connect(url, ssl=client_context(party), proxy=None) as connection:
                    return await connection.recv() == b"welcome"
            return False

        async def story() -> list[bool]:
            context = server_context(office.folder, reports.append)
            async with serve(greet, HOST, office.settings.port, ssl=context):
                before = [await knock(folder), await knock(other)]
                office.reopened().revoke("clinic-1", "left")
                return [*before, await knock(folder), await knock(other)]

        assert run(story()) == [True, True, False, True]
        assert let_in == ["clinic-1", "clinic-2", "clinic-2"]
        assert reports == [
            "clinic-1: this certificate was revoked: ask the coordinator's operator for a new invitation"
        ]

    def test_a_founded_federation_does_not_serve_without_its_list(self, office: Office) -> None:
        office.folder.revocation_file.unlink()
        with pytest.raises(InvalidInput, match=r"crl\.pem: No such file"):
            server_context(office.folder)

    def test_the_old_certificate_of_one_who_came_back_stays_revoked(
        self, office: Office, tmp_path: Path
    ) -> None:
        folder = office.enrol()
        office.registrar.revoke("clinic-1", "lost")
        again = Office.institution(office, "again")
        join = office.invite("clinic-1")

        async def story() -> None:
            async with office.serving():
                await enrol_online(office, join, again)
                with pytest.raises(NotAccepted, match="revoked"):
                    await desk.fetch_roster(folder, office.place)
                await desk.fetch_roster(again, office.place)

        run(story())

    def test_an_expired_one_is_named_on_both_sides(self, tmp_path: Path) -> None:
        office = Office(tmp_path)
        folder = office.enrol()
        office.expire(folder, "clinic-1")

        async def story() -> None:
            async with office.serving():
                with pytest.raises(
                    InvalidInput, match="certificate expired on .*here and at .*'fedapt-secure client csr'"
                ):
                    await desk.fetch_roster(folder, office.place)
                url = f"wss://{HOST}:{office.settings.enrolment_port}"
                context = looking_context([])  # and if it does not look
                context.load_cert_chain(folder.certificate_file, folder.private_key_file)
                with contextlib.suppress(OSError, WebSocketException, EOFError):
                    async with connect(url, ssl=context, proxy=None) as connection:
                        await connection.recv()
                        raise AssertionError("was let in")

        run(story())
        assert (
            "a certificate has expired: that institution runs 'fedapt-secure client csr'" in office.reasons()
        )

    def test_an_expired_coordinator_is_named(self, tmp_path: Path) -> None:
        office = Office(tmp_path)
        folder = office.enrol()
        office.expire(office.folder, "coordinator", (HOST,))

        async def story() -> None:
            async with office.serving():
                said = "expired on .* here and there: ask its operator to run 'fedapt-secure server renew'"
                with pytest.raises(Unreachable, match=said):
                    await desk.fetch_roster(folder, office.place)

        run(story())

    def test_a_stranger_s_is_refused(self, office: Office, tmp_path: Path) -> None:
        stranger = Office(tmp_path / "other").enrol()
        stranger.authority_file.write_bytes(office.folder.authority_file.read_bytes())

        async def story() -> None:
            async with office.serving():
                with pytest.raises(Unreachable):
                    await desk.fetch_roster(stranger, office.place)

        run(story())
        assert "not of this federation's authority" in office.reasons()

    def test_another_address_than_the_certificate_s(self, tmp_path: Path) -> None:
        office = Office(tmp_path, addresses=("coordinator.example",))
        folder = office.enrol()

        async def story() -> None:
            async with office.serving():
                with pytest.raises(Unreachable, match="is for other addresses"):
                    await desk.fetch_roster(folder, office.place)

        run(story())


class TestWatching:
    def test_open_connections_hear_of_a_revocation(self, office: Office) -> None:
        """What the rounds use: a callback with the serial numbers, within one look at the file."""
        serial = office.enrol().certificate().serial
        office.enrol("clinic-2")
        revocations = Revocations(office.folder.revocation_file, office.folder.authority_file.read_bytes())
        told: list[frozenset[int]] = []
        reports: list[str] = []

        async def story() -> None:
            watcher = asyncio.create_task(
                watch_revocations(revocations, told.append, reports.append, every_s=0.02)
            )
            await asyncio.sleep(0.1)
            office.reopened().revoke("clinic-1", "left")
            await asyncio.sleep(0.2)
            office.folder.revocation_file.write_bytes(b"rubbish")
            await asyncio.sleep(0.2)
            watcher.cancel()

        run(story())
        assert told == [{serial}]
        assert len(reports) == 1
        assert serial in revocations.serials


def test_a_proxy_address_with_a_password_is_never_shown(office: Office) -> None:
    folder = office.enrol()
    for proxy in ("http://user:secret@127.0.0.1:1", "http://user:secret@", "http://"):
        with pytest.raises(Unreachable) as caught:
            run(desk.fetch_roster(folder, Place(HOST, office.settings.enrolment_port, proxy)))
        assert "secret" not in str(caught.value)
        assert "secret" not in repr(Place(HOST, 1, proxy))


def test_the_answer_names_who_it_is_from(office: Office) -> None:
    folder = office.enrol()
    federation = enrolment.load_federation(folder)
    assert fingerprint_bytes(bytes.fromhex(federation.coordinator_key)) == fingerprint_bytes(
        office.registrar.coordinator_key
    )
    assert facts(folder.authority_file.read_bytes()).fingerprint.hex() == federation.authority_fingerprint

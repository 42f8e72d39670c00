"""Who may connect to whom: every refusal first in memory, where its reason shows, then over real sockets.

In TLS 1.3 a client has sent its certificate and its first data before it can hear that it is refused, and
a closing socket may swallow the alert. So the sockets say that nobody gets through, and the handshake in
memory says why.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_crypto.pki import CERTIFICATE_LIFETIME, CertificateAuthority, TlsKey
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.transport import (
    WEBSOCKET_OPTIONS,
    binary,
    certificate_name,
    client_context,
    server_context,
)
from tests.support.issuing import issue, sign

ADDRESSES = ("localhost", "127.0.0.1")
LONG_AGO = datetime.now(UTC) - CERTIFICATE_LIFETIME - timedelta(hours=1)
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@dataclass
class Federation:
    """One authority, and a stranger's that looks the same."""

    path: Path

    def __post_init__(self) -> None:
        self.authority = CertificateAuthority.create("test", now=LONG_AGO)
        self.stranger = CertificateAuthority.create("test")

    def party(self, name: str, *, by: CertificateAuthority | None = None, **options: Any) -> PartyFolder:
        """A party with a certificate by an authority; it trusts ours."""
        return issue(by or self.authority, self.path / name, name, trusts=self.authority, **options)

    def coordinator(self, *, now: datetime | None = None) -> PartyFolder:
        return self.party("coordinator", server_addresses=ADDRESSES, now=now)

    def clinic(self, *, now: datetime | None = None) -> PartyFolder:
        return self.party("clinic-1", now=now)


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""(the coordinator's, the institution's)."""


def both_right(f: Federation) -> Contexts:
    return server_context(f.coordinator()), client_context(f.clinic())


def client_of_tls_1_2(f: Federation) -> Contexts:
    server, client = both_right(f)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    return server, client


def server_of_tls_1_2(f: Federation) -> Contexts:
    server, client = both_right(f)
    server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_2
    return server, client


def client_without_certificate(f: Federation) -> Contexts:
    coordinator = f.coordinator()
    return server_context(coordinator), ssl.create_default_context(cafile=str(coordinator.authority_file))


def client_of_another_authority(f: Federation) -> Contexts:
    clinic = f.party("clinic-1", by=f.stranger)
    return server_context(f.coordinator()), client_context(clinic)


def client_with_an_expired_certificate(f: Federation) -> Contexts:
    return server_context(f.coordinator()), client_context(f.clinic(now=LONG_AGO))


def client_with_a_certificate_of_tomorrow(f: Federation) -> Contexts:
    return server_context(f.coordinator()), client_context(f.clinic(now=TOMORROW))


def client_with_a_server_certificate(f: Federation) -> Contexts:
    clinic = f.party("clinic-1", server_addresses=ADDRESSES)
    return server_context(f.coordinator()), client_context(clinic)


def server_of_another_authority(f: Federation) -> Contexts:
    coordinator = f.party("coordinator", by=f.stranger, server_addresses=ADDRESSES)
    return server_context(coordinator), client_context(f.clinic())


def server_with_an_expired_certificate(f: Federation) -> Contexts:
    return server_context(f.coordinator(now=LONG_AGO)), client_context(f.clinic())


def server_with_a_client_certificate(f: Federation) -> Contexts:
    # "127.0.0.1" cannot be in it, which would be refused too: the usage is what is checked first.
    coordinator = f.party("coordinator")
    return server_context(coordinator), client_context(f.clinic())


def server_of_another_address(f: Federation) -> Contexts:
    coordinator = f.party("coordinator", server_addresses=("example.org", "127.0.0.2"))
    return server_context(coordinator), client_context(f.clinic())


REFUSED: dict[Callable[[Federation], Contexts], tuple[str, str]] = {
    client_of_tls_1_2: ("server", "UNSUPPORTED_PROTOCOL"),
    server_of_tls_1_2: ("server", "UNSUPPORTED_PROTOCOL"),
    client_without_certificate: ("server", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    client_of_another_authority: ("server", "unable to get local issuer certificate"),
    client_with_an_expired_certificate: ("server", "certificate has expired"),
    client_with_a_certificate_of_tomorrow: ("server", "certificate is not yet valid"),
    client_with_a_server_certificate: ("server", "certificate purpose"),
    server_of_another_authority: ("client", "unable to get local issuer certificate"),
    server_with_an_expired_certificate: ("client", "certificate has expired"),
    server_with_a_client_certificate: ("client", "certificate purpose"),
    server_of_another_address: ("client", "IP address mismatch"),
}
"""What is wrong, who refuses it, and the reason OpenSSL gives there."""
by_name = pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def handshake(contexts: Contexts) -> tuple[dict[str, ssl.SSLObject], dict[str, ssl.SSLError]]:
    """Shake hands in memory until nobody can go on; return both ends and who failed of what."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = {
        "client": contexts[1].wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        "server": contexts[0].wrap_bio(to_server, to_client, server_side=True),
    }
    errors: dict[str, ssl.SSLError] = {}
    for _ in range(4):  # twice as many as the flights of TLS 1.3
        for name, end in ends.items():
            if name not in errors:
                try:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        end.do_handshake()
                except ssl.SSLError as error:
                    errors[name] = error
    return ends, errors


class TestHandshake:
    def test_the_right_certificates(self, federation: Federation) -> None:
        ends, errors = handshake(both_right(federation))
        assert not errors
        assert {end.version() for end in ends.values()} == {"TLSv1.3"}
        assert certificate_name(ends["server"]) == "clinic-1"
        assert certificate_name(ends["client"]) == "coordinator"

    @by_name
    def test_the_wrong_ones_and_why(
        self, federation: Federation, case: Callable[[Federation], Contexts]
    ) -> None:
        ends, errors = handshake(case(federation))
        who, why = REFUSED[case]
        assert why in str(errors[who])
        with pytest.raises((ValueError, MalformedMessage), match="handshake not done|no client certificate"):
            certificate_name(ends["server"])


async def meet(contexts: Contexts) -> tuple[list[str], list[str | bytes] | Exception]:
    """Connect once; return whom the coordinator let in, and what the institution heard or suffered."""
    let_in: list[str] = []

    async def greet(connection: ServerConnection) -> None:
        tls = connection.transport.get_extra_info("ssl_object")
        let_in.append(certificate_name(tls))
        frame = binary(await connection.recv())
        await connection.send(f"{tls.version()} {certificate_name(tls)}")
        await connection.send(frame)

    async with serve(greet, "127.0.0.1", 0, ssl=contexts[0], **WEBSOCKET_OPTIONS) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            async with connect(
                f"wss://127.0.0.1:{port}", ssl=contexts[1], proxy=None, **WEBSOCKET_OPTIONS
            ) as connection:
                await connection.send(b"hello")
                return let_in, [await connection.recv(), await connection.recv()]
        except (OSError, WebSocketException, EOFError) as error:
            return let_in, error


@pytest.mark.integration
class TestSockets:
    def test_the_right_certificates(self, federation: Federation) -> None:
        let_in, heard = asyncio.run(meet(both_right(federation)))
        assert let_in == ["clinic-1"]
        assert heard == ["TLSv1.3 clinic-1", b"hello"]

    @by_name
    def test_the_wrong_ones(self, federation: Federation, case: Callable[[Federation], Contexts]) -> None:
        let_in, heard = asyncio.run(meet(case(federation)))
        assert let_in == []
        assert isinstance(heard, Exception)

    def test_one_that_is_refused_keeps_nobody_else_out(self, federation: Federation) -> None:
        coordinator = federation.coordinator()
        right = client_context(federation.clinic())
        nobody = ssl.create_default_context(cafile=str(coordinator.authority_file))

        async def one_after_the_other() -> list[str]:
            let_in: list[str] = []

            async def greet(connection: ServerConnection) -> None:
                let_in.append(certificate_name(connection.transport.get_extra_info("ssl_object")))
                await connection.send(b"welcome")

            async with serve(
                greet, "127.0.0.1", 0, ssl=server_context(coordinator), **WEBSOCKET_OPTIONS
            ) as server:
                url = f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
                for tls in (right, nobody, right):
                    with contextlib.suppress(
                        *([OSError, WebSocketException, EOFError] if tls is nobody else [])
                    ):
                        async with connect(url, ssl=tls, proxy=None, **WEBSOCKET_OPTIONS) as connection:
                            assert await connection.recv() == b"welcome"
                            assert tls is right
            return let_in

        assert asyncio.run(one_after_the_other()) == ["clinic-1", "clinic-1"]


class TestContexts:
    def test_a_folder_without_a_certificate_is_named(self, tmp_path: Path) -> None:
        folder = PartyFolder(tmp_path / "clinic-1")
        folder.create()
        for make in (server_context, client_context):
            with pytest.raises(InvalidInput, match=f"{folder.private_key_file}: No such file"):
                make(folder)

    @pytest.mark.parametrize("broken", ["tls.crt", "tls.key", "ca.crt"])
    @pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\x00"])
    def test_a_broken_file(self, federation: Federation, broken: str, content: bytes) -> None:
        folder = federation.clinic()
        (folder.path / broken).write_bytes(content)
        with pytest.raises(
            InvalidInput, match=f"cannot load the TLS certificate in {folder.path}: "
        ) as caught:
            client_context(folder)
        assert "\n" not in str(caught.value)

    def test_a_certificate_with_another_one_s_key(self, federation: Federation) -> None:
        folder = federation.clinic()
        folder.private_key_file.write_bytes(TlsKey.generate().private_pem())
        with pytest.raises(InvalidInput, match="cannot load the TLS certificate"):
            client_context(folder)

    def test_only_our_own_authority_is_trusted(self, federation: Federation) -> None:
        for context in both_right(federation):
            [trusted] = context.get_ca_certs(binary_form=True)
            assert trusted == ssl.PEM_cert_to_DER_cert(federation.authority.certificate_pem.decode())


class TestCertificates:
    def test_what_is_in_them(self, federation: Federation) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        key = TlsKey.generate()
        issued = sign(federation.authority, key, "coordinator", server_addresses=ADDRESSES, now=now)
        certificate = x509.load_pem_x509_certificate(issued)
        ours = x509.load_pem_x509_certificate(federation.authority.certificate_pem)
        certificate.verify_directly_issued_by(ours)
        assert certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        assert certificate.not_valid_after_utc - now == CERTIFICATE_LIFETIME
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert not constraints.value.ca
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["coordinator", "localhost"]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]

    def test_the_authority_signs_for_no_other_authority(self, federation: Federation) -> None:
        ours = x509.load_pem_x509_certificate(federation.authority.certificate_pem)
        constraints = ours.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, 0)

    def test_every_one_has_its_own_key_and_number(self, federation: Federation) -> None:
        keys = [TlsKey.generate() for _ in range(2)]
        assert len({key.public_key for key in keys}) == 2
        issued = [sign(federation.authority, key, "clinic-1") for key in (*keys, keys[0])]
        numbers = {x509.load_pem_x509_certificate(one).serial_number for one in issued}
        assert len(numbers) == 3


class TestFrames:
    def test_binary_ones_pass_and_text_does_not(self) -> None:
        assert binary(b"\x00") == b"\x00"
        with pytest.raises(MalformedMessage, match="text frame"):
            binary("text")

    def test_no_connection_has_no_name(self) -> None:
        with pytest.raises(MalformedMessage, match="no client certificate"):
            certificate_name(None)

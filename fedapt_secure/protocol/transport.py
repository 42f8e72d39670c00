"""TLS and websocket settings that both ends share: TLS 1.3 only, both sides with a certificate."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from fedapt_crypto.errors import CertificateRefused, InvalidInput, MalformedMessage
from fedapt_crypto.private_files import read_private
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.joining.revocation import Revocations
from fedapt_secure.protocol.messages import MAX_FRAME_BYTES
from fedapt_secure.protocol.tls_advice import refused_client

PING_TIMEOUT_S = 60.0
"""By default: a connection whose other end does not answer a ping for so long is broken."""
WEBSOCKET_OPTIONS: dict[str, Any] = {
    "max_size": MAX_FRAME_BYTES,
    "compression": None,  # masked vectors and ciphertexts do not compress
    "open_timeout": 10,
    "ping_interval": 20,
    "ping_timeout": PING_TIMEOUT_S,
    "close_timeout": 2,
}


TLS_HANDSHAKE_TIMEOUT_S = 5
Report = Callable[[str], None]
"""Takes one line that says why a connection was refused."""


def server_context(folder: PartyFolder, report: Report | None = None) -> ssl.SSLContext:
    """Return the coordinator's TLS context: a client certificate of our own authority is required.

    A revoked one is refused within the handshake, before any byte of the application, and as soon as it is
    on the list in the coordinator's folder.

    Args:
        folder: The coordinator's folder.
        report: Told why a handshake failed; TLS itself tells nobody on this side.

    Raises:
        InvalidInput: If a file is missing or broken, the revocation list of a founded federation among them.
    """
    revocations = None
    if folder.authority_key_file.exists() or folder.revocation_file.exists():
        revocations = Revocations(folder.revocation_file, read_private(folder.authority_file))
    return _watched(_context(folder, ssl.Purpose.CLIENT_AUTH), report, revocations)


def enrolment_context(folder: PartyFolder, report: Report | None = None) -> ssl.SSLContext:
    """Return the context of the enrolment port: who has a certificate shows it, who has none may knock."""
    context = _watched(_context(folder, ssl.Purpose.CLIENT_AUTH), report, None)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def reload_certificate(context: ssl.SSLContext, folder: PartyFolder) -> None:
    """Let a context present the certificate that lies in the folder now; open connections keep the old one.

    Raises:
        InvalidInput: If it cannot be used; the one in use stays.
    """
    _context(folder, ssl.Purpose.CLIENT_AUTH)  # key and certificate are whole and fit, or this raises
    context.load_cert_chain(folder.certificate_file, folder.private_key_file, folder.tls_password() or b"")


def client_context(folder: PartyFolder) -> ssl.SSLContext:
    """Return an institution's TLS context: only our own authority is trusted, the host name is checked."""
    return _context(folder, ssl.Purpose.SERVER_AUTH)


def joining_context(authority_der: bytes) -> ssl.SSLContext:
    """Return the context of one who has no certificate yet: trusts one authority, whose hash it compared."""
    context = ssl.create_default_context(cadata=authority_der)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def looking_context(seen: list[bytes]) -> ssl.SSLContext:
    """Return a context that trusts nobody and verifies nothing, to look at what a peer presents.

    Nothing secret may be sent over it. Put the peer's certificate (DER) into ``seen``.
    """

    class Looking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True)
            if certificate is not None:
                seen.append(certificate)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslobject_class = Looking
    return context


def _context(folder: PartyFolder, purpose: ssl.Purpose) -> ssl.SSLContext:
    folder.settle()
    read_private(folder.private_key_file)  # refuses a key that others can read
    try:
        context = ssl.create_default_context(purpose, cafile=str(folder.authority_file))
        # Always with a password, if an empty one: OpenSSL would ask for one on the terminal.
        password = folder.tls_password() or b""
        context.load_cert_chain(folder.certificate_file, folder.private_key_file, password=password)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"cannot load the TLS certificate in {folder.path}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _watched(
    context: ssl.SSLContext, report: Report | None, revocations: Revocations | None
) -> ssl.SSLContext:
    """Let the context check revocations at the end of each handshake, and say why one failed."""
    tell = report or (lambda _: None)

    class Watched(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
                serial = certificate_serial(self)
                if revocations is not None and serial is not None:
                    revocations.check(serial, certificate_name(self), tell)
            except ssl.SSLWantReadError:
                raise
            except ssl.SSLError as error:
                tell(refused_client(error))
                raise
            except CertificateRefused as error:
                tell(str(error))
                raise ssl.SSLError("certificate revoked") from None  # what ends a handshake in asyncio

    context.sslobject_class = Watched
    return context


def certificate_serial(ssl_object: ssl.SSLObject | None) -> int | None:
    """Return the serial number of the peer's verified certificate; ``None`` where it showed none."""
    certificate: Any = ssl_object.getpeercert() if ssl_object is not None else None
    return int(certificate["serialNumber"], 16) if certificate else None


async def watch_revocations(
    revocations: Revocations,
    revoked: Callable[[frozenset[int]], None],
    report: Report,
    *,
    every_s: float = 1.0,
) -> None:
    """Look at the revocation list for ever, so that revocation takes effect on open connections too.

    Args:
        revocations: The list.
        revoked: Called with the serial numbers that are new on it; closes their connections.
        report: Told about a list that cannot be used; the last good one stays.
        every_s: How often to look.
    """
    while True:
        try:
            new = revocations.refresh()
        except InvalidInput as error:
            report(str(error))
        else:
            if new:
                revoked(new)
        await asyncio.sleep(every_s)


def certificate_name(ssl_object: ssl.SSLObject | None) -> str:
    """Return the common name in the peer's verified certificate.

    Raises:
        MalformedMessage: If there is none; TLS has then not been set up as it must be.
    """
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    subject: Any = (certificate or {}).get("subject", ())
    for relative in subject:
        for key, value in relative:
            if key == "commonName":
                return str(value)
    raise MalformedMessage("the connection has no client certificate")


def binary(frame: str | bytes) -> bytes:
    """Return a frame that must be binary; raises `MalformedMessage` for text."""
    if isinstance(frame, str):
        raise MalformedMessage("a text frame came where binary ones are spoken")
    return frame

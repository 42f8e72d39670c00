"""TLS and websocket settings that both ends share: TLS 1.3 only, both sides with a certificate."""

import ssl
from typing import Any

from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_crypto.private_files import read_private
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol.messages import MAX_FRAME_BYTES

WEBSOCKET_OPTIONS: dict[str, Any] = {
    "max_size": MAX_FRAME_BYTES,
    "compression": None,  # masked vectors and ciphertexts do not compress
    "open_timeout": 10,
    "ping_interval": 20,
    "ping_timeout": 60,
    "close_timeout": 2,
}


def server_context(folder: PartyFolder) -> ssl.SSLContext:
    """Return the coordinator's TLS context: a client certificate of our own authority is required."""
    return _context(folder, ssl.Purpose.CLIENT_AUTH)


def client_context(folder: PartyFolder) -> ssl.SSLContext:
    """Return an institution's TLS context: only our own authority is trusted, the host name is checked."""
    return _context(folder, ssl.Purpose.SERVER_AUTH)


def _context(folder: PartyFolder, purpose: ssl.Purpose) -> ssl.SSLContext:
    read_private(folder.private_key_file)  # refuses a key that others can read
    try:
        context = ssl.create_default_context(purpose, cafile=str(folder.authority_file))
        context.load_cert_chain(folder.certificate_file, folder.private_key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"cannot load the TLS certificate in {folder.path}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    return context


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

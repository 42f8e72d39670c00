"""Certificates for tests, made as parties make them: key and request first, then the authority signs."""

from datetime import datetime
from pathlib import Path

from fedapt_crypto.pki import CertificateAuthority, TlsKey
from fedapt_secure.config.party_folder import PartyFolder


def issue(
    authority: CertificateAuthority,
    folder: Path,
    name: str,
    *,
    server_addresses: tuple[str, ...] = (),
    now: datetime | None = None,
    trusts: CertificateAuthority | None = None,
) -> PartyFolder:
    """Make a party's folder with keys and a certificate; it may trust another authority than its own."""
    party = PartyFolder(folder)
    party.create()
    certify(authority, party, name, server_addresses=server_addresses, now=now)
    if trusts is not None:
        party.authority_file.write_bytes(trusts.certificate_pem)
    return party


def certify(
    authority: CertificateAuthority,
    party: PartyFolder,
    name: str,
    *,
    server_addresses: tuple[str, ...] = (),
    now: datetime | None = None,
) -> bytes:
    """Give a party a certificate on a fresh TLS key; return it (PEM)."""
    certificate = sign(authority, party.pending_tls_key(), name, server_addresses=server_addresses, now=now)
    party.install_certificate(certificate, authority.certificate_pem)
    return certificate


def sign(
    authority: CertificateAuthority,
    key: TlsKey,
    name: str,
    *,
    server_addresses: tuple[str, ...] = (),
    now: datetime | None = None,
) -> bytes:
    """Let an authority sign a certificate (PEM) for a key."""
    return authority.sign_request(key.request(name), name, server_addresses=server_addresses, now=now)

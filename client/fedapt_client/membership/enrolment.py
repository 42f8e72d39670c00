"""An institution's side of enrolment and renewal, without sockets: keys, requests, checks of answers.

What is on disk, in the order in which it is written:
1. ``join.pending``: the join string, while it is needed;
2. the keys, which are made here and never leave;
3. ``request.pending``: the request, so that asking again asks for the same;
4. certificate, authority and settings, when the answer has been checked;
5. ``federation.json``: what this institution pins from now on. Written last: with it, it is enrolled.
Interrupted anywhere, enrolling again with the same join string goes on from there.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from fedapt_client.membership.own_times import own_times
from fedapt_client.membership.templates import CLIENT
from fedapt_client.settings import SETTINGS_FILE
from fedapt_crypto.certificates import facts, request_key, to_der, to_pem
from fedapt_crypto.encoding import PartyName
from fedapt_crypto.errors import InvalidInput, PeerError, VerificationFailed
from fedapt_crypto.identity import check_public_key, fingerprint, fingerprint_bytes
from fedapt_crypto.private_files import read_private, remove_leftovers, write_atomically
from fedapt_crypto.roster import COORDINATOR, sign_entry
from fedapt_secure.config.annotated import write_annotated
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import Settings
from fedapt_secure.protocol import clocks
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.join_string import (
    Address,
    JoinString,
    Port,
    paper_key,
    token_hash,
    token_id,
)

JOIN_FILE: Final = "join.pending"
REQUEST_FILE: Final = "request.pending"
FEDERATION_FILE: Final = "federation.json"
HexHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Federation(Settings):
    """What ``federation.json`` says: whom this institution joined, and what it pins.

    Attributes:
        federation, domain, name: As the coordinator calls them.
        coordinator_name: Its name.
        coordinator_key: Its identity key, hexadecimal; signs rosters and sessions.
        authority_fingerprint: SHA-256 of the authority's certificate.
        addresses, enrolment_port, rounds_port: Where it is reached.
        joined_with: Hash of the token, by which the same join string is recognised.
    """

    federation: str
    domain: str
    name: PartyName
    coordinator_name: PartyName
    coordinator_key: HexHash
    authority_fingerprint: HexHash
    addresses: tuple[Address, ...]
    enrolment_port: Port
    rounds_port: int
    joined_with: HexHash

    @property
    def coordinator_fingerprint(self) -> str:
        """The coordinator's fingerprint, to compare by telephone."""
        return fingerprint(bytes.fromhex(self.coordinator_key))


@dataclass(frozen=True)
class Options:
    """What goes into the settings file, beside what the answer says.

    Attributes:
        host: The address that worked; ``None`` for the first in the join string.
        proxy, data, device: As in `ClientSettings`.
    """

    host: str | None = None
    proxy: str | None = None
    data: Path = Path("data")
    device: str = "auto"


def load_federation(folder: PartyFolder) -> Federation:
    """Return what this institution pins.

    Raises:
        InvalidInput: If it is not enrolled, or the file is broken.
    """
    path = folder.path / FEDERATION_FILE
    if not path.exists():
        raise InvalidInput(
            f"{folder.path} is not an enrolled institution's folder: run 'fedapt-secure client enroll' first,"
            " or name the folder with --dir"
        )
    try:
        return Federation.model_validate_json(read_private(path))
    except ValidationError:
        raise InvalidInput(f"{path} cannot be read: restore it from a backup") from None


def begin(folder: PartyFolder, join: JoinString, *, now: datetime | None = None) -> e.Request | None:
    """Prepare to enrol, or go on with it: make what is missing, and return the request.

    Returns:
        The request; ``None`` if this join string has done its work and all is in place.

    Raises:
        InvalidInput: If the folder is enrolled with another join string, or holds foreign keys.
    """
    folder.make()
    if (folder.path / FEDERATION_FILE).exists():
        federation = load_federation(folder)
        if federation.joined_with != token_hash(join.token).hex():
            raise InvalidInput(
                f"{folder.path} is enrolled already, as {federation.name!r} in {federation.federation!r}:"
                " choose another folder with --dir"
            )
        _forget_pending(folder)
        return None
    # Nobody else writes here before it is enrolled, and two of us are kept apart by the lock of the command.
    remove_leftovers(folder.path, older_than_s=0)
    if (now or datetime.now(UTC)) >= join.expires_at:
        raise InvalidInput("the join string has expired: ask the coordinator's operator for a new one")
    pending = folder.path / JOIN_FILE
    if not pending.exists() and (folder.identity_file.exists() or folder.sealing_file.exists()):
        raise InvalidInput(f"{folder.path} already holds keys of something else: choose another with --dir")
    write_atomically(pending, join.to_text().encode())
    stored = _stored(folder, e.Request)
    if stored is not None and _fits(stored, folder, join):
        return stored
    identity, sealing_key = folder.complete_keys()
    unsigned = e.Request(
        name=join.name,
        authority_fingerprint=join.authority_fingerprint,
        identity_key=identity.public_key,
        sealing_key=sealing_key.public_key,
        certificate_request=folder.pending_tls_key().request(join.name),
        invitation=token_id(join.token),
        entry_signature=sign_entry(
            identity,
            join.authority_fingerprint,
            join.coordinator_fingerprint,
            join.name,
            sealing_key.public_key,
        ),
        authenticator=bytes(32),
        signature=e.UNSIGNED,
    )
    proof = e.authenticator(unsigned, paper_key(join.token))
    request = e.signed(identity, unsigned.model_copy(update={"authenticator": proof}))
    write_atomically(folder.path / REQUEST_FILE, request.to_bytes())
    return request


def pending_join(folder: PartyFolder) -> JoinString | None:
    """Return the join string of an enrolment that has begun and not ended."""
    path = folder.path / JOIN_FILE
    return JoinString.from_text(read_private(path).decode(errors="replace")) if path.exists() else None


def finish(
    folder: PartyFolder, join: JoinString, request: e.Request, answer: e.Certified, options: Options
) -> Federation:
    """Check the coordinator's answer against join string and request, and store what it brings.

    Raises:
        PeerError: If anything in it is not what was asked for; nothing is stored then.
        InvalidInput: If the certificate is not valid by this machine's clock; nothing is stored then either.
    """
    if fingerprint_bytes(answer.coordinator_key) != join.coordinator_fingerprint:
        raise VerificationFailed("the answer is not from the coordinator that the join string names")
    if hashlib.sha256(answer.authority).digest() != join.authority_fingerprint:
        raise VerificationFailed("the answer brings another authority than the join string names")
    _check_answer(folder, answer, request, None)
    _install(folder, answer)
    host = options.host or join.addresses[0]
    if not (folder.path / SETTINGS_FILE).exists():  # a file that somebody edited is not overwritten
        values = {
            "name": answer.name,
            "host": host,
            "port": answer.rounds_port or 8443,
            "enrolment_port": join.port,
            "proxy": options.proxy,
            "data": str(options.data),
            "device": options.device,
        }
        write_annotated(folder.path / SETTINGS_FILE, CLIENT, values)
    federation = Federation(
        federation=answer.federation,
        domain=answer.domain,
        name=answer.name,
        coordinator_name=answer.coordinator_name,
        coordinator_key=answer.coordinator_key.hex(),
        authority_fingerprint=join.authority_fingerprint.hex(),
        addresses=join.addresses,
        enrolment_port=join.port,
        rounds_port=answer.rounds_port,
        joined_with=token_hash(join.token).hex(),
    )
    write_atomically(folder.path / FEDERATION_FILE, federation.model_dump_json(indent=2).encode())
    _forget_pending(folder)
    return federation


def renewal_due(folder: PartyFolder, now: datetime | None = None) -> bool:
    """Whether the TLS certificate is in the last third of its life, and `desk.renew` should be called."""
    return folder.certificate().renewal_due(now or datetime.now(UTC))


def begin_renewal(folder: PartyFolder, federation: Federation, nonce: bytes | None = None) -> e.Renewal:
    """Return a request for the next certificate, on a fresh TLS key, signed by the identity.

    Args:
        folder: The institution's folder.
        federation: What it pins.
        nonce: The coordinator's, on a connection; without one the request is for a file and is kept, for
            the answer must fit it.
    """
    remove_leftovers(folder.path)
    identity = folder.identity()
    unsigned = e.Renewal(
        name=federation.name,
        authority_fingerprint=bytes.fromhex(federation.authority_fingerprint),
        certificate_request=folder.pending_tls_key().request(federation.name),
        nonce=nonce or bytes(e.CHALLENGE_BYTES),
        entry_signature=sign_entry(
            identity,
            bytes.fromhex(federation.authority_fingerprint),
            fingerprint_bytes(bytes.fromhex(federation.coordinator_key)),
            federation.name,
            folder.sealing_key().public_key,
        ),
        signature=e.UNSIGNED,
    )
    renewal = e.signed(identity, unsigned)
    if nonce is None:
        write_atomically(folder.path / REQUEST_FILE, renewal.to_bytes())
    return renewal


def finish_renewal(
    folder: PartyFolder,
    federation: Federation,
    renewal: e.Renewal,
    answer: e.Certified,
    theirs: datetime | None = None,
) -> datetime:
    """Check and store a renewed certificate; return until when it is valid.

    Args:
        folder: The institution's folder.
        federation: What it pins.
        renewal: What was asked for.
        answer: What came.
        theirs: What time the coordinator says it is, if it could be asked just now.

    Raises:
        PeerError: If the answer is not what was asked for; nothing is stored then.
        InvalidInput: If the certificate is not valid by this machine's clock; nothing is stored then either.
    """
    if answer.coordinator_key.hex() != federation.coordinator_key:
        raise VerificationFailed("the answer is not from the coordinator that this institution joined")
    if hashlib.sha256(answer.authority).hexdigest() != federation.authority_fingerprint:
        raise VerificationFailed("the answer brings another authority than the one that is pinned")
    _check_answer(folder, answer, renewal, theirs)
    _install(folder, answer)
    _forget_pending(folder)
    return folder.certificate().not_after


def finish_from_file(folder: PartyFolder, answer: e.Certified, options: Options) -> Federation:
    """Install an answer that came as a file, to an enrolment or a renewal; ends where those do.

    Raises:
        InvalidInput: If nothing was asked for from this folder, or what came is not valid by its clock.
        PeerError: If the answer is not what was asked for.
    """
    if (folder.path / FEDERATION_FILE).exists():
        federation, renewal = load_federation(folder), _stored(folder, e.Renewal)
        if renewal is None:
            raise InvalidInput(
                f"{folder.path} waits for no answer: run 'fedapt-secure client csr' first; an answer counts"
                " once"
            )
        finish_renewal(folder, federation, renewal, answer)
        return federation
    join, request = pending_join(folder), _stored(folder, e.Request)
    if join is None or request is None:
        raise InvalidInput(f"{folder.path} waits for no answer: run 'fedapt-secure client csr -' first")
    return finish(folder, join, request, answer, options)


def _check_answer(
    folder: PartyFolder, answer: e.Certified, request: e.Request | e.Renewal, theirs: datetime | None
) -> None:
    check_public_key(answer.coordinator_key, owner=COORDINATOR)  # a string names it that others have made
    e.check_signature(answer, answer.coordinator_key, signer=COORDINATOR)
    if answer.request_hash != e.request_hash(request):
        raise VerificationFailed("the answer is to another request than the last one made here")
    about = facts(answer.certificate)
    if (answer.name, about.name) != (request.name, request.name):
        raise VerificationFailed("the answer brings a certificate in another name")
    if about.public_key != request_key(request.certificate_request, request.name):
        raise VerificationFailed("the answer brings a certificate for another key")
    wrong = clocks.brought(about, own_times(folder, theirs))
    if wrong is not None:
        raise InvalidInput(wrong)


def _install(folder: PartyFolder, answer: e.Certified) -> None:
    """Put certificate and authority in place; also where an earlier attempt got as far as this."""
    folder.settle()
    certificate = folder.certificate_file
    if certificate.exists() and to_der(read_private(certificate)) == answer.certificate:
        return
    folder.install_certificate(to_pem(answer.certificate), to_pem(answer.authority))


def _stored(folder: PartyFolder, kind: type[e.Asked]) -> e.Asked | None:
    path = folder.path / REQUEST_FILE
    if not path.exists():
        return None
    try:
        return kind.from_bytes(read_private(path))
    except PeerError:
        return None  # of the other kind


def _fits(request: e.Request, folder: PartyFolder, join: JoinString) -> bool:
    """Whether a stored request answers this join string with the keys in the folder."""
    identity, sealing_key = folder.complete_keys()
    return (request.invitation, request.name, request.identity_key, request.sealing_key) == (
        token_id(join.token),
        join.name,
        identity.public_key,
        sealing_key.public_key,
    )


def _forget_pending(folder: PartyFolder) -> None:
    for name in (REQUEST_FILE, JOIN_FILE):
        (folder.path / name).unlink(missing_ok=True)

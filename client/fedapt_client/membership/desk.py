"""The institution's I/O shell for the coordinator's enrolment port: enrol, renew, fetch the roster.

Who enrols has nothing to trust yet but a hash in the join string. So it connects twice. The first
connection trusts nobody, sends nothing, and asks for the authority's certificate; if that has the hash, the
second one trusts exactly that authority, as TLS does it, and only there the token is sent.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from typing import Any, Final, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from fedapt_client.membership.connecting import Place, Unreachable, open_connection, unreachable, why
from fedapt_client.membership.enrolment import Federation, begin_renewal, finish_renewal
from fedapt_client.membership.own_times import own_times
from fedapt_client.membership.rosters import store_revocations
from fedapt_crypto.certificates import CertificateFacts, check_issued
from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import InvalidInput, PeerError, RunFailed, UnexpectedMessage
from fedapt_crypto.private_files import read_private
from fedapt_secure.config.locking import locked
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol import clocks
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import said
from fedapt_secure.protocol.joining.join_string import JoinString
from fedapt_secure.protocol.keepalive import patience
from fedapt_secure.protocol.tls_advice import is_about_dates
from fedapt_secure.protocol.transport import binary, client_context, joining_context, looking_context

TIMEOUT_S: Final = 20.0
Expected = TypeVar("Expected", bound=TaggedMessage)


class NotAccepted(RunFailed):
    """The coordinator refuses what was asked; the message is our own sentence for the code that it sent."""


async def enrol(
    folder: PartyFolder, join: JoinString, request: e.Request, proxy: str | None
) -> tuple[e.Certified, str]:
    """Send a request with its token, at the first address that is the coordinator's.

    Returns:
        The coordinator's answer, to be checked by `enrolment.finish`, and the host that gave it.

    Raises:
        Unreachable: If no address leads to the authority in the join string; the token was not sent.
        NotAccepted: If the coordinator does not accept it.
        PeerError: If it breaks the protocol.
    """
    failures: list[str] = []
    for host in join.addresses:
        place, authority = Place(host, join.port, proxy), None
        try:
            authority = await _pinned_authority(place, join.authority_fingerprint)
            async with _conversation(place, joining_context(authority)) as (connection, _):
                return await _enrol(connection, folder, join, request), host
        except Unreachable as error:
            dates = authority is not None and is_about_dates(error.__cause__)
            cause = error.__cause__
            failures.append(await diagnosis(cause, place, folder, place, authority) if dates else str(error))
    raise Unreachable("; ".join(failures))


async def fetch_roster(folder: PartyFolder, place: Place) -> e.RosterFile:
    """Fetch the current roster, and keep the newest list of revoked certificates.

    Raises:
        Unreachable: If there is no connection to the coordinator.
        NotAccepted: If it does not give it to us.
        PeerError: If it breaks the protocol.
    """
    async with _as_member(folder, place) as (connection, _):
        await connection.send(e.RosterWanted().to_bytes())
        sent = await _receive(connection, e.RosterSent)
    store_revocations(folder, sent.revocation_list)
    return e.RosterFile.from_bytes(sent.roster)


async def renew(folder: PartyFolder, federation: Federation, place: Place) -> datetime:
    """Get the next TLS certificate with the current one; return until when it is valid.

    Interrupted anywhere, the old pair of key and certificate stays in use, or the new one is: never a mix.

    Args:
        folder: The party's folder.
        federation: What it knows of the federation.
        place: Where to connect.

    Raises:
        Unreachable: If there is no connection to the coordinator.
        NotAccepted: If it does not renew.
        PeerError: If it breaks the protocol.
        InvalidInput: If what it certifies is not valid by this machine's clock; the old one stays.
    """
    async with _as_member(folder, place) as (connection, welcome):
        with locked(
            folder.path / ".lock", wait=False
        ):  # a person and a running client may renew at the same time
            renewal = begin_renewal(folder, federation, welcome.nonce)
            await connection.send(e.Renew(renewal=renewal.to_bytes()).to_bytes())
            answer = await _receive(connection, e.Certified)
            return finish_renewal(folder, federation, renewal, answer, _said(welcome))


async def greet(folder: PartyFolder, place: Place) -> e.Welcome:
    """Return the coordinator's first message to a member; raises `Unreachable` where there is none."""
    async with _as_member(folder, place) as (_, welcome):
        return welcome


@dataclass(frozen=True)
class Looked:
    """What was seen of a coordinator without trusting it.

    Attributes:
        presented: The certificate that is presented there, DER; ``None`` where TLS does not get that far.
        certificate: The same, if our authority issued it, whatever its dates; TLS has proved that the other
            side holds its key.
        theirs: What time it says it is, if it is one of ours and said so.
    """

    presented: bytes | None = None
    certificate: CertificateFacts | None = None
    theirs: datetime | None = None


async def look(place: Place, authority: bytes) -> Looked:
    """Look at who answers there, and what time it says it is; nothing is sent.

    Args:
        place: Where.
        authority: The federation's, PEM or DER.
    """
    seen: list[bytes] = []
    ours, theirs = None, None
    try:
        async with connected(place, looking_context(seen)) as connection:
            ours = _issued(seen[0], authority)
            if ours is not None:
                theirs = _said(await _receive(connection, e.Welcome))
    except Unreachable as error:
        # A rounds port wants a certificate, and hangs up; what it presented was seen.
        ours = _issued(seen[0], authority) if seen else None
        theirs = None if ours is None else _date(error.__cause__)
    except (PeerError, NotAccepted):
        pass
    return Looked(seen[0] if seen else None, ours, theirs)


def _issued(certificate: bytes, authority: bytes) -> CertificateFacts | None:
    try:
        return check_issued(certificate, authority)
    except PeerError:
        return None


async def diagnosis(
    error: BaseException | None,
    place: Place,
    folder: PartyFolder,
    enrolment: Place,
    authority: bytes | None = None,
) -> str:
    """Return `why` of one of `CONNECTION_ERRORS`; over dates, whose clock is wrong.

    Args:
        error: What the connection ended with.
        place: Where to.
        folder: The institution's folder.
        enrolment: The coordinator's enrolment port, which says what time it is there.
        authority: The federation's authority; by default the one in the folder.
    """
    assert isinstance(error, Exception)
    if not is_about_dates(error):
        return why(error, place)
    looked = await look(enrolment, authority or read_private(folder.authority_file))
    if looked.certificate is None:
        return why(error, place)
    times = own_times(folder, looked.theirs)
    lines = [clocks.of_coordinator(looked.certificate, times)]
    if times.own is not None:
        lines.append(clocks.own_certificate(times.own, times))
    found = next((line for line in (*lines, times.advice()) if line is not None), None)
    return why(error, place) if found is None else f"{place}: {found}"


def check_certificate(folder: PartyFolder, enrolment: Place) -> None:
    """Check that this institution's certificate is valid now: with another one nothing can begin.

    Raises:
        InvalidInput: If it is not; whose clock is wrong, if one is, or how to get a new one.
    """
    if not folder.certificate().valid(datetime.now(UTC)):
        asyncio.run(_check_certificate(folder, enrolment))


async def _check_certificate(folder: PartyFolder, enrolment: Place) -> None:
    about = folder.certificate()
    if about.valid(datetime.now(UTC)):
        return
    looked = await look(enrolment, read_private(folder.authority_file))
    times = own_times(folder, looked.theirs)
    line = clocks.own_certificate(about, times)
    if line is not None:
        raise InvalidInput(line)


@asynccontextmanager
async def _as_member(folder: PartyFolder, place: Place) -> AsyncIterator[tuple[ClientConnection, e.Welcome]]:
    """Converse with a certificate of ours; where dates are in the way, the line says whose clock is wrong."""
    await _check_certificate(folder, place)
    try:
        async with _conversation(place, client_context(folder)) as both:
            yield both
    except Unreachable as error:
        raise Unreachable(await diagnosis(error.__cause__, place, folder, place)) from error.__cause__


def _said(welcome: e.Welcome) -> datetime:
    return datetime.fromtimestamp(welcome.time, UTC)


def _date(error: BaseException | None) -> datetime | None:
    """Return the Date of an answer that refuses a connection, if it has one."""
    said = error.response.headers.get("Date") if isinstance(error, InvalidStatus) else None
    try:
        date = None if said is None else parsedate_to_datetime(said)
    except ValueError:
        return None
    return date if date is None or date.tzinfo is not None else None


async def _pinned_authority(place: Place, fingerprint: bytes) -> bytes:
    """Return the authority's certificate (DER) that the coordinator names, if it has the pinned hash."""
    seen: list[bytes] = []
    async with _conversation(place, looking_context(seen)) as (_, welcome):
        authority = welcome.authority
    if hashlib.sha256(authority).digest() != fingerprint:
        raise Unreachable(
            f"{place}: this is not the coordinator that the join string names (another authority); the token"
            " was not sent: check the address with the coordinator's operator"
        )
    return authority


async def _enrol(
    connection: ClientConnection, folder: PartyFolder, join: JoinString, request: e.Request
) -> e.Certified:
    await connection.send(e.Enrol(token=join.token, request=request.to_bytes()).to_bytes())
    challenge = await _receive(connection, e.Challenge)
    info = e.challenge_info(e.request_hash(request))
    opened = folder.sealing_key().open(challenge.sealed, *info)
    await connection.send(e.Proof(opened=opened).to_bytes())
    return await _receive(connection, e.Certified)


@asynccontextmanager
async def _conversation(
    place: Place, context: SSLContext
) -> AsyncIterator[tuple[ClientConnection, e.Welcome]]:
    """Connect and take the welcome."""
    async with connected(place, context) as connection:
        yield connection, await _receive(connection, e.Welcome)


@asynccontextmanager
async def connected(place: Place, context: SSLContext) -> AsyncIterator[ClientConnection]:
    """Connect; whatever goes wrong on the way, or in the block, becomes one line.

    Raises:
        Unreachable: With that line.
    """
    options: dict[str, Any] = {
        "open_timeout": TIMEOUT_S,
        "max_size": e.MAX_ANSWER_FRAME_BYTES,
        "compression": None,
        "ping_interval": None,
        "close_timeout": 2,
        "user_agent_header": None,
    }
    async with (
        unreachable(place),
        open_connection(place, context, **options) as connection,
        patience(connection, 2 * TIMEOUT_S),
    ):
        yield connection


async def _receive(connection: ClientConnection, expected: type[Expected]) -> Expected:
    data = binary(await connection.recv())
    message = decode_one_of(data, e.FROM_COORDINATOR, max_bytes=e.MAX_ANSWER_FRAME_BYTES)
    if isinstance(message, e.NotAccepted):
        raise NotAccepted(said(message.reason))
    if not isinstance(message, expected):
        raise UnexpectedMessage(f"the coordinator sent {message.kind!r} instead of {expected.tag()!r}")
    return message

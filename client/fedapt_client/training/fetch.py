"""Fetches the model of a finished session from the coordinator, and checks all that it claims to be."""

import asyncio
import hashlib
from dataclasses import dataclass

from fedapt_client.books.bindings import Bindings
from fedapt_client.books.in_force import policy_in_force
from fedapt_client.books.ledger_file import LedgerFile
from fedapt_client.membership.connecting import Place, open_connection, unreachable
from fedapt_client.membership.desk import NotAccepted
from fedapt_client.session.opening import Finished, GroupOpener, check_finished
from fedapt_client.settings import ClientSettings
from fedapt_client.training.session_model import make_bundle, session_backbone
from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import ContextMismatch, InvalidInput, PeerError, RunFailed, UnexpectedMessage
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import groups
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.ranges import USUAL_MESSAGE_BYTES
from fedapt_secure.learning.bundle import Bundle, encode_bundle
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.keepalive import patience
from fedapt_secure.protocol.parameters import check_vector
from fedapt_secure.protocol.reasons import NO_MODEL, NoModelReason
from fedapt_secure.protocol.session import MAX_CONFIGURATION_BYTES, SessionConfiguration
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, binary, client_context

TIMEOUT_S = 120.0
"""Without anything coming in; a model on a slow line may take longer."""


@dataclass(frozen=True)
class Fetched:
    """A model that came from the coordinator.

    Attributes:
        session: Whose, 16 bytes. bundle: The model. data: It as a file.
    """

    session: bytes
    bundle: Bundle
    data: bytes

    @property
    def bundle_hash(self) -> bytes:
        """What all who hold this model compare."""
        return hashlib.sha256(self.data).digest()


def fetch_model(folder: PartyFolder, settings: ClientSettings, session: bytes | None) -> Fetched:
    """Fetch a finished session's model: under the signature of the approved roster's coordinator.

    Args:
        folder: The party's folder.
        settings: Its settings.
        session: Which; ``None`` for the one that finished last.

    Raises:
        Unreachable: If there is no connection to the coordinator.
        NotAccepted: If it has no such model.
        RunFailed: If what it sends does not hold.
        InvalidInput: If this institution cannot use it.
    """
    policy = policy_in_force(folder.path, settings).policy
    # A finished model comes with its configuration in one message. Who did not limit messages takes both.
    limited = policy.max_message_bytes < USUAL_MESSAGE_BYTES
    most = policy.max_message_bytes + (0 if limited else MAX_CONFIGURATION_BYTES)
    try:
        sent = asyncio.run(_ask(folder, settings, session, most))
        finished = check_finished(sent, folder.roster(), session, _group_opener(folder, settings))
    except PeerError as error:
        raise RunFailed(f"the model that the coordinator sent is not used: {error}") from None
    return _bundled(finished, settings)


def _group_opener(folder: PartyFolder, settings: ClientSettings) -> GroupOpener:
    """Return what opens our part of a session's group secret, which must be the one on record if any is."""

    def opened(configuration: SessionConfiguration, payload: bytes) -> InstitutionGroup:
        session = configuration.session
        group = groups.open_part(
            configuration.plan.secure_aggregation,
            payload,
            session,
            configuration.hash,
            configuration.roster,
            settings.name,
            folder.sealing_key(),
            decryptions=configuration.decryptions,
        )
        ledger = folder.path / settings.ledger
        recorded = Bindings(LedgerFile(ledger)).group_of(session) if ledger.exists() else None
        if recorded not in (None, group.commitment):
            raise ContextMismatch("sends another group secret than this session has here", peer=COORDINATOR)
        return group

    return opened


def _bundled(finished: Finished, settings: ClientSettings) -> Fetched:
    configuration = finished.configuration
    check_vector(configuration.plan.shape, finished.model)
    backbone = session_backbone(configuration, settings.device, settings.precision)
    bundle = make_bundle(configuration, backbone, finished.model, finished.domain_keys)
    return Fetched(configuration.session, bundle, encode_bundle(bundle))


async def _ask(
    folder: PartyFolder, settings: ClientSettings, session: bytes | None, max_bytes: int
) -> m.FinishedModel:
    place = Place(settings.host, settings.port, settings.proxy)
    request = m.ModelRequest(name=settings.name, session=session)
    options = WEBSOCKET_OPTIONS | {"max_size": max_bytes}
    async with (
        unreachable(place),
        open_connection(place, client_context(folder), **options) as connection,
        patience(connection, TIMEOUT_S),
    ):
        await connection.send(request.to_bytes())
        data = binary(await connection.recv())
    answer = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=max_bytes)
    match answer:
        case m.FinishedModel():
            return answer
        case m.NoModel():
            said = NO_MODEL[NoModelReason(answer.reason)]
            raise NotAccepted(f"the coordinator has no such model: {said}")
    raise UnexpectedMessage(f"the coordinator sent {answer.kind!r} where a model was asked for")


def session_from_hex(text: str) -> bytes:
    """Read a session's identifier; raises `InvalidInput` where it is none."""
    try:
        session = bytes.fromhex(text)
    except ValueError:
        session = b""
    if len(session) != 16:
        raise InvalidInput(f"{text!r} is not a session: 32 hexadecimal digits, see 'client status'")
    return session

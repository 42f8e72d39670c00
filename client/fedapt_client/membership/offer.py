"""The session that a rehearsal is about: the coordinator's offer, left unanswered, or a plan in a file."""

import asyncio
import secrets
from pathlib import Path

from pydantic import ValidationError

from fedapt_client.membership.connecting import Place, open_connection, unreachable
from fedapt_client.session.opening import signed_configuration
from fedapt_client.settings import ClientSettings
from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import InvalidInput, PeerError, RunFailed, UnexpectedMessage
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.keepalive import patience
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, binary, client_context

TIMEOUT_S = 60.0
"""Without anything coming in."""


def planned(plan_file: Path, roster: Roster) -> SessionConfiguration:
    """Return a session of a plan with everybody on the roster; no domain key of it exists.

    Args:
        plan_file: As the coordinator's ``session.yaml``.
        roster: The approved roster.

    Raises:
        InvalidInput: If the file holds no session plan, or plan and roster do not go together.
    """
    plan = build(SessionPlan, read_yaml(plan_file), source=str(plan_file))
    if any(member.domain_index >= len(plan.domains) for member in roster.members):
        raise InvalidInput(f"{plan_file} names {len(plan.domains)} domains, the roster has more: list all")
    try:
        return SessionConfiguration.drafted(plan, roster, secrets.token_bytes(SESSION_BYTES))
    except ValidationError as error:
        raise InvalidInput(f"{plan_file}: {error.errors()[0]['msg']}") from None


def offered(folder: PartyFolder, settings: ClientSettings) -> SessionConfiguration:
    """Return the session that the coordinator offers now; it is neither accepted nor refused.

    Args:
        folder: The institution's folder.
        settings: Its settings.

    Raises:
        Unreachable: If there is no connection to the coordinator.
        InvalidInput: If no session is open.
        RunFailed: If what it sends does not hold.
    """
    try:
        offer = asyncio.run(_ask(folder, settings))
        return signed_configuration("session offer", offer, folder.roster())
    except PeerError as error:
        raise RunFailed(f"what the coordinator offers is not looked at: {error}") from None


async def _ask(folder: PartyFolder, settings: ClientSettings) -> m.SessionOffer:
    place = Place(settings.host, settings.port, settings.proxy)
    options = WEBSOCKET_OPTIONS | {"max_size": m.SessionOffer.max_bytes}
    async with (
        unreachable(place),
        open_connection(place, client_context(folder), **options) as connection,
        patience(connection, TIMEOUT_S),
    ):
        await connection.send(m.Hello(name=settings.name).to_bytes())
        data = binary(await connection.recv())
    answer = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.SessionOffer.max_bytes)
    match answer:
        case m.SessionOffer():
            return answer
        case m.Standby() | m.Rehearse():
            raise InvalidInput(
                "the coordinator offers no session now: get its session.yaml and name it with --plan"
            )
    raise UnexpectedMessage(f"the coordinator sent {answer.kind!r} where a session was asked for")

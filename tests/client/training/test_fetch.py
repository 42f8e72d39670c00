"""A finished model that is fetched: over real TLS, and believed only where every signature holds."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from fedapt_client.membership import rosters
from fedapt_client.membership.connecting import Unreachable
from fedapt_client.membership.desk import NotAccepted
from fedapt_client.session.opening import GroupOpener, check_finished, expand_keys
from fedapt_client.settings import ClientSettings
from fedapt_client.training.fetch import _ask, session_from_hex
from fedapt_crypto import domain_keys
from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    PeerError,
    TooFewParticipants,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg import groups, registry
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import initial_parameters
from fedapt_secure.protocol.session import SessionConfiguration, model_hash
from fedapt_secure.protocol.stated import Confirmation, SumStatement
from fedapt_secure.protocol.statements import sign_sum
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, server_context
from fedapt_server.session import bodies
from tests.protocol.federation import Federation
from tests.support.offices import HOST, Office, free_port
from tests.support.rosters import roster_of

NAME = "clinic-2"
DECRYPTIONS = 100


def finished(
    federation: Federation,
    identity: Identity | None = None,
    model: dict[str, object] | None = None,
    maker: str = "clinic-1",
    **end: object,
) -> m.FinishedModel:
    signer = identity or federation.coordinator_identity
    configuration = federation.configuration
    vector = initial_parameters(configuration.plan.shape, 1)
    newest = stated(federation, m.model_to_bytes(vector), **(model or {}))
    model_id = model_hash(m.model_to_bytes(vector))
    sent = bodies.session_end(configuration, signer, model_id, federation.seeds, ())
    offer = groups.make_offer(
        *federation._group_arguments, maker, federation.identities[maker], decryptions=DECRYPTIONS
    )
    routed = groups.route_offer(
        *federation._group_arguments[:1],
        offer,
        *federation._group_arguments[1:],
        maker,
        decryptions=DECRYPTIONS,
    )
    routed[0].close()
    return m.FinishedModel(
        configuration=configuration.to_bytes(),
        signature=signer.sign("session offer", configuration.hash),
        end=sent.model_copy(update=end).to_bytes(),
        model=newest.to_bytes(),
        group=routed[1][NAME],
    )


def opener(federation: Federation) -> GroupOpener:
    """Opens the group secret's part of `NAME` with its key."""

    def opened(configuration: SessionConfiguration, payload: bytes) -> InstitutionGroup:
        about = (configuration.session, configuration.hash, configuration.roster, NAME)
        scheme, key = configuration.plan.secure_aggregation, federation.sealing[NAME]
        return groups.open_part(scheme, payload, *about, key, decryptions=DECRYPTIONS)

    return opened


def stated(federation: Federation, stated_model: bytes, **changes: object) -> m.CatchUp:
    """A model that all its institutions state."""
    configuration = federation.configuration
    statement = SumStatement(
        session=configuration.session,
        configuration_hash=configuration.hash,
        round=1,
        attempt=1,
        transcript=bytes(32),
        sum_hash=bytes(32),
        sum_tag=bytes(8),
        model_before=bytes(32),
        model_after=model_hash(stated_model),
    )
    signatures = tuple(
        Confirmation(party=name, signature=sign_sum(identity, statement))
        for name, identity in federation.identities.items()
    )
    made = m.CatchUp(statement=statement, signatures=signatures, model=stated_model)
    return made.model_copy(update=changes)


def test_what_holds_is_taken_also_under_a_later_roster() -> None:
    federation = Federation(4)
    later = federation.roster.model_copy(update={"members": federation.roster.members[:3]})
    sent = finished(federation)
    for wanted in (None, federation.configuration.session):
        found = check_finished(sent, later, wanted, opener(federation))
        assert found.configuration == federation.configuration
        assert (found.model == initial_parameters(found.configuration.plan.shape, 1)).all()
        assert len(found.domain_keys) == len(federation.seeds)
    group = opener(federation)(federation.configuration, sent.group)
    again = expand_keys(federation.configuration, federation.seeds, group)
    assert all((one == other).all() for one, other in zip(found.domain_keys, again, strict=True))


def test_what_does_not_hold_is_not() -> None:
    federation = Federation(3)
    good, stranger = finished(federation), Identity.generate()
    other = m.model_to_bytes(initial_parameters(federation.configuration.plan.shape, 2))
    seeds = tuple(domain_keys.draw_seed() for _ in federation.seeds)
    bad = [
        finished(federation, stranger),
        finished(federation, model={"model": other}),
        finished(federation, model={"signatures": ()}),
        finished(federation, model={"signatures": stated(federation, other).signatures}),
        finished(federation, model={"signatures": stated(federation, other).signatures, "model": other}),
        finished(federation, key_seeds=seeds),
        finished(federation, rounds=bytes(74)),
        finished(federation, signature=bytes(64)),
        good.model_copy(update={"signature": bytes(64)}),
        good.model_copy(update={"end": good.end[:-1]}),
        good.model_copy(update={"configuration": Federation(3).configuration.to_bytes()}),
        good.model_copy(update={"group": b""}),
        good.model_copy(update={"group": good.group[:-1]}),
        good.model_copy(update={"group": finished(Federation(3)).group}),
    ]
    for sent in bad:
        with pytest.raises(PeerError):
            check_finished(sent, federation.roster, None, opener(federation))
    with pytest.raises(ContextMismatch, match="another session"):
        check_finished(good, federation.roster, bytes(16), opener(federation))
    sealed = Federation(3, secure_aggregation=registry.CKKS)
    with pytest.raises(ContextMismatch, match="CKKS"):
        check_finished(finished(sealed), sealed.roster, None, opener(sealed))


def test_a_session_of_institutions_that_the_coordinator_made_up_is_not_taken() -> None:
    """They hold keys of their own, sign each other's entries and state whatever it likes."""
    federation, invented = Federation(5), Federation(5)
    invented.coordinator_identity = federation.coordinator_identity
    invented.identities = invented.identities | {NAME: federation.identities[NAME]}
    invented.sealing = federation.sealing
    entries = [
        (name, identity, invented.sealing[name].public_key, 0)
        for name, identity in invented.identities.items()
    ]
    invented.roster = roster_of(federation.coordinator_identity.public_key, entries)
    invented._begin(bytes(16))
    sent = finished(invented)
    assert check_finished(sent, invented.roster, None, opener(invented))
    with pytest.raises(TooFewParticipants, match="1 institutions state"):
        check_finished(sent, federation.roster, None, opener(invented))


def test_a_group_secret_that_nobody_we_know_has_made_is_not_taken() -> None:
    federation = Federation(5)
    without = federation.roster.only(federation.roster.names[1:])
    with pytest.raises(VerificationFailed, match="nobody on the approved roster"):
        check_finished(finished(federation), without, None, opener(federation))


class TestConversation:
    """A real TLS server of the federation, which answers what it is told to."""

    @pytest.fixture
    def office(self, tmp_path: Path) -> Office:
        office = Office(tmp_path)
        rosters.approve(office.enrol("clinic-1"), office.roster())
        return office

    def ask(self, office: Office, answer: TaggedMessage, limit: int = m.MAX_FRAME_BYTES) -> TaggedMessage:
        port, heard = free_port(), []
        folder = office.institution()
        settings = ClientSettings(name="clinic-1", host=HOST, port=port, data=Path("x"))

        async def handle(connection: ServerConnection) -> None:
            heard.append(m.ModelRequest.from_bytes(await connection.recv()))
            await connection.send(answer.to_bytes())

        async def converse() -> TaggedMessage:
            tls = server_context(office.folder)
            async with serve(handle, HOST, port, ssl=tls, **WEBSOCKET_OPTIONS):
                return await _ask(folder, settings, bytes(16), limit)

        got = asyncio.run(converse())
        assert heard == [m.ModelRequest(name="clinic-1", session=bytes(16))]
        return got

    def test_what_the_coordinator_says(self, office: Office) -> None:
        sent = finished(Federation(3))
        assert self.ask(office, sent) == sent
        with pytest.raises(NotAccepted, match="no such model: there is no such session"):
            self.ask(office, m.NoModel(reason="no_such_session"))
        with pytest.raises(UnexpectedMessage, match="where a model was asked for"):
            self.ask(office, m.Standby())

    def test_a_message_longer_than_the_policy_takes(self, office: Office) -> None:
        with pytest.raises(Unreachable):
            self.ask(office, finished(Federation(3)), limit=100)

    def test_nobody_there(self, office: Office) -> None:
        settings = ClientSettings(name="clinic-1", host=HOST, port=free_port(), data=Path("x"))
        with pytest.raises(Unreachable, match="nothing listens there"):
            asyncio.run(_ask(office.institution(), settings, None, 1 << 20))


@pytest.mark.parametrize("text", ["", "00", "x" * 32, "00" * 17])
def test_what_is_no_session(text: str) -> None:
    with pytest.raises(InvalidInput, match="32 hexadecimal digits"):
        session_from_hex(text)

"""Waiting without a session, a session begun anew, attempts, and what survives a restart."""

from collections.abc import Iterable

import pytest

from fedapt_client.session import actions as a
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.session.requirements import Requirements
from fedapt_client.session.states import State
from fedapt_crypto.errors import ContextMismatch, MalformedMessage, PolicyRefused
from fedapt_crypto.identity import Identity, fingerprint
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking import parties
from fedapt_secure.log.heads import RoundRecord
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import actions as server
from tests.protocol.federation import Federation

NAME = "clinic-1"
OTHER_SESSION = bytes(range(100, 116))


def offer(federation: Federation) -> bytes:
    """What the coordinator offers to `NAME`."""
    log = federation.logs["coordinator"]
    todo = list(federation.coordinator.connected(NAME))
    while todo:
        match todo.pop(0):
            case server.TakeHead() as action:
                todo += action.then(log.head())
            case server.SendTo() as sent:
                return sent.data
    raise AssertionError("nothing was offered")


def machine(
    federation: Federation, ended: dict[bytes, Iterable[RoundRecord]] | None = None, **options: object
) -> InstitutionSession:
    made = InstitutionSession(
        NAME,
        federation.identities[NAME],
        federation.sealing[NAME],
        federation.roster,
        federation.requirements,
        ended=lambda session: (ended or {}).get(session, ()),
        **options,
    )
    made.connected()
    return made


def taking_part(federation: Federation) -> InstitutionSession:
    """One that has accepted and holds its key."""
    made = machine(federation)
    made.receive(offer(federation))
    for action in made.prepared():
        assert isinstance(action, a.TakeHead)
        [send] = action.then(federation.logs[NAME].head())
        for answer in federation.coordinator.receive(NAME, send.message.to_bytes()):
            if isinstance(answer, server.SendTo) and b"sealed key" in answer.data:
                made.receive(answer.data)
    made.group_opened(GroupSecret.fresh(federation.configuration.session))
    return made


def start(federation: Federation, number: int, attempt: int) -> bytes:
    model_id = federation.coordinator.progress.model_id
    return m.RoundStart(
        round=number, attempt=attempt, model_id=model_id, participants=parties.pack(range(3))
    ).to_bytes()


def test_standby_is_shown_and_an_offer_may_follow_on_the_same_connection() -> None:
    federation = Federation(3)
    made = machine(federation)
    assert made.receive(m.Standby().to_bytes()) == [a.Waiting(None)]
    assert made.receive(m.Standby(finished=OTHER_SESSION).to_bytes()) == [a.Waiting(OTHER_SESSION)]
    assert made.state is State.WAITING_FOR_OFFER
    kinds = [type(action) for action in made.receive(offer(federation))]
    assert kinds == [a.Approve, a.Prepare], "nothing is prepared before it was approved"


def test_a_session_that_is_over_is_not_entered_again() -> None:
    federation = Federation(3)
    session = federation.configuration.session
    made = machine(federation, over={session})
    assert made.receive(offer(federation)) == [a.Waiting(session)]
    assert made.state is State.WAITING_FOR_OFFER
    assert made.joined is None


def test_another_session_needs_another_machine_and_changes_nothing_in_this_one() -> None:
    federation = Federation(3)
    made = taking_part(federation)
    session = federation.configuration.session
    made.connected()
    following = federation.next_session(OTHER_SESSION)
    assert made.receive(offer(following)) == [a.Superseded(OTHER_SESSION)]
    assert (made.joined, made.session_id) == (session, session)


def test_the_same_session_with_another_configuration_is_a_lie() -> None:
    federation = Federation(3)
    made = taking_part(federation)
    made.connected()
    changed = Federation(3, rounds=7)
    for name in ("coordinator_identity", "roster", "logs"):
        setattr(changed, name, getattr(federation, name))
    changed._begin(federation.configuration.session)
    with pytest.raises(ContextMismatch, match="changed the session's configuration"):
        made.receive(offer(changed))


def test_a_decline_names_the_attempt() -> None:
    federation = Federation(3)
    made = taking_part(federation)
    check, join, train = made.receive(start(federation, 2, 3))
    assert isinstance(check, a.CheckPolicy)
    assert isinstance(train, a.Train)
    assert check.context == join.context
    [send] = made.declined(Reason.ALREADY_RELEASED, final=False)
    assert send.message == m.RoundDecline(round=2, attempt=3, final=False, reason="already_released")
    assert made.state is State.READY
    assert len(made.receive(start(federation, 2, 4))) == 3


def test_rounds_from_before_a_restart_are_held_against_the_account() -> None:
    federation = Federation(3)
    session = federation.configuration.session
    record = RoundRecord(round=1, attempt=1, status="aborted", context=bytes(32), transcript=None)
    made = machine(federation, {session: [record], OTHER_SESSION: [record]})
    made.receive(offer(federation))
    assert made._closing.rounds == {(1, 1): record}
    false = record.model_copy(update={"status": "completed"})
    with pytest.raises(ContextMismatch, match="round 1 is not what happened here"):
        made._closing.agree(federation.configuration, bytes(32), (false,))


class TestRequirements:
    def check(self, configuration: SessionConfiguration, **changes: object) -> None:
        fields = {
            "differential_privacy": True,
            "aggregation": (registry.MASKING, registry.CKKS),
            "minimum_participants": 2,
        }
        Requirements(**fields | changes).check(configuration, configuration.roster, NAME)

    def test_coordinators(self) -> None:
        configuration = Federation(3).configuration
        own = fingerprint(configuration.roster.coordinator_key)
        stranger = fingerprint(Identity.generate().public_key)
        for allowed in ((), (own,), (stranger, own)):
            self.check(configuration, coordinators=allowed)
        with pytest.raises(PolicyRefused, match=f"policy rule coordinators: the coordinator {own}"):
            self.check(configuration, coordinators=(stranger,))

    @pytest.mark.parametrize("scheme", [registry.MASKING, registry.CKKS])
    def test_the_largest_message(self, scheme: str) -> None:
        configuration = Federation(3, secure_aggregation=scheme).configuration
        largest = configuration.needed_message_bytes
        assert largest > configuration.largest_message_bytes
        self.check(configuration, max_message_bytes=largest)
        with pytest.raises(PolicyRefused, match="policy rule max_message_bytes"):
            self.check(configuration, max_message_bytes=largest - 1)

    def test_a_longer_message_is_not_decoded(self) -> None:
        federation = Federation(3)
        federation.requirements = Requirements(
            differential_privacy=True,
            aggregation=(registry.MASKING,),
            minimum_participants=2,
            max_message_bytes=500,
        )
        with pytest.raises(MalformedMessage):
            machine(federation).receive(offer(federation))

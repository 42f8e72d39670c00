"""A coordinator puts a sealing key of its own into one roster, and would read what is sealed to its owner.

That was theft of the CKKS group key: the first institution makes it and seals it to every key on its roster.
The attack runs between real machines, as it must end and with the check taken out, where it succeeds.
"""

import copy

import pytest

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import group_secret, registry
from fedapt_secure.protocol import messages as m
from tests.protocol.federation import Federation
from tests.support.rosters import changed

MAKER, ABSENT = "clinic-1", "clinic-3"
THIEF = SealingKey.fresh()
CHANGES = {
    "sealing key": {"sealing_key": THIEF.public_key},
    "identity key": {"identity_key": Identity.generate().public_key},
    "name": {"name": "clinic-9"},
    "signature": {"entry_signature": bytes(64)},
}


def attacked(honest: Federation, **changes: object) -> Federation:
    """The same parties under a roster with a swapped entry, which the coordinator offers and they hold."""
    federation = copy.copy(honest)
    federation.roster = changed(honest.roster, ABSENT, **changes)
    federation._begin(bytes(range(16)))
    return federation


def play(federation: Federation) -> None:
    """Everybody comes but the one whose key was swapped."""
    federation._server(federation.coordinator.start())
    for name in federation.parties:
        if name != ABSENT:
            federation.connect(name)
    federation.play()


def offers_of_groups(federation: Federation) -> list[m.GroupOffer]:
    sent = [data for name, data in federation.received_by_coordinator if name == MAKER]
    messages = [decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES) for data in sent]
    return [message for message in messages if isinstance(message, m.GroupOffer)]


@pytest.mark.parametrize("what", CHANGES)
def test_nobody_begins_a_session_under_such_a_roster(what: str) -> None:
    with pytest.raises(VerificationFailed) as caught:
        attacked(Federation(4, secure_aggregation=registry.CKKS), **CHANGES[what])
    assert caught.value.peer == str(CHANGES[what].get("name", ABSENT))


def test_nor_one_that_is_of_another_authority() -> None:
    honest = Federation(4)
    with pytest.raises(VerificationFailed, match="roster entry"):
        honest.roster.model_copy(update={"authority_fingerprint": bytes(32)}).join(MAKER)


@pytest.mark.parametrize("scheme", [registry.CKKS, registry.MASKING])
@pytest.mark.parametrize("what", ["sealing key", "identity key", "signature"])
def test_with_its_own_roster_nobody_takes_the_offer_of_another(what: str, scheme: str) -> None:
    federation = Federation(4, secure_aggregation=scheme)
    approved = federation.roster
    with pytest.MonkeyPatch.context() as patch:  # only the coordinator has the other one
        patch.setattr(Roster, "check_entries", lambda roster: None)
        federation = attacked(federation, **CHANGES[what])
    federation.roster = approved
    victim = federation.parties[MAKER]
    victim.machine = federation.machine(MAKER)
    federation._server(federation.coordinator.start())
    federation.connect(MAKER)
    with pytest.raises(InvalidInput, match="the session's roster is not the one approved here"):
        federation.play()
    assert not victim.joined
    assert not victim.released
    assert not offers_of_groups(federation)


def test_without_the_check_the_coordinator_has_the_group_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Roster, "check_entries", lambda roster: None)
    federation = attacked(Federation(4, secure_aggregation=registry.CKKS), **CHANGES["sealing key"])
    play(federation)
    (offer, *_) = offers_of_groups(federation)
    configuration = federation.configuration
    about = (configuration.session, configuration.hash, federation.roster)
    parts = group_secret.route_offer(offer.payload, *about, MAKER).parts
    stolen = group_secret.open_part(parts[ABSENT], *about, ABSENT, THIEF).secret
    name, key = "clinic-2", federation.sealing["clinic-2"]
    honest = group_secret.open_part(parts[name], *about, name, key).secret
    assert stolen._secret == honest._secret  # what protects the others' updates from the coordinator

"""How a session comes to its group secret: whoever makes it, goes, is late, comes back or cheats."""

from collections.abc import Callable, Mapping

import pytest

from fedapt_client.session import actions
from fedapt_client.session.states import State
from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import ContextMismatch, RoundAborted
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.secagg import group_secret, registry
from fedapt_secure.protocol import messages as m
from tests.crypto.secagg.harness import World
from tests.protocol.federation import Federation, Party

THREE = ("clinic-1", "clinic-2", "clinic-3")


def kinds(federation: Federation, name: str) -> list[str]:
    """What the coordinator received of an institution, in order."""
    received = federation.received_by_coordinator
    return [kind(data, m.FROM_INSTITUTION) for sender, data in received if sender == name]


def kind(data: bytes, kinds: Mapping[str, type[TaggedMessage]]) -> str:
    return decode_one_of(data, kinds, max_bytes=m.MAX_FRAME_BYTES).kind


def started(n: int = 3, **plan: object) -> Federation:
    federation = Federation(n, **plan)
    federation._server(federation.coordinator.start())
    return federation


def completed(federation: Federation) -> list[str]:
    return [body["status"] for body in federation.entries("round_ended")]


def without_making(federation: Federation, *names: str) -> None:
    """Let some institutions do nothing when they are asked for the group secret."""
    deliver = federation._institution

    def institution(party: Party, todo: list[object]) -> None:
        if party.name in names:
            todo = [one for one in todo if not isinstance(one, actions.MakeGroup)]
        deliver(party, todo)

    federation._institution = institution


@pytest.mark.parametrize("scheme", [registry.MASKING, registry.CKKS])
def test_the_first_that_is_there_makes_it_and_all_have_the_same(scheme: str) -> None:
    federation = started(rounds=1, secure_aggregation=scheme)
    for name in ("clinic-3", "clinic-1", "clinic-2"):
        federation.connect(name)
    federation.play()
    [made] = federation.entries("group")
    assert made["made_by"] == "clinic-3", "nobody else was there when it was asked"
    assert {party.group.hex() for party in federation.parties.values()} == {made["commitment"]}
    assert completed(federation) == ["completed"]


def test_without_protection_there_is_none() -> None:
    federation = started(rounds=1, secure_aggregation=registry.NONE, differential_privacy=False)
    assert not federation.configuration.needs_group
    assert federation.configuration.round_context(1, 1, bytes(32), None).group is None


def test_a_maker_that_goes_away_is_replaced_and_comes_back() -> None:
    federation = started(rounds=1)
    without_making(federation, "clinic-1")
    for name in THREE:
        federation.connect(name)
    federation.play(timers=False)
    assert federation.entries("group") == []
    federation.disconnect("clinic-1")
    federation.play(timers=False)
    assert [body["made_by"] for body in federation.entries("group")] == ["clinic-2"]
    federation.connect("clinic-1")
    federation.play()
    assert completed(federation) == ["completed"]
    assert len(federation.entries("round_ended")[0]["contributors"]) == 3


def test_a_maker_that_does_not_answer_is_given_up_on_and_its_late_offer_changes_nothing() -> None:
    federation = started(rounds=1)
    late: list[actions.MakeGroup] = []
    deliver = federation._institution

    def institution(party: Party, todo: list[object]) -> None:
        if party.name == "clinic-1" and not late:
            late.extend(one for one in todo if isinstance(one, actions.MakeGroup))
            todo = [one for one in todo if not isinstance(one, actions.MakeGroup)]
        deliver(party, todo)

    federation._institution = institution
    for name in THREE:
        federation.connect(name)
    federation.play(timers=False)
    assert federation.timer is not None
    federation._server(federation.coordinator.timeout())
    federation.play(timers=False)
    [made] = federation.entries("group")
    assert made["made_by"] == "clinic-2"
    federation._institution(federation.parties["clinic-1"], late)
    federation.play()
    assert len(federation.entries("group")) == 1
    assert {party.group.hex() for party in federation.parties.values()} == {made["commitment"]}
    assert completed(federation) == ["completed"]


def test_a_late_offer_is_taken_if_nobody_else_has_made_one() -> None:
    federation = started(rounds=1)
    without_making(federation, "clinic-2", "clinic-3")
    held: list[tuple[Party, list[object]]] = []
    deliver = federation._institution

    def institution(party: Party, todo: list[object]) -> None:
        made = [one for one in todo if isinstance(one, actions.MakeGroup)]
        if made and not held:
            held.append((party, made))
            return
        deliver(party, todo)

    federation._institution = institution
    for name in THREE:
        federation.connect(name)
    federation.play(timers=False)
    for _ in range(4):  # all are asked, and the first again
        federation._server(federation.coordinator.timeout())
        federation.play(timers=False)
    deliver(*held[0])
    federation.play()
    assert [body["made_by"] for body in federation.entries("group")] == ["clinic-1"]
    assert completed(federation) == ["completed"]


def test_nobody_offers_one_unasked() -> None:
    federation = started(rounds=1)
    without_making(federation, *THREE)
    for name in THREE:
        federation.connect(name)
    federation.play(timers=False)
    offer = offer_of(federation, "clinic-2")
    federation._server(federation.coordinator.receive("clinic-2", offer))
    assert federation.entries("group") == []
    assert "nobody has asked" in federation.entries("refused")[-1]["detail"]


def offer_of(federation: Federation, name: str, **changes: object) -> bytes:
    """An offer that an institution could send, for this session unless said otherwise."""
    configuration = federation.configuration
    secret = group_secret.GroupSecret.fresh(changes.get("session", configuration.session))
    payload = secret.offer(
        changes.get("configuration_hash", configuration.hash),
        federation.roster,
        name,
        federation.identities[name],
        changes.get("attachment", b""),
    )
    return m.GroupOffer(payload=payload).to_bytes()


BAD_OFFERS: dict[str, Callable[[Federation], bytes]] = {
    "rubbish": lambda f: m.GroupOffer(payload=b"rubbish").to_bytes(),
    "another session": lambda f: offer_of(f, "clinic-1", session=bytes(16)),
    "another configuration": lambda f: offer_of(f, "clinic-1", configuration_hash=bytes(32)),
    "another's": lambda f: offer_of(f, "clinic-2"),
    "with an attachment": lambda f: offer_of(f, "clinic-1", attachment=b"more"),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_an_offer_that_does_not_hold_makes_the_next_one_asked(name: str) -> None:
    federation = started(rounds=1)
    without_making(federation, "clinic-1")
    for each in THREE:
        federation.connect(each)
    federation.play(timers=False)
    federation._server(federation.coordinator.receive("clinic-1", BAD_OFFERS[name](federation)))
    federation.play()
    assert federation.entries("refused")[0]["name"] == "clinic-1"
    assert [body["made_by"] for body in federation.entries("group")] == ["clinic-2"]
    assert completed(federation) == ["completed"]


def test_a_maker_that_seals_another_secret_to_one_is_named_by_it() -> None:
    federation = started(rounds=1)
    without_making(federation, "clinic-1")
    for each in THREE:
        federation.connect(each)
    federation.play(timers=False)
    honest, other = (
        group_secret.GroupSecretOffer.from_bytes(m.GroupOffer.from_bytes(offer).payload)
        for offer in (offer_of(federation, "clinic-1"), offer_of(federation, "clinic-1"))
    )
    size = group_secret.BOX_BYTES
    boxes = honest.boxes[: 2 * size] + other.boxes[2 * size :]
    root = MerkleTree([boxes[i * size : (i + 1) * size] for i in range(3)]).root
    unsigned = honest.header.model_copy(update={"boxes_root": root})
    header = unsigned.signed_by(federation.identities["clinic-1"])
    mixed = honest.model_copy(update={"header": header, "boxes": boxes})
    federation._server(
        federation.coordinator.receive("clinic-1", m.GroupOffer(payload=mixed.to_bytes()).to_bytes())
    )
    federation.play()
    victim = federation.parties["clinic-3"]
    assert victim.refused == ["VerificationFailed", "quit: VerificationFailed"]
    assert (victim.group, victim.joined) == (None, [])


def test_one_that_comes_late_gets_its_part() -> None:
    federation = started(rounds=2)
    for name in THREE[:2]:
        federation.connect(name)
    federation.play(timers=False)
    assert federation.parties["clinic-2"].group is not None
    federation.connect("clinic-3")
    federation.play()
    assert federation.parties["clinic-3"].group == federation.parties["clinic-1"].group
    assert completed(federation) == ["completed", "completed"]


@pytest.mark.parametrize("scheme", [registry.MASKING, registry.CKKS])
def test_all_restart_and_have_the_same_one_again(scheme: str) -> None:
    federation = started(rounds=1, secure_aggregation=scheme)
    for name in THREE[:2]:
        federation.connect(name)
    federation.play(timers=False)
    before = federation.parties["clinic-1"].group
    for name in THREE[:2]:
        federation.disconnect(name)
        federation.parties[name].machine = federation.machine(name)
    federation.restart_coordinator()
    for name in THREE:
        federation.connect(name)
    federation.play()
    assert {party.group for party in federation.parties.values()} == {before}
    assert kinds(federation, "clinic-1").count("group offer") == 1
    assert completed(federation) == ["completed"]


def test_a_coordinator_that_hands_out_another_one_is_left() -> None:
    """It has two offers, of two makers that it asked, and gives each of them to some."""
    federation = started(rounds=1)
    for name in THREE[:2]:
        federation.connect(name)
    federation.play(timers=False)
    configuration = federation.configuration
    payload = m.GroupOffer.from_bytes(offer_of(federation, "clinic-1")).payload
    routed = group_secret.route_offer(
        payload, configuration.session, configuration.hash, federation.roster, "clinic-1"
    )
    party = federation.parties["clinic-2"]
    party.machine.connected()
    party.machine._state = State.JOINING
    part = m.GroupPart(payload=routed.parts["clinic-2"])
    federation._institution(party, party.machine.receive(part.to_bytes()))
    assert party.machine.state is State.ENDED
    assert party.refused[-1] == "quit: ContextMismatch"


def test_who_has_one_makes_no_other_after_a_restart() -> None:
    federation = started(rounds=1)
    for name in THREE[:2]:
        federation.connect(name)
    federation.play(timers=False)
    assert federation.parties["clinic-1"].group is not None
    fresh = Federation.next_session(federation, federation.configuration.session)
    fresh.configuration = federation.configuration
    for name in THREE:
        fresh.parties[name].group = federation.parties[name].group
    fresh._server(fresh.coordinator.start())
    fresh.connect("clinic-1")
    fresh.play(timers=False)
    assert fresh.parties["clinic-1"].refused == ["ContextMismatch", "quit: ContextMismatch"]


def test_two_with_different_secrets_complete_no_round() -> None:
    """Whatever is handed out to whom: what all sign in a round has the commitment in it."""
    federation = started(rounds=1)
    configuration = federation.configuration
    contexts = {
        configuration.round_context(1, 1, bytes(32), digest("group", number)).hash for number in (1, 2)
    }
    assert len(contexts) == 2


class TestConfirmations:
    """With CKKS an update is encrypted before anybody else has signed anything in the round."""

    def started(self, tamper: Callable[[m.RoundStart, Federation], m.RoundStart]) -> Federation:
        federation = started(rounds=1, secure_aggregation=registry.CKKS)

        def change(name: str, data: bytes) -> bytes:
            if kind(data, m.FROM_COORDINATOR) != "round start":
                return data
            return tamper(m.RoundStart.from_bytes(data), federation).to_bytes()

        federation.tamper = change
        for name in THREE:
            federation.connect(name)
        federation.play()
        return federation

    def test_they_come_with_the_round(self) -> None:
        seen: list[int] = []

        def look(start: m.RoundStart, federation: Federation) -> m.RoundStart:
            seen.append(len(start.confirmations))
            return start

        assert completed(self.started(look)) == ["completed"]
        assert seen == [3, 3, 3]

    @pytest.mark.parametrize("kept", [0, 1, 2])
    def test_too_few_of_them_and_nothing_is_encrypted(self, kept: int) -> None:
        federation = self.started(
            lambda start, _: start.model_copy(update={"confirmations": start.confirmations[:kept]})
        )
        assert {party.joined == [] for party in federation.parties.values()} == {True}
        assert "TooFewParticipants" in federation.parties["clinic-1"].refused
        assert set(completed(federation)) == {"aborted"}

    def test_one_that_repeats_itself_counts_once(self) -> None:
        federation = self.started(
            lambda start, _: start.model_copy(update={"confirmations": (start.confirmations[0],) * 3})
        )
        assert "TooFewParticipants" in federation.parties["clinic-1"].refused

    def test_a_false_one_is_named(self) -> None:
        def forge(start: m.RoundStart, federation: Federation) -> m.RoundStart:
            stranger = Identity.generate().sign("group confirmed", bytes(16))
            last = start.confirmations[2].model_copy(update={"signature": stranger})
            return start.model_copy(update={"confirmations": (*start.confirmations[:2], last)})

        federation = self.started(forge)
        assert "VerificationFailed" in federation.parties["clinic-1"].refused
        assert federation.parties["clinic-1"].joined == []


def test_a_contributor_set_with_one_who_has_not_confirmed_is_not_signed() -> None:
    world = World(5, registry.CKKS)
    machine = registry.institution_round(
        registry.CKKS,
        world.context,
        world.roster,
        "clinic-1",
        world.identities["clinic-1"],
        world.updates["clinic-1"],
        minimum_participants=2,
        group=world.keys["clinic-1"],
        confirmed={"clinic-1", "clinic-2", "clinic-3", "clinic-4"},
    )
    world.institutions["clinic-1"] = machine
    with pytest.raises(RoundAborted, match="clinic-1 aborted"):
        world.run()
    assert isinstance(world.refusals["clinic-1"], ContextMismatch)

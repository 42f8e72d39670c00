"""A coordinator that cheats against real institutions, and institutions that cheat against a coordinator.

Each attack must end in a refusal with a named error, and never in a reveal.
"""

from collections.abc import Callable

import numpy as np
import pytest

from fedapt_crypto.encoding import Message, TaggedMessage
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    MalformedMessage,
    OverlappingUnmaskLists,
    PeerError,
    RoundAborted,
    TooFewParticipants,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import dealing, masking_coordinator
from fedapt_crypto.secagg import messages as m
from fedapt_crypto.secagg.masking_institution import MaskingInstitution
from fedapt_crypto.secagg.scheme import Outgoing, Phase
from tests.crypto.harness import World, make_context

MESSAGE_OF = {
    Phase.ADVERTISE: m.AdvertiseList,
    Phase.SHARE: m.ShareDelivery,
    Phase.MASKED_INPUT: m.SurvivorAnnouncement,
    Phase.CONSISTENCY: m.UnmaskRequest,
}


def change(message: Message, **fields: object) -> Message:
    return message.model_copy(update=fields)


def attack(
    phase: Phase,
    forge: Callable[[World, TaggedMessage], TaggedMessage],
    *,
    victim: str = "clinic-1",
    n: int = 5,
    vanish: dict[str, Phase] | None = None,
    minimum: int = 2,
) -> FedaptError:
    """Play a round in which ``victim`` gets a forged message when ``phase`` closes; return its refusal."""
    world = World(n, minimum=minimum)
    answers: list[Outgoing] = []

    def tamper(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
        if receiver != victim or closed is not phase:
            return payload
        return forge(world, MESSAGE_OF[phase].from_bytes(payload)).to_bytes()

    with pytest.raises(RoundAborted, match=f"{victim} aborted"):
        world.run(vanish, tamper)
    machine = world.institutions[victim]
    assert isinstance(machine, MaskingInstitution)
    assert machine.finished
    assert machine._secrets is None, "an aborted round leaves no secret behind"
    assert world.coordinator.aggregate is None
    with pytest.raises(UnexpectedMessage):
        answers.append(machine.receive(b"\x80"))
    assert not any(o.phase is Phase.UNMASK for name, o in world.sent_to_coordinator if name == victim)
    return world.refusals[victim]


class TestHostileCoordinator:
    def test_different_models_to_different_institutions(self) -> None:
        world = World(5)
        other = make_context(world.roster, world.length, model_hash=digest("another model"))
        victim = MaskingInstitution(
            other, world.roster, "clinic-5", world.identities["clinic-5"], world.updates["clinic-5"]
        )
        advertises = [
            m.Advertise.from_bytes(world.institutions[n].start().payload) for n in world.roster.names[:4]
        ]
        advertises.append(m.Advertise.from_bytes(victim.start().payload))
        forged = m.AdvertiseList(advertises=tuple(advertises)).to_bytes()
        for machine in [world.institutions["clinic-1"], victim]:
            with pytest.raises(ContextMismatch, match="another round, model"):
                machine.receive(forged)
            assert machine.finished
            assert m.Abort.from_bytes(machine.abort_payload()).reason == "ContextMismatch"

    def test_invented_institution(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            sybil = change(message.advertises[0], sender="clinic-9").signed_by(Identity.generate())
            return change(message, advertises=(*message.advertises, sybil))

        assert isinstance(attack(Phase.ADVERTISE, forge), MalformedMessage)

    def test_keys_swapped_for_the_coordinators_own(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            first, second, *rest = message.advertises
            second = change(second, seal_key=SealingKey.fresh().public_key)
            return change(message, advertises=(first, second, *rest))

        refusal = attack(Phase.ADVERTISE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    def test_keys_of_another_round(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            old = MaskingInstitution(
                make_context(world.roster, world.length, round=7),
                world.roster,
                "clinic-2",
                world.identities["clinic-2"],
                world.updates["clinic-2"],
            )
            replayed = m.Advertise.from_bytes(old.start().payload)
            first, _, *rest = message.advertises
            return change(message, advertises=(first, replayed, *rest))

        assert isinstance(attack(Phase.ADVERTISE, forge), ContextMismatch)

    def test_own_keys_replaced_by_older_ones(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            twin = MaskingInstitution(
                world.context,
                world.roster,
                "clinic-1",
                world.identities["clinic-1"],
                world.updates["clinic-1"],
            )
            own = m.Advertise.from_bytes(twin.start().payload)
            return change(message, advertises=(own, *message.advertises[1:]))

        assert isinstance(attack(Phase.ADVERTISE, forge), ContextMismatch)

    def test_too_few_keys(self) -> None:
        refusal = attack(Phase.ADVERTISE, lambda w, x: change(x, advertises=x.advertises[:3]))
        assert isinstance(refusal, TooFewParticipants)

    @pytest.mark.parametrize(
        "reorder",
        [lambda a: a[::-1], lambda a: (a[0], a[0], *a[1:]), lambda a: a[1:]],
        ids=["reversed", "repeated", "left-out"],
    )
    def test_party_lists_must_be_well_formed(self, reorder) -> None:
        refusal = attack(Phase.ADVERTISE, lambda w, x: change(x, advertises=tuple(reorder(x.advertises))))
        assert isinstance(refusal, PeerError)

    def test_a_share_for_somebody_else(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            # what clinic-2 sealed to clinic-3, delivered to clinic-1
            foreign = next(s for s in world.coordinator._shares["clinic-2"].sealed if s.party == "clinic-3")
            first, *rest = message.sealed
            return change(message, sealed=(change(foreign, party=first.party), *rest))

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    def test_a_colluder_passes_anothers_shares_off_as_its_own(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            """clinic-3 colludes: it re-signs a header with clinic-2's ciphertext to the victim."""
            stolen = next(s for s in message.sealed if s.party == "clinic-2")
            header = next(h for h in message.headers if h.sender == "clinic-3")
            receivers = tuple(
                change(entry, sealed_shares=dealing.sealed_hash(stolen.shares))
                if entry.receiver == "clinic-1"
                else entry
                for entry in header.receivers
            )
            forged = change(header, receivers=receivers).signed_by(world.identities["clinic-3"])
            return change(
                message,
                headers=tuple(forged if h.sender == "clinic-3" else h for h in message.headers),
                sealed=tuple(
                    change(s, shares=stolen.shares) if s.party == "clinic-3" else s for s in message.sealed
                ),
            )

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-3"

    def test_shares_from_one_who_advertised_nothing(self) -> None:
        refusal = attack(
            Phase.SHARE,
            lambda w, x: change(
                x,
                headers=tuple(
                    change(h, sender="clinic-5").signed_by(w.identities["clinic-5"])
                    if h.sender == "clinic-4"
                    else h
                    for h in x.headers
                ),
            ),
            vanish={"clinic-5": Phase.ADVERTISE},
        )
        assert isinstance(refusal, ContextMismatch)

    def test_a_survivor_set_below_the_threshold(self) -> None:
        refusal = attack(Phase.MASKED_INPUT, lambda w, x: change(x, survivors=x.survivors[:3]))
        assert isinstance(refusal, TooFewParticipants)

    def test_a_survivor_set_below_the_institutions_own_minimum(self) -> None:
        world = World(5, minimum=5)
        with pytest.raises(RoundAborted, match="TooFewParticipants"):
            world.run({"clinic-5": Phase.MASKED_INPUT})

    def test_a_survivor_set_without_us(self) -> None:
        refusal = attack(Phase.MASKED_INPUT, lambda w, x: change(x, survivors=x.survivors[1:]))
        assert isinstance(refusal, ContextMismatch)

    def test_different_survivor_sets_to_different_institutions(self) -> None:
        """Each signs what it is told; the request then lacks a threshold of equal signatures."""
        world = World(5)
        told: dict[str, tuple[str, ...]] = {}

        def split(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
            if closed is Phase.MASKED_INPUT:
                message = m.SurvivorAnnouncement.from_bytes(payload)
                left_out = "clinic-5" if receiver in ("clinic-1", "clinic-2") else "clinic-2"
                survivors = (
                    tuple(n for n in message.survivors if n != left_out)
                    if receiver != left_out
                    else message.survivors
                )
                told[receiver] = survivors
                return change(message, survivors=survivors).to_bytes()
            return payload

        with pytest.raises(RoundAborted):
            world.run(tamper=split)
        assert len(set(told.values())) > 1
        assert not any(o.phase is Phase.UNMASK for _, o in world.sent_to_coordinator)

    def test_both_secrets_in_one_request(self) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, dropped=("clinic-2",)))
        assert isinstance(refusal, OverlappingUnmaskLists)
        assert "clinic-2" in str(refusal)

    def test_a_survivor_declared_dropped(self) -> None:
        refusal = attack(
            Phase.CONSISTENCY,
            lambda w, x: change(x, survivors=x.survivors[:4], dropped=("clinic-5",)),
        )
        assert isinstance(refusal, ContextMismatch)

    def test_both_secrets_in_two_requests(self) -> None:
        world = World(5)
        requests: list[bytes] = []

        def keep(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
            if closed is Phase.CONSISTENCY and receiver == "clinic-1":
                requests.append(payload)
            return payload

        world.run(tamper=keep)
        second = change(
            m.UnmaskRequest.from_bytes(requests[0]), survivors=world.roster.names[:4], dropped=("clinic-5",)
        )
        for again in (requests[0], second.to_bytes()):
            with pytest.raises(UnexpectedMessage):
                world.institutions["clinic-1"].receive(again)

    @pytest.mark.parametrize("kept", [0, 1, 3])
    def test_fewer_signatures_than_the_threshold(self, kept: int) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, signatures=x.signatures[:kept]))
        assert isinstance(refusal, TooFewParticipants)

    def test_repeated_signatures_do_not_count_twice(self) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, signatures=(x.signatures[0],) * 5))
        assert isinstance(refusal, PeerError)

    def test_forged_signature(self) -> None:
        def forge(world: World, message: m.UnmaskRequest) -> m.UnmaskRequest:
            first, *rest = message.signatures
            return change(message, signatures=(change(first, signature=bytes(64)), *rest))

        assert isinstance(attack(Phase.CONSISTENCY, forge), VerificationFailed)

    def test_another_execution(self) -> None:
        assert isinstance(
            attack(Phase.MASKED_INPUT, lambda w, x: change(x, execution=bytes(32))), ContextMismatch
        )
        assert isinstance(
            attack(Phase.MASKED_INPUT, lambda w, x: change(x, transcript=bytes(32))), ContextMismatch
        )

    def test_out_of_order_and_oversized_messages_change_nothing(self) -> None:
        world = World(3)
        machine = world.institutions["clinic-1"]
        machine.start()
        wrong = m.SurvivorAnnouncement(execution=bytes(32), transcript=bytes(32), survivors=("clinic-1",))
        for payload in (wrong.to_bytes(), bytes(m.MAX_SHARE_MESSAGE_BYTES + 1)):
            with pytest.raises((UnexpectedMessage, MalformedMessage)):
                machine.receive(payload)
            assert not machine.finished
            assert machine.abort_payload() is None


class TestHostileInstitution:
    def cheat_in_unmask(
        self, world: World, forge: Callable[[m.UnmaskShares], m.UnmaskShares], *cheats: str
    ) -> None:
        original = world.coordinator.receive

        def receive(sender: str, payload: bytes) -> None:
            if sender in cheats and world.coordinator.phase is Phase.UNMASK:
                message = forge(m.UnmaskShares.from_bytes(payload))
                payload = message.signed_by(world.identities[sender]).to_bytes()
            original(sender, payload)

        world.coordinator.receive = receive

    @staticmethod
    def false_shares(message: m.UnmaskShares) -> m.UnmaskShares:
        return change(
            message,
            self_mask_shares=tuple(change(s, share=bytes(33)) for s in message.self_mask_shares),
            root_shares=tuple(change(s, share=bytes(33)) for s in message.root_shares),
        )

    def test_one_who_reveals_false_shares_is_ignored(self) -> None:
        world = World(5)
        self.cheat_in_unmask(world, self.false_shares, "clinic-2")
        world.run()
        assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))

    def test_too_many_false_shares_abort_the_round(self) -> None:
        world = World(5)
        self.cheat_in_unmask(world, self.false_shares, "clinic-2", "clinic-4")
        with pytest.raises(RoundAborted, match="3 good shares"):
            world.run()
        assert world.coordinator.aggregate is None

    def test_shares_nobody_asked_for(self) -> None:
        world = World(5)
        self.cheat_in_unmask(world, lambda x: change(x, root_shares=x.self_mask_shares), "clinic-2")
        world.run()
        assert isinstance(world.refusals["coordinator"], MalformedMessage)
        assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))

    def test_a_pair_seed_that_its_root_does_not_give(self, monkeypatch) -> None:
        world = World(5)
        cheat = world.institutions["clinic-2"]
        honest = dealing.keys.pair_seed

        def pair_seed(root: bytes, execution: bytes, dealer: str, receiver: str) -> bytes:
            seed = honest(root, execution, dealer, receiver)
            return (
                digest("false", seed)
                if root == cheat_root and dealer == "clinic-2" and not reconstructing
                else seed
            )

        cheat_root, reconstructing = cheat._secrets.dealer.root, False
        monkeypatch.setattr(dealing.keys, "pair_seed", pair_seed)
        close = masking_coordinator.MaskingCoordinator._close_unmask

        def close_unmask(self, arrived):
            nonlocal reconstructing
            reconstructing = True
            return close(self, arrived)

        monkeypatch.setitem(
            masking_coordinator.__dict__,
            "_CLOSING",
            {**masking_coordinator._CLOSING, Phase.UNMASK: close_unmask},
        )
        with pytest.raises(
            RoundAborted, match="clinic-2: gave clinic-1 a pair seed|clinic-2: gave clinic-3 a pair seed"
        ):
            world.run({"clinic-2": Phase.MASKED_INPUT})

    def test_a_dealer_whose_shares_are_not_of_its_committed_secret(self, monkeypatch) -> None:
        world = World(5)
        split = dealing.shamir.split
        secret = world.institutions["clinic-4"]._secrets.dealer.self_mask
        monkeypatch.setattr(
            dealing.shamir, "split", lambda s, t, i: split(digest("other") if s == secret else s, t, i)
        )
        with pytest.raises(RoundAborted, match="clinic-4: dealt shares of another self mask secret"):
            world.run()

    def test_a_sealed_share_that_does_not_open_names_its_dealer(self, monkeypatch) -> None:
        world = World(5)

        def bad_seal(public_key: bytes, plaintext: bytes, *info: object) -> bytes:
            if info[0] == "secagg shares" and info[2:] == ("clinic-2", "clinic-5"):
                return seal(SealingKey.fresh().public_key, plaintext, *info)
            return seal(public_key, plaintext, *info)

        monkeypatch.setattr(dealing, "seal", bad_seal)
        with pytest.raises(RoundAborted, match="clinic-5 aborted .* accuses clinic-2"):
            world.run()

    @pytest.mark.parametrize("length", [0, 3, 4 * 36, 4 * 38])
    def test_a_masked_input_of_the_wrong_length(self, length: int) -> None:
        world = World(5)
        original = world.coordinator.receive

        def receive(sender: str, payload: bytes) -> None:
            if sender == "clinic-3" and world.coordinator.phase is Phase.MASKED_INPUT:
                message = change(m.MaskedInput.from_bytes(payload), masked=bytes(length))
                payload = message.signed_by(world.identities[sender]).to_bytes()
            original(sender, payload)

        world.coordinator.receive = receive
        world.run()
        assert "wrong length" in str(world.refusals["coordinator"])
        assert "clinic-3" not in world.coordinator.aggregate.contributors

    def test_a_false_abort_needs_the_institutions_signature(self) -> None:
        world = World(3)
        abort = m.Abort(
            sender="clinic-1",
            signature=bytes(64),
            context=world.context.hash,
            reason="x",
            accused=None,
            detail="x",
        )
        with pytest.raises(VerificationFailed):
            world.coordinator.receive("clinic-1", abort.to_bytes())
        assert world.coordinator.phase is Phase.ADVERTISE

"""A coordinator that cheats against real institutions: each attack ends in a refusal, never in a reveal."""

from collections.abc import Callable
from dataclasses import replace

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
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import signed
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.institution import MaskingInstitution, State
from fedapt_crypto.secagg.masking.records import HOLDER, PAIR, Parcel, Record, shares_plaintext
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.frames import parcels_of, with_parcels
from tests.crypto.secagg.harness import World, group_of, make_context

MESSAGE_OF = {
    Phase.ADVERTISE: m.AdvertiseList,
    Phase.SHARE: m.ShareDelivery,
    Phase.MASKED_INPUT: m.SurvivorAnnouncement,
    Phase.CONSISTENCY: m.UnmaskRequest,
}
ALL = parties.pack(range(5))


def change(message: Message, **fields: object) -> Message:
    return message.model_copy(update=fields)


def twin(world: World, name: str, **context: object) -> MaskingInstitution:
    """A second machine of an institution: what an older run, or another session, has left behind."""
    made = make_context(world.roster, world.length, **context)
    return MaskingInstitution(
        made,
        world.roster,
        name,
        world.identities[name],
        world.updates[name],
        group=group_of(made),
    )


def attack(
    phase: Phase,
    forge: Callable[[World, TaggedMessage], TaggedMessage],
    *,
    victim: str = "clinic-1",
    vanish: dict[str, Phase] | None = None,
) -> FedaptError:
    """Play a round in which ``victim`` gets a forged message when ``phase`` closes; return its refusal."""
    world = World(5)

    def tamper(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
        if receiver != victim or closed is not phase:
            return payload
        return forge(world, MESSAGE_OF[phase].from_bytes(payload)).to_bytes()

    with pytest.raises(RoundAborted, match=f"{victim} aborted"):
        world.run(vanish, tamper)
    machine = world.institutions[victim]
    assert isinstance(machine, MaskingInstitution)
    assert machine.state is State.ABORTED
    assert machine._secrets is None, "an aborted round leaves no secret behind"
    assert world.coordinator.aggregate is None
    with pytest.raises(UnexpectedMessage):
        machine.receive(b"\x80")
    revealed = [name for name, sent in world.sent_to_coordinator if sent.phase is Phase.UNMASK]
    assert victim not in revealed
    return world.refusals[victim]


def relisted(world: World, message: m.AdvertiseList, *advertises: m.Advertise) -> m.AdvertiseList:
    """An advertise list with other advertisements, as a coordinator would make it: digests that fit."""
    indices = [world.roster.index(advertise.sender) for advertise in advertises]
    return m.AdvertiseList(
        participants=parties.pack(indices),
        digests=b"".join(advertise.digest for advertise in advertises),
        advertises=advertises,
    )


class TestAdvertise:
    def test_different_models_to_different_institutions(self) -> None:
        world = World(5)
        victim = twin(world, "clinic-5", model_hash=digest("another model"))
        sent = [world.institutions[n].start().payload for n in world.roster.names[:4]]
        advertises = [m.Advertise.from_bytes(payload) for payload in (*sent, victim.start().payload)]
        forged = relisted(world, None, *advertises).to_bytes()
        for machine in (world.institutions["clinic-1"], victim):
            with pytest.raises(ContextMismatch, match="another round, model"):
                machine.receive(forged)
            assert machine.finished
            assert signed.Abort.from_bytes(machine.abort_payload()).reason == "ContextMismatch"

    def test_invented_institution(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            sybil = change(message.advertises[0], sender="clinic-9").signed_by(Identity.generate())
            return change(message, advertises=(*message.advertises, sybil))

        assert isinstance(attack(Phase.ADVERTISE, forge), MalformedMessage)

    def test_an_institution_beyond_the_roster(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            return change(message, participants=parties.pack(range(6)), digests=message.digests + bytes(32))

        assert isinstance(attack(Phase.ADVERTISE, forge), MalformedMessage)

    def test_keys_swapped_for_the_coordinators_own(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            first, second, *rest = message.advertises
            second = change(second, seal_key=SealingKey.fresh().public_key)
            return relisted(world, message, first, second, *rest)

        refusal = attack(Phase.ADVERTISE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    def test_keys_swapped_under_the_right_digest(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            other = m.Advertise.from_bytes(twin(world, "clinic-2").start().payload)
            first, _, *rest = message.advertises
            return change(message, advertises=(first, other, *rest))

        refusal = attack(Phase.ADVERTISE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    @pytest.mark.parametrize(
        "other", [{"round": 7}, {"attempt": 2}, {"session": b"\x01" * 16}, {"purpose": "x"}]
    )
    def test_keys_of_another_round_attempt_or_session(self, other: dict) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            replayed = m.Advertise.from_bytes(twin(world, "clinic-2", **other).start().payload)
            first, _, *rest = message.advertises
            return relisted(world, message, first, replayed, *rest)

        assert isinstance(attack(Phase.ADVERTISE, forge), ContextMismatch)

    def test_own_keys_replaced_by_older_ones(self) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            own = m.Advertise.from_bytes(twin(world, "clinic-1").start().payload)
            return relisted(world, message, own, *message.advertises[1:])

        assert isinstance(attack(Phase.ADVERTISE, forge), ContextMismatch)

    def test_too_few_keys(self) -> None:
        refusal = attack(Phase.ADVERTISE, lambda w, x: relisted(w, x, *x.advertises[:3]))
        assert isinstance(refusal, TooFewParticipants)

    def test_left_out(self) -> None:
        assert isinstance(
            attack(Phase.ADVERTISE, lambda w, x: relisted(w, x, *x.advertises[1:])), ContextMismatch
        )

    def test_neighbours_kept_back(self) -> None:
        refusal = attack(Phase.ADVERTISE, lambda w, x: change(x, advertises=x.advertises[:4]))
        assert isinstance(refusal, MalformedMessage)

    @pytest.mark.parametrize(
        "participants",
        [parties.pack(range(5))[::-1], b"\x00\x00" * 5, b"\x00", b""],
        ids=["reversed", "repeated", "half-an-entry", "empty"],
    )
    def test_party_lists_must_be_well_formed(self, participants: bytes) -> None:
        assert isinstance(
            attack(Phase.ADVERTISE, lambda w, x: change(x, participants=participants)), PeerError
        )

    def test_repeated_advertisements(self) -> None:
        refusal = attack(
            Phase.ADVERTISE, lambda w, x: change(x, advertises=(*x.advertises, x.advertises[-1]))
        )
        assert isinstance(refusal, MalformedMessage)

    @pytest.mark.parametrize("drawn", [(), (0, 2, 3), (0, 1, 2, 3), (0, 2, 3, 4, 5)])
    def test_one_who_drew_another_number_or_itself(self, drawn: tuple[int, ...]) -> None:
        def forge(world: World, message: m.AdvertiseList) -> m.AdvertiseList:
            first, second, *rest = message.advertises
            second = change(second, neighbours=parties.pack(drawn)).signed_by(world.identities["clinic-2"])
            return relisted(world, message, first, second, *rest)

        refusal = attack(Phase.ADVERTISE, forge)
        assert isinstance(refusal, MalformedMessage)
        assert refusal.peer == "clinic-2"


class TestShare:
    def test_a_share_for_somebody_else(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            # what clinic-2 sealed to clinic-3, delivered to clinic-1
            (header, first), *rest = parcels_of(message)
            foreign = Record.from_bytes(world.coordinator._shares["clinic-2"].records[2])
            record = replace(Record.from_bytes(first.record), sealed_shares=foreign.sealed_shares)
            return with_parcels(message, [(header, replace(first, record=record.to_bytes())), *rest])

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    def test_somebody_elses_record_with_its_proof(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            (header, _), *rest = parcels_of(message)
            dealt = world.coordinator._shares["clinic-2"]
            foreign = Parcel(position=2, proof=dealt.tree.proof(2), record=dealt.records[2])
            return with_parcels(message, [(header, foreign), *rest])

        assert isinstance(attack(Phase.SHARE, forge), MalformedMessage)

    def test_a_colluder_passes_anothers_shares_off_as_its_own(self) -> None:
        """clinic-3 colludes: it signs a header of its own over clinic-2's ciphertext to the victim."""

        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            second, (header, parcel), *rest = parcels_of(message)
            stolen = Record.from_bytes(second[1].record).sealed_shares
            record = replace(Record.from_bytes(parcel.record), sealed_shares=stolen).to_bytes()
            header = change(header, records_root=MerkleTree([record]).root, record_count=1).signed_by(
                world.identities["clinic-3"]
            )
            forged = Parcel(position=0, proof=(), record=record)
            digests = bytearray(message.digests)
            digests[64:96] = header.digest
            return with_parcels(message, [second, (header, forged), *rest], digests=bytes(digests))

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-3"

    @pytest.mark.parametrize(
        "fields",
        [{"execution": b"\x01" * 32}, {"dealer": 2}, {"receiver": 3}],
        ids=lambda fields: next(iter(fields)),
    )
    def test_a_plaintext_about_other_parties(self, fields: dict) -> None:
        """clinic-2 seals to the victim, under the right info, what it got from or for somebody else."""

        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            (header, parcel), *rest = parcels_of(message)
            about = {"execution": header.execution, "dealer": 1, "receiver": 0, **fields}
            plaintext = shares_plaintext(**about, self_mask=bytes(33), root=bytes(33))
            key = world.institutions["clinic-1"]._secrets.seal_key.public_key
            sealed = seal(key, plaintext, "secagg shares", header.execution, "clinic-2", "clinic-1")
            record = replace(Record.from_bytes(parcel.record), sealed_shares=sealed).to_bytes()
            header = change(header, records_root=MerkleTree([record]).root, record_count=1).signed_by(
                world.identities["clinic-2"]
            )
            digests = bytearray(message.digests)
            digests[32:64] = header.digest
            forged = Parcel(position=0, proof=(), record=record)
            return with_parcels(message, [(header, forged), *rest], digests=bytes(digests))

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert "about other parties" in str(refusal)
        assert refusal.peer == "clinic-2"

    def test_a_header_in_anothers_name(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            (header, first), *rest = parcels_of(message)
            header = change(header, root=bytes(32)).signed_by(world.identities["clinic-3"])
            digests = bytearray(message.digests)
            digests[32:64] = header.digest
            return with_parcels(message, [(header, first), *rest], digests=bytes(digests))

        refusal = attack(Phase.SHARE, forge)
        assert isinstance(refusal, VerificationFailed)
        assert refusal.peer == "clinic-2"

    def test_a_header_that_the_transcript_does_not_hold(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            digests = bytearray(message.digests)
            digests[40] ^= 1
            return change(message, digests=bytes(digests))

        assert isinstance(attack(Phase.SHARE, forge), ContextMismatch)

    def test_a_header_of_another_execution(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            (header, first), *rest = parcels_of(message)
            header = change(header, execution=bytes(32)).signed_by(world.identities["clinic-2"])
            digests = bytearray(message.digests)
            digests[32:64] = header.digest
            return with_parcels(message, [(header, first), *rest], digests=bytes(digests))

        assert isinstance(attack(Phase.SHARE, forge), ContextMismatch)

    def test_own_header_replaced(self) -> None:
        assert isinstance(
            attack(Phase.SHARE, lambda w, x: change(x, digests=bytes(32) + x.digests[32:])), ContextMismatch
        )

    def test_a_dealer_who_did_not_advertise(self) -> None:
        refusal = attack(
            Phase.SHARE,
            lambda w, x: change(x, dealers=ALL, digests=x.digests + bytes(32)),
            vanish={"clinic-5": Phase.ADVERTISE},
        )
        assert isinstance(refusal, ContextMismatch)

    @pytest.mark.parametrize("kept", [slice(0, 3), slice(1, 4), slice(0, 0)])
    def test_parcels_kept_back(self, kept: slice) -> None:
        refusal = attack(Phase.SHARE, lambda w, x: with_parcels(x, parcels_of(x)[kept]))
        assert isinstance(refusal, MalformedMessage)

    @pytest.mark.parametrize("spoil", [lambda p: p[:-1], lambda p: p + b"\x00", lambda p: b""])
    def test_parcels_that_do_not_fit_their_headers(self, spoil: Callable[[bytes], bytes]) -> None:
        refusal = attack(Phase.SHARE, lambda w, x: change(x, parcels=spoil(x.parcels)))
        assert isinstance(refusal, MalformedMessage)

    @pytest.mark.parametrize("flags", [0, HOLDER, PAIR])
    def test_a_parcel_without_what_is_due(self, flags: int) -> None:
        """clinic-1 owes clinic-5 both; it signs less."""

        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            (header, first), *rest = parcels_of(message)
            whole = Record.from_bytes(first.record)
            record = replace(
                whole,
                flags=flags,
                sealed_shares=whole.sealed_shares if flags & HOLDER else b"",
                sealed_pair_seed=whole.sealed_pair_seed if flags & PAIR else b"",
            ).to_bytes()
            header = change(header, records_root=MerkleTree([record]).root, record_count=1).signed_by(
                world.identities["clinic-1"]
            )
            digests = header.digest + message.digests[32:]
            forged = Parcel(position=0, proof=(), record=record)
            return with_parcels(message, [(header, forged), *rest], digests=digests)

        refusal = attack(Phase.SHARE, forge, victim="clinic-5")
        assert isinstance(refusal, MalformedMessage)
        assert refusal.peer == "clinic-1"

    def test_too_few_dealers(self) -> None:
        def forge(world: World, message: m.ShareDelivery) -> m.ShareDelivery:
            fields = {"dealers": parties.pack(range(3)), "digests": message.digests[:96]}
            return with_parcels(message, parcels_of(message)[:2], **fields)

        assert isinstance(attack(Phase.SHARE, forge), TooFewParticipants)


class TestConsistency:
    def test_a_survivor_set_below_the_threshold(self) -> None:
        refusal = attack(Phase.MASKED_INPUT, lambda w, x: change(x, survivors=parties.pack(range(3))))
        assert isinstance(refusal, TooFewParticipants)

    def test_a_survivor_set_below_the_institutions_own_minimum(self) -> None:
        world = World(5, minimum=5)
        with pytest.raises(RoundAborted, match="TooFewParticipants"):
            world.run({"clinic-5": Phase.MASKED_INPUT})

    def test_a_survivor_set_without_us(self) -> None:
        refusal = attack(Phase.MASKED_INPUT, lambda w, x: change(x, survivors=parties.pack(range(1, 5))))
        assert isinstance(refusal, ContextMismatch)

    def test_survivors_that_dealt_nothing(self) -> None:
        refusal = attack(
            Phase.MASKED_INPUT,
            lambda w, x: change(x, survivors=ALL),
            vanish={"clinic-5": Phase.SHARE},
        )
        assert isinstance(refusal, ContextMismatch)

    def test_different_survivor_sets_to_different_institutions(self) -> None:
        """Each signs what it is told; no set then has a threshold of signatures."""
        world = World(5)
        told: dict[str, bytes] = {}

        def split(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
            if closed is not Phase.MASKED_INPUT:
                return payload
            left_out = 4 if receiver in ("clinic-1", "clinic-2") else 1
            survivors = parties.pack(i for i in range(5) if i != left_out or receiver == f"clinic-{i + 1}")
            told[receiver] = survivors
            return change(m.SurvivorAnnouncement.from_bytes(payload), survivors=survivors).to_bytes()

        with pytest.raises(RoundAborted):
            world.run(tamper=split)
        assert len(set(told.values())) > 1
        assert not any(o.phase is Phase.UNMASK for _, o in world.sent_to_coordinator)

    def test_a_second_survivor_set_is_not_signed(self) -> None:
        """Sums over two survivor sets of one update would give one update away."""
        world = World(5)
        first: list[bytes] = []

        def keep(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
            if closed is Phase.MASKED_INPUT and receiver == "clinic-1":
                first.append(payload)
            return payload

        world.run(tamper=keep)
        message = m.SurvivorAnnouncement.from_bytes(first[0])
        for survivors in (message.survivors, parties.pack(range(4))):
            with pytest.raises(UnexpectedMessage):
                world.institutions["clinic-1"].receive(change(message, survivors=survivors).to_bytes())

    def test_another_execution(self) -> None:
        for field in ("execution", "transcript"):
            forge = lambda w, x, field=field: change(x, **{field: bytes(32)})
            assert isinstance(attack(Phase.MASKED_INPUT, forge), ContextMismatch)


class TestUnmask:
    def test_both_secrets_in_one_request(self) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, dropped=parties.pack([1])))
        assert isinstance(refusal, OverlappingUnmaskLists)
        assert "clinic-2" in str(refusal)

    def test_a_survivor_declared_dropped(self) -> None:
        refusal = attack(
            Phase.CONSISTENCY,
            lambda w, x: change(x, survivors=parties.pack(range(4)), dropped=parties.pack([4])),
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
            m.UnmaskRequest.from_bytes(requests[0]),
            survivors=parties.pack(range(4)),
            dropped=parties.pack([4]),
        )
        for again in (requests[0], second.to_bytes()):
            with pytest.raises(UnexpectedMessage):
                world.institutions["clinic-1"].receive(again)

    @pytest.mark.parametrize("kept", [0, 1, 3])
    def test_fewer_signatures_than_the_threshold(self, kept: int) -> None:
        refusal = attack(
            Phase.CONSISTENCY,
            lambda w, x: change(x, signers=x.signers[: 2 * kept], signatures=x.signatures[: 64 * kept]),
        )
        assert isinstance(refusal, TooFewParticipants)

    def test_repeated_signatures_do_not_count_twice(self) -> None:
        refusal = attack(
            Phase.CONSISTENCY,
            lambda w, x: change(x, signers=x.signers[:2] * 5, signatures=x.signatures[:64] * 5),
        )
        assert isinstance(refusal, MalformedMessage)

    def test_signatures_that_do_not_fit_their_signers(self) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, signatures=x.signatures[:-1]))
        assert isinstance(refusal, MalformedMessage)

    def test_forged_signature(self) -> None:
        refusal = attack(Phase.CONSISTENCY, lambda w, x: change(x, signatures=bytes(64) + x.signatures[64:]))
        assert isinstance(refusal, VerificationFailed)

    def test_signatures_over_another_set(self) -> None:
        def forge(world: World, message: m.UnmaskRequest) -> m.UnmaskRequest:
            other = [
                m.ConsistencySignature(
                    sender=name,
                    signature=signed.UNSIGNED,
                    execution=message.execution,
                    transcript=world.coordinator._transcript,
                    survivors_hash=digest("another set"),
                ).signed_by(world.identities[name])
                for name in world.roster.names
            ]
            return change(message, signers=ALL, signatures=b"".join(s.signature for s in other))

        assert isinstance(attack(Phase.CONSISTENCY, forge), VerificationFailed)


class TestOrder:
    def test_out_of_order_and_oversized_messages_change_nothing(self) -> None:
        world = World(3)
        machine = world.institutions["clinic-1"]
        machine.start()
        wrong = m.SurvivorAnnouncement(
            execution=bytes(32), transcript=bytes(32), survivors=parties.pack(range(3))
        )
        for payload in (wrong.to_bytes(), bytes(m.MAX_SHARE_MESSAGE_BYTES + 1)):
            with pytest.raises((UnexpectedMessage, MalformedMessage)):
                machine.receive(payload)
            assert not machine.finished
            assert machine.abort_payload() is None

    def test_every_message_twice_is_refused(self) -> None:
        world = World(5)
        seen: list[tuple[Phase | None, bytes]] = []

        def replay(closed: Phase | None, receiver: str, payload: bytes) -> bytes:
            if receiver == "clinic-1":
                for _, old in seen:
                    with pytest.raises(UnexpectedMessage):
                        world.institutions["clinic-1"].receive(old)
                seen.append((closed, payload))
            return payload

        world.run(tamper=replay)
        assert len(seen) == 5
        assert world.coordinator.aggregate is not None

    def test_a_stopped_round_does_not_start_again(self) -> None:
        world = World(3)
        machine = world.institutions["clinic-1"]
        machine.start()
        with pytest.raises(UnexpectedMessage):
            machine.start()

    def test_a_restarted_round_has_fresh_secrets(self) -> None:
        """A crash forgets them: what was sealed to the first try does not open in the second."""
        world = World(3)
        first, second = twin(world, "clinic-1"), twin(world, "clinic-1")
        keys = [m.Advertise.from_bytes(machine.start().payload) for machine in (first, second)]
        assert keys[0].seal_key != keys[1].seal_key
        assert keys[0].mask_key != keys[1].mask_key
        assert first._secrets.dealer.self_mask != second._secrets.dealer.self_mask

"""What arrives differs from what was signed; what a key does at most; institutions that crash TenSEAL."""

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest

from fedapt_crypto.encoding import Message
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    InvalidInput,
    MalformedMessage,
    PeerError,
    RoundAborted,
    TooFewParticipants,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import messages as m
from fedapt_crypto.secagg.ckks.group import PublicGroup, execution_id
from fedapt_crypto.secagg.ckks.parameters import VALUES_PER_PIECE
from fedapt_crypto.secagg.ckks.process import Worker
from fedapt_crypto.secagg.scheme import Phase
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, Abort
from tests.crypto.secagg.ckks.groups import TEST_SECRET, contexts, make_groups, summed
from tests.crypto.secagg.ckks.test_forged_sums import ciphertexts, honest
from tests.crypto.secagg.ckks.test_structure import CRASHES_THE_ADDER
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, make_context


class TestDelivery:
    """What arrives differs from what was signed."""

    def play(self, closed: Phase, forge: Callable[[World, Message], Message], **more: object) -> FedaptError:
        world = World(5, registry.CKKS, **more)
        kind = {Phase.UPDATE: m.ContributorAnnouncement, Phase.CONSISTENCY: m.SumDelivery}[closed]

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes:
            if receiver != "clinic-2" or phase is not closed:
                return payload
            limit = m.max_delivery_bytes(world.length)
            return forge(world, kind.from_bytes(payload, max_bytes=limit)).to_bytes()

        with pytest.raises(RoundAborted, match="clinic-2 aborted"):
            world.run(tamper=tamper)
        machine = world.institutions["clinic-2"]
        assert machine.finished
        assert machine.aggregate is None
        assert world.keys["clinic-2"].discarded == (closed is Phase.CONSISTENCY)
        with pytest.raises(UnexpectedMessage):
            machine.receive(b"")
        return world.refusals["clinic-2"]

    @pytest.mark.parametrize(
        ("names", "error"),
        [
            ((1, 2, 3), TooFewParticipants),
            ((1, 3, 4, 5), ContextMismatch),
            ((2, 1, 3, 4), MalformedMessage),
            ((1, 2, 2, 3), MalformedMessage),
            ((1, 2, 3, 9), MalformedMessage),
        ],
    )
    def test_announced_contributors(self, names: tuple[int, ...], error: type[FedaptError]) -> None:
        contributors = tuple(f"clinic-{i}" for i in names)
        change = {"contributors": contributors}
        assert isinstance(self.play(Phase.UPDATE, lambda w, a: a.model_copy(update=change)), error)

    def test_our_own_minimum_counts(self) -> None:
        change = {"contributors": tuple(f"clinic-{i}" for i in (1, 2, 3, 4))}
        refusal = self.play(Phase.UPDATE, lambda w, a: a.model_copy(update=change), minimum=5)
        assert isinstance(refusal, TooFewParticipants)

    @pytest.mark.parametrize("closed", [Phase.UPDATE, Phase.CONSISTENCY])
    def test_another_execution(self, closed: Phase) -> None:
        change = {"execution": bytes(32)}
        assert isinstance(self.play(closed, lambda w, a: a.model_copy(update=change)), ContextMismatch)

    def test_another_sum_than_signed(self) -> None:
        """Two sums under one noise would cancel it; so the sum itself is signed for."""

        def split(world: World, delivery: m.SumDelivery) -> m.SumDelivery:
            return delivery.model_copy(update={"pieces": ciphertexts(world)["clinic-1"]})

        assert isinstance(self.play(Phase.CONSISTENCY, split), ContextMismatch)

    def test_another_tag_than_signed(self) -> None:
        refusal = self.play(Phase.CONSISTENCY, lambda w, d: d.model_copy(update={"sum_tag": bytes(8)}))
        assert isinstance(refusal, ContextMismatch)

    def test_other_contributors_than_signed(self) -> None:
        change = {"contributors": tuple(f"clinic-{i}" for i in (1, 2, 3, 4))}
        refusal = self.play(Phase.CONSISTENCY, lambda w, d: d.model_copy(update=change))
        assert isinstance(refusal, ContextMismatch)

    def test_too_few_signatures(self) -> None:
        refusal = self.play(
            Phase.CONSISTENCY, lambda w, d: d.model_copy(update={"signatures": d.signatures[:3]})
        )
        assert isinstance(refusal, TooFewParticipants)

    def test_a_repeated_signature(self) -> None:
        refusal = self.play(
            Phase.CONSISTENCY,
            lambda w, d: d.model_copy(update={"signatures": (*d.signatures[:4], d.signatures[0])}),
        )
        assert isinstance(refusal, PeerError)

    @pytest.mark.parametrize("by", ["stranger", "other-set"])
    def test_a_false_signature(self, by: str) -> None:
        def forge(world: World, delivery: m.SumDelivery) -> m.SumDelivery:
            first = delivery.signatures[0]
            if by == "stranger":
                first = first.signed_by(Identity.generate())
            else:
                first = first.model_copy(update={"contributors": world.roster.names[:4]})
                first = first.signed_by(world.identities[first.sender])
            return delivery.model_copy(update={"signatures": (first, *delivery.signatures[1:])})

        refusal = self.play(Phase.CONSISTENCY, forge)
        assert isinstance(refusal, VerificationFailed if by == "stranger" else ContextMismatch)
        assert refusal.peer == "clinic-1"

    def test_a_second_announcement_is_not_signed(self) -> None:
        world = World(3, registry.CKKS)
        machine = world.institutions["clinic-1"]
        machine.start()
        announcement = m.ContributorAnnouncement(
            execution=execution_id(world.context), contributors=world.roster.names, sum_hash=bytes(32)
        )
        assert machine.receive(announcement.to_bytes()) is not None
        with pytest.raises(UnexpectedMessage):
            machine.receive(announcement.model_copy(update={"sum_hash": b"\x01" * 32}).to_bytes())


class TestGroupKeyRules:
    def test_one_encryption_and_one_decryption_a_round(self) -> None:
        world = World(3, registry.CKKS)
        world.run()
        key = world.keys["clinic-1"]
        with pytest.raises(InvalidInput, match="served this round already"):
            world.institution("clinic-1", world.context, key)
        with pytest.raises(UnexpectedMessage):
            key.decrypt(world.context, world.roster.names, honest(world, ciphertexts(world)), bytes(8))
        assert not key.discarded

    def test_no_more_decryptions_than_the_noise_is_sized_for(self) -> None:
        world = World(3, registry.CKKS)
        keys, _ = make_groups(world.roster, world.context.session, decryptions=2)
        for attempt in (1, 2):
            context = make_context(world.roster, world.length, attempt=attempt)
            key = keys["clinic-1"]
            world.institution("clinic-1", context, key)
            total = summed(context, keys, world.public, world.updates)
            key.decrypt(context, world.roster.names, *total)
        with pytest.raises(InvalidInput, match="sized for 2 decrypted pieces"):
            world.institution("clinic-1", make_context(world.roster, world.length, attempt=3), key)
        with pytest.raises(InvalidInput, match="sized for 2 decrypted pieces"):
            key.decrypt(make_context(world.roster, world.length, attempt=3), world.roster.names, *total)

    @pytest.mark.parametrize("change", [{"session": b"\x01" * 16}, {"group": bytes(32)}])
    def test_another_session(self, change: dict[str, object]) -> None:
        world = World(3, registry.CKKS)
        context = make_context(world.roster, world.length, **change)
        with pytest.raises(InvalidInput, match="another session"):
            world.institution("clinic-1", context, world.keys["clinic-1"])
        with pytest.raises(InvalidInput, match="another session"):
            world.keys["clinic-1"].decrypt(context, world.roster.names, [b""], bytes(8))
        with pytest.raises(InvalidInput, match="another session"):
            registry.coordinator_round(
                registry.CKKS, context, world.roster, COORDINATOR_IDENTITY, group=world.public
            )

    def test_values_that_are_not_finite(self) -> None:
        world = World(3, registry.CKKS)
        world.updates["clinic-1"][3] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            world.institutions["clinic-1"].start()

    def test_secrets_do_not_show(self) -> None:
        world = World(3, registry.CKKS)
        key = world.keys["clinic-1"]
        shown = repr(key) + repr(key._worker) + repr(world.public)
        assert TEST_SECRET.hex() not in shown + repr(key._secret)
        assert repr(TEST_SECRET)[2:20] not in shown + repr(key._secret)


class TestHostileInstitution:
    def send_instead(self, world: World, sender: str, pieces: tuple[bytes, ...]) -> None:
        """Let one institution send other ciphertexts, properly signed."""
        original = world.coordinator.receive

        def receive(name: str, payload: bytes) -> None:
            if name == sender and world.coordinator.phase is Phase.UPDATE:
                limit = m.max_update_bytes(world.length)
                message = m.CkksUpdate.from_bytes(payload, max_bytes=limit)
                forged = message.model_copy(update={"pieces": pieces}).signed_by(world.identities[name])
                payload = forged.to_bytes()
            original(name, payload)

        world.coordinator.receive = receive

    def assert_the_others_finish(self, world: World) -> None:
        assert isinstance(world.refusals["coordinator"], MalformedMessage)
        others = tuple(name for name in world.roster.names if name != "clinic-3")
        assert world.aggregate.contributors == others
        assert np.abs(world.aggregate.total - world.exact_sum(others)).max() <= world.error_bound

    @pytest.mark.parametrize("pieces", [(CRASHES_THE_ADDER,), (b"",), (bytes(65_676),), ()])
    def test_what_is_no_ciphertext(self, pieces: tuple[bytes, ...]) -> None:
        world = World(5, registry.CKKS)
        self.send_instead(world, "clinic-3", pieces)
        world.run()
        self.assert_the_others_finish(world)

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_wrong_number_of_ciphertexts(self, count: int) -> None:
        world = World(5, registry.CKKS, length=VALUES_PER_PIECE + 5)
        update = world.institutions["clinic-3"].start().payload
        message = m.CkksUpdate.from_bytes(update, max_bytes=len(update))
        forged = message.model_copy(update={"pieces": message.pieces[:1] * count})
        payload = forged.signed_by(world.identities["clinic-3"]).to_bytes()
        with pytest.raises(MalformedMessage, match=r"wrong length" if count < 2 else "are allowed"):
            world.coordinator.receive("clinic-3", payload)
        assert "clinic-3" in world.coordinator.waiting_for

    def test_a_crash_in_the_worker_costs_one_institution_and_not_the_sum(self) -> None:
        """At the second of two pieces, so that the first had been added already."""
        world = World(5, registry.CKKS, length=VALUES_PER_PIECE + 5)
        worker = Worker(contexts()[1])
        world.public._worker = worker
        add, calls = worker.call, 0

        def call(operation, *parts, blame=None):
            nonlocal calls
            calls += blame == "clinic-3"
            if blame == "clinic-3" and calls == 2:
                os.kill(worker.process_id, signal.SIGSEGV)
                os.waitpid(worker.process_id, 0)
            return add(operation, *parts, blame=blame)

        worker.call = call
        processes = []
        receive = world.coordinator.receive

        def watch(name: str, payload: bytes) -> None:
            try:
                receive(name, payload)
            finally:
                processes.append(worker.process_id)

        world.coordinator.receive = watch
        world.run()
        assert "died" in str(world.refusals["coordinator"])
        assert world.refusals["coordinator"].peer == "clinic-3"
        assert processes[1] not in (None, processes[3])
        assert processes[2] is None
        self.assert_the_others_finish(world)
        worker.close()

    def test_a_worker_that_is_killed_between_two_institutions_is_replaced(self) -> None:
        world = World(4, registry.CKKS)
        world.public._worker = worker = Worker(contexts()[1])
        payloads = {name: machine.start().payload for name, machine in world.institutions.items()}
        world.coordinator.receive("clinic-1", payloads["clinic-1"])
        os.kill(worker.process_id, signal.SIGKILL)
        os.waitpid(worker.process_id, 0)
        with pytest.raises(MalformedMessage, match="clinic-2: .* the worker died"):
            world.coordinator.receive("clinic-2", payloads["clinic-2"])
        for name in ("clinic-3", "clinic-4"):
            world.coordinator.receive(name, payloads[name])
        world.coordinator.drop("clinic-2")
        world.coordinator.close_phase()
        assert world.coordinator.contributors == ("clinic-1", "clinic-3", "clinic-4")
        worker.close()

    def test_a_changed_body_needs_the_signature(self) -> None:
        world = World(3, registry.CKKS)
        payload = bytearray(world.institutions["clinic-1"].start().payload)
        payload[40_000] ^= 1
        with pytest.raises(VerificationFailed):
            world.coordinator.receive("clinic-1", bytes(payload))

    def test_what_is_too_long_is_not_even_parsed(self) -> None:
        world = World(3, registry.CKKS)
        with pytest.raises(MalformedMessage, match="are allowed"):
            world.coordinator.receive("clinic-1", bytes(m.max_update_bytes(world.length) + 1))
        assert m.max_update_bytes(1) < 66_600 + MESSAGE_OVERHEAD_BYTES

    def test_an_abort_of_another_round_is_refused(self) -> None:
        world = World(3, registry.CKKS)
        abort = Abort(
            sender="clinic-1", signature=bytes(64), context=bytes(32), reason="PeerError", accused=None
        ).signed_by(world.identities["clinic-1"])
        with pytest.raises(ContextMismatch):
            world.coordinator.receive("clinic-1", abort.to_bytes())
        assert world.coordinator.phase is Phase.UPDATE


def test_the_coordinators_memory_does_not_grow_with_the_institutions() -> None:
    world = World(7, registry.CKKS)
    for name, machine in world.institutions.items():
        world.coordinator.receive(name, machine.start().payload)
        assert len(world.coordinator._sum) == 1
        held = [value for value in vars(world.coordinator).values() if isinstance(value, dict)]
        assert not any(held)


def test_a_group_is_needed_as_the_type_says() -> None:
    assert isinstance(World(3, registry.CKKS).public, PublicGroup)

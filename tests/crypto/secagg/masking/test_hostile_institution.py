"""Institutions that cheat against a real coordinator: a bad share is ignored, a bad dealer is named."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedapt_crypto.encoding import Message
from fedapt_crypto.errors import (
    ContextMismatch,
    MalformedMessage,
    PeerError,
    RoundAborted,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.kdf import digest
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import signed
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import dealing
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking.neighbourhood import check_keys
from fedapt_crypto.secagg.masking.records import HOLDER, OWN, PAIR, Record, split_records
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.frames import join_masked, masked, split_masked
from tests.crypto.secagg.harness import World


def change(message: Message, **fields: object) -> Message:
    return message.model_copy(update=fields)


def cheat(world: World, phase: Phase, forge: Callable[[bytes], Message | bytes], *names: str) -> None:
    """Let the named institutions send something else in one phase, signed with their own keys."""
    original = world.coordinator.receive

    def receive(sender: str, payload: bytes) -> None:
        if sender in names and world.coordinator.phase is phase:
            forged = forge(payload)
            payload = forged if isinstance(forged, bytes) else forged.to_bytes()
        original(sender, payload)

    world.coordinator.receive = receive


def reordered(records: bytes, order: list[int]) -> bytes:
    table = split_records(records)
    return b"".join(table[position] for position in order)


def resigned(world: World, message: signed.SignedMessage, **fields: object) -> signed.SignedMessage:
    return change(message, **fields).signed_by(world.identities[message.sender])


class TestUnmask:
    @staticmethod
    def false_shares(world: World) -> Callable[[bytes], Message]:
        def forge(payload: bytes) -> Message:
            message = m.UnmaskShares.from_bytes(payload)
            return resigned(
                world,
                message,
                self_mask_shares=bytes(len(message.self_mask_shares)),
                root_shares=bytes(len(message.root_shares)),
            )

        return forge

    def test_one_who_reveals_false_shares_is_ignored(self) -> None:
        world = World(5)
        cheat(world, Phase.UNMASK, self.false_shares(world), "clinic-2")
        world.run()
        assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))
        assert world.coordinator.false_senders == ("clinic-2",)

    def test_one_false_share_names_the_last_of_many_too(self) -> None:
        """When enough good shares have come from others already."""

        def forge(payload: bytes) -> Message:
            message = m.UnmaskShares.from_bytes(payload)
            return resigned(world, message, self_mask_shares=bytes(33) + message.self_mask_shares[33:])

        world = World(5)
        cheat(world, Phase.UNMASK, forge, "clinic-5")
        world.run()
        assert world.coordinator.aggregate is not None
        assert world.coordinator.false_senders == ("clinic-5",)

    def test_nobody_is_named_without_a_false_share(self) -> None:
        world = World(5)
        world.run({"clinic-3": Phase.MASKED_INPUT})
        assert world.coordinator.false_senders == ()

    def test_too_many_false_shares_abort_the_round(self) -> None:
        world = World(5)
        cheat(world, Phase.UNMASK, self.false_shares(world), "clinic-2", "clinic-4")
        with pytest.raises(RoundAborted, match="3 good shares"):
            world.run()
        assert world.coordinator.aggregate is None
        assert world.coordinator.false_senders == ("clinic-2", "clinic-4")

    @pytest.mark.parametrize("length", [0, 1, 33, 33 * 5 - 1, 33 * 6])
    def test_a_table_of_another_length_counts_as_false_shares(self, length: int) -> None:
        world = World(5)
        cheat(
            world,
            Phase.UNMASK,
            lambda p: resigned(world, m.UnmaskShares.from_bytes(p), self_mask_shares=bytes(length)),
            "clinic-2",
        )
        world.run()
        assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))

    def test_shares_nobody_asked_for(self) -> None:
        world = World(5)
        cheat(
            world,
            Phase.UNMASK,
            lambda p: resigned(
                world, m.UnmaskShares.from_bytes(p), dropped=b"\x00\x01", root_shares=bytes(33)
            ),
            "clinic-2",
        )
        world.run()
        assert isinstance(world.refusals["coordinator"], MalformedMessage)
        assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))


class TestDealer:
    def test_a_pair_seed_that_its_root_does_not_give(self, monkeypatch) -> None:
        world = World(5)
        honest, close = dealing.keys.pair_seed, masking_coordinator.MaskingCoordinator._close_unmask
        root, reconstructing = world.institutions["clinic-2"]._secrets.dealer.root, False

        def pair_seed(secret: bytes, execution: bytes, dealer: str, receiver: str) -> bytes:
            seed = honest(secret, execution, dealer, receiver)
            return digest("false", seed) if secret == root and not reconstructing else seed

        def close_unmask(machine, arrived):
            nonlocal reconstructing
            reconstructing = True
            return close(machine, arrived)

        monkeypatch.setattr(dealing.keys, "pair_seed", pair_seed)
        closing = {**masking_coordinator._CLOSING, Phase.UNMASK: close_unmask}
        monkeypatch.setattr(masking_coordinator, "_CLOSING", closing)
        with pytest.raises(RoundAborted, match="clinic-2: gave clinic-3 a pair seed that its root"):
            world.run({"clinic-2": Phase.MASKED_INPUT})

    def test_shares_that_are_not_of_the_committed_secret(self, monkeypatch) -> None:
        world = World(5)
        split = dealing.shamir.split
        secret = world.institutions["clinic-4"]._secrets.dealer.self_mask
        monkeypatch.setattr(
            dealing.shamir, "split", lambda s, t, i: split(digest("other") if s == secret else s, t, i)
        )
        with pytest.raises(RoundAborted, match="clinic-4: dealt shares of another self mask secret"):
            world.run()

    def test_a_mask_key_that_its_root_does_not_give(self) -> None:
        world = World(5)
        dealer = world.institutions["clinic-3"]._secrets.dealer
        dealer.mask_key = world.institutions["clinic-3"]._secrets.mask_key = SealingKey.fresh()
        with pytest.raises(RoundAborted, match="clinic-3: advertised a mask key that its root"):
            world.run({"clinic-3": Phase.MASKED_INPUT})

    @pytest.mark.parametrize(
        ("what", "victim"), [("secagg shares", "clinic-5"), ("secagg pair seed", "clinic-4")]
    )
    def test_a_ciphertext_that_does_not_open_names_its_dealer(self, monkeypatch, what, victim) -> None:
        world = World(5)

        def bad_seal(public_key: bytes, plaintext: bytes, *info: object) -> bytes:
            spoilt = info[0] == what and info[2:] == ("clinic-2", victim)
            return seal(SealingKey.fresh().public_key if spoilt else public_key, plaintext, *info)

        monkeypatch.setattr(dealing, "seal", bad_seal)
        with pytest.raises(RoundAborted, match=f"{victim} aborted .* accuses clinic-2"):
            world.run()

    def test_shares_that_differ_from_their_commitments_name_the_dealer(self, monkeypatch) -> None:
        world = World(5)
        honest = dealing.share_commitment

        def other_commitment(kind, execution, owner, holder, share):
            found = honest(kind, execution, owner, holder, share)
            return digest("x") if (owner, holder) == ("clinic-2", "clinic-5") and dealing_now[0] else found

        dealing_now = [True]
        monkeypatch.setattr(dealing, "share_commitment", other_commitment)
        original = world.coordinator.close_phase

        def close_phase():
            if world.coordinator.phase is Phase.SHARE:
                dealing_now[0] = False
            return original()

        world.coordinator.close_phase = close_phase
        with pytest.raises(RoundAborted, match="clinic-5 aborted .* accuses clinic-2"):
            world.run()

    def forged(self, world: World, **fields) -> Callable[[bytes], Message]:
        def forge(payload: bytes) -> Message:
            message = m.ShareMessage.from_bytes(payload)
            return change(message, **{k: f(message) for k, f in fields.items()})

        return forge

    @pytest.mark.parametrize(
        ("field", "change_to", "error"),
        [
            ("records", lambda x: x.records[:-1], MalformedMessage),
            ("records", lambda x: x.records + b"\x00", MalformedMessage),
            ("records", lambda x: b"".join(split_records(x.records)[:-1]), MalformedMessage),
            ("records", lambda x: b"\xff" + x.records[1:], VerificationFailed),
            ("records", lambda x: x.records[:-1] + bytes([x.records[-1] ^ 1]), VerificationFailed),
            ("records", lambda x: reordered(x.records, [0, 1, 3, 2, 4]), VerificationFailed),
            ("records", lambda x: reordered(x.records, [2, 0, 1, 3, 4]), VerificationFailed),
        ],
    )
    def test_malformed_dealing_is_refused(self, field, change_to, error) -> None:
        world = World(5)
        cheat(world, Phase.SHARE, self.forged(world, **{field: change_to}), "clinic-2")
        world.run()
        assert isinstance(world.refusals["coordinator"], error)
        assert "clinic-2" not in world.coordinator.aggregate.contributors

    @pytest.mark.parametrize(
        "fields",
        [
            {"receiver": 7},
            {"flags": HOLDER, "sealed_pair_seed": b""},
            {"flags": PAIR, "sealed_shares": b""},
            {"flags": 0, "sealed_shares": b"", "sealed_pair_seed": b""},
            {"flags": HOLDER | OWN, "sealed_shares": b"", "sealed_pair_seed": b""},
        ],
    )
    def test_a_record_that_is_not_due_is_refused_even_if_signed(self, fields: dict) -> None:
        world = World(5)

        def forge(payload: bytes) -> Message:
            message = m.ShareMessage.from_bytes(payload)
            table = split_records(message.records)
            table[4] = replace(Record.from_bytes(table[4]), **fields).to_bytes()
            header = resigned(world, message.header, records_root=MerkleTree(table).root)
            return change(message, header=header, records=b"".join(table))

        cheat(world, Phase.SHARE, forge, "clinic-2")
        world.run()
        assert isinstance(world.refusals["coordinator"], MalformedMessage)


class TestMaskedInput:
    @staticmethod
    def send(world: World, forge: Callable[[m.MaskedInput, bytes], bytes]) -> PeerError:
        """Let clinic-3 send something else; return the coordinator's refusal."""
        cheat(world, Phase.MASKED_INPUT, lambda payload: forge(*split_masked(payload)), "clinic-3")
        world.run()
        assert "clinic-3" not in world.coordinator.aggregate.contributors
        assert np.array_equal(
            world.coordinator.aggregate.total, world.exact_sum(world.coordinator.aggregate.contributors)
        )
        refusal = world.refusals["coordinator"]
        assert refusal.peer == "clinic-3"
        return refusal

    @pytest.mark.parametrize("length", [0, 3, 4 * 36, 4 * 37 - 1, 4 * 37 + 1, 4 * 38])
    def test_wrong_length(self, length: int) -> None:
        world = World(5)
        refusal = self.send(world, lambda h, v: masked(h, bytes(length), world.identities["clinic-3"]))
        assert isinstance(refusal, MalformedMessage)
        assert "wrong length" in str(refusal)

    def test_of_another_execution(self) -> None:
        world = World(5)
        forge = lambda h, v: join_masked(resigned(world, h, transcript=bytes(32)), v)
        assert isinstance(self.send(world, forge), ContextMismatch)

    def test_another_vector_than_signed(self) -> None:
        refusal = self.send(World(5), lambda h, v: join_masked(h, bytes([v[0] ^ 1]) + v[1:]))
        assert isinstance(refusal, VerificationFailed)
        assert "another vector" in str(refusal)

    def test_another_hash_than_the_vectors(self) -> None:
        world = World(5)
        forge = lambda h, v: join_masked(resigned(world, h, vector_hash=bytes(32)), v)
        assert isinstance(self.send(world, forge), VerificationFailed)

    def test_a_signature_of_somebody_else(self) -> None:
        world = World(5)
        refusal = self.send(world, lambda h, v: masked(h, v, world.identities["clinic-4"]))
        assert isinstance(refusal, VerificationFailed)
        assert "signature" in str(refusal)

    def test_a_header_without_its_vector_is_no_message(self) -> None:
        world = World(5)
        cheat(world, Phase.MASKED_INPUT, lambda p: split_masked(p)[0], "clinic-3")
        world.run()
        assert isinstance(world.refusals["coordinator"], MalformedMessage)

    def test_silence_is_a_dropout(self) -> None:
        world = World(5)
        world.run(
            tamper=lambda phase, name, data: None if (phase, name) == (Phase.SHARE, "clinic-4") else data
        )
        assert "clinic-4" not in world.coordinator.aggregate.contributors

    def test_late_is_refused(self) -> None:
        world = World(5)
        late: list[bytes] = []
        original = world.coordinator.receive

        def receive(sender: str, payload: bytes) -> None:
            if sender == "clinic-4" and world.coordinator.phase is Phase.MASKED_INPUT:
                late.append(payload)
                world.coordinator.drop(sender)
            elif world.coordinator.phase is Phase.CONSISTENCY and late:
                with pytest.raises(UnexpectedMessage):
                    original("clinic-4", late.pop())
                original(sender, payload)
            else:
                original(sender, payload)

        world.coordinator.receive = receive
        world.run()
        assert not late
        total, names = world.coordinator.aggregate.total, world.coordinator.aggregate.contributors
        assert "clinic-4" not in names
        assert np.array_equal(total, world.exact_sum(names))


def test_a_false_abort_needs_the_institutions_signature() -> None:
    world = World(3)
    abort = signed.Abort(
        sender="clinic-1",
        signature=bytes(64),
        context=world.context.hash,
        reason="PeerError",
        accused=None,
    )
    with pytest.raises(VerificationFailed):
        world.coordinator.receive("clinic-1", abort.to_bytes())
    assert world.coordinator.phase is Phase.ADVERTISE


@pytest.mark.parametrize("field", ["seal_key", "mask_key"])
@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19 + 9, 9 | 1 << 255])
def test_nothing_is_sealed_to_a_key_that_no_honest_party_has(field: str, u: int) -> None:
    world = World(3)
    world.institutions["clinic-1"].start()
    advertise = m.Advertise.from_bytes(world.institutions["clinic-2"].start().payload)
    key = getattr(advertise, field)[:1184] + u.to_bytes(32, "little")
    forged = resigned(world, advertise, **{field: key})
    with pytest.raises(VerificationFailed, match="clinic-2: the sealing key is none"):
        world.coordinator.receive("clinic-2", forged.to_bytes())
    assert "clinic-2" in world.coordinator.waiting_for
    with pytest.raises(VerificationFailed, match="clinic-2: the sealing key is none"):  # nor an institution
        check_keys(forged)


@pytest.mark.parametrize("changed", [{"round": 2}, {"attempt": 2}, {"session": bytes([1]) * 16}])
def test_an_abort_of_another_round_ends_nothing(changed: dict) -> None:
    world = World(3)
    other = world.context.model_copy(update=changed)
    common = {"sender": "clinic-1", "signature": bytes(64), "reason": "PeerError", "accused": None}
    abort = signed.Abort(**common, context=other.hash).signed_by(world.identities["clinic-1"])
    with pytest.raises(ContextMismatch):
        world.coordinator.receive("clinic-1", abort.to_bytes())
    assert world.coordinator.phase is Phase.ADVERTISE
    own = signed.Abort(**common, context=world.context.hash).signed_by(world.identities["clinic-1"])
    with pytest.raises(RoundAborted):
        world.coordinator.receive("clinic-1", own.to_bytes())

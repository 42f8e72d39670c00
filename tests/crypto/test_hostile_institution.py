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
from fedapt_crypto.secagg import dealing, masking_coordinator
from fedapt_crypto.secagg import messages as m
from fedapt_crypto.secagg.records import Record
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.harness import World


def change(message: Message, **fields: object) -> Message:
    return message.model_copy(update=fields)


def cheat(world: World, phase: Phase, forge: Callable[[bytes], Message], *names: str) -> None:
    """Let the named institutions send something else in one phase, signed with their own keys."""
    original = world.coordinator.receive

    def receive(sender: str, payload: bytes) -> None:
        if sender in names and world.coordinator.phase is phase:
            payload = forge(payload).to_bytes()
        original(sender, payload)

    world.coordinator.receive = receive


def resigned(world: World, message: m.SignedMessage, **fields: object) -> m.SignedMessage:
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

    def test_too_many_false_shares_abort_the_round(self) -> None:
        world = World(5)
        cheat(world, Phase.UNMASK, self.false_shares(world), "clinic-2", "clinic-4")
        with pytest.raises(RoundAborted, match="3 good shares"):
            world.run()
        assert world.coordinator.aggregate is None

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
            ("records", lambda x: x.records[: -len(x.records) // 5], MalformedMessage),
            ("records", lambda x: b"\xff" + x.records[1:], VerificationFailed),
            ("sealed", lambda x: x.sealed[:-1], MalformedMessage),
            ("sealed", lambda x: (x.sealed[1], x.sealed[0], *x.sealed[2:]), PeerError),
            (
                "sealed",
                lambda x: (*x.sealed[:2], m.SealedSecrets(shares=None, pair_seed=None), *x.sealed[3:]),
                PeerError,
            ),
        ],
    )
    def test_malformed_dealing_is_refused(self, field, change_to, error) -> None:
        world = World(5)
        cheat(world, Phase.SHARE, self.forged(world, **{field: change_to}), "clinic-2")
        world.run()
        assert isinstance(world.refusals["coordinator"], error)
        assert "clinic-2" not in world.coordinator.aggregate.contributors

    def test_a_record_for_a_stranger_is_refused_even_if_signed(self) -> None:
        world = World(5)

        def forge(payload: bytes) -> Message:
            message = m.ShareMessage.from_bytes(payload)
            size = len(message.records) // 5
            table = [message.records[i : i + size] for i in range(0, len(message.records), size)]
            table[4] = replace(Record.from_bytes(table[4]), receiver=7).to_bytes()
            header = resigned(world, message.header, records_root=MerkleTree(table).root)
            return change(message, header=header, records=b"".join(table))

        cheat(world, Phase.SHARE, forge, "clinic-2")
        world.run()
        assert isinstance(world.refusals["coordinator"], MalformedMessage)


class TestMaskedInput:
    @pytest.mark.parametrize("length", [0, 3, 4 * 36, 4 * 38])
    def test_wrong_length(self, length: int) -> None:
        world = World(5)
        cheat(
            world,
            Phase.MASKED_INPUT,
            lambda p: resigned(world, m.MaskedInput.from_bytes(p), masked=bytes(length)),
            "clinic-3",
        )
        world.run()
        assert "wrong length" in str(world.refusals["coordinator"])
        assert "clinic-3" not in world.coordinator.aggregate.contributors
        assert np.array_equal(
            world.coordinator.aggregate.total, world.exact_sum(world.coordinator.aggregate.contributors)
        )

    def test_of_another_execution(self) -> None:
        world = World(5)
        cheat(
            world,
            Phase.MASKED_INPUT,
            lambda p: resigned(world, m.MaskedInput.from_bytes(p), transcript=bytes(32)),
            "clinic-3",
        )
        world.run()
        assert isinstance(world.refusals["coordinator"], ContextMismatch)

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

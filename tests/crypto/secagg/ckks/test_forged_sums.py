"""A coordinator that cheats with ciphertexts and tags that it cannot open."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import tenseal

from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    MalformedMessage,
    RoundAborted,
    SumCheckFailed,
    VerificationFailed,
)
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import messages as m
from fedapt_crypto.secagg.ckks.catch_up import open_missed_sum
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import GroupKey
from fedapt_crypto.secagg.ckks.parameters import SLOTS, UNIT, VALUES_PER_PIECE
from fedapt_crypto.secagg.scheme import Phase
from fedapt_crypto.sum_tag import PRIME, SumCheck
from tests.crypto.secagg.ckks.groups import contexts, secret_worker
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, make_context

Forge = Callable[[World, dict[str, tuple[bytes, ...]]], list[bytes]]
"""Everybody's ciphertexts to the sum that the coordinator pretends."""


def ciphertexts(world: World) -> dict[str, tuple[bytes, ...]]:
    """What each institution sent, by name."""
    sent = {}
    for name, outgoing in world.sent_to_coordinator:
        if outgoing.phase is Phase.UPDATE:
            limit = m.max_update_bytes(world.length)
            sent[name] = m.CkksUpdate.from_bytes(outgoing.payload, max_bytes=limit).pieces
    return sent


def added(world: World, parts: list[tuple[bytes, ...]]) -> list[bytes]:
    total: list[bytes] = []
    for pieces in parts:
        total = world.public.add(total, pieces, "clinic-1")
    return total


def shifted(world: World, total: list[bytes], amount: np.ndarray) -> list[bytes]:
    """A sum to which a plaintext was added, as anybody can who has the parameters."""
    public = tenseal.context_from(contexts()[1], n_threads=1)
    result = []
    for piece, row in zip(total, amount, strict=True):
        vector = tenseal.ckks_vector_from(public, piece)
        vector.add_(row.tolist())
        result.append(vector.serialize())
    return result


def pretend(world: World, forge: Forge) -> None:
    """Let the coordinator announce and deliver another sum than the true one."""
    announce = world.coordinator._announce

    def cheat():
        world.coordinator._sum = forge(world, ciphertexts(world))
        return announce()

    world.coordinator._announce = cheat


def exact_slots(world: World, sent: dict[str, tuple[bytes, ...]]) -> np.ndarray:
    """What the sum decrypts to, which no coordinator knows."""
    rows = [secret_worker().call(Operation.DECRYPT, piece)[0] for piece in honest(world, sent)]
    return np.frombuffer(b"".join(rows)).reshape(-1, SLOTS)


def honest(world: World, sent: dict[str, tuple[bytes, ...]]) -> list[bytes]:
    return added(world, list(sent.values()))


def only_values(world: World) -> np.ndarray:
    """One unit in every slot that holds a value, zero in the check values' and behind the end."""
    mask = world.keys["clinic-1"]._mask(world.context)
    places = np.cumsum(~mask.reshape(-1)).reshape(mask.shape) <= world.length
    return (places & ~mask) * UNIT


def one_value(world: World) -> np.ndarray:
    """One unit in the slot of the last value."""
    only = only_values(world)
    last = np.argwhere(only)[-1]
    single = np.zeros_like(only)
    single[tuple(last)] = UNIT
    return single


FORGED_SUMS: dict[str, Forge] = {
    "one-repeated": lambda w, sent: added(w, [sent["clinic-2"]] * 5),
    "one-replaced": lambda w, sent: added(
        w, [*(sent[f"clinic-{i}"] for i in (1, 2, 3, 4)), sent["clinic-4"]]
    ),
    "one-left-out": lambda w, sent: added(w, [sent[f"clinic-{i}"] for i in (1, 2, 3, 4)]),
    "one-twice": lambda w, sent: added(w, [*sent.values(), sent["clinic-3"]]),
    "one-alone": lambda w, sent: list(sent["clinic-2"]),
    "shifted-everywhere": lambda w, sent: shifted(w, honest(w, sent), np.full((2, 2048), 0.5)),
    "values-shifted-without-knowing-where": lambda w, sent: shifted(
        w, honest(w, sent), np.repeat([[0.0, 0.5]], 2048, axis=1).reshape(2, 2048)
    ),
    "one-value-shifted-by-one-unit": lambda w, sent: shifted(w, honest(w, sent), one_value(w)),
    "one-value-shifted-by-minus-one-unit": lambda w, sent: shifted(w, honest(w, sent), -one_value(w)),
    "one-value-shifted-to-no-integer": lambda w, sent: shifted(w, honest(w, sent), 0.2 * one_value(w)),
    "all-values-shifted-alike": lambda w, sent: shifted(w, honest(w, sent), 1000 * only_values(w)),
    "shifted-out-of-reach": lambda w, sent: shifted(w, honest(w, sent), 2**31 * only_values(w)),
    "doubled": lambda w, sent: added(w, [tuple(honest(w, sent))] * 2),
    "nothing": lambda w, sent: shifted(w, honest(w, sent), -exact_slots(w, sent)),
    "pieces-exchanged": lambda w, sent: honest(w, sent)[::-1],
    "piece-missing": lambda w, sent: honest(w, sent)[:1],
}


@pytest.mark.parametrize("name", FORGED_SUMS)
def test_a_forged_sum_ends_the_round_and_the_key(name: str) -> None:
    world = World(5, registry.CKKS, length=2 * VALUES_PER_PIECE - 30)
    pretend(world, FORGED_SUMS[name])
    with pytest.raises(RoundAborted, match="clinic-1 aborted"):
        world.run()
    expected = MalformedMessage if name == "piece-missing" else SumCheckFailed
    assert isinstance(world.refusals["clinic-1"], expected)
    machine, key = world.institutions["clinic-1"], world.keys["clinic-1"]
    assert machine.finished
    assert machine.aggregate is None
    assert key.discarded
    with pytest.raises(InvalidInput, match="start a new session"):
        world.institution("clinic-1", make_context(world.roster, world.length, round=2), key)
    with pytest.raises(InvalidInput, match="start a new session"):
        key.decrypt(world.context, world.roster.names, world.coordinator._sum, bytes(8))


@pytest.mark.parametrize("tag", ["zero", "one-more", "doubled", "negated", "plus-p"])
def test_another_tag_ends_the_round_and_the_key(tag: str) -> None:
    world = World(3, registry.CKKS)
    announce = world.coordinator._announce

    def cheat():
        true = world.coordinator._sum_tag
        changed = {"zero": 0, "one-more": true + 1, "doubled": 2 * true, "negated": -true}
        world.coordinator._sum_tag = changed[tag] % PRIME if tag in changed else true + PRIME
        return announce()

    world.coordinator._announce = cheat
    with pytest.raises(RoundAborted, match="clinic-1 aborted"):
        world.run()
    refusal = world.refusals["clinic-1"]
    assert isinstance(refusal, MalformedMessage if tag == "plus-p" else SumCheckFailed)
    assert world.keys["clinic-1"].discarded


def test_sum_and_tag_doubled_together() -> None:
    """Twice the sum with twice its tag: the pads, and κ before them, are there once only."""
    world = World(3, registry.CKKS, clip=4.0)
    pretend(world, FORGED_SUMS["doubled"])
    announce = world.coordinator._announce

    def cheat():
        world.coordinator._sum_tag = 2 * world.coordinator._sum_tag % PRIME
        return announce()

    world.coordinator._announce = cheat
    with pytest.raises(RoundAborted, match="SumCheckFailed"):
        world.run()


@pytest.mark.parametrize("part", [0.1, -0.1])
def test_what_rounding_takes_away_changes_nothing(part: float) -> None:
    world = World(3, registry.CKKS)
    seen = []
    check = SumCheck.verify

    def watch(self, total, *arguments, **more):
        seen.append(total)
        return check(self, total, *arguments, **more)

    pretend(world, lambda w, sent: shifted(w, honest(w, sent), part * only_values(w)))
    with patch.object(SumCheck, "verify", watch):
        world.run()
    exact = world.exact_sum(world.roster.names) / world.context.fixed_point.resolution
    assert len(seen) == 3
    for total in seen:
        assert np.array_equal(total.view(np.int32), exact)


def test_an_institution_that_tags_another_vector_than_it_sends_spoils_the_round_unnamed() -> None:
    world = World(3, registry.CKKS)
    encrypt = GroupKey.encrypt

    def lie(key, context, name, words):
        pieces, tag = encrypt(key, context, name, words)
        return pieces, bytes([tag[0], tag[1] ^ 1]) + tag[2:] if name == "clinic-2" else tag

    with patch.object(GroupKey, "encrypt", lie), pytest.raises(RoundAborted) as raised:
        world.run()
    assert "SumCheckFailed" in str(raised.value)
    assert "accuses" not in str(raised.value)


def test_the_tag_is_under_the_senders_signature() -> None:
    world = World(3, registry.CKKS)
    payload = world.institutions["clinic-1"].start().payload
    message = m.CkksUpdate.from_bytes(payload, max_bytes=len(payload))
    for tag, error in ((bytes(8), VerificationFailed), (PRIME.to_bytes(8), MalformedMessage)):
        changed = message.model_copy(update={"update_tag": tag})
        if error is MalformedMessage:
            changed = changed.signed_by(world.identities["clinic-1"])
        with pytest.raises(error):
            world.coordinator.receive("clinic-1", changed.to_bytes())
    assert "clinic-1" in world.coordinator.waiting_for
    world.coordinator.receive("clinic-1", payload)


def test_an_old_rounds_sum() -> None:
    old = World(3, registry.CKKS)
    old.run()
    assert old.aggregate is not None
    new = World(3, registry.CKKS)
    stale = honest(old, ciphertexts(old))
    # the same session in its next round: same roster, same g
    new.roster, new.identities, new.keys = old.roster, old.identities, old.keys
    new.context = make_context(old.roster, old.length, round=2)
    new.coordinator = registry.coordinator_round(
        registry.CKKS, new.context, old.roster, COORDINATOR_IDENTITY, group=old.public
    )
    new.institutions = {name: new.institution(name, new.context, old.keys[name]) for name in old.identities}
    pretend(new, lambda world, sent: stale)
    with pytest.raises(RoundAborted, match="SumCheckFailed"):
        new.run()


def test_another_contributor_set_than_the_sums() -> None:
    world = World(5, registry.CKKS)
    announce = world.coordinator._announce

    def cheat():
        world.coordinator._expected = world.coordinator._expected[:4]
        return announce()

    world.coordinator._announce = cheat
    with pytest.raises(RoundAborted, match="SumCheckFailed"):
        world.run()
    assert all(world.keys[name].discarded for name in ("clinic-1",))


class TestMissed:
    """Opened later, by one that was in the round or was not."""

    def delivered(self, world: World) -> bytes:
        sent = []

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
            if phase is not Phase.CONSISTENCY or receiver != "clinic-3":
                return payload
            sent.append(payload)
            return None

        world.run(tamper=tamper)
        [payload] = sent
        return payload

    def test_the_same_sum_tag_and_bits(self) -> None:
        world = World(3, registry.CKKS)
        payload = self.delivered(world)
        held, key = world.institutions["clinic-1"].verified, world.keys["clinic-3"]
        late = open_missed_sum(world.context, world.roster, key, payload)
        assert np.array_equal(late.aggregate.total, held.aggregate.total)
        assert late.aggregate.contributors == held.aggregate.contributors
        assert (late.transcript, late.sum_hash, late.tag) == (held.transcript, held.sum_hash, held.tag)

    @pytest.mark.parametrize("right", [True, False])
    def test_what_we_have_signed_must_be_it(self, right: bool) -> None:
        world = World(3, registry.CKKS)
        payload = self.delivered(world)
        signed, key = world.institutions["clinic-3"]._opening(), world.keys["clinic-3"]
        if right:
            assert open_missed_sum(world.context, world.roster, key, payload, signed).tag
            return
        other = replace(signed, transcript=bytes(32))
        with pytest.raises(ContextMismatch, match="not the one that we signed for"):
            open_missed_sum(world.context, world.roster, key, payload, other)
        assert key.discarded

    def test_a_forged_tag_is_refused_though_signed(self) -> None:
        """All sign what they cannot read yet; one that comes later is no easier to deceive."""
        world = World(3, registry.CKKS)
        world.coordinator._sum_tag = 1
        sent = []

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
            if phase is Phase.CONSISTENCY:
                sent.append(payload)
                return None
            return payload

        world.run(tamper=tamper)
        key = world.keys["clinic-3"]
        with pytest.raises(SumCheckFailed):
            open_missed_sum(world.context, world.roster, key, sent[0])
        assert key.discarded


def test_opening_is_on_record_before_the_signature_leaves() -> None:
    world = World(3, registry.CKKS)
    world.run()
    for name, outgoing in world.sent_to_coordinator:
        assert (outgoing.opening is not None) == (outgoing.phase is Phase.CONSISTENCY)
        if outgoing.opening is not None:
            assert outgoing.opening.survivors == world.roster.names
            assert outgoing.opening.transcript == world.institutions[name].transcript
    assert world.coordinator.revealing == world.roster.names

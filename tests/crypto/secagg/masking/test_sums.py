"""The announced sum: the survivors' own passes everywhere, nothing else anywhere, and all move alike."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import (
    ContextMismatch,
    MalformedMessage,
    PolicyRefused,
    RoundAborted,
    SumCheckFailed,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import signed
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.institution import MaskingInstitution, State
from fedapt_crypto.secagg.masking.keys import survivors_id
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, announce, check_sum
from fedapt_crypto.secagg.scheme import Opening, Phase
from fedapt_crypto.sum_tag import PRIME
from tests.crypto.secagg.frames import hash_of
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, group_of, make_context
from tests.crypto.secagg.masking.sums import Announced
from tests.crypto.secagg.masking.test_graph import GraphWorld
from tests.crypto.vectors import reference

ROUNDS = {
    "full graph": lambda: Announced(World(5), ("clinic-3",)),
    "neighbour graph": lambda: Announced(GraphWorld(70, 37), ("clinic-3", "clinic-40", "clinic-70")),
}


@pytest.fixture(scope="module", params=ROUNDS)
def played(request: pytest.FixtureRequest) -> Announced:
    return ROUNDS[request.param]()


@pytest.fixture(scope="module")
def small() -> Announced:
    return Announced(World(5), ("clinic-3",))


def assert_refused(played: Announced, payload: bytes, error: type[Exception], match: str) -> Exception:
    """Give an institution this for the sum: it refuses, has none, and is over."""
    machine = played.waiting()
    with pytest.raises(error, match=match) as refusal:
        machine.receive(payload)
    assert type(refusal.value) is error
    assert machine.state is State.ABORTED
    assert machine.aggregate is machine.verified is None
    assert signed.Abort.from_bytes(machine.abort_payload()).reason == error.__name__
    with pytest.raises(UnexpectedMessage):
        machine.receive(played.payload)  # there is no second try
    assert machine.aggregate is None
    return refusal.value


def assert_no_sum(played: Announced, payload: bytes) -> None:
    """It is not the sum; whose fault that is nobody says."""
    assert assert_refused(played, payload, SumCheckFailed, "sum check failed").peer is None


class TestTheSum:
    def test_all_survivors_take_it(self, played: Announced) -> None:
        for name in played.survivors:
            machine = played.waiting(name)
            assert machine.receive(played.payload) is None
            assert machine.finished
            assert machine.abort_payload() is None
            assert machine.aggregate.contributors == played.survivors
            assert np.array_equal(machine.aggregate.total, played.world.exact_sum(played.survivors))
            assert machine.verified.sum_hash == hash_of(played.message.total)
            assert machine.verified.tag == played.message.sum_tag

    def test_it_is_what_slow_arithmetic_says(self, played: Announced) -> None:
        secret, tags = group_of(played.world.context)._secret, []
        for name in played.survivors:
            runs = [[1, int(value)] for value in played.encoded(name).view(np.int32)]
            tags.append(reference.sum_check_tag(secret, played.execution, played.transcript, name, runs))
        assert played.sum_tag == sum(map(int.from_bytes, tags)) % (2**61 - 1)
        words = [played.encoded(name).view(np.int32).astype(np.int64) for name in played.survivors]
        assert np.array_equal(played.total, np.sum(words, axis=0))

    def test_the_next_model_is_the_same_bits_everywhere(self, played: Announced) -> None:
        source = np.random.default_rng(7)
        model = source.normal(0, 1, played.world.length).astype(np.float32)
        model[:4] = [-0.0, 2.0**-149, -(2.0**-130), 1e30]
        moved = set()
        for name in played.survivors:
            machine = played.waiting(name)
            machine.receive(played.payload)
            moved.add(machine.aggregate.next_model(model).tobytes())
        slow = reference.next_model(
            model.tobytes(),
            played.total.tolist(),
            len(played.survivors),
            played.world.context.fixed_point.fraction_bits,
        )
        assert moved == {slow["model"]}

    def test_it_comes_once(self, small: Announced) -> None:
        machine = small.waiting()
        machine.receive(small.payload)
        for payload in (small.payload, small.stated(small.total + 1, small.sum_tag)):
            with pytest.raises(UnexpectedMessage):
                machine.receive(payload)
        assert machine.verified.tag == small.message.sum_tag
        assert machine.state is State.FINISHED


class TestForgedSums:
    @pytest.mark.parametrize(
        ("total", "tag"),
        [
            pytest.param(lambda x: x + (np.arange(x.size) == 5), lambda t: t, id="one-unit"),
            pytest.param(lambda x: x + (np.arange(x.size) == 36), lambda t: t, id="one-unit-at-the-end"),
            pytest.param(lambda x: np.roll(x, 1), lambda t: t, id="values-in-other-places"),
            pytest.param(lambda x: x, lambda t: (t + 1) % PRIME, id="tag-and-one"),
            pytest.param(lambda x: x, lambda t: (t - 1) % PRIME, id="tag-less-one"),
            pytest.param(lambda x: x, lambda t: 0, id="tag-zero"),
            pytest.param(lambda x: 2 * x, lambda t: 2 * t % PRIME, id="doubled"),
            pytest.param(lambda x: 0 * x, lambda t: 0, id="nothing"),
            pytest.param(lambda x: -x, lambda t: -t % PRIME, id="negated"),
        ],
    )
    def test_none_passes(self, played: Announced, total, tag) -> None:
        most = played.world.context.fixed_point.limit * len(played.survivors)
        forged = total(played.total)
        assert np.abs(forged).max() <= most, "refused for what it is, not for its range"
        assert_no_sum(played, played.stated(forged, tag(played.sum_tag)))

    @settings(max_examples=25, deadline=None)
    @given(
        st.dictionaries(st.integers(0, 36), st.integers(-(10**6), 10**6)),
        st.integers(0, PRIME - 1) | st.sampled_from((0, 1, PRIME - 1)),
    )
    def test_no_difference_passes(self, small: Announced, shifts: dict[int, int], tau: int) -> None:
        total = small.total.copy()
        for place, shift in shifts.items():
            total[place] += shift
        tag = (small.sum_tag + tau) % PRIME
        if np.array_equal(total, small.total) and tag == small.sum_tag:
            small.waiting().receive(small.stated(total, tag))
        else:
            assert_no_sum(small, small.stated(total, tag))

    def test_without_the_pads(self, played: Announced) -> None:
        pads = sum(played.check()._pad(name) for name in played.survivors)
        assert_no_sum(played, played.stated(played.total, (played.sum_tag - pads) % PRIME))
        assert_no_sum(played, played.stated(0 * played.total, pads * 2 % PRIME))

    @pytest.mark.parametrize("change", ["one-less", "the-late-one-too", "one-for-another"])
    def test_of_another_set(self, small: Announced, change: str) -> None:
        some = {
            "one-less": small.survivors[1:],
            "the-late-one-too": small.world.roster.names,
            "one-for-another": ("clinic-3", *small.survivors[1:]),
        }[change]
        total = sum(small.encoded(name).view(np.int32).astype(np.int64) for name in some)
        tag = sum(small.tag(name) for name in some) % PRIME
        assert_no_sum(small, small.stated(total, tag))
        packed = parties.pack(small.world.roster.index(name) for name in some)
        named = survivors_id(small.execution, small.transcript, packed)
        stated = small.stated(total, tag, survivors_hash=named)
        assert_refused(small, stated, ContextMismatch, "survivor set")

    @pytest.mark.parametrize("change", [{"attempt": 2}, {"round": 2}, {"session": b"\x01" * 16}])
    def test_of_another_execution_or_session(self, small: Announced, change: dict) -> None:
        world = copy.copy(small.world)
        world.context = make_context(world.roster, world.length, **change)
        world.coordinator = type(world.coordinator)(world.context, world.roster, COORDINATOR_IDENTITY)
        world.institutions = {name: world.institution(name, world.context) for name in world.roster.names}
        other = Announced(world, ("clinic-3",))
        assert np.array_equal(other.total, small.total)
        assert_refused(small, other.payload, ContextMismatch, "another execution")
        assert_no_sum(small, small.stated(other.total, other.sum_tag))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_value_that_the_survivors_cannot_add_up_to(self, small: Announced, sign: int) -> None:
        """Even with the group secret: what others sent is not out of range."""
        most = small.world.context.fixed_point.limit * len(small.survivors)
        for value, error in ((sign * most, None), (sign * (most + 1), SumCheckFailed)):
            total = np.full(small.world.length, value)
            payload = small.stated(total, tag_with_the_secret(small, total))
            if error is None:
                small.waiting().receive(payload)
            else:
                assert_no_sum(small, payload)

    def test_a_colluder_with_the_group_secret_can_forge(self, played: Announced) -> None:
        """The limit of what a tag proves (crypto/SPEC.md): who holds the secret can replace a sum."""
        total = np.arange(played.world.length)
        machine = played.waiting()
        machine.receive(played.stated(total, tag_with_the_secret(played, total)))
        assert machine.finished
        resolution = played.world.context.fixed_point.resolution
        assert np.array_equal(machine.aggregate.total, total * resolution)

    def test_a_member_that_tags_falsely_spoils_the_round_unnamed(self) -> None:
        world = World(3)
        world.institutions["clinic-2"]._group = GroupSecret(world.context.session, bytes(32))
        played = Announced(world)
        assert_no_sum(played, played.payload)


def tag_with_the_secret(played: Announced, total: np.ndarray) -> int:
    """What only who knows the group secret can compute."""
    check, words = played.check(), total.astype(np.int32).view(np.uint32)
    pads = sum(check._pad(name) for name in played.survivors)
    return (check.tag("", words) - check._pad("") + pads) % PRIME


class TestWhatIsAnnounced:
    def forged(self, played: Announced, **fields: object) -> bytes:
        return played.message.model_copy(update=fields).to_bytes()

    def test_unsigned(self, played: Announced) -> None:
        genuine = played.message.signature
        for signature in (bytes(64), bytes([genuine[0] ^ 1]) + genuine[1:]):
            payload = self.forged(played, signature=signature)
            assert assert_refused(played, payload, VerificationFailed, "signature").peer == COORDINATOR

    @pytest.mark.parametrize("who", ["clinic-1", "clinic-2", "a stranger"])
    def test_signed_by_another(self, played: Announced, who: str) -> None:
        identity = played.world.identities.get(who) or Identity.generate()
        words = played.total.astype(np.int32).view(np.uint32)
        payload = announce(identity, played.execution, played.message.survivors_hash, words, played.sum_tag)
        assert SumAnnouncement.from_bytes(payload).total == played.message.total
        assert assert_refused(played, payload, VerificationFailed, "signature").peer == COORDINATOR

    def test_a_signature_covers_sum_and_tag(self, played: Announced) -> None:
        other = SumAnnouncement.from_bytes(played.stated(played.total + 1, played.sum_tag))
        tagged = SumAnnouncement.from_bytes(played.stated(played.total, played.sum_tag ^ 1))
        for signature in (other.signature, tagged.signature):
            payload = self.forged(played, signature=signature)
            assert_refused(played, payload, VerificationFailed, "signature")

    @pytest.mark.parametrize("length", [0, 1, 36, 38, 74])
    def test_another_length(self, played: Announced, length: int) -> None:
        total = np.resize(played.total, length)
        payload = played.stated(total, played.sum_tag)
        assert assert_refused(played, payload, MalformedMessage, "length").peer == COORDINATOR

    def test_half_a_value(self, played: Announced) -> None:
        payload = self.forged(played, total=played.message.total[:-1])
        assert_refused(played, payload, MalformedMessage, "length")

    def test_a_tag_beyond_the_field(self, played: Announced) -> None:
        for tag in (played.sum_tag + PRIME, PRIME, 2**64 - 1):
            payload = played.stated(played.total, tag)
            refusal = assert_refused(played, payload, MalformedMessage, "beyond the field")
            assert refusal.peer == COORDINATOR

    def test_before_shares_are_revealed_nothing_is_taken(self, small: Announced) -> None:
        machine = small.world.institution("clinic-1", small.world.context)
        machine.start()
        with pytest.raises(UnexpectedMessage):
            machine.receive(small.payload)
        assert not machine.finished
        assert machine.abort_payload() is None

    def test_two_signatures_for_one_execution_convict_the_coordinator(self, small: Announced) -> None:
        statements = [small.message, SumAnnouncement.from_bytes(small.stated(small.total + 1, 7))]
        key = small.world.roster.coordinator_key
        for each in statements:
            about = (each.execution, each.survivors_hash, hash_of(each.total), each.sum_tag)
            verify(key, each.signature, "secagg sum", *about, signer=COORDINATOR)
        assert statements[0].execution == statements[1].execution
        assert statements[0].total != statements[1].total

    def test_a_coordinator_announces_one(self, small: Announced) -> None:
        assert small.world.coordinator.phase is None
        with pytest.raises(RoundAborted, match="over"):
            small.world.coordinator.close_phase()


class TestOpening:
    def test_it_comes_with_the_shares_and_with_nothing_else(self, played: Announced) -> None:
        for name, outgoing in played.world.sent_to_coordinator:
            assert (outgoing.opening is not None) == (outgoing.phase is Phase.UNMASK), name
            assert outgoing.releases == (outgoing.phase is Phase.MASKED_INPUT)
        openings = [o.opening for _, o in played.world.sent_to_coordinator if o.opening is not None]
        wanted = Opening(
            context=played.world.context,
            execution=played.execution,
            transcript=played.transcript,
            survivors=played.survivors,
            survivors_hash=played.world.coordinator.transcript,
        )
        assert openings == [wanted] * len(played.survivors)

    def test_by_then_the_secrets_are_gone(self, played: Announced) -> None:
        for name in played.survivors:
            machine = played.waiting(name)
            assert machine.state is State.REVEALED
            assert machine._secrets is None
            assert not machine.finished
            assert machine.aggregate is machine.verified is None

    def test_it_is_enough_to_check_the_sum_after_a_restart(self, played: Announced) -> None:
        opening = next(o.opening for _, o in played.world.sent_to_coordinator if o.opening is not None)
        arguments = (opening, group_of(played.world.context), played.world.roster.coordinator_key)
        found = check_sum(played.message, *arguments)
        machine = played.waiting()
        machine.receive(played.payload)
        assert (found.sum_hash, found.tag) == (machine.verified.sum_hash, machine.verified.tag)
        assert np.array_equal(found.aggregate.total, machine.aggregate.total)
        assert found.aggregate.contributors == machine.aggregate.contributors
        forged = SumAnnouncement.from_bytes(played.stated(played.total, 7))
        with pytest.raises(SumCheckFailed, match="sum check failed"):
            check_sum(forged, *arguments)


class TestAdmission:
    def test_a_survivor_set_that_is_not_admitted_is_not_signed(self) -> None:
        world, asked = World(5), []

        def refuse(survivors: tuple[str, ...]) -> None:
            asked.append(survivors)
            raise PolicyRefused("too few of them hold our key", rule="minimum_institutions_per_key")

        strict = MaskingInstitution(
            world.context,
            world.roster,
            "clinic-2",
            world.identities["clinic-2"],
            world.updates["clinic-2"],
            group=group_of(world.context),
            admits=refuse,
        )
        world.institutions["clinic-2"] = strict

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
            if receiver != "clinic-2" or phase in (Phase.ADVERTISE, Phase.SHARE):
                return payload
            if phase is Phase.UNMASK:  # its input is in the sum all the same
                return None
            with pytest.raises(PolicyRefused):
                strict.receive(payload)
            assert strict.state is State.ABORTED
            assert strict._secrets is None
            assert strict.transcript is None, "it has signed no set"
            return None

        world.run(tamper=tamper)
        assert asked == [world.roster.names]
        phases = [out.phase for name, out in world.sent_to_coordinator if name == "clinic-2"]
        assert phases == [Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT]
        with pytest.raises(UnexpectedMessage):
            strict.receive(b"\x80")

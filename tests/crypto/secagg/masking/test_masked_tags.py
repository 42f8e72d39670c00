"""Masked tags: they cancel in the survivors' sum only, and nothing masked leaves for another session."""

import itertools
import random

import pytest

from fedapt_crypto.errors import ContextMismatch, InvalidInput, MalformedMessage, UnexpectedMessage
from fedapt_crypto.kdf import digest
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking import keys, parties
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking.institution import MaskingInstitution, State
from fedapt_crypto.secagg.scheme import Phase
from fedapt_crypto.sum_tag import PRIME
from tests.crypto.secagg.frames import masked, split_masked
from tests.crypto.secagg.harness import World, group_of, make_context
from tests.crypto.secagg.masking.sums import Announced
from tests.crypto.secagg.masking.test_graph import GraphWorld

OTHER_SECRET = bytes(32)


@pytest.fixture(scope="module", params=["full graph", "neighbour graph"])
def played(request: pytest.FixtureRequest) -> Announced:
    if request.param == "full graph":
        return Announced(World(5), ("clinic-3",))
    return Announced(GraphWorld(70, 5), ("clinic-3", "clinic-40", "clinic-70"))


def tag_of(header: m.MaskedInput) -> int:
    return int.from_bytes(header.masked_tag)


def self_mask(played: Announced, name: str) -> int:
    about = (played.execution, played.transcript, name)
    return keys.self_tag_mask(played.dealers[name].self_mask, *about)


def pair_masks(played: Announced, name: str) -> int:
    """What the pairs of a party put on its tag: what its root and those of its neighbours give."""
    names = played.world.roster.names
    own, total = names.index(name), 0
    for index in played.world.coordinator._around[own]:
        if index == own:
            continue
        first, second = (names[i] for i in sorted((own, index)))
        seed = keys.pair_seed(played.dealers[first].root, played.execution, first, second)
        mask = keys.pair_tag_mask(seed, played.execution, played.transcript, first, second)
        total += mask if own < index else -mask
    return total % PRIME


class TestMasks:
    def test_a_masked_tag_is_the_tag_under_all_of_its_masks(self, played: Announced) -> None:
        for name, header in played.headers().items():
            wanted = (played.tag(name) + self_mask(played, name) + pair_masks(played, name)) % PRIME
            assert tag_of(header) == wanted < PRIME, name
            assert tag_of(header) != played.tag(name)

    def test_the_coordinator_adds_up_the_survivors_alone(self, played: Announced) -> None:
        sent = played.headers()
        assert sent.keys() == {*played.survivors, *played.late}
        assert played.world.coordinator._tag == sum(tag_of(sent[name]) for name in played.survivors) % PRIME

    def test_what_is_left_on_a_survivors_tag_cancels_in_no_smaller_sum(self, played: Announced) -> None:
        """The coordinator learns self masks of survivors and pair masks of who dropped out: take them off."""
        names, left = played.world.roster.names, {}
        for name in played.survivors:
            rest = tag_of(played.headers()[name]) - self_mask(played, name) - played.tag(name)
            for gone in played.late:
                ends = sorted((names.index(name), names.index(gone)))
                if names.index(gone) not in played.world.coordinator._around[names.index(name)]:
                    continue
                first, second = (names[i] for i in ends)
                seed = keys.pair_seed(played.dealers[first].root, played.execution, first, second)
                mask = keys.pair_tag_mask(seed, played.execution, played.transcript, first, second)
                rest -= mask if name == first else -mask
            left[name] = rest % PRIME
        assert sum(left.values()) % PRIME == 0
        draw = random.Random(1)
        sizes = range(1, len(left))
        some = (
            itertools.chain.from_iterable(itertools.combinations(left, size) for size in sizes)
            if len(left) < 8
            else (draw.sample(list(left), draw.choice(sizes)) for _ in range(500))
        )
        for subset in some:
            assert sum(left[name] for name in subset) % PRIME != 0, subset

    def test_a_late_tag_stays_under_its_self_mask(self, played: Announced) -> None:
        """Its root is revealed, and so all of its pair masks; its self mask never is."""
        for name in played.late:
            open_to_all = (tag_of(played.headers()[name]) - pair_masks(played, name)) % PRIME
            assert open_to_all != played.tag(name)
            assert (open_to_all - self_mask(played, name)) % PRIME == played.tag(name)
            index = played.world.roster.index(name)
            for _, outgoing in played.world.sent_to_coordinator:
                if outgoing.phase is Phase.UNMASK:
                    revealed = m.UnmaskShares.from_bytes(outgoing.payload)
                    alive = parties.unpack(revealed.survivors, len(played.world.roster.members))
                    assert index not in alive
            with pytest.raises(UnexpectedMessage):
                played.world.coordinator.receive(name, played.late[name])

    def test_each_mask_is_of_its_own(self, played: Announced) -> None:
        """No mask of a tag is another's, or the start of a keystream's key."""
        masks = [self_mask(played, name) for name in played.dealers]
        assert len(set(masks)) == len(masks)
        name, dealer = next(iter(played.dealers.items()))
        key = keys.self_mask_key(dealer.self_mask, played.execution, played.transcript, name)
        assert self_mask(played, name) != int.from_bytes(key[:16]) % PRIME
        same = (dealer.self_mask, played.execution, played.transcript)
        pair = keys.pair_tag_mask(*same, name, "clinic-2")
        others = {
            keys.pair_tag_mask(*same, "clinic-2", name),
            keys.pair_tag_mask(dealer.self_mask, played.transcript, played.execution, name, "clinic-2"),
            keys.self_tag_mask(*same, name),
        }
        assert len({pair, *others}) == 4


class TestSentTags:
    @pytest.mark.parametrize("tag", [PRIME, PRIME + 1, 2**64 - 1])
    def test_one_beyond_the_field_is_refused_and_changes_nothing(self, tag: int) -> None:
        world = World(4)
        sent: list[tuple[str, bytes]] = []

        def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
            if (phase, receiver) != (Phase.SHARE, "clinic-2"):
                return payload
            genuine = world.institutions[receiver].receive(payload).payload
            header, vector = split_masked(genuine)
            header = header.model_copy(update={"masked_tag": tag.to_bytes(8)})
            before = world.coordinator._tag
            with pytest.raises(MalformedMessage, match="clinic-2: sent a tag beyond the field"):
                world.coordinator.receive("clinic-2", masked(header, vector, world.identities["clinic-2"]))
            assert world.coordinator._tag == before
            assert "clinic-2" in world.coordinator.waiting_for
            sent.append((receiver, genuine))
            world.coordinator.receive(receiver, genuine)
            return None

        world.run(tamper=tamper)
        assert sent
        assert "clinic-2" in world.coordinator.contributors
        assert world.institutions["clinic-1"].verified is not None


class TestAnotherSession:
    """Whoever has another group secret, roster or model than we have gets nothing masked from us."""

    @pytest.mark.parametrize("what", ["group", "roster_hash", "model_hash"])
    def test_nothing_masked_leaves(self, what: str) -> None:
        world = World(5)
        other = GroupSecret(world.context.session, OTHER_SECRET)
        value = other.commitment if what == "group" else digest("another")
        context = make_context(world.roster, world.length, **{what: value})
        victim = MaskingInstitution(
            context,
            world.roster,
            "clinic-5",
            world.identities["clinic-5"],
            world.updates["clinic-5"],
            group=other if what == "group" else group_of(context),
        )
        machines = {**world.institutions, "clinic-5": victim}
        payloads = [machine.start().payload for machine in machines.values()]
        for name, payload in zip(machines, payloads, strict=True):
            if name == "clinic-5":
                with pytest.raises(ContextMismatch):
                    world.coordinator.receive(name, payload)
        advertises = tuple(m.Advertise.from_bytes(payload) for payload in payloads)
        forged = m.AdvertiseList(
            participants=parties.pack(range(5)),
            digests=b"".join(advertise.digest for advertise in advertises),
            advertises=advertises,
        )
        for machine in machines.values():
            with pytest.raises(ContextMismatch, match="another round, model"):
                machine.receive(forged.to_bytes())
            assert machine.state is State.ABORTED
            assert machine._secrets is None

    def test_a_context_names_the_secret_that_is_used(self) -> None:
        world = World(3)
        for group in (
            GroupSecret(world.context.session, OTHER_SECRET),
            GroupSecret(b"\x01" * 16, group_of(world.context)._secret),
        ):
            with pytest.raises(InvalidInput, match="group secret"):
                MaskingInstitution(
                    world.context,
                    world.roster,
                    "clinic-1",
                    world.identities["clinic-1"],
                    world.updates["clinic-1"],
                    group=group,
                )
        without = world.context.model_copy(update={"group": None})
        with pytest.raises(InvalidInput, match="group secret"):
            world.institution("clinic-1", without)

"""The neighbour graph: its draws, and whole rounds on it."""

import itertools
import random
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import MalformedMessage, PeerError, RoundAborted, TooFewParticipants
from fedapt_crypto.secagg.masking import graph, parties
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.graph import topology
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, World, group_of, make_context, make_parties


class TestDraw:
    @given(st.integers(2, 40), st.data())
    @settings(max_examples=50)
    def test_draws_are_distinct_others_in_order(self, institutions: int, data: st.DataObject) -> None:
        own = data.draw(st.integers(0, institutions - 1))
        k = data.draw(st.integers(0, institutions - 1))
        drawn = graph.draw_neighbours(own, institutions, k)
        assert len(drawn) == k
        assert list(drawn) == sorted(set(drawn))
        assert set(drawn) <= set(range(institutions)) - {own}

    def test_uniform(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Chi-square over all subsets of three of six others: 19 degrees of freedom, 0.1 percent tail."""
        source = random.Random(7)
        monkeypatch.setattr(graph.secrets, "SystemRandom", lambda: source)
        rounds, counts = 20_000, dict.fromkeys(itertools.combinations([0, 1, 3, 4, 5, 6], 3), 0)
        for _ in range(rounds):
            counts[graph.draw_neighbours(2, 7, 3)] += 1
        expected = rounds / len(counts)
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 43.8

    def test_the_operating_system_draws(self) -> None:
        assert graph.draw_neighbours(0, 1000, 100) != graph.draw_neighbours(0, 1000, 100)


class GraphWorld(World):
    """A world whose parties keep to the graph of a large roster."""

    def __init__(self, n: int, length: int) -> None:
        super().__init__(n, length=length)
        self.sizes = topology(n)
        clip = self.context.clip  # among many values some would be out of range, and `exact_sum` clips none
        self.updates = {name: np.clip(update, -clip, clip) for name, update in self.updates.items()}
        self.context = self.context.model_copy(
            update={
                "neighbours": self.sizes.neighbours,
                "share_threshold": self.sizes.share_threshold,
                "threshold": self.sizes.quorum,
            }
        )
        self.coordinator = MaskingCoordinator(self.context, self.roster, COORDINATOR_IDENTITY)
        self.institutions = {name: self.institution(name, self.context) for name in self.roster.names}
        self.sent_to_coordinator = deque(maxlen=0)  # a thousand parties send gigabytes: keep none of it

    def check_exact_sum_of(self, names: tuple[str, ...]) -> None:
        aggregate = self.coordinator.aggregate
        assert aggregate is not None
        assert aggregate.contributors == names
        assert np.array_equal(aggregate.total, self.exact_sum(names))


PHASES = (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT, Phase.CONSISTENCY, Phase.UNMASK)


class TestRounds:
    @pytest.mark.slow  # as many as may do in the next one
    def test_nobody_vanishes(self) -> None:
        world = GraphWorld(80, 50)
        assert world.sizes.neighbours < 79
        world.run()
        world.check_exact_sum_of(world.roster.names)
        assert not world.refusals
        assert all(machine.finished for machine in world.institutions.values())

    def test_as_many_vanish_as_may_in_all_phases(self) -> None:
        world = GraphWorld(80, 50)
        allowed = 80 - world.sizes.quorum
        names = world.roster.names[3 :: 80 // allowed][:allowed]
        vanish = dict(zip(names, itertools.cycle(PHASES), strict=False))
        assert len(vanish) == allowed
        assert set(vanish.values()) == set(PHASES)
        world.run(vanish)
        before = (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT)
        survivors = tuple(name for name in world.roster.names if vanish.get(name) not in before)
        world.check_exact_sum_of(survivors)

    @pytest.mark.parametrize(
        "phase", [Phase.ADVERTISE, pytest.param(Phase.CONSISTENCY, marks=pytest.mark.slow)]
    )
    def test_one_more_ends_the_round_without_a_sum(self, phase: Phase) -> None:
        world = GraphWorld(80, 50)
        gone = world.roster.names[: 80 - world.sizes.quorum + 1]
        with pytest.raises(RoundAborted, match=f"completed '{phase.value}', 72 are needed"):
            world.run(dict.fromkeys(gone, phase))
        assert world.coordinator.phase is None
        assert world.coordinator.aggregate is None

    @pytest.mark.slow
    @pytest.mark.timeout(1800)
    def test_a_thousand(self) -> None:
        world = GraphWorld(1000, 100)
        vanish = dict(zip(world.roster.names[7::100], itertools.cycle(PHASES), strict=False))
        world.run(vanish)
        before = (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT)
        survivors = tuple(name for name in world.roster.names if vanish.get(name) not in before)
        world.check_exact_sum_of(survivors)


class Advertised:
    """Eighty advertisements; the first institution's machine waits for the list."""

    def __init__(self, draw_the_first: int = 0) -> None:
        n, sizes = 80, topology(80)
        self.roster, self.identities = make_parties(n)
        self.context = make_context(
            self.roster,
            5,
            neighbours=sizes.neighbours,
            share_threshold=sizes.share_threshold,
            threshold=sizes.quorum,
        )
        self.coordinator = MaskingCoordinator(self.context, self.roster, COORDINATOR_IDENTITY)
        self.victim = self.machine("clinic-1")
        self.coordinator.receive("clinic-1", self.victim.start().payload)
        for index, name in enumerate(self.roster.names[1:], 1):
            genuine = m.Advertise.from_bytes(self.machine(name).start().payload)
            drawn = set(parties.unpack(genuine.neighbours, n))
            wanted = index <= draw_the_first
            if wanted and 0 not in drawn:
                drawn = (drawn - {max(drawn)}) | {0}
            elif not wanted and 0 in drawn:
                drawn = (drawn - {0}) | {min(set(range(1, n)) - drawn - {index})}
            forged = genuine.model_copy(update={"neighbours": parties.pack(drawn)})
            self.coordinator.receive(name, forged.signed_by(self.identities[name]).to_bytes())
        self.listed = m.AdvertiseList.from_bytes(self.coordinator.close_phase()["clinic-1"])

    def machine(self, name: str) -> MaskingInstitution:
        return MaskingInstitution(
            self.context, self.roster, name, self.identities[name], np.zeros(5), group=group_of(self.context)
        )

    def refusal(self, **changes: object) -> PeerError:
        with pytest.raises(PeerError) as refused:
            self.victim.receive(self.listed.model_copy(update=changes).to_bytes())
        assert self.victim.finished
        assert self.victim._secrets is None
        return refused.value


class TestLists:
    def test_most_incoming_draws_are_taken(self) -> None:
        world = Advertised(graph.most_incoming(80, topology(80).neighbours))
        assert self.sent_shares(world)

    def test_too_many_incoming_draws_are_refused(self) -> None:
        world = Advertised(graph.most_incoming(80, topology(80).neighbours) + 1)
        refusal = world.refusal()
        assert isinstance(refusal, TooFewParticipants)
        assert "more institutions drew us than chance allows" in str(refusal)

    def test_a_drawn_neighbour_kept_back(self) -> None:
        world = Advertised()
        drawn = parties.unpack(world.victim._advertise.neighbours, 80)
        kept_back = world.roster.names[drawn[5]]
        rest = tuple(a for a in world.listed.advertises if a.sender != kept_back)
        assert len(rest) == len(world.listed.advertises) - 1
        refusal = world.refusal(advertises=rest)
        assert isinstance(refusal, MalformedMessage)
        assert "keeps neighbours from us" in str(refusal)

    def test_drawn_neighbours_declared_absent(self) -> None:
        """Left out of the whole list instead: too few of our own holders are left to deal to."""
        world = Advertised()
        drawn = parties.unpack(world.victim._advertise.neighbours, 80)
        absent = set(drawn[: len(drawn) + 2 - topology(80).share_threshold])
        kept = [i for i in range(80) if i not in absent]
        refusal = world.refusal(
            participants=parties.pack(kept),
            digests=b"".join(world.listed.digests[32 * i : 32 * i + 32] for i in kept),
            advertises=tuple(a for a in world.listed.advertises if world.roster.index(a.sender) in kept),
        )
        assert isinstance(refusal, TooFewParticipants)

    def test_one_who_drew_us_kept_back_cannot_be_seen_and_gives_nothing(self) -> None:
        """The digests name it, but not whom it drew: we deal to it nothing and share no mask with it."""
        world = Advertised(3)
        drawn = parties.unpack(world.victim._advertise.neighbours, 80)
        incoming = [i for i in (1, 2, 3) if i not in drawn]
        kept_back = {world.roster.names[i] for i in incoming}
        rest = tuple(a for a in world.listed.advertises if a.sender not in kept_back)
        answer = world.victim.receive(world.listed.model_copy(update={"advertises": rest}).to_bytes())
        dealt = m.ShareMessage.from_bytes(answer.payload)
        assert dealt.header.record_count == len(drawn) + 1

    @staticmethod
    def sent_shares(world: Advertised) -> bool:
        answer = world.victim.receive(world.listed.to_bytes())
        world.coordinator.receive("clinic-1", answer.payload)
        return answer.phase is Phase.SHARE

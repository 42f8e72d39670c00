"""The neighbour graph: its bounds against slow truths, its draws, and whole rounds on it."""

import itertools
import random
from collections import deque
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, MalformedMessage, PeerError, RoundAborted, TooFewParticipants
from fedapt_crypto.roster import threshold
from fedapt_crypto.secagg.masking import graph, parties
from fedapt_crypto.secagg.masking import messages as m
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.graph import Topology, disconnection_bound, hypergeometric_tail, topology
from fedapt_crypto.secagg.masking.institution import MaskingInstitution
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.harness import World, make_context, make_parties


class TestTail:
    @given(st.integers(1, 9), st.data())
    def test_against_enumeration(self, population: int, data: st.DataObject) -> None:
        marked, drawn = data.draw(st.integers(0, population)), data.draw(st.integers(0, population))
        at_least = data.draw(st.integers(-1, population + 1))
        draws = list(itertools.combinations(range(population), drawn))
        hits = sum(sum(item < marked for item in draw) >= at_least for draw in draws)
        assert hypergeometric_tail(population, marked, drawn, at_least) == Fraction(hits, len(draws))


def exact_disconnection(institutions: int, honest: int, neighbours: int) -> Fraction:
    """P[the honest survivors fall apart], over each one's draw, by following all partitions they may form."""
    draws = {
        own: list(itertools.combinations([i for i in range(institutions) if i != own], neighbours))
        for own in range(honest)
    }
    chances = {frozenset(frozenset([i]) for i in range(honest)): Fraction(1)}
    for own in range(honest):
        after: dict[frozenset[frozenset[int]], Fraction] = {}
        for partition, chance in chances.items():
            for draw in draws[own]:
                around = {own, *draw}
                joined = frozenset().union(*(part for part in partition if part & around))
                merged = frozenset([joined, *(part for part in partition if not part & around)])
                after[merged] = after.get(merged, Fraction(0)) + chance / len(draws[own])
        chances = after
    return sum((chance for partition, chance in chances.items() if len(partition) > 1), Fraction(0))


class TestConnection:
    @pytest.mark.parametrize("institutions", range(2, 8))
    def test_bound_holds_on_small_graphs(self, institutions: int) -> None:
        for honest in range(2, institutions + 1):
            for neighbours in range(1, institutions - 1):
                exact = exact_disconnection(institutions, honest, neighbours)
                bound = disconnection_bound(institutions, honest, neighbours)
                assert exact == 0 or log2(exact) <= bound + 1e-9, (honest, neighbours)

    def test_the_slow_truth_itself(self) -> None:
        # three draw one neighbour each among three: always connected; among four, two of them alone with
        # a stranger are apart unless one draws the other
        assert exact_disconnection(3, 3, 1) == 0
        assert exact_disconnection(4, 2, 1) == Fraction(2, 3) ** 2
        assert exact_disconnection(4, 4, 1) == Fraction(3 * 1, 3**4)

    @pytest.mark.parametrize("k", [1, 2, 5, 10])
    def test_bound_is_the_union_but_for_its_number_of_terms(self, k: int) -> None:
        for institutions, honest in ((24, 24), (40, 25), (100, 80), (300, 240)):
            union = log2(union_over_splits(institutions, honest, k))
            bound = disconnection_bound(institutions, honest, k)
            assert union - 1e-9 <= bound <= union + log2(honest // 2) + 1e-9

    def test_one_survivor_is_connected(self) -> None:
        assert disconnection_bound(10, 1, 3) == float("-inf")


def too_likely(ways: int, all_ways: int) -> bool:
    """Return whether ``ways`` of ``all_ways`` is more than 2**-40, without rounding or reducing."""
    return ways << 40 > all_ways


def union_over_splits(institutions: int, honest: int, k: int) -> Decimal:
    """P[nobody in one part has drawn anybody in the other], summed over all splits, to fifty digits.

    The exact integers have half a million bits each.
    """
    others = institutions - 1
    with localcontext(prec=50):
        missed = [comb(others - s, k) / Decimal(comb(others, k)) for s in range(honest)]
        splits = range(1, honest // 2 + 1)
        terms = (comb(honest, s) * missed[honest - s] ** s * missed[s] ** (honest - s) for s in splits)
        return sum(terms, Decimal(0))


def may_fall_apart(institutions: int, honest: int, k: int) -> bool:
    return union_over_splits(institutions, honest, k) > Decimal(2) ** -40


def broken_bounds(institutions: int, k: int, t: int) -> set[str]:
    """Return which bounds on one institution's holders do not hold, with a tenth corrupt and dropped."""
    others, tenth = institutions - 1, institutions // 10

    def chance(marked: range) -> tuple[int, int]:
        ways = sum(comb(tenth, x) * comb(others - tenth, k - x) for x in marked if x <= k)
        return institutions * ways, comb(others, k)

    broken = set()
    # two contradicting statements, t signatures each, from k + 1 holders of whom the corrupt sign both
    if too_likely(*chance(range(max(0, 2 * t - (k + 1)), tenth + 1))):
        broken.add("privacy")
    if too_likely(*chance(range(k - t + 1, tenth + 1))):
        broken.add("availability")
    return broken


class TestTopology:
    @pytest.mark.parametrize("institutions", [1, 3, 10, 64])
    def test_full_graph_for_few(self, institutions: int) -> None:
        t = threshold(institutions)
        assert topology(institutions) == Topology(institutions - 1, t, t)

    @pytest.mark.parametrize("institutions", [65, 100, 300, 1000])
    def test_all_bounds_hold_and_one_neighbour_less_breaks_one(self, institutions: int) -> None:
        found, tenth = topology(institutions), institutions // 10
        k, t, honest = found.neighbours, found.share_threshold, institutions - 2 * tenth
        assert broken_bounds(institutions, k, t) == set()
        assert not may_fall_apart(institutions, honest, k)
        assert found.quorum == institutions - tenth
        assert "privacy" in broken_bounds(institutions, k, t - 1), "t is the smallest for this k"
        for t in range(1, k + 1):
            assert broken_bounds(institutions, k - 1, t) or may_fall_apart(institutions, honest, k - 1), t

    @pytest.mark.parametrize("institutions", [65, 100, 300])
    def test_more_corrupt_or_dropped_never_need_fewer_neighbours(self, institutions: int) -> None:
        for kind in ("corrupt", "dropped"):
            sizes = [
                topology(institutions, **{kind: Fraction(percent, 100)}).neighbours
                for percent in range(2, 15, 2)
            ]
            assert sizes == sorted(sizes)

    def test_more_certainty_needs_more_neighbours(self) -> None:
        sizes = [topology(300, bits=bits).neighbours for bits in (5, 10, 20, 40, 80)]
        assert sizes == sorted(set(sizes))

    @pytest.mark.parametrize(
        "fractions",
        [
            (Fraction(1, 2), Fraction(1, 4)),
            (Fraction(1, 10), Fraction(1, 2)),
            (Fraction(99, 100), Fraction(0)),
        ],
    )
    def test_impossible_fractions_are_refused(self, fractions: tuple[Fraction, Fraction]) -> None:
        with pytest.raises(InvalidInput, match="assume fewer"):
            topology(100, *fractions)

    def test_failures_are_as_rare_as_allowed(self) -> None:
        """With 3 bits a failure is allowed in one of eight graphs."""
        n, bits, rounds = 40, 3, 400
        found = topology(n, full_graph_up_to=1, bits=bits)
        assert found.neighbours < n - 1
        allowed = rounds / 2**bits
        for what, graphs in failing_graphs(n, found.neighbours, found.share_threshold, rounds).items():
            assert graphs.fell_in <= allowed + 3 * allowed**0.5, what

    @pytest.mark.parametrize(("k", "t"), [(3, 3), (4, 3), (8, 6), (10, 8)])
    def test_with_too_few_neighbours_failures_are_as_frequent_as_computed(self, k: int, t: int) -> None:
        n, rounds = 40, 400
        found = failing_graphs(n, k, t, rounds)
        for what, at_least in (("privacy", 2 * t - k - 1), ("availability", k - t + 1)):
            expected = rounds * n * hypergeometric_tail(n - 1, n // 10, k, at_least) * Fraction(9, 10)
            assert found[what].institutions == pytest.approx(float(expected), abs=5 * float(expected) ** 0.5)
        assert found["connection"].fell_in <= rounds * 2 ** disconnection_bound(n, n * 8 // 10, k) + 3


@dataclass
class Failures:
    """How many institutions failed in all graphs together, and in how many graphs one did."""

    institutions: int = 0
    fell_in: int = 0

    def count(self, institutions: int) -> None:
        self.institutions += institutions
        self.fell_in += institutions > 0


def failing_graphs(n: int, k: int, t: int, rounds: int) -> dict[str, Failures]:
    """Draw graphs; the first tenth is corrupt, the second drops out. Counts those that are neither."""
    rng, tenth = random.Random(20200620), n // 10
    corrupt, dropped, honest = set(range(tenth)), set(range(tenth, 2 * tenth)), set(range(tenth, n))
    found = {"privacy": Failures(), "availability": Failures(), "connection": Failures()}
    for _ in range(rounds):
        drawn = {i: set(rng.sample([j for j in range(n) if j != i], k)) for i in range(n)}
        found["privacy"].count(sum(2 * t <= k + 1 + len(drawn[i] & corrupt) for i in honest))
        found["availability"].count(sum(len(drawn[i] - dropped) < t for i in set(range(n)) - dropped))
        found["connection"].count(not connected(honest - dropped, drawn))
    return found


def connected(members: set[int], drawn: dict[int, set[int]]) -> bool:
    reached, todo = set(), [min(members)]
    while todo:
        own = todo.pop()
        reached.add(own)
        edges = {other for other in members if other in drawn[own] or own in drawn[other]}
        todo.extend(edges - reached - set(todo))
    return reached == members


class TestIncoming:
    @pytest.mark.parametrize("institutions", [65, 100, 300])
    def test_honest_chance_and_all_corrupt_ones_fit_and_no_more(self, institutions: int) -> None:
        others, k = institutions - 1, topology(institutions).neighbours
        honest = graph.most_incoming(institutions, k) - institutions // 10
        p = Fraction(k, others)

        def chance_of_more_than(x: int) -> Fraction:
            return sum(
                (comb(others, y) * p**y * (1 - p) ** (others - y) for y in range(x + 1, others + 1)),
                Fraction(0),
            )

        assert institutions * chance_of_more_than(honest) <= Fraction(1, 2**40)
        assert institutions * chance_of_more_than(honest - 1) > Fraction(1, 2**40)

    def test_everybody_may_draw_one_in_a_full_graph(self) -> None:
        assert graph.most_incoming(64, 63) == 63


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
        self.coordinator = MaskingCoordinator(self.context, self.roster)
        self.institutions = {name: self.institution(name, self.context) for name in self.roster.names}
        self.sent_to_coordinator = deque(maxlen=0)  # a thousand parties send gigabytes: keep none of it

    def check_exact_sum_of(self, names: tuple[str, ...]) -> None:
        aggregate = self.coordinator.aggregate
        assert aggregate is not None
        assert aggregate.contributors == names
        assert np.array_equal(aggregate.total, self.exact_sum(names))


PHASES = (Phase.ADVERTISE, Phase.SHARE, Phase.MASKED_INPUT, Phase.CONSISTENCY, Phase.UNMASK)


class TestRounds:
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

    @pytest.mark.parametrize("phase", [Phase.ADVERTISE, Phase.CONSISTENCY])
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
        self.coordinator = MaskingCoordinator(self.context, self.roster)
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
        return MaskingInstitution(self.context, self.roster, name, self.identities[name], np.zeros(5))

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

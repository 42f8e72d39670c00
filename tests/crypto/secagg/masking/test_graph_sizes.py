"""The sizes of the neighbour graph: its bounds against slow truths."""

import itertools
import random
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import threshold
from fedapt_crypto.secagg.masking import graph
from fedapt_crypto.secagg.masking.graph import Topology, hypergeometric_tail, stays_connected, topology


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


def union_bound(institutions: int, honest: int, neighbours: int) -> Fraction:
    """The likeliest size of a part, times how many sizes there are, as one fraction."""
    draws = comb(institutions - 1, neighbours)
    missed = [Fraction(comb(institutions - 1 - s, neighbours), draws) for s in range(honest)]
    splits = range(1, honest // 2 + 1)
    terms = [comb(honest, s) * missed[honest - s] ** s * missed[s] ** (honest - s) for s in splits]
    return len(terms) * max(terms, default=Fraction(0))


def connection_bits(institutions: int, honest: int, neighbours: int) -> int:
    """Return the largest number of bits that the bound has; 0 where it has none."""
    bits = 0
    while bits < 10_000 and stays_connected(institutions, honest, neighbours, bits + 1):
        bits += 1
    return bits


class TestConnection:
    @pytest.mark.parametrize(
        "institutions", [2, 3, 4, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6, 7))]
    )
    def test_bound_holds_on_small_graphs(self, institutions: int) -> None:
        for honest in range(2, institutions + 1):
            for neighbours in range(1, institutions - 1):
                exact = exact_disconnection(institutions, honest, neighbours)
                bits = connection_bits(institutions, honest, neighbours)
                assert exact <= Fraction(1, 2**bits), (honest, neighbours)

    def test_the_slow_truth_itself(self) -> None:
        # three draw one neighbour each among three: always connected; among four, two of them alone with
        # a stranger are apart unless one draws the other
        assert exact_disconnection(3, 3, 1) == 0
        assert exact_disconnection(4, 2, 1) == Fraction(2, 3) ** 2
        assert exact_disconnection(4, 4, 1) == Fraction(3 * 1, 3**4)

    @pytest.mark.parametrize(
        ("institutions", "honest"),
        [(24, 24), (40, 25), (100, 80), pytest.param(12, 9, marks=pytest.mark.slow)],
    )
    def test_the_comparison_is_exact(self, institutions: int, honest: int) -> None:
        """Also where one more bit decides, and where decimals alone would not."""
        for k in range(1, min(institutions - 1, 12)):
            bound = union_bound(institutions, honest, k)
            found = connection_bits(institutions, honest, k)
            assert found == 0 or bound <= Fraction(1, 2**found)
            assert bound == 0 or bound > Fraction(1, 2 ** (found + 1))

    def test_a_bound_that_is_met_exactly_holds(self) -> None:
        # two of three, one draw each: apart where both draw the stranger, 1/4, and each may be the first part
        assert union_bound(3, 2, 1) == Fraction(1, 2)
        assert stays_connected(3, 2, 1, 1)
        assert not stays_connected(3, 2, 1, 2)

    def test_decimals_that_say_too_little_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = [(n, k) for n in (40, 100) for k in (2, 5, 9)]
        before = [connection_bits(n, n * 8 // 10, k) for n, k in sizes]
        monkeypatch.setattr(graph, "_power_above", lambda part, whole, exponent: Decimal(1))
        assert [connection_bits(n, n * 8 // 10, k) for n, k in sizes] == before

    @given(st.integers(1, 2**70), st.integers(1, 2**70), st.integers(1, 200))
    def test_decimals_are_never_below(self, part: int, more: int, exponent: int) -> None:
        exact = Fraction(part, part + more) ** exponent
        above = Fraction(graph._power_above(part, part + more, exponent))
        assert exact <= above <= exact * (1 + Fraction(1, 10**30))

    @pytest.mark.parametrize("k", [1, 2, 5, 10])
    def test_bound_is_the_union_but_for_its_number_of_terms(self, k: int) -> None:
        for institutions, honest in ((24, 24), (40, 25), (100, 80), (300, 240)):
            union = log2(union_over_splits(institutions, honest, k))
            bits = connection_bits(institutions, honest, k)
            assert -(union + log2(honest // 2)) - 1 - 1e-9 <= bits <= max(0, -union + 1e-9)

    def test_one_survivor_is_connected(self) -> None:
        assert stays_connected(10, 1, 3, 10_000)


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
        assert found["connection"].fell_in <= rounds * 2.0 ** -connection_bits(n, n * 8 // 10, k) + 3


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

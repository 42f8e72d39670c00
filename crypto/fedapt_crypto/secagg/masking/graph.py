"""Who shares masks and secrets with whom, and how many must agree: the neighbour graph.

Up to 64 institutions everybody is everybody's neighbour. Above, each institution draws k neighbours
itself, uniformly from the roster (a graph drawn by the coordinator could surround a target), after Bell
et al. 2020 ("Secure Single-Server Aggregation with (Poly)Logarithmic Overhead"), section 4. Its *holders*
are the k it drew and itself; they get its shares, and t of them must sign what becomes of it. It shares
masks with those it drew and those who drew it.

k and t make each of these fail with probability at most 2**-40, over the honest institutions' draws, for
a stated fraction of corrupt and of dropped institutions, both fixed independently of the draws:

* privacy: at some honest institution 2t <= k + 1 + (corrupt holders), so that two contradicting statements
  about it could both gather t signatures;
* availability: at some institution fewer than t holders besides itself are left;
* connection: the honest survivors fall into two parts without a mask between them.
"""

import secrets
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb, inf, lgamma, log

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import threshold

FULL_GRAPH_UP_TO = 64
FAILURE_BITS = 40
CORRUPT_FRACTION = Fraction(1, 10)
DROPPED_FRACTION = Fraction(1, 10)


@dataclass(frozen=True)
class Topology:
    """Sizes of one session's graph.

    Attributes:
        neighbours: k, how many neighbours an institution draws.
        share_threshold: t, how many of its holders must agree to reveal a secret of it.
        quorum: How many institutions a round needs in all.
    """

    neighbours: int
    share_threshold: int
    quorum: int


def hypergeometric_tail(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """Return P[X >= at_least] for X marked among ``drawn`` without replacement, exactly."""
    total = comb(population, drawn)
    upper = min(marked, drawn)
    ways = sum(
        comb(marked, x) * comb(population - marked, drawn - x) for x in range(max(0, at_least), upper + 1)
    )
    return Fraction(ways, total)


def disconnection_bound(institutions: int, honest_survivors: int, neighbours: int) -> float:
    """Return a bound on log2 P[the honest survivors fall apart], by a union over all two-part splits.

    In a split of s and m - s nobody may have drawn anybody of the other part.

    Args:
        institutions: n, of a round.
        honest_survivors: m of them, who finish it and do not collude.
        neighbours: How many neighbours each draws.
    """
    others, m, k = institutions - 1, honest_survivors, neighbours
    worst = -inf
    for s in range(1, m // 2 + 1):
        avoid_large, avoid_small = _log_avoid(others, m - s, k), _log_avoid(others, s, k)
        if -inf in (avoid_large, avoid_small):
            continue
        term = _log_comb(m, s) + s * avoid_large + (m - s) * avoid_small
        worst = max(worst, term)
    return worst / log(2) + log(max(1, m // 2)) / log(2)  # at most m/2 terms, each at most the worst


def _log_avoid(others: int, forbidden: int, drawn: int) -> float:
    """Return log P[none of ``drawn`` lies among ``forbidden``]."""
    if others - forbidden < drawn:
        return -inf
    return _log_comb(others - forbidden, drawn) - _log_comb(others, drawn)


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


@lru_cache(maxsize=256)
def topology(
    institutions: int,
    corrupt: Fraction = CORRUPT_FRACTION,
    dropped: Fraction = DROPPED_FRACTION,
    *,
    full_graph_up_to: int = FULL_GRAPH_UP_TO,
    bits: int = FAILURE_BITS,
) -> Topology:
    """Return the smallest k, with its t, that meets all three bounds.

    Args:
        institutions: n, the size of the roster.
        corrupt: Fraction of institutions in league with the coordinator.
        dropped: Fraction that may vanish in a round.
        full_graph_up_to: Largest n for which everybody is everybody's neighbour.
        bits: Each failure has probability at most 2**-bits.

    Raises:
        InvalidInput: If no k below n - 1 does; fewer corrupt or dropped must then be assumed.
    """
    if institutions <= full_graph_up_to:
        everyone = threshold(institutions)
        return Topology(institutions - 1, everyone, everyone)
    if not (0 <= corrupt < 1 and 0 <= dropped < 1):
        raise InvalidInput("the corrupt and the dropped fraction lie in [0, 1)")
    bad, gone = int(institutions * corrupt), int(institutions * dropped)
    allowed = Fraction(1, institutions * 2**bits)  # a union over the institutions
    others = institutions - 1
    for k in range(2, others):
        t = _smallest_threshold(others, bad, k, allowed)
        if t is None or t > k:
            continue
        too_few_left = hypergeometric_tail(others, gone, k, k - t + 1)
        if too_few_left > allowed:
            continue
        if disconnection_bound(institutions, institutions - bad - gone, k) <= -bits:
            return Topology(k, t, institutions - gone)
    raise InvalidInput(
        f"no neighbour graph among {institutions} institutions is safe with {float(corrupt):.0%} corrupt and"
        f" {float(dropped):.0%} dropped: assume fewer"
    )


def _smallest_threshold(others: int, corrupt: int, k: int, allowed: Fraction) -> int | None:
    """Return the smallest t with P[2t <= k + 1 + corrupt holders] <= allowed."""
    low, high = (k + 1) // 2 + 1, k + 1
    if hypergeometric_tail(others, corrupt, k, 2 * high - k - 1) > allowed:
        return None
    while low < high:
        middle = (low + high) // 2
        if hypergeometric_tail(others, corrupt, k, 2 * middle - k - 1) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=256)
def most_incoming(
    institutions: int, neighbours: int, corrupt: Fraction = CORRUPT_FRACTION, bits: int = FAILURE_BITS
) -> int:
    """Return how many may draw one institution before it refuses: honest chance plus all corrupt ones."""
    if neighbours >= institutions - 1:
        return institutions - 1
    others, p = institutions - 1, Fraction(neighbours, institutions - 1)
    allowed = Fraction(1, institutions * 2**bits)
    tail, x = Fraction(0), others
    while x > 0:
        tail += comb(others, x) * p**x * (1 - p) ** (others - x)
        if tail > allowed:
            break
        x -= 1
    return min(others, x + int(institutions * corrupt))


def draw_neighbours(own_index: int, institutions: int, neighbours: int) -> tuple[int, ...]:
    """Draw ``neighbours`` distinct other roster indices with the operating system's randomness."""
    others = [index for index in range(institutions) if index != own_index]
    return tuple(sorted(secrets.SystemRandom().sample(others, neighbours)))

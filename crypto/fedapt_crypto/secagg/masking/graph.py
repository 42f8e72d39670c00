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

All comparisons are exact, so every implementation comes to the same numbers (SPEC.md, section 7).
"""

import secrets
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Final

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


def stays_connected(institutions: int, honest_survivors: int, neighbours: int, bits: int) -> bool:
    """Return whether P[the honest survivors fall apart] <= 2**-bits, by a union over all two-part splits.

    In a split of s and m - s nobody may have drawn anybody of the other part. There are at most m / 2 sizes
    of the smaller part, and each counts as much as the likeliest. Exact: a size is decided by decimals that
    are rounded up, and where those do not suffice by integers.

    Args:
        institutions: n, of a round.
        honest_survivors: m of them, who finish it and do not collude.
        neighbours: How many neighbours each draws.
        bits: See above.
    """
    others, m, sizes = institutions - 1, honest_survivors, honest_survivors // 2
    draws = comb(others, neighbours)
    for s in range(1, sizes + 1):
        few, many = comb(others - (m - s), neighbours), comb(others - s, neighbours)  # within the own part
        ways = sizes * comb(m, s) << bits
        above = _UP.multiply(_power_above(few, draws, s), _power_above(many, draws, m - s))
        if _UP.multiply(_UP.create_decimal(ways), above) <= 1:
            continue
        if ways * few**s * many ** (m - s) > draws**m:
            return False
    return True


_UP: Final = Context(prec=40, rounding=ROUND_CEILING, Emin=MIN_EMIN, Emax=MAX_EMAX)


def _power_above(part: int, whole: int, exponent: int) -> Decimal:
    """Return (part / whole) ** exponent or a little more."""
    base, result = _UP.divide(_UP.create_decimal(part), Decimal(whole)), Decimal(1)
    for bit in f"{exponent:b}":
        result = _UP.multiply(result, result)
        if bit == "1":
            result = _UP.multiply(result, base)
    return result


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
        if stays_connected(institutions, institutions - bad - gone, k, bits):
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
    others, missing = institutions - 1, institutions - 1 - neighbours
    # P[exactly x of the others draw one institution] is ``ways`` of others**others, as integers.
    allowed = others**others // (institutions << bits)
    x, ways, tail = others, neighbours**others, 0
    while x > 0:
        tail += ways
        if tail > allowed:
            break
        ways = ways * x * missing // ((others - x + 1) * neighbours)  # without a remainder
        x -= 1
    return min(others, x + int(institutions * corrupt))


def draw_neighbours(own_index: int, institutions: int, neighbours: int) -> tuple[int, ...]:
    """Draw ``neighbours`` distinct other roster indices with the operating system's randomness."""
    others = [index for index in range(institutions) if index != own_index]
    return tuple(sorted(secrets.SystemRandom().sample(others, neighbours)))

"""The sizes of neighbour graphs once more, from SPEC.md, sections 7 and 7.1: integers, term by term."""

from functools import cache
from math import comb

BITS = 2**40


def too_likely(n: int, k: int, start: int) -> bool:
    """Whether among k drawn of n - 1 there are ``start`` or more of a tenth, too often in n draws."""
    others, tenth = n - 1, n // 10
    ways = sum(comb(tenth, x) * comb(others - tenth, k - x) for x in range(max(0, start), min(tenth, k) + 1))
    return n * BITS * ways > comb(others, k)


def connected(n: int, k: int) -> bool:
    others, m = n - 1, n - 2 * (n // 10)
    return all(
        BITS * (m // 2) * comb(m, s) * comb(others - m + s, k) ** s * comb(others - s, k) ** (m - s)
        <= comb(others, k) ** m
        for s in range(1, m // 2 + 1)
    )


@cache
def graph_sizes(n: int) -> dict[str, int]:
    if n <= 64:
        t = 2 * n // 3 + 1
        return {"k": n - 1, "t": t, "quorum": t, "d": n - 1}
    for k in range(2, n - 1):
        t = (k + 1) // 2 + 1
        while t <= k and too_likely(n, k, 2 * t - k - 1):
            t += 1
        if t <= k and not too_likely(n, k, k - t + 1) and connected(n, k):
            return {"k": k, "t": t, "quorum": n - n // 10, "d": most_incoming(n, k)}
    raise ValueError("no graph is safe")


def most_incoming(n: int, k: int) -> int:
    others = n - 1
    tail, x = 0, others
    while x > 0:
        more = tail + comb(others, x) * k**x * (others - k) ** (others - x)
        if n * BITS * more > others**others:
            break
        tail, x = more, x - 1
    return min(others, x + n // 10)

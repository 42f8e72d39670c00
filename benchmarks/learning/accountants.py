"""Do the accountant of training (PRV, Opacus) and that of the audit (PLD, dp-accounting) agree?

    python -m benchmarks.learning.accountants --histories 200

Random event histories: one to three kinds of steps, each with its own sampling rate, noise and count. Both
bounds are compared. PRV adds 0.01 to be safe and looks at the remove direction only; PLD looks at both and
rounds on a grid. So "agree" means within 1 %, and where they do not, which one is larger.
"""

import argparse
import json
import math
import random
import sys
import time
import warnings
from dataclasses import asdict, dataclass

from fedapt_secure.audit.checks.recompute import merged, recompute
from fedapt_secure.learning.privacy.accounting import _EPSILON_ERROR, _PRVAccountant

AGREE = 0.01
"""Share by which both may differ and still agree."""


@dataclass(frozen=True)
class Compared:
    """Both answers for one history of (q, σ, steps)."""

    events: tuple[tuple[float, float, int], ...]
    delta: float
    prv: float
    remove: float
    add: float
    error: float
    prv_s: float
    pld_s: float

    @property
    def pld(self) -> float:
        return max(self.remove, self.add)

    @property
    def difference(self) -> float:
        """How much larger PRV is, as a share of the PLD figure."""
        return (self.prv - self.pld) / self.pld


def random_history(rng: random.Random) -> tuple[tuple[tuple[float, float, int], ...], float]:
    """Draw a history with ε between about 0.3 and 30, as sessions have it, and a δ."""
    while True:
        kinds = rng.choice([1, 1, 2, 3])
        events = tuple(
            (
                round(math.exp(rng.uniform(math.log(0.002), 0)), 4),
                round(math.exp(rng.uniform(math.log(0.6), math.log(12))), 3),
                round(math.exp(rng.uniform(0, math.log(3000)))),
            )
            for _ in range(kinds)
        )
        delta = 10 ** rng.uniform(-7, -2.5)
        # Steps that hide well enough alone may be too many together, and the other way round.
        mu = math.sqrt(sum(steps * q * q * math.expm1(min(50, sigma**-2)) for q, sigma, steps in events))
        if 0.1 < mu < 4:
            return events, delta


def prv_epsilon(events: tuple[tuple[float, float, int], ...], delta: float) -> float:
    accountant = _PRVAccountant()
    accountant.history = [(sigma, q, steps) for q, sigma, steps in events]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=_EPSILON_ERROR))


def compare(events: tuple[tuple[float, float, int], ...], delta: float) -> Compared:
    start = time.perf_counter()
    prv = prv_epsilon(events, delta)
    middle = time.perf_counter()
    pld = recompute(merged(events), delta)
    return Compared(
        events, delta, prv, pld.remove, pld.add, pld.error, middle - start, time.perf_counter() - middle
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write every single comparison")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    found = []
    for _ in range(options.histories):
        found.append(compare(*random_history(rng)))
        print(f"\r{len(found)} of {options.histories}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if options.json:
        with open(options.json, "w") as stream:  # noqa: PTH123
            json.dump([asdict(one) for one in found], stream, indent=1)
    report(found)
    return int(any(one.prv < one.pld * (1 - AGREE) for one in found))


def report(found: list[Compared]) -> None:
    agree = [one for one in found if abs(one.difference) <= AGREE]
    above = [one for one in found if one.difference > AGREE]
    below = [one for one in found if one.difference < -AGREE]
    largest = max(found, key=lambda one: abs(one.difference))
    absolute = max(found, key=lambda one: abs(one.prv - one.pld))
    epsilons = sorted(one.pld for one in found)
    print(f"{len(found)} histories, epsilon {epsilons[0]:.2f} to {epsilons[-1]:.2f}")
    print(f"  within 1 %: {len(agree)}; PRV larger: {len(above)}; PLD larger: {len(below)}")
    print(
        f"  largest difference: {largest.difference:+.2%} (PRV {largest.prv:.4f}, PLD {largest.pld:.4f});"
        f" absolute {absolute.prv - absolute.pld:+.4f}"
    )
    print(f"  PLD above PRV in {sum(one.pld > one.prv for one in found)}")
    print(f"  add direction above remove in {sum(one.add > one.remove for one in found)}")
    print(f"  seconds: PRV {sum(x.prv_s for x in found):.1f}, PLD {sum(x.pld_s for x in found):.1f}")


if __name__ == "__main__":
    sys.exit(main())

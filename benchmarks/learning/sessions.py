"""How many equal sessions does a policy allow on the same images, by each rule of composition?

    python -m benchmarks.learning.sessions

Each session is planned by the real accountant for its ε and δ, and the rules count what was planned, as the
ledger does. Composed exactly (privacy loss distributions) would hold only if all sessions had been fixed
before the first: it is the limit that no rule for sessions chosen one after the other can pass.
"""

import argparse
import sys
from bisect import bisect_right

from fedapt_crypto.errors import PolicyRefused
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_noise
from fedapt_secure.privacy.composition import Allowance, SessionCost, check_allowance, pld_epsilon

MOST = 4000
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
PLANS = ((0.5, 60), (0.5, 20), (0.1, 60))


def count_by_rule(allowance: Allowance, one: SessionCost) -> int:
    """Return how many sessions fit, one after the other."""

    def refused(count: int) -> bool:
        try:
            check_allowance(allowance, [one] * (count - 1), one, epsilon_of)
        except PolicyRefused:
            return True
        return False

    return bisect_right(range(1, MOST), False, key=refused)


def count_exactly(allowance: Allowance, one: SessionCost) -> int:
    """Return how many sessions fit if all were fixed beforehand."""
    return bisect_right(
        range(1, MOST),
        False,
        key=lambda count: pld_epsilon([one] * count, allowance.max_delta) > allowance.max_epsilon,
    )


def main() -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--max-epsilon", type=float, default=8.0)
    parser.add_argument("--max-delta", type=float, default=1e-5)
    parser.add_argument("--session-delta", type=float, help="default: a quarter of --max-delta")
    options = parser.parse_args()
    delta = options.session_delta or options.max_delta / 4
    total = (options.max_epsilon, options.max_delta)
    by_sum, by_filter = Allowance(*total, "sum"), Allowance(*total, "rdp-filter")
    print(
        f"Within ({total[0]:g}, {total[1]:g}), each session with δ = {delta:g}; order {by_filter.order:.4g}\n"
    )
    print("| ε of a session | q | steps | sum | sum, by ε alone | Rényi filter | composed exactly |")
    print("|---|---|---|---|---|---|---|")
    for epsilon in EPSILONS:
        for rate, steps in PLANS:
            one = SessionCost(plan_noise(epsilon, delta, rate, steps), rate, steps, delta)
            counts = (
                count_by_rule(by_sum, one),
                count_by_rule(Allowance(total[0], 0.5, "sum"), one),
                count_by_rule(by_filter, one),
                count_exactly(by_filter, one),
            )
            print(f"| {epsilon:g} | {rate:g} | {steps} | {' | '.join(map(str, counts))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

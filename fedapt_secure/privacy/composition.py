"""What several sessions on the same records cost together, and whether one more is allowed.

**When a session counts.** One rule, which ledger, policy and audit follow: a session counts against its data
set with its whole plan from its first reserved step on, however few steps follow. One that was accepted and
never began costs nothing. The reservation is on disk before a step uses any image, and the log's ``spend``
line before that step too; in a log a session begins with its first ``spend`` line. So
- whether a session fits is judged when it is accepted and again, for good, when it begins, each time next to
  those that have begun by then and by the policy in force then;
- what a plan in a log says was spent before it are the sessions that had begun before that line;
- where a crash came between reservation and line, the ledger knows more than the log. What the ledger
  counted stays counted, and its next plan says so.

**How sessions add up.** Later sessions are chosen after the outputs of earlier ones were seen, so a rule is
named beforehand that holds for such choices:
- ``sum``: the planned (ε_s, δ_s) of all sessions add up to at most (ε, δ). Basic composition, which a
  filter may stop at (Rogers, Roth, Ullman, Vadhan 2016, "Privacy Odometers and Filters", section 3);
  anyone can check it by hand.
- ``rdp-filter``: at one Rényi order α that is fixed beforehand, the planned RDP of all sessions adds up to
  at most B(α), with which (ε, δ) is met (Feldman and Zrnic 2021, "Individual Privacy Accounting via a Rényi
  Filter", section 4; conversion: Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential
  Privacy", proposition 12). It covers the δ of all sessions at once: theirs do not add up, they only say
  how much noise each was planned with.
"""

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_secure.privacy.budget import LEAST_EPSILON, EpsilonOf

CompositionRule = Literal["sum", "rdp-filter"]
Rule = tuple[CompositionRule, float | None]
"""A rule with its Rényi order; ``None`` goes with the sum."""

ROUNDING: Final = 1e-9
"""Share by which a sum may exceed a limit: ten times 1e-6 is not 1e-5 in floating point."""
PLD_INTERVAL: Final = 1e-3
"""Discretisation of the privacy loss for the figure that is information only."""


@dataclass(frozen=True)
class SessionCost:
    """What one session was planned to do with the records.

    Attributes:
        noise_multiplier: σ; ``None`` where nothing bounds what left: no noise, or noise that others know.
        sample_rate: q.
        max_steps: Planned steps.
        delta: δ_s; ``None`` exactly where there is no σ.
    """

    noise_multiplier: float | None
    sample_rate: float
    max_steps: int
    delta: float | None

    def epsilon(self, epsilon_of: EpsilonOf) -> float:
        """Return ε_s at all planned steps; infinite where nothing bounds it."""
        if self.noise_multiplier is None or self.delta is None:
            return math.inf
        return epsilon_of(self.noise_multiplier, self.sample_rate, self.max_steps, self.delta)


@dataclass(frozen=True)
class Allowance:
    """What a policy allows the records of one data set to be used for, over all sessions.

    Attributes:
        max_epsilon: ε.
        max_delta: δ.
        composition: The rule.
        rdp_order: α of the Rényi filter; ``None`` for `default_rdp_order`.
        session_epsilon, session_delta: The largest share that one session may plan.

    Raises:
        InvalidInput: If the filter has no budget at its order.
    """

    max_epsilon: float
    max_delta: float
    composition: CompositionRule = "sum"
    rdp_order: float | None = None
    session_epsilon: float = math.inf
    session_delta: float = 1.0

    def __post_init__(self) -> None:
        if self.composition == "rdp-filter" and not self.rdp_budget > 0:
            least = 1 + math.log(1 / self.max_delta) / self.max_epsilon
            raise InvalidInput(
                f"a Rényi filter of order {self.order:g} has no budget at epsilon {self.max_epsilon:g} and"
                f" delta {self.max_delta:g}: choose an order above {least:.4g}, or leave it out"
            )

    @property
    def order(self) -> float:
        """α: the policy's own, or the default for its (ε, δ)."""
        return self.rdp_order or default_rdp_order(self.max_epsilon, self.max_delta)

    @property
    def rdp_budget(self) -> float:
        """B(α): the largest RDP that still means (ε, δ)."""
        return self.max_epsilon - conversion_cost(self.order, self.max_delta)

    @property
    def rule(self) -> Rule:
        """The rule, with the order that is really used."""
        return self.composition, self.order if self.composition == "rdp-filter" else None


def conversion_cost(order: float, delta: float) -> float:
    """Return what an RDP at one order is below the ε that it means at δ; positive for small δ.

    Canonne, Kamath and Steinke 2020, proposition 12: ε = RDP + ln((α - 1)/α) - (ln δ + ln α)/(α - 1).
    """
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def default_rdp_order(epsilon: float, delta: float) -> float:
    """Return the order at which a Gaussian mechanism that just meets (ε, δ) meets it.

    A Gaussian has RDP ρα; its best conversion is ε = ρ + 2√(ρ·ln(1/δ)) at α = 1 + √(ln(1/δ)/ρ) (Bun and
    Steinke 2016, proposition 1.3). Solved for ρ: √ρ = √(ln(1/δ) + ε) - √ln(1/δ).
    """
    logarithm = math.log(1 / delta)
    # The difference of the two roots, without cancellation for small ε.
    root = epsilon / (math.sqrt(logarithm + epsilon) + math.sqrt(logarithm))
    return 1 + math.sqrt(logarithm) / root


def planned_rdp(cost: SessionCost, order: float) -> float:
    """Return the RDP of a session at one order, add and remove directions, by dp-accounting."""
    if cost.noise_multiplier is None:
        return math.inf
    return cost.max_steps * _step_rdp(cost.noise_multiplier, cost.sample_rate, order)


def planned_rdp_of(costs: Sequence[SessionCost], order: float) -> float:
    """Return the RDP of several sessions together at one order."""
    return math.fsum(planned_rdp(cost, order) for cost in costs)


@functools.lru_cache(maxsize=1024)
def _step_rdp(noise_multiplier: float, sample_rate: float, order: float) -> float:
    import dp_accounting  # noqa: PLC0415 - a second
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    # Its series for orders that are no whole numbers does not converge everywhere; then it warns and
    # returns infinity. RDP does not fall with the order, so the next whole order is a valid bound.
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = RdpAccountant(orders=[order, math.ceil(order)])
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    )
    return float(min(accountant.rdp))


@dataclass(frozen=True)
class Spent:
    """What sessions cost together: ε and δ by plain addition; infinite where one had no bound."""

    epsilon: float
    delta: float
    sessions: int


def sum_of_plans(costs: Sequence[SessionCost], epsilon_of: EpsilonOf) -> Spent:
    """Return the sums of the sessions' planned ε_s and δ_s."""
    return Spent(
        epsilon=math.fsum(cost.epsilon(epsilon_of) for cost in costs),
        delta=math.fsum(cost.delta or 0.0 for cost in costs),
        sessions=len(costs),
    )


def check_allowance(
    allowance: Allowance, earlier: Sequence[SessionCost], new: SessionCost, epsilon_of: EpsilonOf
) -> None:
    """Refuse a session that by itself, or with earlier ones on its records, would exceed the allowance.

    Args:
        allowance: What the policy allows.
        earlier: Every session that counts.
        new: The session that asks.
        epsilon_of: The accountant for ε_s.

    Raises:
        PolicyRefused: Naming ``session_epsilon``, ``session_delta``, ``max_epsilon`` or ``max_delta``, the
            entry to change, and the largest values that would fit.
    """
    if any(cost.noise_multiplier is None for cost in (*earlier, new)):
        raise PolicyRefused(
            "a session without private noise has used these images: no epsilon bounds what left",
            rule="max_epsilon",
        )
    exceeded = _exceeded(allowance, earlier, new, epsilon_of)
    if exceeded is None:
        return
    rule, why = exceeded
    fits = largest_share(allowance, earlier, new, epsilon_of)
    if fits is None:
        raise PolicyRefused(
            f"{why}. Nothing is left for these images; more needs a larger {rule} in policy.yaml", rule=rule
        )
    raise PolicyRefused(
        f"{why}. At most epsilon {fits[0]:g} with delta {fits[1]:g} would fit now: set dp_epsilon and"
        f" dp_delta in client.yaml to no more, or raise {rule} in policy.yaml",
        rule=rule,
    )


def _exceeded(
    allowance: Allowance, earlier: Sequence[SessionCost], new: SessionCost, epsilon_of: EpsilonOf
) -> tuple[str, str] | None:
    """Return the first rule that a session breaks, and how; ``None`` where it keeps all."""
    before, alone = sum_of_plans(earlier, epsilon_of), sum_of_plans([new], epsilon_of)
    for rule, asked, limit in (
        ("session_epsilon", alone.epsilon, allowance.session_epsilon),
        ("session_delta", alone.delta, allowance.session_delta),
    ):
        if not asked <= limit * (1 + ROUNDING):  # also refuses what is not a number
            name = rule.removeprefix("session_")
            return rule, f"this session plans {name} {asked:.4g}, and one session may plan {limit:.4g}"
    if allowance.composition == "rdp-filter":
        spent, asked = planned_rdp_of(earlier, allowance.order), planned_rdp(new, allowance.order)
        if spent + asked <= allowance.rdp_budget * (1 + ROUNDING):
            return None
        return "max_epsilon", (
            f"this session and {_sessions(len(earlier))} before it on these images would cost"
            f" {spent + asked:.5g} of {allowance.rdp_budget:.5g} at Rényi order {allowance.order:.4g}"
            f" (epsilon {allowance.max_epsilon:g}, delta {allowance.max_delta:g})"
        )
    for rule, spent, asked, limit in (
        ("max_epsilon", before.epsilon, alone.epsilon, allowance.max_epsilon),
        ("max_delta", before.delta, alone.delta, allowance.max_delta),
    ):
        if not spent + asked <= limit * (1 + ROUNDING):
            return rule, (
                f"{_sessions(before.sessions)} on these images spent {rule.removeprefix('max_')} {spent:.4g},"
                f" this one plans {asked:.4g}, and {limit:g} is allowed"
            )
    return None


def largest_share(
    allowance: Allowance, earlier: Sequence[SessionCost], new: SessionCost, epsilon_of: EpsilonOf
) -> tuple[float, float] | None:
    """Return the largest ε, and a δ with it, that a session could plan now; ``None`` where nothing is left.

    Args:
        allowance: What the policy allows.
        earlier: Every session that counts; all with private noise.
        new: The session that asks: its steps, sampling rate and δ. Under the filter less noise goes with a
            larger ε, and how much of either one session may have follows from its steps.
        epsilon_of: The accountant for ε_s.

    Returns:
        Both rounded down to three digits, so that what people type in fits.
    """
    before = sum_of_plans(earlier, epsilon_of)
    delta = min(allowance.session_delta, new.delta if new.delta is not None else 1.0)
    if allowance.composition == "sum":
        delta = min(delta, allowance.max_delta - before.delta)
        epsilon = allowance.max_epsilon - before.epsilon
    else:
        sigma = _least_noise(
            new, allowance.rdp_budget - planned_rdp_of(earlier, allowance.order), allowance.order
        )
        if sigma is None:
            return None
        epsilon = epsilon_of(sigma, new.sample_rate, new.max_steps, delta)
    epsilon, delta = _rounded_down(min(epsilon, allowance.session_epsilon)), _rounded_down(delta)
    return (epsilon, delta) if epsilon > LEAST_EPSILON and delta > 0 else None


_SIGMA_RANGE: Final = (0.2, 1e4)
"""Noise multipliers between which sessions are planned."""


def _least_noise(cost: SessionCost, budget: float, order: float) -> float | None:
    """Return the smallest σ (to 0.1 %) at which a session's steps cost at most ``budget`` of RDP."""

    def too_much(log_sigma: float) -> bool:
        return not cost.max_steps * _step_rdp(math.exp(log_sigma), cost.sample_rate, order) <= budget

    low, high = (math.log(sigma) for sigma in _SIGMA_RANGE)
    if too_much(high):
        return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if too_much(middle) else (low, middle)
    return math.exp(high)


def _rounded_down(value: float) -> float:
    if not 0 < value < math.inf:
        return 0.0
    exact = Decimal(repr(value))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), rounding=ROUND_DOWN))


def _sessions(count: int) -> str:
    return f"{count} session{'' if count == 1 else 's'}"


def pld_epsilon(costs: Sequence[SessionCost], delta: float) -> float:
    """Return ε of all sessions composed exactly (privacy loss distributions), add and remove directions.

    For information only: for sessions that were chosen one after the other it proves nothing.

    Args:
        costs: The sessions.
        delta: δ at which to read ε, in (0, 1).
    """
    steps: dict[tuple[float, float], int] = {}
    for cost in costs:
        if cost.noise_multiplier is None:
            return math.inf
        # Equal steps are composed at once: ten times faster than one by one, and the same figure.
        key = (cost.noise_multiplier, cost.sample_rate)
        steps[key] = steps.get(key, 0) + cost.max_steps
    if not steps:
        return 0.0
    import dp_accounting  # noqa: PLC0415 - a second
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415

    accountant = PLDAccountant(value_discretization_interval=PLD_INTERVAL)
    for (noise_multiplier, sample_rate), count in steps.items():
        event = dp_accounting.PoissonSampledDpEvent(
            sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier)
        )
        accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))

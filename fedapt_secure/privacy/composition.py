"""What several sessions on the same records cost together, and whether one more is allowed.

Later sessions are chosen after the outputs of earlier ones were seen, so a rule is named beforehand that
holds for such choices:
- ``sum``: the planned (ε_s, δ_s) of all sessions add up to at most (ε, δ). Basic composition, which a
  filter may stop at (Rogers, Roth, Ullman, Vadhan 2016, "Privacy Odometers and Filters", section 3);
  anyone can check it by hand.
- ``rdp-filter``: at one Rényi order α that is fixed beforehand, the planned RDP of all sessions adds up to
  at most B(α) = ε - ln(1/δ)/(α - 1) (Feldman and Zrnic 2021, "Individual Privacy Accounting via a Rényi
  Filter", section 4; conversion to (ε, δ): Mironov 2017, proposition 3).

A session counts in full as planned, however many of its steps were taken.
"""

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_secure.privacy.budget import EpsilonOf

CompositionRule = Literal["sum", "rdp-filter"]

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

    Raises:
        InvalidInput: If the filter has no budget at its order.
    """

    max_epsilon: float
    max_delta: float
    composition: CompositionRule = "sum"
    rdp_order: float | None = None

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
        """B(α) = ε - ln(1/δ)/(α - 1)."""
        return self.max_epsilon - math.log(1 / self.max_delta) / (self.order - 1)


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
    """Refuse a session that together with earlier ones on its records would exceed the allowance.

    Args:
        allowance: What the policy allows.
        earlier: Every session that counts.
        new: The session that asks.
        epsilon_of: The accountant for ε_s.

    Raises:
        PolicyRefused: Naming ``max_epsilon`` or ``max_delta``.
    """
    costs = [*earlier, new]
    if any(cost.noise_multiplier is None for cost in costs):
        raise PolicyRefused(
            "a session without private noise has used these images: no epsilon bounds what left",
            rule="max_epsilon",
        )
    if allowance.composition == "rdp-filter":
        total = math.fsum(planned_rdp(cost, allowance.order) for cost in costs)
        if not total <= allowance.rdp_budget * (1 + ROUNDING):
            raise PolicyRefused(
                f"this session and {_sessions(len(earlier))} before it on these images would cost"
                f" {total:.4g} of {allowance.rdp_budget:.4g} at Rényi order {allowance.order:.4g}"
                f" (epsilon {allowance.max_epsilon:g}, delta {allowance.max_delta:g})",
                rule="max_epsilon",
            )
        return
    before, after = sum_of_plans(earlier, epsilon_of), sum_of_plans(costs, epsilon_of)
    for rule, spent, total, limit in (
        ("max_epsilon", before.epsilon, after.epsilon, allowance.max_epsilon),
        ("max_delta", before.delta, after.delta, allowance.max_delta),
    ):
        if not total <= limit * (1 + ROUNDING):  # also refuses what is not a number
            name = rule.removeprefix("max_")
            raise PolicyRefused(
                f"{_sessions(before.sessions)} on these images spent {name} {spent:.4g}, this one plans"
                f" {total - spent:.4g}, and {limit:g} is allowed",
                rule=rule,
            )


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

"""Plan an institution's privacy spend before its first step, and stop before the budget is exceeded.

Everything here follows from public numbers: the declared count of records or persons, the sampling rate
and the plan.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fedapt_crypto.errors import BudgetExhausted, InvalidInput
from fedapt_secure.privacy.unit import IMAGE, PrivacyUnit, counted

EpsilonOf = Callable[[float, float, int, float], float]
"""(noise_multiplier, sample_rate, steps, delta) to ε of that many Poisson-sampled Gaussian steps."""

LEAST_EPSILON: Final = 0.02
"""No session is planned for less: the accountant is exact to half of it."""
LARGEST_DELTA: Final = 0.01
"""δ of one session at most. δ is the chance that ε promises nothing at all: above 1 % it is no promise that
anyone could rely on, and with fewer than 50 records 1 / (2 N̂) would be above it."""
FEWEST_TOLD: Final = 5
"""N̂ below 100 is a multiple of this, and says of fewer no more than that there are any."""
MAX_SAFE_DELTA_FACTOR: Final = 10
"""A warning stands where δ > 1 / (10 N̂): one record in ten data sets could be given away."""


def declared_records(true_count: int) -> int:
    """Return N̂: a count of records, or persons, rounded down, which may be public.

    To two significant figures, and below 100, where these would be the exact count, to a multiple of five;
    fewer than five count as one.

    Privacy does not rest on N̂ being right, only on its being fixed and public. It decides δ = 1 / (2 N̂),
    which a smaller N̂ makes larger and states so, and the divisor q·N̂, which divides a sum after it was
    clipped and noised: sensitivity, σ and the rate q at which each unit is drawn know nothing of it. A
    smaller N̂ makes steps larger, signal and noise alike: by up to a fifth from 20 on, by more below.

    Raises:
        InvalidInput: If there is no record.
    """
    if true_count < 1:
        raise InvalidInput("the training set is empty: at least one labelled image is needed")
    return max(1, true_count // _step(true_count) * _step(true_count))


def largest_count(declared: int) -> int:
    """Return the largest count of records, or persons, whose N̂ this is."""
    if declared < FEWEST_TOLD:
        return FEWEST_TOLD - 1
    return declared + _step(declared) - 1


def _step(count: int) -> int:
    """Return of what N̂ is a multiple, where a count or N̂ itself is this."""
    return FEWEST_TOLD if count < 100 else int(10 ** (len(str(count)) - 2))


def default_delta(declared: int, unit: PrivacyUnit = IMAGE) -> float:
    """Return δ = 1 / (2 N̂), the default of ``plan`` and ``simulate``.

    Args:
        declared: N̂.
        unit: What it counts.

    Raises:
        InvalidInput: If that is above `LARGEST_DELTA`, which means nothing any more.
    """
    delta = 1.0 / (2 * declared)
    if delta > LARGEST_DELTA:
        raise InvalidInput(
            f"with {declared} {counted(unit)} delta would be 1/(2 x {declared}) = {delta:.2g}, and above"
            f" {LARGEST_DELTA:g} it promises nothing: {round(1 / (2 * LARGEST_DELTA))} {counted(unit)} are"
            " needed, or give a smaller delta yourself"
        )
    return delta


def check_delta(delta: float) -> None:
    """Refuse a δ that no session may have.

    Raises:
        InvalidInput: If it is not above 0, or above `LARGEST_DELTA`.
    """
    if not 0 < delta <= LARGEST_DELTA:
        raise InvalidInput(
            f"delta must be above 0 and at most {LARGEST_DELTA:g}, not {delta:g}: with more it promises"
            " nothing"
        )


@dataclass(frozen=True)
class SessionShare:
    """What an institution lets one session plan.

    Attributes:
        epsilon: ε that it is planned for.
        delta: δ, or its upper limit.
        exact: Whether δ is just this; else 1 / (2 N̂) where that is less.
    """

    epsilon: float
    delta: float
    exact: bool = False

    def delta_for(self, declared: int) -> float:
        """Return δ of a session with N̂ records or persons."""
        return self.delta if self.exact else min(1.0 / (2 * declared), self.delta)


def delta_warning(delta: float, declared: int, unit: PrivacyUnit = IMAGE) -> str | None:
    """Return what to tell the user where δ is large for this many records or persons, else ``None``.

    Args:
        delta: δ.
        declared: How many records or persons are declared.
        unit: Which of the two.
    """
    if delta <= 1.0 / (MAX_SAFE_DELTA_FACTOR * declared):
        return None
    return (
        f"delta {delta:.2g} is above 1/(10 x {declared} {counted(unit)}): fine for a trial, too large for"
        " patients"
    )


@dataclass(frozen=True)
class PrivacyPlan:
    """What an institution commits to before its first step; nothing in it depends on labels or features.

    Attributes:
        epsilon_budget: ε that the institution allows.
        delta: δ of the guarantee.
        noise_multiplier: σ, noise standard deviation over the clipping norm.
        sample_rate: q of Poisson sampling, in (0, 1].
        max_steps: Steps for which σ was planned.
        declared_records: N̂, a count of units.
        unit: What is counted and protected, an image or a person.
    """

    epsilon_budget: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    max_steps: int
    declared_records: int
    unit: PrivacyUnit = IMAGE

    def __post_init__(self) -> None:
        checks = {
            "epsilon must be a positive number": _positive(self.epsilon_budget),
            "the noise multiplier must be a positive number": _positive(self.noise_multiplier),
            "the sample rate must lie in (0, 1]": 0 < self.sample_rate <= 1,
            "the number of steps must be at least 1": self.max_steps >= 1,
            "the declared record count must be at least 1": self.declared_records >= 1,
        }
        check_delta(self.delta)
        for rule, holds in checks.items():
            if not holds:
                raise InvalidInput(rule)


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


class PrivacyBudget:
    """Counts an institution's steps against its plan.

    Steps are reserved before training and never given back, so what is recorded is never below what
    was used.
    """

    def __init__(self, plan: PrivacyPlan, epsilon_of: EpsilonOf, *, steps_spent: int = 0) -> None:
        self.plan = plan
        self.steps_spent = steps_spent
        self._epsilon_of = epsilon_of

    def epsilon_after(self, steps: int) -> float:
        """Return ε of all steps spent so far and ``steps`` more."""
        total = self.steps_spent + steps
        plan = self.plan
        if total == 0:
            return 0.0
        epsilon = self._epsilon_of(plan.noise_multiplier, plan.sample_rate, total, plan.delta)
        if epsilon <= plan.epsilon_budget or total >= plan.max_steps:
            return epsilon
        # What holds for more steps holds for fewer, also where the accountant has a looser bound for these.
        whole = self._epsilon_of(plan.noise_multiplier, plan.sample_rate, plan.max_steps, plan.delta)
        return min(epsilon, whole)

    def reserve(self, steps: int) -> None:
        """Count ``steps`` as spent.

        Raises:
            BudgetExhausted: If they would exceed the planned steps or ε; nothing is counted then.
        """
        if steps < 1:
            raise ValueError("at least one step is reserved at a time; nothing is ever given back")
        too_many = self.steps_spent + steps > self.plan.max_steps
        # Written so that an epsilon that is not a number is refused as well.
        if too_many or not self.epsilon_after(steps) <= self.plan.epsilon_budget:
            raise BudgetExhausted(
                f"{steps} more steps would exceed epsilon {self.plan.epsilon_budget:g}"
                f" ({self.steps_spent} of {self.plan.max_steps} planned steps are spent)"
            )
        self.steps_spent += steps

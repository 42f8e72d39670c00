"""Privacy of Poisson-sampled Gaussian steps by Opacus' PRV accountant, and the noise that meets a budget.

Gopi, Lee and Wutschitz, "Numerical Composition of Differential Privacy", NeurIPS 2021. It discretises the
privacy loss; time and memory grow with the number of points, which grows with ε and with the root of the
number of steps. That number has a limit here: beyond it the mesh is coarser, which makes ε larger by what is
added for it, and where that is too coarse Rényi accounting bounds ε. All three are upper bounds.
"""

import functools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.prv import Domain
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.privacy.budget import (
    LEAST_EPSILON,
    PrivacyPlan,
    check_delta,
    declared_records,
    default_delta,
)
from fedapt_secure.privacy.unit import IMAGE, PrivacyUnit

_ORDERS: Final = (*range(2, 65), 128, 256, 512)
"""Rényi orders for the domain of the discretised privacy loss. Whole ones: they cost 5 % of Opacus' 151."""
_EPSILON_ERROR: Final = 0.01  # Opacus' default: what the discretisation may add
_MAX_POINTS: Final = 1 << 19  # 0.5 s and 100 MB a figure
_MAX_EPSILON_ERROR: Final = 0.25  # the accountant is sound below 1; coarser than this Rényi bounds are better
_LEAST_DELTA_A_STEP: Final = 1000 * 2.0**-53
"""Composing takes a power of the Fourier transform, which has rounding errors of 2⁻⁵³, as many times as there
are steps; what that comes to must be far below δ."""
_SIGMA_STEP: Final = 1e-3  # of log σ: finer is lost when σ is rounded up to three decimals
_SEARCH_TOLERANCE: Final = 2e-3  # of log ε; with the rounding, σ ends within 0.5 % of the smallest
_SMALLEST_SIGMA: Final = 0.2
_LARGEST_SIGMA: Final = 1e4
_MAX_SEARCH_STEPS: Final = 30
_MORE_NOISE: Final = 1.002


class _PRVAccountant(PRVAccountant):  # type: ignore[misc]  # Opacus has no types
    """Opacus' accountant with a cheaper, never smaller, domain of the discretised privacy loss.

    Opacus spends 95 % of its time on bounding that domain by Rényi accounting at fractional orders. The
    bound holds at every single order, so the best of fewer orders is valid and at most wider.
    """

    def _get_domain(
        self, prvs: Sequence[Any], num_self_compositions: list[int], eps_error: float, delta_error: float
    ) -> Domain:
        total = sum(num_self_compositions)
        whole = [(prv.noise_multiplier, prv.sample_rate) for prv in prvs]
        composed = [(*prv, steps) for prv, steps in zip(whole, num_self_compositions, strict=True)]
        # The tails of the sum and of each step, as in remark 5.6 and in Opacus' compute_safe_domain_size.
        bounds = [_rdp_epsilon(composed, delta_error / 4)]
        bounds += [_rdp_epsilon([(*prv, 1)], delta_error / (8 * total)) for prv in whole]
        reach = max(*bounds, eps_error) + 3
        mesh = eps_error / math.sqrt(total * math.log(12 / delta_error) / 2)
        points = 2 * reach / mesh
        if not points <= _MAX_POINTS:  # also refuses what is not a number
            raise _TooManyPoints(points)
        return Domain.create_aligned(-reach, reach, mesh)


class _TooManyPoints(Exception):
    """The discretised privacy loss would have more points than `_MAX_POINTS`."""

    def __init__(self, points: float) -> None:
        super().__init__(points)
        self.points = points


def _rdp_epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Return the best of the bounds at each order, for some (σ, q, steps)."""
    rdp = sum(
        np.asarray(compute_rdp(q=rate, noise_multiplier=sigma, steps=steps, orders=list(_ORDERS)))
        for sigma, rate, steps in history
    )
    # Opacus warns where the first or the last order is the best, and skips what is not a number. A filter of
    # warnings for one call would be seen, and undone too early, by other threads that plan at the same time.
    epsilon, _ = get_privacy_spent(
        orders=[math.nan, *_ORDERS, math.nan], rdp=np.pad(rdp, 1, constant_values=math.nan), delta=delta
    )
    return float(epsilon)


_computing = threading.Lock()
"""Institutions in threads of one process ask for the same figure at the same time: one works it out."""


def epsilon_of(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Return an upper bound on ε after some DP-SGD steps.

    Args:
        noise_multiplier: σ, noise standard deviation over the clipping norm.
        sample_rate: q of Poisson sampling, in (0, 1].
        steps: Number of steps; 0 costs nothing.
        delta: δ.

    Raises:
        InvalidInput: If an argument is out of range, or the accountant cannot bound this setting.
    """
    _check_setting(sample_rate, steps, delta)
    if not noise_multiplier > 0:
        raise InvalidInput("the noise multiplier must be a positive number")
    with _computing:
        return _epsilon_of(noise_multiplier, sample_rate, steps, delta)


@functools.lru_cache(maxsize=4096)
def _epsilon_of(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    if steps == 0:
        return 0.0
    renyi = _rdp_epsilon([(noise_multiplier, sample_rate, steps)], delta)
    epsilon = min(_prv_epsilon(noise_multiplier, sample_rate, steps, delta), renyi)
    if not math.isfinite(epsilon):  # what is not a number compares as within every budget, and as over it
        raise _no_bound(noise_multiplier, sample_rate, steps, delta)
    return max(epsilon, 0.0)  # below zero where δ alone is more than the steps give away


def _prv_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Return the PRV accountant's bound, infinite where it has none that is worth its time."""
    if delta < _LEAST_DELTA_A_STEP * steps:
        return math.inf
    accountant = _PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    error = _EPSILON_ERROR
    while error <= _MAX_EPSILON_ERROR:
        try:
            with np.errstate(all="ignore"):  # far out in the tails it overflows, to a bound that is infinite
                epsilon = float(accountant.get_epsilon(delta, eps_error=error))
        except _TooManyPoints as many:
            if not math.isfinite(many.points):
                return math.inf
            error *= 1.001 * many.points / _MAX_POINTS
        except (ValueError, RuntimeError, MemoryError):
            return math.inf
        else:
            return math.inf if math.isnan(epsilon) else epsilon
    return math.inf


def _no_bound(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> InvalidInput:
    return InvalidInput(
        f"no privacy bound can be computed for sigma {noise_multiplier:g}, sample rate {sample_rate:g},"
        f" {steps} steps and delta {delta:.2g}: choose a larger epsilon or delta, or fewer steps"
    )


def _check_setting(sample_rate: float, steps: int, delta: float) -> None:
    if not (0 < sample_rate <= 1 and steps >= 0 and 0 < delta < 1):
        raise InvalidInput("accounting needs a sample rate in (0, 1], no negative steps and 0 < delta < 1")


@functools.lru_cache(maxsize=1024)
def plan_noise(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier (to about 0.5 %, or as fine as accounting) that meets a budget.

    Args:
        epsilon: Budget, a positive number.
        delta: δ.
        sample_rate: q, in (0, 1].
        steps: Number of steps, at least 1.

    Returns:
        σ, rounded up to three decimals.

    Raises:
        InvalidInput: If an argument is out of range or no reasonable σ meets the budget.
    """
    _check_setting(sample_rate, steps, delta)
    if not (0 < epsilon < math.inf and steps >= 1):
        raise InvalidInput("the privacy budget needs a positive epsilon and at least one step")
    if epsilon <= LEAST_EPSILON:
        raise InvalidInput(f"epsilon {epsilon:g} is too small to plan for: the accountant is exact to 0.01")

    def excess(log_sigma: float) -> float:
        spent = epsilon_of(math.exp(log_sigma), sample_rate, steps, delta)
        return math.log(max(spent, _EPSILON_ERROR) / epsilon)  # may be 0; a budget is over twice the error

    low, high = _bracket(excess, _renyi_log_sigma(epsilon, delta, sample_rate, steps))
    # ε is nearly a power of σ, so the secant in log-log space is there in two or three steps.
    for _ in range(_MAX_SEARCH_STEPS):
        if (
            low.excess <= 0
            or high.excess >= -_SEARCH_TOLERANCE
            or high.log_sigma - low.log_sigma < _SIGMA_STEP
        ):
            break
        share = (low.excess + _SEARCH_TOLERANCE / 2) / (low.excess - high.excess)
        share = min(max(share, 0.05), 0.95)
        middle = _point(excess, low.log_sigma + share * (high.log_sigma - low.log_sigma))
        low, high = (middle, high) if middle.excess > 0 else (low, middle)
    best = low if low.excess <= 0 else high
    sigma = math.exp(best.log_sigma)
    # Where one bound takes another's place, a little more noise may have the looser one.
    while epsilon_of(rounded := math.ceil(sigma * 1000) / 1000, sample_rate, steps, delta) > epsilon:
        sigma *= _MORE_NOISE
    return rounded


@dataclass(frozen=True)
class _Point:
    """A noise multiplier that was tried; positive excess means that it is too small."""

    log_sigma: float
    excess: float


def _point(excess: Callable[[float], float], log_sigma: float) -> _Point:
    return _Point(log_sigma, excess(log_sigma))


def _bracket(excess: Callable[[float], float], start: float) -> tuple[_Point, _Point]:
    """Return points below and above the answer, close to each other.

    ``start`` is what Rényi accounting asks for: a little too much noise.
    """
    high = _point(excess, start)
    while high.excess > 0:
        high = _point(excess, high.log_sigma + 0.05)
    smallest = math.log(_SMALLEST_SIGMA)
    # ε falls at least as fast as 1/σ, so this overshoots, by little where accounting is tight.
    low = _point(excess, max(high.log_sigma + high.excess - 0.01, smallest))
    while low.excess <= 0 and low.log_sigma > smallest:
        high, low = low, _point(excess, max(low.log_sigma - 0.1, smallest))
    return low, high


def _renyi_log_sigma(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return log σ, to 1 %, that meets the budget by Rényi accounting: looser, and quick."""
    low, high = math.log(_SMALLEST_SIGMA), math.log(_LARGEST_SIGMA)
    if _rdp_epsilon([(_LARGEST_SIGMA, sample_rate, steps)], delta) > epsilon:
        raise InvalidInput(
            f"epsilon {epsilon:g} at delta {delta:.2g} cannot be met in {steps} steps: allow a larger"
            " epsilon, or plan fewer steps"
        )
    while high - low > 0.01:
        middle = (low + high) / 2
        if _rdp_epsilon([(math.exp(middle), sample_rate, steps)], delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def plan_session(
    epsilon: float,
    delta: float | None,
    count: int,
    sample_rate: float,
    steps: int,
    unit: PrivacyUnit = IMAGE,
) -> PrivacyPlan:
    """Return an institution's plan: what it commits to before its first step.

    Args:
        epsilon: ε that the institution allows.
        delta: δ; 1 / (2 N̂) where ``None``.
        count: True number of training records, or of persons; only N̂ goes into the plan.
        sample_rate: q, in (0, 1].
        steps: Steps of the whole session.
        unit: What is counted: images or persons.

    Raises:
        InvalidInput: If there are none, δ is out of range, or the budget cannot be met.
    """
    declared = declared_records(count)
    delta = default_delta(declared, unit) if delta is None else delta
    check_delta(delta)
    return PrivacyPlan(
        epsilon_budget=epsilon,
        delta=delta,
        noise_multiplier=plan_noise(epsilon, delta, sample_rate, steps),
        sample_rate=sample_rate,
        max_steps=steps,
        declared_records=declared,
        unit=unit,
    )

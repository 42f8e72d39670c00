"""Lower bounds on ε from guesses about canaries, each at its own confidence.

**exact** assumes that each round is a subsampled Gaussian with the known q and some effective noise σ' (noise
over what one unit moves the sum), and that canaries are independent, as gradients at right angles under
isotropic noise are. However one guesses a fair coin, the guess is right with probability (1 + TV)/2 at most,
TV the total variation distance between all rounds with and without the canary. It falls with σ', and is the
hockey-stick divergence δ(0) of the composed privacy loss. So from the number of right guesses: a lower bound
on their probability (Clopper and Pearson 1934), one on TV, an upper bound on σ', and with the trade-off of
that σ' a lower bound on ε at δ. Every rounding goes the safe way: TV is taken from a pessimistic distribution
of the privacy loss, ε from an optimistic one (dp-accounting).

**one-run** assumes nothing: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run",
theorem 5.2. Canaries that are there by independent fair coins, r guesses, v of them right: under (ε, δ)-DP
that many has at most the probability `one_run_p_value`, whatever the mechanism and however canaries depend on
each other. Its price is that an ε of 8 shows in rare guesses only.

With each comes the probability, at most, of so many right guesses if the claim is true. A bound at 95 % is
above the truth in one run of twenty, and the claim is nearly the truth: `REFUTED` asks for more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from scipy import stats

from fedapt_secure.privacy_test.canaries import Flags, Numbers

REFUTED: Final = 1e-6
"""The claim is refuted by what has at most this probability if it is true."""
_LARGEST_EPSILON: Final = 40.0
_HALVINGS: Final = 30
_FINEST_INTERVAL: Final = 1e-5
_DISCRETISATION: Final = 1e-3
"""Share of ε that the discretised privacy loss may cost, about."""
_SHARES_OF_GUESSES: Final = tuple(2.0**-power for power in range(10))
_LEAST_NOISE_SHARE: Final = 1 / 8
"""σ' is sought down to this share of σ: less noise is no matter of degree any more."""


@dataclass(frozen=True)
class Steps:
    """The claim: rounds of the subsampled Gaussian.

    Attributes:
        noise_multiplier: σ.
        sample_rate: q.
        rounds: T.
        epsilon: ε that is claimed for them, a scale for what is sought.
        delta: δ.
    """

    noise_multiplier: float
    sample_rate: float
    rounds: int
    epsilon: float
    delta: float

    def composed(self, noise_multiplier: float, *, pessimistic: bool) -> Any:
        """Return the privacy loss of all rounds under another noise.

        Args:
            noise_multiplier: σ'.
            pessimistic: Whether what is discretised away counts as loss.
        """
        from dp_accounting.pld import privacy_loss_distribution  # noqa: PLC0415 - a second

        about = self.epsilon * max(1.0, (self.noise_multiplier / noise_multiplier) ** 2)  # ε under that noise
        interval = min(1e-2, 2 * _DISCRETISATION * about / self.rounds)
        step = privacy_loss_distribution.from_gaussian_mechanism(
            noise_multiplier,
            pessimistic_estimate=pessimistic,
            value_discretization_interval=max(interval, _FINEST_INTERVAL),
            sampling_prob=self.sample_rate,
            use_connect_dots=pessimistic,  # it knows no optimistic estimate
        )
        return step.self_compose(self.rounds)

    def distance(self, noise_multiplier: float) -> float:
        """Return TV of all rounds under another noise, never too small."""
        loss = self.composed(noise_multiplier, pessimistic=True)
        return float(loss.get_delta_for_epsilon(0.0))


@dataclass(frozen=True)
class ExactBound:
    """What the exact trade-off says.

    Attributes:
        epsilon: Lower bound on ε.
        guesses, right: How many, and how many of them right.
        chance: Probability, at most, of as many right guesses under the claim.
        noise_multiplier: Upper bound on σ'; infinite where nothing shows.
    """

    epsilon: float
    guesses: int
    right: int
    chance: float
    noise_multiplier: float


def exact(scores: Numbers, present: Flags, steps: Steps, confidence: float) -> ExactBound:
    """Return the bound by the exact trade-off: a canary is guessed present where its score is positive.

    Args:
        scores: Logarithms of likelihood ratios, (n,).
        present: The coins, (n,).
        steps: The claim.
        confidence: In (0.5, 1).
    """
    right, guesses = int(((scores > 0) == present).sum()), len(scores)
    distance = 2 * least_probability(right, guesses, confidence) - 1
    chance = float(stats.binom.sf(right - 1, guesses, (1 + steps.distance(steps.noise_multiplier)) / 2))
    if distance <= 0:
        return ExactBound(0.0, guesses, right, chance, math.inf)
    noise = _largest_noise(steps, distance)
    loss = steps.composed(noise, pessimistic=False)
    epsilon = max(0.0, float(loss.get_epsilon_for_delta(steps.delta)))
    return ExactBound(epsilon, guesses, right, chance, noise)


def least_probability(right: int, guesses: int, confidence: float) -> float:
    """Return the one-sided lower bound of Clopper and Pearson on the probability of being right."""
    return float(stats.beta.ppf(1 - confidence, right, guesses - right + 1)) if right else 0.0


def _largest_noise(steps: Steps, distance: float) -> float:
    """Return an upper bound on the σ' under which all rounds are this far apart."""
    high = steps.noise_multiplier
    while steps.distance(high) >= distance:
        high *= 1.5
    low = high / 1.5 if high > steps.noise_multiplier else high * _LEAST_NOISE_SHARE
    if steps.distance(low) < distance:
        return low
    return _boundary(low, high, lambda noise: steps.distance(noise) >= distance)[1]


@dataclass(frozen=True)
class OneRunBound:
    """What holds without an assumption.

    Attributes:
        epsilon: Lower bound on ε.
        guesses, right: How many, and how many of them right.
        chance: Probability, at most, of as many right guesses under the claim.
    """

    epsilon: float
    guesses: int
    right: int
    chance: float


def one_run(scores: Numbers, present: Flags, steps: Steps, confidence: float) -> OneRunBound:
    """Return the bound of auditing with one run: the highest scores are guessed present, the lowest absent.

    How many are guessed follows from the claim alone, never from the scores.

    Args:
        scores: Any scores, (n,).
        present: The coins, (n,).
        steps: The claim.
        confidence: In (0.5, 1).
    """
    count = len(scores)
    half = _best_half(count, steps, confidence)
    order = np.argsort(scores, kind="stable")
    right = int(present[order[count - half :]].sum() + (~present[order[:half]]).sum())
    epsilon = _one_run_epsilon(count, 2 * half, right, steps.delta, confidence)
    chance = one_run_p_value(count, 2 * half, right, steps.epsilon, steps.delta)
    return OneRunBound(epsilon, 2 * half, right, chance)


def one_run_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the largest probability, under (ε, δ)-DP, of at least so many right guesses.

    Args:
        canaries: m.
        guesses: r.
        right: v.
        epsilon: ε.
        delta: δ.
    """
    each = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(right - 1, guesses, each))
    if not right:
        return 1.0
    below = np.arange(1, right + 1)  # i of theorem 5.2: P[v > W ≥ v - i] / i
    slack = float((np.cumsum(stats.binom.pmf(right - below, guesses, each)) / below).max())
    return min(1.0, tail + 2 * canaries * delta * slack)


def _one_run_epsilon(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    def refuted(epsilon: float) -> bool:
        return one_run_p_value(canaries, guesses, right, epsilon, delta) <= 1 - confidence

    return _boundary(0.0, _LARGEST_EPSILON, refuted)[0] if refuted(0.0) else 0.0


def _best_half(canaries: int, steps: Steps, confidence: float) -> int:
    """Return half the number of guesses that would show most if the claim were just so.

    A Gaussian stands in for the scores, with the claim's TV: this decides how much shows, not what is true.
    """
    normal = NormalDist()
    shift = 2 * normal.inv_cdf((1 + min(steps.distance(steps.noise_multiplier), 1 - 1e-9)) / 2)

    def shown(half: int) -> float:
        low, high = -10.0, 10.0 + shift  # the threshold above which this share of all scores lies
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = (normal.cdf(-middle) + normal.cdf(shift - middle)) / 2
            low, high = (middle, high) if above * canaries > half else (low, middle)
        present = normal.cdf(shift - low)
        share = present / (present + normal.cdf(-low))
        return _one_run_epsilon(canaries, 2 * half, round(2 * half * share), steps.delta, confidence)

    halves = sorted({max(1, int(canaries * share / 2)) for share in _SHARES_OF_GUESSES})
    return max(halves, key=shown)


def _boundary(low: float, high: float, holds: Callable[[float], bool]) -> tuple[float, float]:
    """Return two numbers close to each other; something holds for the lower one and not for the higher."""
    for _ in range(_HALVINGS):
        if high - low <= 1e-4 * max(high, 1e-3):
            break
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high

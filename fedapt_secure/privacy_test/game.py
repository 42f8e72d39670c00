"""The game: for each canary a fair coin says whether it is there, and the adversary guesses the coin.

The adversary knows the canaries, the plan, and every round's update; it chose the parameters. It does not
know the coins, who is sampled, and the noise. Its score is the likelihood ratio of all rounds, the best there
is (Neyman and Pearson): along a canary's gradient a round shows N(0, σ²) without it, and with it the mixture
(1-q)·N(0, σ²) + q·N(1, σ²), in units of C. It takes σ from what it sees where no canary is, not from the
plan: where noise is missing, it uses that. Canaries stand at right angles, so each is a game of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.privacy.budget import PrivacyBudget, PrivacyPlan
from fedapt_secure.privacy.unit import PrivacyUnit
from fedapt_secure.privacy_test.canaries import Canaries, Flags, Numbers
from fedapt_secure.privacy_test.institution import Institution, Training, feature_size

CANARIES_OF_A_RUN: Final = 1024
_LEAST_NOISE: Final = 1e-6

Progress = Callable[[int, int], None]
"""Told (rounds trained, rounds in all)."""


@dataclass(frozen=True)
class Played:
    """What came of the game.

    Attributes:
        plan: What the institution committed to.
        claim: ε that its books say was spent.
        scores: Of each canary, the logarithm of the likelihood ratio, (n,).
        present: Its coin, (n,).
    """

    plan: PrivacyPlan
    claim: float
    scores: Numbers
    present: Flags


def planned(epsilon: float, delta: float, rounds: int, sample_rate: float, unit: PrivacyUnit) -> PrivacyPlan:
    """Return the plan of an institution with as many records, or persons, as a run has canaries.

    Args:
        epsilon: ε.
        delta: δ.
        rounds: Rounds of one step each.
        sample_rate: q.
        unit: What is protected.

    Raises:
        InvalidInput: If the budget cannot be met.
    """
    return plan_session(epsilon, delta, CANARIES_OF_A_RUN, sample_rate, rounds, unit)


def play(plan: PrivacyPlan, count: int, tossed: np.random.Generator, progress: Progress) -> Played:
    """Train with canaries until there were enough of them.

    Args:
        plan: What each run of training is planned as.
        count: n, number of canaries.
        tossed: Says who is there; nothing is protected by it.
        progress: Told after each round.
    """
    sizes = _runs(count)
    total, done = plan.max_steps * len(sizes), 0
    scores, present, claim = [], [], 0.0
    for size in sizes:
        canaries = Canaries(size, feature_size())
        there = tossed.random(size) < 0.5
        budget = PrivacyBudget(plan, epsilon_of)
        training = Training(plan.noise_multiplier, plan.sample_rate, plan.unit)
        institution = Institution(canaries, there, training)
        seen, beside = [], []
        for _ in range(plan.max_steps):
            budget.reserve(1)
            released = institution.round()
            seen.append(canaries.along(released))
            beside.append(canaries.beside(released))
            done += 1
            progress(done, total)
        noise = math.sqrt(float(np.square(beside).mean()))
        scores.append(sum(evidence(one, noise, plan.sample_rate) for one in seen))
        present.append(there)
        claim = budget.epsilon_after(0)
    return Played(plan, claim, np.concatenate(scores), np.concatenate(present))


def coins(seed: int | None) -> np.random.Generator:
    """Return the coins that say who is there; fresh ones without a seed."""
    return np.random.default_rng(seed)


def evidence(seen: Numbers, noise: float, sample_rate: float) -> Numbers:
    """Return the logarithm of one round's likelihood ratio.

    Args:
        seen: Along each canary, (K,).
        noise: σ of what is seen.
        sample_rate: q.

    Returns:
        (K,); positive where it speaks for the canary.
    """
    shift = (seen - 0.5) / max(noise, _LEAST_NOISE) ** 2
    if sample_rate == 1:
        return shift
    # As log1p(q·expm1(shift)), without leaving the range of floats.
    high = shift + np.log(sample_rate + (1 - sample_rate) * np.exp(-np.maximum(shift, 0)))
    low = np.log1p(sample_rate * np.expm1(np.minimum(shift, 0)))
    return np.where(shift > 0, high, low)


def _runs(count: int) -> list[int]:
    """Return how many canaries each run of training has: nearly alike, none above the most."""
    runs = -(-count // CANARIES_OF_A_RUN)
    return [count // runs + (number < count % runs) for number in range(runs)]

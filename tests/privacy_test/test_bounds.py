"""Lower bounds lie below the truth as often as they say, and near it where much was seen."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.privacy_test import bounds
from fedapt_secure.privacy_test.bounds import Steps
from fedapt_secure.privacy_test.game import evidence

DELTA = 1e-5


def claim(sigma=2.0, rate=0.5, rounds=10) -> Steps:
    return Steps(sigma, rate, rounds, epsilon_of(sigma, rate, rounds, DELTA), DELTA)


def ideal(steps: Steps, count: int, rng: np.random.Generator, sigma: float | None = None):
    """Return scores and coins of a mechanism that is just what it claims, or has another noise."""
    there = rng.random(count) < 0.5
    scores, noise = np.zeros(count), sigma or steps.noise_multiplier
    for _ in range(steps.rounds):
        drawn = there & (rng.random(count) < steps.sample_rate)
        scores += evidence(drawn + noise * rng.standard_normal(count), noise, steps.sample_rate)
    return scores, there


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_the_distance_is_the_gaussians_own(sigma):
    exact = 2 * NormalDist().cdf(1 / (2 * sigma)) - 1
    assert exact - 1e-12 <= claim(sigma, 1.0, 1).distance(sigma) <= exact + 1e-4


def test_the_distance_of_several_sampled_rounds_is_that_of_the_best_guesses():
    steps = claim()
    scores, there = ideal(steps, 400_000, np.random.default_rng(1))
    assert 2 * ((scores > 0) == there).mean() - 1 == pytest.approx(steps.distance(2.0), abs=0.005)


def test_the_exact_bound_comes_near_the_truth_and_stays_below():
    steps = claim()
    found = bounds.exact(*ideal(steps, 400_000, np.random.default_rng(2)), steps, 0.95)
    assert 0.97 * steps.epsilon < found.epsilon < steps.epsilon
    assert steps.noise_multiplier < found.noise_multiplier < 1.03 * steps.noise_multiplier
    assert found.chance > 0.001


def test_half_the_noise_shows():
    steps = claim()
    truth = epsilon_of(1.0, 0.5, 10, DELTA)
    found = bounds.exact(*ideal(steps, 20_000, np.random.default_rng(3), sigma=1.0), steps, 0.95)
    assert steps.epsilon < 0.85 * truth < found.epsilon < truth
    assert found.chance < bounds.REFUTED


def test_the_bound_on_right_guesses_is_below_the_truth_as_often_as_it_says():
    """Seeded: 10,000 games, 0.95 ± 0.0066 at three standard deviations."""
    rng = np.random.default_rng(4)
    found = [bounds.least_probability(int(right), 2000, 0.95) for right in rng.binomial(2000, 0.6, 10_000)]
    assert 0.943 < (np.array(found) <= 0.6).mean() < 0.965


def test_the_exact_bound_follows_from_the_trade_off():
    """The other way round: the distance under the σ' it reports is what the guesses show, not less."""
    steps = claim()
    found = bounds.exact(*ideal(steps, 5000, np.random.default_rng(5)), steps, 0.95)
    shown = 2 * bounds.least_probability(found.right, found.guesses, 0.95) - 1
    assert shown * 0.998 < steps.distance(found.noise_multiplier) <= shown


def test_guesses_at_random_show_nothing():
    rng = np.random.default_rng(6)
    scores, there = rng.standard_normal(2000), np.arange(2000) % 2 == 0
    assert bounds.exact(scores, there, claim(), 0.999).epsilon == 0
    assert bounds.one_run(scores, there, claim(), 0.999).epsilon == 0


def test_a_record_that_is_always_told_apart_has_a_bound_too():
    steps = claim()
    there = np.arange(500) % 2 == 0
    found = bounds.exact(np.where(there, 9.0, -9.0), there, steps, 0.95)
    assert found.right == 500
    assert found.epsilon > 2 * steps.epsilon


def slow_p_value(m, r, v, epsilon, delta):
    """Theorem 5.2 of Steinke, Nasr and Jagielski 2023, read literally."""
    weight = stats.binom(r, math.exp(epsilon) / (1 + math.exp(epsilon)))
    beta = sum(weight.pmf(w) for w in range(v, r + 1))
    alpha = max(sum(weight.pmf(w) for w in range(v - i, v)) * 2 / i for i in range(1, m + 1))
    return beta + alpha * m * delta


@pytest.mark.parametrize(("m", "r", "v"), [(50, 20, 18), (100, 40, 25), (30, 30, 30), (60, 10, 1)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
def test_the_probability_of_one_run_is_the_theorems(m, r, v, epsilon):
    expected = min(1.0, slow_p_value(m, r, v, epsilon, 1e-3))
    assert bounds.one_run_p_value(m, r, v, epsilon, 1e-3) == pytest.approx(expected, rel=1e-9)


def test_one_run_holds_for_randomised_response():
    """The mechanism for which the theorem is tight: each guess right with probability e^ε / (1 + e^ε)."""
    games = np.random.default_rng(7).binomial(400, math.e / (1 + math.e), 10_000)
    found = {right: bounds._one_run_epsilon(400, 400, int(right), 0.0, 0.95) for right in set(games)}
    below = np.mean([found[right] <= 1.0 for right in games])
    assert 0.943 < below < 0.98
    assert np.median([found[right] for right in games]) > 0.75


def test_how_many_are_guessed_follows_from_the_claim_alone():
    steps, rng = claim(), np.random.default_rng(8)
    first = bounds.one_run(*ideal(steps, 2000, rng), steps, 0.95)
    second = bounds.one_run(*ideal(steps, 2000, rng, sigma=0.5), steps, 0.95)
    assert first.guesses == second.guesses
    assert first.epsilon < steps.epsilon
    assert second.right > first.right


def test_one_run_knows_nothing_of_the_mechanism():
    """Scores that depend on each other entirely: one coin for all. No bound follows from that."""
    steps, there = claim(), np.random.default_rng(9).random(2000) < 0.5
    assert bounds.one_run(np.full(2000, 3.0), there, steps, 0.999).epsilon == 0

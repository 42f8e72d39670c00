"""The prior weight: its formula is the optimum that it claims to be, and knows public figures alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.privacy.accounting import plan_session
from fedapt_secure.privacy.prior_weight import (
    REACHED_SHARE,
    Contribution,
    gaussian_mu,
    noise_quotient,
    prior_weight,
    weight_of,
)

EPSILON = st.floats(0.05, 50)
DELTA = st.floats(1e-9, 0.01)
SIZES = {"participants": 5, "steps": 60, "noisy_values": 6400}


def weight(epsilon: float = 8.0, records: int = 260, institutions: int = 5, **changes: int) -> float:
    one = Contribution.of_budget(epsilon, 1 / (2 * records), SIZES["steps"], records)
    return prior_weight([one] * institutions, **(SIZES | {"participants": institutions} | changes))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ of the Gaussian mechanism, by integrating the positive part of p - e^ε q on a grid."""
    points = np.linspace(-12, 12 + mu, 400_001)
    p = np.exp(-((points - mu) ** 2) / 2)
    q = np.exp(epsilon - points**2 / 2)
    return float(np.clip(p - q, 0, None).sum() * (points[1] - points[0]) / math.sqrt(2 * math.pi))


class TestGaussianMu:
    @pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 8.0])
    @pytest.mark.parametrize("delta", [1e-5, 1 / 540])
    def test_the_mechanism_has_just_that_delta(self, epsilon: float, delta: float) -> None:
        assert gaussian_delta(gaussian_mu(epsilon, delta), epsilon) == pytest.approx(delta, rel=1e-4)

    @given(EPSILON, DELTA)
    def test_more_budget_is_more(self, epsilon: float, delta: float) -> None:
        mu = gaussian_mu(epsilon, delta)
        assert 0 < mu < gaussian_mu(epsilon * 1.1, delta)
        assert mu < gaussian_mu(epsilon, min(2 * delta, 0.5))

    @pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
    def test_it_is_what_the_accountant_plans(self, epsilon: float) -> None:
        """With q = 1 there is no sampling, and q√T/σ is μ itself."""
        plan = plan_session(epsilon, None, 260, 1.0, 60)
        planned = Contribution.of_noise(plan.noise_multiplier, 1.0, 60, 260)
        assert planned.mu == pytest.approx(gaussian_mu(epsilon, 1 / 520), rel=0.02)
        expected = Contribution.of_budget(epsilon, 1 / 520, 60, 260)
        assert planned.variance == pytest.approx(expected.variance, rel=0.04)

    @pytest.mark.parametrize(
        ("epsilon", "delta"), [(0, 0.1), (math.inf, 0.1), (1, 0), (1, 1), (math.nan, 0.1)]
    )
    def test_what_is_no_budget_is_refused(self, epsilon: float, delta: float) -> None:
        with pytest.raises(InvalidInput, match="budget"):
            gaussian_mu(epsilon, delta)


class TestWeight:
    def test_it_is_the_best_for_noise_and_signal_of_known_size(self) -> None:
        """Noise as DP-SGD adds it up, a signal of the size that is assumed: no other weight is nearer."""
        rng = np.random.default_rng(1)
        classes, size, steps, sigma, sample_rate, declared, institutions = 4, 32, 20, 3.0, 0.5, 50, 3
        every = [Contribution.of_noise(sigma, sample_rate, steps, declared)] * institutions
        found = prior_weight(every, participants=institutions, steps=steps, noisy_values=size * classes**2)
        assert 0.05 < found < 0.95
        signal = rng.normal(size=size)
        signal *= REACHED_SHARE * steps / classes / np.linalg.norm(signal)
        noise = rng.normal(size=(2000, steps, institutions, size)) * sigma / (sample_rate * declared)
        tuned = signal + noise.mean(axis=2).sum(axis=1)  # the mean of institutions, step after step

        def error(kept: float) -> float:
            return float((((1 - kept) * tuned - signal) ** 2).sum(axis=1).mean())

        best = min((error(kept), kept) for kept in np.linspace(0, 1, 201))[1]
        assert found == pytest.approx(best, abs=0.01)

    @pytest.mark.parametrize(
        ("changes", "more"),
        [
            ({"epsilon": 16.0}, False),
            ({"epsilon": 1.0}, True),
            ({"records": 520}, False),
            ({"institutions": 10}, False),
            ({"institutions": 2}, True),
            ({"noisy_values": 12_800}, True),
        ],
    )
    def test_what_brings_more_noise_raises_it(self, changes: dict[str, float], more: bool) -> None:
        assert (weight(**changes) > weight()) is more  # type: ignore[arg-type]
        assert weight(**changes) != weight()  # type: ignore[arg-type]

    def test_steps_and_rate_fall_out(self) -> None:
        other = Contribution.of_budget(8.0, 1 / 520, 240, 260)
        assert prior_weight([other] * 5, participants=5, steps=240, noisy_values=6400) == weight()

    def test_without_any_budget_nothing_tuned_is_left(self) -> None:
        assert weight(epsilon=0.05, records=20) > 0.99
        nothing = Contribution(60, 1e-30, 1)
        assert prior_weight([nothing], participants=1, steps=60, noisy_values=1 << 40) == 1.0

    def test_with_much_it_is_the_tuned_model(self) -> None:
        assert weight(epsilon=50.0, records=100_000) == 0.0

    @given(st.floats(1e-6, 1e6))
    def test_it_follows_from_the_quotient(self, quotient: float) -> None:
        assert weight_of(quotient) == round(quotient / (1 + quotient), 3)

    def test_unequal_institutions_add_up(self) -> None:
        some = [Contribution.of_noise(sigma, 0.5, 60, count) for sigma, count in ((2.0, 100), (4.0, 400))]
        apart = [noise_quotient([one], participants=2, steps=60, noisy_values=100) for one in some]
        together = noise_quotient(some, participants=2, steps=60, noisy_values=100)
        assert together == pytest.approx(sum(apart))

    def test_whoever_takes_part_less_often_adds_less(self) -> None:
        """One of two in each round: half the steps each, and its own noise in every second mean."""
        half = [Contribution.of_noise(2.0, 0.5, 30, 100)] * 2
        whole = [Contribution.of_noise(2.0, 0.5, 60, 100)]
        sizes = {"participants": 1, "steps": 60, "noisy_values": 100}
        assert noise_quotient(half, **sizes) == pytest.approx(noise_quotient(whole, **sizes))

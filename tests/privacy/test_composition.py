"""What sessions cost together: sums, Rényi filter, the figure for information, against slow truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from fedapt_crypto.errors import InvalidInput, PolicyRefused
from fedapt_secure.audit.checks.renyi import rdp_epsilon
from fedapt_secure.config.policy import Policy
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_noise
from fedapt_secure.privacy.composition import (
    Allowance,
    SessionCost,
    check_allowance,
    conversion_cost,
    default_rdp_order,
    largest_share,
    planned_rdp,
    planned_rdp_of,
    pld_epsilon,
    sum_of_plans,
)

FIGURES = st.tuples(st.floats(0.05, 50), st.floats(1e-9, 0.1))


def a_tenth_a_step(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    return steps / 10


def cost(steps: int = 10, delta: float = 1e-6, sigma: float | None = 2.0, rate: float = 0.5) -> SessionCost:
    return SessionCost(sigma, rate, steps, delta)


def allowed(allowance: Allowance, earlier: list[SessionCost], new: SessionCost) -> str | None:
    """Return the rule that refuses, or None."""
    try:
        check_allowance(allowance, earlier, new, a_tenth_a_step)
    except PolicyRefused as error:
        refusal = error
    else:
        return None
    assert str(refusal).startswith(f"policy rule {refusal.rule}: ")
    assert "\n" not in str(refusal)
    return refusal.rule


class TestDefaultOrder:
    @given(FIGURES)
    def test_it_is_the_best_for_the_gaussian_that_just_meets_the_figures(self, figures) -> None:
        epsilon, delta = figures
        logarithm = math.log(1 / delta)
        order = default_rdp_order(epsilon, delta)
        rho = (epsilon - logarithm / (order - 1)) / order  # by the plain conversion, which the order is for
        assert rho + 2 * math.sqrt(rho * logarithm) == pytest.approx(epsilon, rel=1e-6)

        def converted(log_order: float) -> float:
            return rho * (1 + math.exp(log_order)) + logarithm / math.exp(log_order)

        best = optimize.minimize_scalar(converted, bounds=(-15, 15), method="bounded").fun
        assert converted(math.log(order - 1)) == pytest.approx(best, rel=1e-6)

    @given(FIGURES)
    def test_it_leaves_a_budget(self, figures) -> None:
        epsilon, delta = figures
        allowance = Allowance(epsilon, delta, "rdp-filter")
        assert allowance.rdp_budget > epsilon - math.log(1 / delta) / (allowance.order - 1) > 0

    @given(FIGURES, st.floats(1.5, 300))
    def test_the_budget_at_an_order_means_just_epsilon(self, figures, order) -> None:
        """By the conversion of the audit, which shares no code with this one."""
        epsilon, delta = figures
        budget = epsilon - conversion_cost(order, delta)
        assert rdp_epsilon(budget, order, delta) == pytest.approx(epsilon, rel=1e-9, abs=1e-9)

    @given(st.floats(0.05, 5), st.floats(1e-9, 0.01), st.floats(1.5, 60))
    def test_the_conversion_holds_for_the_gaussian_mechanism(self, sigma, delta, order) -> None:
        """Against the exact δ(ε) of Balle and Wang 2018, without sampling."""
        sigma = 1 / sigma
        epsilon = order / (2 * sigma**2) + conversion_cost(order, delta)
        if epsilon > 0:
            low, high = (stats.norm.logcdf(sign / (2 * sigma) - epsilon * sigma) for sign in (-1, 1))
            assert math.exp(high) - math.exp(epsilon + low) <= delta * (1 + 1e-9)

    def test_an_order_without_a_budget_is_refused_with_one_that_has_one(self) -> None:
        with pytest.raises(InvalidInput, match="choose an order above 2.439"):
            Allowance(8.0, 1e-5, "rdp-filter", 2.2)
        assert Allowance(8.0, 1e-5, "rdp-filter", 2.44).rdp_budget > 0
        Allowance(8.0, 1e-5, "sum", None)


def renyi_by_integration(sigma: float, rate: float, order: float) -> float:
    """Both directions of D_α between (1-q)·N(0,σ²) + q·N(1,σ²) and N(0,σ²), by quadrature."""

    def divergence(first, second) -> float:
        def integrand(x: float) -> float:
            return math.exp(order * first(x) + (1 - order) * second(x))

        value, _ = integrate.quad(integrand, -40 * sigma, 40 * sigma + order, limit=500, points=[0, 1, order])
        return math.log(value) / (order - 1)

    def without(x: float) -> float:
        return float(stats.norm.logpdf(x, 0, sigma))

    def mixed(x: float) -> float:
        moved = float(stats.norm.logpdf(x, 1, sigma))
        if rate == 1:
            return moved
        return float(np.logaddexp(math.log1p(-rate) + without(x), math.log(rate) + moved))

    return max(divergence(mixed, without), divergence(without, mixed))


@pytest.mark.parametrize(
    ("sigma", "rate", "order"), [(2.0, 0.5, 3.7), (0.9, 0.1, 2.2), (5.0, 0.01, 17.5), (3.0, 1.0, 4.31)]
)
def test_the_planned_rdp_is_the_divergence(sigma: float, rate: float, order: float) -> None:
    expected = renyi_by_integration(sigma, rate, order)
    found = planned_rdp(SessionCost(sigma, rate, 30, 1e-6), order)
    assert found >= 30 * expected * (1 - 1e-6), "never below the truth"
    assert found == pytest.approx(30 * expected, rel=0.015)  # above it at orders that are no whole numbers


@pytest.mark.parametrize(("sigma", "rate", "order"), [(2.0, 0.5, 1.473), (0.9, 0.5, 1.2), (1.0, 0.5, 2.5)])
def test_where_the_series_fails_the_next_whole_order_bounds_it(
    sigma: float, rate: float, order: float
) -> None:
    expected = renyi_by_integration(sigma, rate, order)
    assert expected * (1 - 1e-6) <= planned_rdp(SessionCost(sigma, rate, 1, 1e-6), order) < math.inf


@pytest.mark.parametrize("sigma", [2.0, 9.0])
def test_without_sampling_the_rdp_is_a_closed_form(sigma: float) -> None:
    assert planned_rdp(SessionCost(sigma, 1.0, 7, 1e-6), 5.5) == pytest.approx(7 * 5.5 / (2 * sigma**2))


class TestSum:
    @given(st.lists(st.tuples(st.integers(1, 50), st.floats(1e-9, 1e-3)), max_size=8))
    def test_it_is_a_plain_sum(self, sessions) -> None:
        costs = [cost(*one) for one in sessions]
        spent = sum_of_plans(costs, a_tenth_a_step)
        assert spent.epsilon == pytest.approx(sum(steps / 10 for steps, _ in sessions))
        assert spent.delta == pytest.approx(sum(delta for _, delta in sessions))
        assert spent.sessions == len(sessions)

    @given(
        st.lists(st.tuples(st.integers(1, 50), st.floats(1e-9, 1e-3)), min_size=1, max_size=8),
        st.floats(0.1, 20),
        st.floats(1e-6, 0.1),
    )
    def test_a_session_is_allowed_exactly_where_both_sums_stay_within(self, sessions, epsilon, delta) -> None:
        *earlier, new = [cost(*one) for one in sessions]
        over = {
            "max_epsilon": sum(steps / 10 for steps, _ in sessions) / epsilon,
            "max_delta": sum(one for _, one in sessions) / delta,
        }
        rule = allowed(Allowance(epsilon, delta), earlier, new)
        if rule is None:
            assert max(over.values()) <= 1 + 2e-9
        else:
            assert over[rule] > 1

    def test_ten_times_a_tenth_is_one(self) -> None:
        one = cost(8, 1e-6)
        assert allowed(Allowance(8.0, 1e-5), [one] * 9, one) is None
        assert allowed(Allowance(8.0, 1e-5), [one] * 10, one) == "max_epsilon"
        assert allowed(Allowance(80.0, 1e-5), [one] * 10, one) == "max_delta"

    def test_the_refusal_states_the_figures(self) -> None:
        with pytest.raises(
            PolicyRefused,
            match="2 sessions on these images spent epsilon 6, this one plans 3, and 8 is allowed",
        ):
            check_allowance(Allowance(8.0, 1e-3), [cost(30), cost(30)], cost(30), a_tenth_a_step)

    def test_an_accountant_that_gives_no_number_is_refused(self) -> None:
        with pytest.raises(PolicyRefused):
            check_allowance(Allowance(8.0, 1e-3), [], cost(), lambda *_: math.nan)


class TestFilter:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0.5, 20))
    def test_it_adds_up_at_one_order(self, steps, epsilon) -> None:
        allowance = Allowance(epsilon, 1e-5, "rdp-filter")
        *earlier, new = [cost(one, sigma=4.0) for one in steps]
        total = sum(steps) * planned_rdp(cost(1, sigma=4.0), allowance.order)
        rule = allowed(allowance, earlier, new)
        assert (rule is None) == (total <= allowance.rdp_budget * (1 + 1e-9))
        assert rule in (None, "max_epsilon")

    def test_it_allows_more_small_sessions_than_the_sum(self) -> None:
        """σ = 8, q = 0.5, 10 steps: ε_s about 1 each by any accountant."""
        one = cost(10, 1e-6, sigma=8.0)
        by_filter = Allowance(8.0, 1e-5, "rdp-filter")
        assert allowed(by_filter, [one] * 30, one) is None

    def test_delta_of_single_sessions_plays_no_role(self) -> None:
        assert allowed(Allowance(8.0, 1e-6, "rdp-filter"), [], cost(1, 0.9, sigma=8.0)) is None

    def test_the_policy_s_own_order_is_used(self) -> None:
        steps = 10
        new = cost(steps, sigma=4.0)
        for order in (3.0, 30.0):
            allowance = Allowance(8.0, 1e-5, "rdp-filter", order)
            assert allowance.order == order
            fits = rdp_epsilon(planned_rdp(new, order), order, 1e-5) <= 8.0
            assert (allowed(allowance, [], new) is None) == fits


@pytest.mark.parametrize("composition", ["sum", "rdp-filter"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_session_without_private_noise_has_no_bound(composition: str, earlier: bool) -> None:
    bare = SessionCost(None, 0.5, 10, None)
    sessions = ([bare], cost(1)) if earlier else ([], bare)
    assert allowed(Allowance(1e6, 0.5, composition), *sessions) == "max_epsilon"
    assert bare.epsilon(a_tenth_a_step) == math.inf
    assert sum_of_plans([bare, cost()], a_tenth_a_step).epsilon == math.inf
    assert planned_rdp(bare, 3.0) == math.inf
    assert pld_epsilon([bare], 1e-5) == math.inf


QUARTER = Allowance(8.0, 1e-5, session_epsilon=2.0, session_delta=2.5e-6)


class TestShare:
    """How much one session may plan, and what a refusal says."""

    @pytest.mark.parametrize(
        ("new", "rule", "says"),
        [
            (cost(21, 1e-6), "session_epsilon", "plans epsilon 2.1, and one session may plan 2."),
            (cost(20, 2.6e-6), "session_delta", "plans delta 2.6e-06, and one session may plan 2.5e-06."),
        ],
    )
    def test_more_than_a_share_is_refused_with_what_would_fit(self, new, rule: str, says: str) -> None:
        with pytest.raises(PolicyRefused) as caught:
            check_allowance(QUARTER, [], new, a_tenth_a_step)
        assert caught.value.rule == rule
        assert says in str(caught.value)
        assert "At most epsilon 2 with delta " in str(caught.value)
        assert f"or raise {rule} in policy.yaml" in str(caught.value)

    def test_what_is_left_is_less_than_a_share(self) -> None:
        earlier = [cost(20, 2.5e-6)] * 3 + [cost(15, 2e-6)]
        with pytest.raises(PolicyRefused, match="epsilon 0.5 with delta 5e-07 would fit now") as caught:
            check_allowance(QUARTER, earlier, cost(20, 1e-6), a_tenth_a_step)
        assert caught.value.rule == "max_epsilon"
        with pytest.raises(PolicyRefused, match="Nothing is left .* needs a larger max_delta") as caught:
            check_allowance(QUARTER, [cost(1, 2.5e-6)] * 4, cost(20, 1e-6), a_tenth_a_step)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(1, 30), st.floats(1e-8, 3e-6)), max_size=6),
        st.tuples(st.integers(1, 100), st.floats(1e-8, 1e-5)),
        st.sampled_from(["sum", "rdp-filter"]),
    )
    def test_what_it_says_would_fit_does(self, earlier, new, composition) -> None:
        allowance = Allowance(8.0, 1e-5, composition, None, 2.0, 2.5e-6)
        before = [cost(steps, delta, sigma=6.0) for steps, delta in earlier]
        asked = cost(*new, sigma=0.9)
        fits = largest_share(allowance, before, asked, by_rdp)
        if fits is None:
            return
        epsilon, delta = fits
        assert 0.02 < epsilon <= 2.0
        assert 0 < delta <= 2.5e-6
        if by_rdp(1e4, asked.sample_rate, asked.max_steps, delta) >= epsilon:
            return  # less than this accountant can plan for
        sigma = optimize.brentq(
            lambda sigma: by_rdp(sigma, asked.sample_rate, asked.max_steps, delta) - epsilon, 0.2, 1e4
        )
        planned = SessionCost(sigma * (1 + 1e-9), asked.sample_rate, asked.max_steps, delta)
        check_allowance(allowance, before, planned, by_rdp)
        more = SessionCost(sigma * 0.8, asked.sample_rate, asked.max_steps, delta)
        with pytest.raises(PolicyRefused):
            check_allowance(allowance, before, more, by_rdp)


def by_rdp(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """A quick accountant: by the divergence at one order."""
    spent = planned_rdp(SessionCost(noise_multiplier, sample_rate, steps, delta), 64.0)
    return max(0.0, spent + conversion_cost(64.0, delta))


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps", "sessions"), [(1.0, 0.5, 60, 35), (2.0, 0.5, 60, 10), (1.0, 0.1, 60, 44)]
)
def test_how_many_sessions_the_default_policy_allows(
    epsilon: float, rate: float, steps: int, sessions: int
) -> None:
    """Within (8, 1e-5), each planned with δ = 2.5e-6: by the sum it would be 8 of ε = 1 and 4 by δ alone."""
    allowance = Policy().allowance
    assert (allowance.max_epsilon, allowance.max_delta, allowance.composition) == (8.0, 1e-5, "rdp-filter")
    assert (allowance.session_epsilon, allowance.session_delta) == (2.0, 2.5e-6)
    sigma = plan_noise(epsilon, allowance.session_delta, rate, steps)
    one = SessionCost(sigma, rate, steps, allowance.session_delta)
    check_allowance(allowance, [one] * (sessions - 1), one, epsilon_of)
    with pytest.raises(PolicyRefused) as caught:
        check_allowance(allowance, [one] * sessions, one, epsilon_of)
    assert caught.value.rule == "max_epsilon"
    assert rdp_epsilon(planned_rdp_of([one] * sessions, allowance.order), allowance.order, 1e-5) <= 8.0
    assert pld_epsilon([one] * sessions, 1e-5) < 8.0


class TestPld:
    def test_nothing_costs_nothing(self) -> None:
        assert pld_epsilon([], 1e-5) == 0.0

    def test_a_gaussian_without_sampling_meets_its_closed_form(self) -> None:
        """Balle and Wang 2018: δ(ε) of the Gaussian mechanism."""
        sigma = 5.0 / math.sqrt(8)
        found = pld_epsilon([cost(5, sigma=5.0, rate=1.0), cost(3, sigma=5.0, rate=1.0)], 1e-5)

        def delta(epsilon: float) -> float:
            low, high = (stats.norm.cdf(sign / (2 * sigma) - epsilon * sigma) for sign in (-1, 1))
            return high - math.exp(epsilon) * low

        exact = optimize.brentq(lambda epsilon: delta(epsilon) - 1e-5, 0, 50)
        assert found == pytest.approx(exact, rel=1e-3)

    def test_equal_steps_may_be_split_over_sessions(self) -> None:
        assert pld_epsilon([cost(10), cost(20)], 1e-5) == pld_epsilon([cost(30)], 1e-5)
        assert pld_epsilon([cost(10), cost(20, sigma=3.0)], 1e-5) > pld_epsilon([cost(10)], 1e-5)

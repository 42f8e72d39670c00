"""ε by privacy loss distributions: against closed forms, against itself on finer grids, against Opacus."""

import importlib
import math
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_secure.audit.checks import recompute as recompute_module
from fedapt_secure.audit.checks.recompute import COARSEST_MESH, NOTHING, merged, recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon, renyi_divergence
from tests.support.examples import examples

RATES = st.sampled_from([0.01, 0.1, 0.5, 0.9])
NOISES = st.floats(0.8, 6.0).map(lambda sigma: round(sigma, 3))
STEPS = st.integers(1, 200)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-6])


def gaussian_epsilon(mu: float, delta: float) -> float:
    """ε of a Gaussian mechanism by Balle and Wang's formula, solved by bisection."""

    def delta_of(epsilon: float) -> float:
        cdf = lambda x: 0.5 * math.erfc(-x / math.sqrt(2))
        return cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * cdf(-mu / 2 - epsilon / mu)

    low, high = 0.0, 600.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle) <= delta else (middle, high)
    return high


class TestKnownValues:
    def test_the_setting_of_the_default_run(self) -> None:
        found = recompute({(0.5, 2.14): 60}, 1 / 540)
        assert found.remove == pytest.approx(6.728, abs=2e-3)
        assert found.add == pytest.approx(5.886, abs=2e-3)
        assert found.epsilon == found.remove
        assert found.error == pytest.approx(0.06)

    @pytest.mark.parametrize(("sigma", "steps"), [(4.0, 1), (8.0, 30), (30.0, 60)])
    @pytest.mark.parametrize("delta", [1e-3, 1e-6])
    def test_unsampled_steps_have_a_closed_form(self, sigma: float, steps: int, delta: float) -> None:
        found = recompute({(1.0, sigma): steps}, delta)
        exact = gaussian_epsilon(math.sqrt(steps) / sigma, delta)
        assert exact * (1 - 1e-12) <= found.epsilon <= exact + found.error
        assert found.epsilon == pytest.approx(exact, rel=2e-3, abs=1e-4)
        assert found.remove == found.add

    def test_nothing_costs_nothing(self) -> None:
        assert recompute({}, 1e-5) is NOTHING
        assert recompute({}, 1e-5).epsilon == 0

    @settings(max_examples=examples(5, 15), deadline=None)
    @given(RATES, NOISES, STEPS, DELTAS)
    def test_by_the_bound_of_one_finer_grid(self, q: float, sigma: float, steps: int, delta: float) -> None:
        """A finer grid is never above a coarser one, and never further below than the error bound says."""
        history = (((q, sigma), steps),)
        coarse = recompute_module._on_grid(history, delta, COARSEST_MESH)
        fine = recompute_module._on_grid(history, delta, COARSEST_MESH / 4)
        for direction in ("remove", "add"):
            above, below = getattr(coarse, direction), getattr(fine, direction)
            assert below <= above + 1e-9
            assert above - below <= coarse.error

    @settings(max_examples=examples(6, 15), deadline=None)
    @given(RATES, NOISES, STEPS, DELTAS)
    def test_sampling_only_helps(self, q: float, sigma: float, steps: int, delta: float) -> None:
        assert (
            recompute({(q, sigma): steps}, delta).epsilon <= recompute({(1.0, sigma): steps}, delta).epsilon
        )


class TestHistories:
    def test_equal_events_are_merged(self) -> None:
        events = [(0.5, 2.0, 4), (0.1, 2.0, 3), (0.5, 2.0, 6), (0.5, 3.0, 0)]
        assert merged(events) == {(0.5, 2.0): 10, (0.1, 2.0): 3}

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.tuples(RATES, NOISES, st.integers(1, 40)), min_size=2, max_size=3), DELTAS)
    def test_order_and_splitting_do_not_matter(
        self, events: list[tuple[float, float, int]], delta: float
    ) -> None:
        whole = recompute(merged(events), delta)
        split = [(q, sigma, part) for q, sigma, steps in reversed(events) for part in (1, steps - 1)]
        assert recompute(merged(split), delta) == whole
        parts = [recompute(merged([event]), delta / len(events)).epsilon for event in events]
        assert whole.epsilon <= sum(parts) + whole.error, "composing is never worse than adding up"

    @settings(max_examples=examples(4, 10), deadline=None)
    @given(RATES, NOISES, st.integers(2, 100), DELTAS)
    def test_more_steps_or_less_noise_cost_more(
        self, q: float, sigma: float, steps: int, delta: float
    ) -> None:
        here = recompute({(q, sigma): steps}, delta).epsilon
        slack = 0.003 * (1 + here)
        assert recompute({(q, sigma): steps - 1}, delta).epsilon <= here + slack
        assert recompute({(q, sigma * 1.2): steps}, delta).epsilon <= here + slack


class TestEdges:
    @pytest.mark.parametrize(
        ("history", "delta"),
        [
            ({(0.0, 1.0): 1}, 1e-5),
            ({(1.1, 1.0): 1}, 1e-5),
            ({(math.nan, 1.0): 1}, 1e-5),
            ({(0.5, 0.0): 1}, 1e-5),
            ({(0.5, math.inf): 1}, 1e-5),
            ({(0.5, math.nan): 1}, 1e-5),
            ({(0.5, 1.0): 0}, 1e-5),
            ({(0.5, 1.0): 1}, 0.0),
            ({(0.5, 1.0): 1}, 1.0),
            ({(0.5, 1.0): 1}, math.nan),
        ],
    )
    def test_out_of_range(self, history: dict[tuple[float, float], int], delta: float) -> None:
        with pytest.raises(ValueError, match="needs|must"):
            recompute(history, delta)

    @pytest.mark.parametrize(
        ("history", "delta"),
        [
            ({(0.5, 1e-3): 60}, 1e-5),
            ({(0.5, 1e-160): 60}, 1e-5),
            ({(0.5, 2.0): 10**15}, 1e-5),
            ({(0.5, 2.14): 60}, 1e-14),
            ({(0.5, 2.14): 60}, 1e-300),
            ({(1e-300, 2.14): 60}, 1e-5),
            ({(0.5, 1e150): 60}, 1e-5),
            ({(0.5, 1e300): 60}, 1e-5),
            ({(0.5, 5e-324): 60}, 1e-5),
            ({(0.01, 1e6): 2**53 - 1}, 1e-5),
        ],
    )
    def test_what_no_grid_can_hold_gets_a_bound_all_the_same(
        self, history: dict[tuple[float, float], int], delta: float
    ) -> None:
        found = recompute(history, delta)
        ((_, sigma), steps) = next(iter(history.items()))
        assert found.epsilon >= 0
        if found.mesh == 0 and sigma < 1e3:
            assert found.epsilon >= min(1e3, steps / (2 * max(sigma, 1e-9)) ** 2), (
                "as if nothing were sampled"
            )
            assert found.error == found.epsilon

    def test_a_limit_in_between_refines_the_grid(self) -> None:
        history = {(0.5, 2.14): 60}
        free = recompute(history, 1 / 540)
        limit = free.epsilon - 1e-5
        close = recompute(history, 1 / 540, limit=limit)
        assert close.mesh < free.mesh
        assert close.epsilon <= free.epsilon
        far = recompute(history, 1 / 540, limit=1.0)
        assert far.mesh == free.mesh, "no refinement could meet that"


def benchmark() -> ModuleType:
    """The script that compares both accountants at length; it brings torch."""
    return importlib.import_module("benchmarks.learning.accountants")


class TestAgainstTraining:
    @pytest.mark.parametrize(
        ("events", "delta"),
        [
            (((0.5, 2.14, 60),), 1 / 540),
            (((0.5, 1.2, 20),), 1e-5),
            (((0.02, 1.0, 500),), 1e-6),
            (((1.0, 12.0, 40),), 1e-5),
            (((0.3, 3.0, 15), (0.05, 0.9, 200)), 1e-4),
            (((0.9, 5.0, 30), (0.1, 2.0, 100), (0.02, 1.1, 300)), 1e-5),
        ],
    )
    def test_both_accountants_agree_or_training_states_more(
        self, events: tuple[tuple[float, float, int], ...], delta: float
    ) -> None:
        found = benchmark().compare(events, delta)
        assert found.add <= found.remove, "training's accountant looks at the remove direction only"
        assert found.pld <= found.prv <= found.pld + max(0.01 * found.pld, 0.012)


def mironov_talwar_zhang(q: float, sigma: float, order: int) -> float:
    """The binomial sum of their section 3.3, for whole orders."""
    terms = [
        math.comb(order, k) * q**k * (1 - q) ** (order - k) * math.exp(k * (k - 1) / (2 * sigma**2))
        for k in range(order + 1)
    ]
    return math.log(math.fsum(terms)) / (order - 1)


class TestRenyi:
    @pytest.mark.parametrize("order", [2, 3, 8, 20])
    @pytest.mark.parametrize(("q", "sigma"), [(0.5, 2.0), (0.01, 1.0), (1.0, 3.0)])
    def test_whole_orders_have_a_closed_form(self, q: float, sigma: float, order: int) -> None:
        assert renyi_divergence(q, sigma, float(order)) == pytest.approx(
            mironov_talwar_zhang(q, sigma, order)
        )

    def test_between_whole_orders(self) -> None:
        values = [renyi_divergence(0.3, 2.0, order) for order in (2.0, 2.25, 2.5, 2.75, 3.0)]
        assert values == sorted(values)

    @pytest.mark.parametrize("order", [1.0, 0.5, math.nan, 1e6])
    def test_out_of_range(self, order: float) -> None:
        with pytest.raises(ValueError, match="order above 1"):
            renyi_divergence(0.5, 2.0, order)

    @pytest.mark.parametrize("delta", [1e-3, 1e-6])
    def test_the_conversion_is_a_bound(self, delta: float) -> None:
        for order in (2.0, 4.0, 10.0, 30.0):
            divergence = 60 * renyi_divergence(0.5, 4.0, order)
            assert rdp_epsilon(divergence, order, delta) >= recompute({(0.5, 4.0): 60}, delta).epsilon - 0.06

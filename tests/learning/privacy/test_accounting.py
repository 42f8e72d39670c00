import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.ranges import EPSILON, MAX_STEPS
from fedapt_secure.learning.privacy import accounting
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_noise, plan_session
from fedapt_secure.privacy.budget import PrivacyBudget
from fedapt_secure.privacy.composition import SessionCost, pld_epsilon
from tests.support.examples import examples, often


def test_a_known_setting():
    assert epsilon_of(2.14, 0.5, 60, 1 / 540) == pytest.approx(6.74, abs=0.02)
    assert epsilon_of(2.14, 0.5, 0, 1 / 540) == 0.0


@pytest.mark.parametrize(
    ("sigma", "sample_rate", "steps", "delta"),
    [(2.14, 0.5, 60, 1 / 540), (0.7, 0.02, 500, 1e-5), (8.0, 1.0, 30, 1e-6)],
)
def test_the_cheaper_domain_gives_opacus_own_figure(sigma, sample_rate, steps, delta):
    accountant = PRVAccountant()
    accountant.history = [(sigma, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = accountant.get_epsilon(delta)
    assert epsilon_of(sigma, sample_rate, steps, delta) == pytest.approx(expected, abs=2e-3)


@settings(deadline=None, max_examples=examples(2, 15))
@example(epsilon=1.0, delta=0.3, sample_rate=0.5, steps=1)  # the least noise that is planned costs no epsilon
@given(
    epsilon=st.floats(0.3, 15),
    delta=st.floats(1e-6, 1e-3),
    sample_rate=st.floats(0.02, 1.0),
    steps=st.integers(1, 200),
)
def test_a_plan_meets_its_budget_with_little_to_spare(epsilon, delta, sample_rate, steps):
    sigma = plan_noise(epsilon, delta, sample_rate, steps)
    assert round(sigma, 3) == sigma
    assert epsilon_of(sigma, sample_rate, steps, delta) <= epsilon
    if sigma > 0.2:  # the smallest that is ever planned
        assert epsilon_of(sigma * 0.99 - 0.002, sample_rate, steps, delta) > epsilon


def test_the_prv_plan_needs_less_noise_than_the_renyi_one():
    sigma = plan_noise(8.0, 1e-3, 0.5, 60)
    accountant = RDPAccountant()
    accountant.history = [(sigma, 0.5, 60)]
    assert accountant.get_epsilon(1e-3) > 8.0


def test_a_delta_beyond_what_the_steps_give_away_leaves_epsilon_zero():
    assert epsilon_of(100.0, 0.02, 1, 0.3) == 0.0


def test_an_accountant_that_overflows_leaves_the_renyi_bound(monkeypatch):
    accounting._epsilon_of.cache_clear()
    monkeypatch.setattr(accounting._PRVAccountant, "get_epsilon", lambda *_, **__: float("nan"))
    assert epsilon_of(2.0, 0.5, 61, 1e-5) == accounting._rdp_epsilon([(2.0, 0.5, 61)], 1e-5)
    monkeypatch.setattr(accounting, "_rdp_epsilon", lambda *_: float("nan"))
    with pytest.raises(InvalidInput, match="no privacy bound"):
        epsilon_of(2.0, 0.5, 62, 1e-5)
    accounting._epsilon_of.cache_clear()


CORNERS = [
    (sigma, sample_rate, steps, delta)
    for sigma in (0.2, 0.3, 3.0, 100.0)
    for sample_rate in (1e-6, 1e-4, 0.5, 1.0)
    for steps in (1, MAX_STEPS)
    for delta in (1e-300, 1e-12, 1e-5, 0.5)
]


@pytest.mark.parametrize(("sigma", "sample_rate", "steps", "delta"), often(CORNERS, 3))
def test_every_figure_has_a_bound_and_little_memory(sigma, sample_rate, steps, delta):
    """Of the mesh grew 10 GB, and then there was no bound."""
    accounting._epsilon_of.cache_clear()
    tracemalloc.start()
    try:
        epsilon = epsilon_of(sigma, sample_rate, steps, delta)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 <= epsilon <= max(0.0, accounting._rdp_epsilon([(sigma, sample_rate, steps)], delta))
    assert peak < 128 << 20


@pytest.mark.parametrize(
    ("sigma", "sample_rate", "steps", "delta"),
    [
        (60.0, 0.5, 30_000, 1e-5),
        (150.0, 0.5, MAX_STEPS, 1e-5),
        (284.561, 1.0, MAX_STEPS, 1e-12),  # rounding errors of the transform gave less than this
        (0.35, 0.5, 60, 1e-5),
        (0.5, 1e-3, 50_000, 1e-6),
    ],
)
def test_a_coarser_mesh_is_no_bound_from_below(sigma, sample_rate, steps, delta):
    """Against Google's accountant, a little of whose mesh is allowed for."""
    exact = pld_epsilon([SessionCost(sigma, sample_rate, steps, delta)], delta)
    found = epsilon_of(sigma, sample_rate, steps, delta)
    assert exact - 0.02 <= found <= exact * 1.1 + 0.5


@pytest.mark.parametrize(("sample_rate", "steps"), [(0.5, 60), (1e-4, MAX_STEPS), (1.0, MAX_STEPS)])
@pytest.mark.parametrize("delta", [1e-300, pytest.param(1e-12, marks=pytest.mark.slow), 1e-5, 0.4])
@pytest.mark.parametrize("epsilon", [8.0, EPSILON.high])
def test_noise_is_planned_in_the_whole_range(epsilon, delta, sample_rate, steps):
    sigma = plan_noise(epsilon, delta, sample_rate, steps)
    assert epsilon_of(sigma, sample_rate, steps, delta) <= epsilon


def test_planning_warns_of_nothing_and_leaves_the_filters_of_warnings_to_others(monkeypatch, recwarn):
    # Institutions plan in threads of one process, where filters for one call get in each other's way.
    before, seen = list(warnings.filters), []
    real = accounting._PRVAccountant.get_epsilon

    def spy(self, *args, **kwargs):
        seen.append(list(warnings.filters))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(accounting._PRVAccountant, "get_epsilon", spy)
    assert plan_noise(8.0, 0.0123, 0.5, 1) > 0.2  # Opacus finds the best order at the end of the range
    assert seen
    assert all(filters == before for filters in seen)
    assert not list(recwarn)


def test_epsilon_grows_with_steps_and_falls_with_noise():
    by_steps = [epsilon_of(2.0, 0.5, steps, 1e-3) for steps in (1, 10, 60)]
    by_noise = [epsilon_of(sigma, 0.5, 60, 1e-3) for sigma in (4.0, 2.0, 1.0)]
    assert by_steps == sorted(set(by_steps))
    assert by_noise == sorted(set(by_noise))


@pytest.mark.parametrize(
    ("epsilon", "steps"),
    [(0.0, 60), (-1.0, 60), (float("nan"), 60), (float("inf"), 60), (8.0, 0), (0.015, 60)],
)
def test_unreachable_budgets_are_refused(epsilon, steps):
    with pytest.raises(InvalidInput):
        plan_noise(epsilon, 1e-3, 0.5, steps)


@pytest.mark.parametrize(("delta", "sample_rate"), [(0.0, 0.5), (1.0, 0.5), (1e-3, 0.0), (1e-3, 1.1)])
def test_a_plan_for_an_impossible_setting_is_refused(delta, sample_rate):
    with pytest.raises(InvalidInput, match="accounting needs"):
        plan_noise(8.0, delta, sample_rate, 60)


def test_too_many_steps_for_a_small_budget_are_refused():
    with pytest.raises(InvalidInput, match="fewer steps"):
        plan_noise(0.05, 1e-9, 1.0, 10**9)


@pytest.mark.parametrize(
    "arguments", [(0.0, 0.5, 60, 1e-3), (2.0, 0.0, 60, 1e-3), (2.0, 0.5, -1, 1e-3), (2.0, 0.5, 60, 1)]
)
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(InvalidInput):
        epsilon_of(*arguments)


def test_a_session_plan_depends_on_the_declared_count_alone():
    plan = plan_session(8.0, None, 279, 0.5, 60)
    assert plan == plan_session(8.0, None, 270, 0.5, 60)
    assert plan.declared_records == 270
    assert plan.delta == 1 / 540
    assert plan_session(8.0, 1e-4, 279, 0.5, 60).delta == 1e-4
    budget = PrivacyBudget(plan, epsilon_of)
    for _ in range(15):
        budget.reserve(4)
    assert budget.epsilon_after(0) <= 8.0


def test_institutions_in_threads_share_the_work_of_one_figure(monkeypatch):
    worked = []
    real = accounting._PRVAccountant.get_epsilon

    def counted(accountant, *arguments, **options):
        worked.append(accountant.history)
        time.sleep(0.05)
        return real(accountant, *arguments, **options)

    monkeypatch.setattr(accounting._PRVAccountant, "get_epsilon", counted)
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: epsilon_of(3.21, 0.43, 21, 1e-3), range(4)))
    assert len(found) == len(worked) == 1

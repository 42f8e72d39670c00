"""Plans and budgets by simple closed forms of ε; the real accountant has its own tests."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import BudgetExhausted, InvalidInput
from fedapt_secure.privacy.budget import (
    LARGEST_DELTA,
    PrivacyBudget,
    PrivacyPlan,
    SessionShare,
    declared_records,
    default_delta,
    delta_warning,
    largest_count,
)

FIELDS = {
    "epsilon_budget": 8.0,
    "delta": 1e-5,
    "noise_multiplier": 1.0,
    "sample_rate": 0.5,
    "max_steps": 60,
    "declared_records": 270,
}


def plan(**changes: float) -> PrivacyPlan:
    return PrivacyPlan(**(FIELDS | changes))


def a_tenth_a_step(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    return steps / 10


class TestDeclaredRecords:
    @given(st.integers(100, 10**18))
    def test_two_significant_figures_and_never_above(self, count: int) -> None:
        declared = declared_records(count)
        digits = str(count)
        assert str(declared) == digits[:2] + "0" * (len(digits) - 2)
        assert declared <= count
        assert declared_records(declared) == declared

    def test_below_a_hundred_fives_and_no_count_is_told_exactly(self) -> None:
        told = [declared_records(count) for count in range(1, 101)]
        assert set(told) == {1, *range(5, 101, 5)}
        assert all(declared <= count for count, declared in enumerate(told, 1))
        assert told == sorted(told)
        assert {told.count(declared) for declared in set(told) - {100}} == {4, 5}  # four are fewer than five

    @pytest.mark.parametrize(
        ("count", "declared"),
        [
            (1, 1), (4, 1), (5, 5), (9, 5), (10, 10), (14, 10), (54, 50), (99, 95), (100, 100), (109, 100),
            (279, 270), (99999, 99000),
        ],
    )  # fmt: skip
    def test_at_the_edges(self, count: int, declared: int) -> None:
        assert declared_records(count) == declared

    @given(st.one_of(st.integers(1, 120), st.integers(1, 10**18)))
    def test_the_largest_count_behind_a_declared_one(self, count: int) -> None:
        declared = declared_records(count)
        assert count <= largest_count(declared)
        assert declared_records(largest_count(declared)) == declared
        assert declared_records(largest_count(declared) + 1) > declared

    @pytest.mark.parametrize("count", [0, -1, -270])
    def test_no_record(self, count: int) -> None:
        with pytest.raises(InvalidInput, match="at least one labelled image"):
            declared_records(count)


class TestDelta:
    @given(st.integers(50, 10**9))
    def test_the_default_is_one_over_twice_the_records_and_comes_with_a_warning(self, declared: int) -> None:
        delta = default_delta(declared)
        assert 0 < delta <= LARGEST_DELTA
        assert math.isclose(delta * declared, 0.5)
        assert delta_warning(delta, declared) is not None

    @pytest.mark.parametrize("declared", [1, 3, 49])
    def test_too_few_records_for_any_are_refused(self, declared: int) -> None:
        with pytest.raises(InvalidInput, match="50 persons are needed, or give a smaller delta") as caught:
            default_delta(declared, "person")
        assert f"with {declared} persons" in str(caught.value)

    @given(st.integers(1, 10**6), st.floats(1e-9, 0.01))
    def test_a_share_is_the_smaller_of_both_or_just_what_was_asked_for(
        self, declared: int, most: float
    ) -> None:
        assert SessionShare(1.0, most).delta_for(declared) == min(1 / (2 * declared), most)
        assert SessionShare(1.0, most, exact=True).delta_for(declared) == most

    @given(st.integers(1, 10**9), st.floats(1e-9, 1))
    def test_no_warning_up_to_a_tenth_of_a_record(self, declared: int, share: float) -> None:
        assert delta_warning(share / (10 * declared) * (1 - 1e-12), declared) is None

    def test_the_warning_says_the_numbers(self) -> None:
        assert delta_warning(1 / 2700, 270) is None
        warning = delta_warning(0.00185, 270)
        assert warning is not None
        assert "delta 0.0018" in warning or "delta 0.0019" in warning
        assert "1/(10 x 270 records)" in warning
        assert "\n" not in warning


class TestPlan:
    @pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(
        ("field", "rule"),
        [("epsilon_budget", "epsilon must be"), ("noise_multiplier", "noise multiplier must be")],
    )
    def test_not_a_positive_number(self, field: str, rule: str, value: float) -> None:
        with pytest.raises(InvalidInput, match=rule):
            plan(**{field: value})

    @pytest.mark.parametrize(
        ("field", "rule", "values"),
        [
            (
                "delta",
                "delta must be above 0 and at most 0.01",
                [0.0, 0.0101, 1.0, -1e-5, 2.0, math.nan, math.inf],
            ),
            ("sample_rate", "sample rate must lie", [0.0, -0.5, 1.0000001, math.nan, math.inf]),
            ("max_steps", "number of steps", [0, -1, math.nan]),
            ("declared_records", "declared record count", [0, -1, math.nan]),
        ],
    )
    def test_out_of_range(self, field: str, rule: str, values: list[float]) -> None:
        for value in values:
            with pytest.raises(InvalidInput, match=rule):
                plan(**{field: value})

    def test_the_edges_of_what_is_allowed(self) -> None:
        plan(sample_rate=1.0, max_steps=1, declared_records=1, delta=LARGEST_DELTA, epsilon_budget=1e-9)

    def test_it_cannot_be_changed_afterwards(self) -> None:
        fixed = plan()
        with pytest.raises(AttributeError):
            fixed.epsilon_budget = 9.0
        assert fixed == plan()


class TestBudget:
    def test_the_steps_run_out(self) -> None:
        budget = PrivacyBudget(plan(max_steps=10), a_tenth_a_step)
        budget.reserve(4)
        budget.reserve(4)
        with pytest.raises(BudgetExhausted, match=r"4 more steps .* epsilon 8 \(8 of 10 planned steps"):
            budget.reserve(4)
        assert budget.steps_spent == 8
        budget.reserve(2)
        with pytest.raises(BudgetExhausted):
            budget.reserve(1)
        assert budget.steps_spent == 10

    def test_epsilon_runs_out(self) -> None:
        budget = PrivacyBudget(plan(epsilon_budget=0.5), a_tenth_a_step)
        with pytest.raises(BudgetExhausted, match=r"exceed epsilon 0\.5 \(0 of 60"):
            budget.reserve(6)
        assert budget.steps_spent == 0
        budget.reserve(5)
        assert budget.epsilon_after(0) == 0.5, "a budget may be used to its last bit"
        with pytest.raises(BudgetExhausted):
            budget.reserve(1)
        assert budget.steps_spent == 5
        assert budget.epsilon_after(0) == 0.5

    def test_what_the_ledger_says_is_spent_counts(self) -> None:
        budget = PrivacyBudget(plan(max_steps=10), a_tenth_a_step, steps_spent=8)
        assert budget.epsilon_after(0) == 0.8
        with pytest.raises(BudgetExhausted, match="8 of 10"):
            budget.reserve(3)
        budget.reserve(2)

    def test_looking_ahead_spends_nothing(self) -> None:
        budget = PrivacyBudget(plan(), a_tenth_a_step)
        assert [budget.epsilon_after(steps) for steps in (0, 10, 1000)] == [0.0, 1.0, 100.0]
        assert budget.steps_spent == 0

    def test_a_looser_bound_for_fewer_steps_ends_no_session(self) -> None:
        """Where the accountant changes from one bound to another, fewer steps may seem to cost more."""
        planned = plan()
        budget = PrivacyBudget(planned, lambda _s, _q, n, _d: 7.9 if n == planned.max_steps else 8.4)
        budget.reserve(4)
        assert budget.epsilon_after(0) == 7.9

    def test_the_accountant_is_asked_with_the_plan_and_all_steps(self) -> None:
        asked = []

        def epsilon_of(*arguments: float) -> float:
            asked.append(arguments)
            return 1.0

        budget = PrivacyBudget(plan(noise_multiplier=1.5, sample_rate=0.25), epsilon_of, steps_spent=8)
        budget.reserve(4)
        assert asked == [(1.5, 0.25, 12, 1e-5)]

    def test_an_accountant_that_fails_spends_nothing(self) -> None:
        def epsilon_of(*arguments: float) -> float:
            raise InvalidInput("no bound")

        budget = PrivacyBudget(plan(), epsilon_of)
        with pytest.raises(InvalidInput, match="no bound"):
            budget.reserve(4)
        assert budget.steps_spent == 0

    @given(
        st.lists(st.integers(1, 30), max_size=30), st.integers(1, 100), st.floats(0.01, 10), st.floats(0.5, 2)
    )
    def test_whatever_is_asked_for_the_plan_holds(
        self, requests: list[int], max_steps: int, epsilon: float, power: float
    ) -> None:
        def epsilon_of(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
            return sample_rate * steps**power / (10 * noise_multiplier)

        budget = PrivacyBudget(plan(epsilon_budget=epsilon, max_steps=max_steps), epsilon_of)
        spent = 0
        for steps in requests:
            fits = spent + steps <= max_steps and epsilon_of(1.0, 0.5, spent + steps, 1e-5) <= epsilon
            try:
                budget.reserve(steps)
            except BudgetExhausted:
                assert not fits
            else:
                assert fits
                spent += steps
            assert budget.steps_spent == spent <= max_steps
            assert budget.epsilon_after(0) <= epsilon

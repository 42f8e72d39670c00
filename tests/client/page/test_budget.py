"""What a page says of a budget: by data set, as the ledger counts it, over the sessions that have begun."""

from pathlib import Path

import pytest

from fedapt_client.books.ledger import Ledger
from fedapt_client.page.budget import budgets
from fedapt_secure.config.policy import Policy
from fedapt_secure.privacy.composition import conversion_cost, planned_rdp_of
from tests.client.books.ledgers import MINE, OTHER, allow, images, terms

POLICY = Policy(max_epsilon=20, max_delta=1e-4, session_epsilon=8, session_delta=1e-5, composition="sum")
THIRD = b"\x02" * 16


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    assert budgets(path, POLICY) == []
    assert not path.exists()


def test_a_session_counts_from_its_first_step_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", allow)
    ledger.record_plan(terms(MINE), images(1, 2, 3))
    ledger.record_plan(terms(OTHER, epsilon_budget=2.0), images(1, 2, 3))
    [found] = budgets(tmp_path / "ledger.sqlite", POLICY)
    assert (found["counted"], found["left"], found["curve"]) == (0.0, 20, [])
    assert [one["begun"] for one in found["sessions"]] == [False, False]
    ledger.reserve(MINE, 1, 4)
    ledger.reserve(OTHER, 1, 4)
    [found] = budgets(tmp_path / "ledger.sqlite", POLICY)
    assert found["curve"] == [8.0, 10.0]
    assert (found["counted"], found["left"]) == (10.0, 10.0)
    assert [(one["epsilon"], one["steps"], one["max_steps"]) for one in found["sessions"]] == [
        (8.0, 4, 60), (2.0, 4, 60)
    ]  # fmt: skip


def test_the_filter_s_total_is_the_ledger_s(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", allow)
    rule = {"composition": "rdp-filter", "rdp_order": 8.0, "noise_multiplier": 3.0}
    for number, session in enumerate((MINE, OTHER), start=1):
        ledger.record_plan(terms(session, **rule), images(1, 2, 3))
        ledger.reserve(session, 1, 4)
        [found] = budgets(tmp_path / "ledger.sqlite", POLICY)
        used = planned_rdp_of([terms(session, **rule).cost] * number, 8.0)
        assert found["counted"] == pytest.approx(max(0.0, used + conversion_cost(8.0, POLICY.max_delta)))
        assert found["rule"] == "Rényi filter"
        assert len(found["curve"]) == number


def test_data_sets_that_overlap_carry_each_other_s_sessions(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", allow)
    for session, seen in ((MINE, images(1, 2)), (OTHER, images(8, 9)), (THIRD, images(2, 3))):
        ledger.record_plan(terms(session, epsilon_budget=1.0), seen)
        ledger.reserve(session, 1, 4)
    found = budgets(tmp_path / "ledger.sqlite", POLICY)
    assert sorted(one["counted"] for one in found) in ([1.0, 2.0], [1.0, 2.0, 2.0])


def test_nothing_bounds_what_was_not_private(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", allow)
    ledger.record_plan(terms(MINE), images(1))
    ledger.record_plan(terms(OTHER, noise="none", noise_multiplier=None, delta=None), images(1))
    ledger.reserve(MINE, 1, 4)
    ledger.reserve(OTHER, 1, 4)
    [found] = budgets(tmp_path / "ledger.sqlite", POLICY)
    assert (found["counted"], found["left"], found["curve"]) == (None, None, [])

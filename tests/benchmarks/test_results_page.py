"""The results page is what comparisons wrote, and nothing typed by hand."""

import json

import pytest

from benchmarks.pages import results_page

SPREAD = {"mean": 0.5, "deviation": 0.01}


def row(title: str, epsilon: float | None, trained: int = 10) -> dict:
    return {
        "title": title,
        "epsilon": epsilon,
        "seeds": [0, 1],
        "accuracy": {"mean": SPREAD, "per_domain": {"ink": SPREAD}, "own_domain": None},
        "trained_parameters": trained,
        "share_of_model": 0.5,
        "bytes_up": 2048,
        "bytes_down": 0,
        "epsilon_spent": epsilon,
    }


def test_the_page_shows_the_figures_that_are_kept() -> None:
    text = results_page.PAGE.read_text(encoding="utf-8")
    assert results_page.renewed(text) == text, "run python -m benchmarks.pages.results_page"


def test_every_method_and_budget_has_its_cell(tmp_path) -> None:
    rows = [row("zero-shot", None, trained=0), row("FedAPT", None), row("FedAPT", 8.0), row("CoCoOp", 8.0)]
    comparison = tmp_path / "comparison"
    comparison.mkdir()
    fields = {"title": "digits", "domains": ["ink"], "rows": rows}
    (comparison / "comparison.json").write_text(json.dumps(fields))
    found = results_page.rendered(comparison).splitlines()
    assert "| method | no privacy | ε = 8 |" in found
    assert "| FedAPT | 50.0 ± 1.0 | 50.0 ± 1.0 |" in found
    assert "| CoCoOp |  | 50.0 ± 1.0 |" in found
    assert "| zero-shot | - | 50.0 ± 1.0 |  | 0 | 2.0 | - | 0 |" in found
    assert "| FedAPT | 8 | 50.0 ± 1.0 |  | 10 (50.00%) | 2.0 | - | 8.00 |" in found


def test_what_a_plan_reads_is_of_the_same_runs() -> None:
    written = json.loads(results_page.KEPT.read_text(encoding="utf-8"))
    text = results_page.kept_text(written["measured_on"])
    assert json.loads(text) == written, "run python -m benchmarks.pages.results_page"


def test_the_gain_is_that_over_zero_shot_and_under_no_privacy() -> None:
    def reached(method: str, epsilon: float | None, accuracy: float) -> dict:
        found = row(method, epsilon) | {"method": method}
        found["accuracy"] = {"mean": {"mean": accuracy, "deviation": None}}
        return found

    rows = [
        reached("zero-shot", None, 0.5),
        reached("zero-shot", None, 0.1),  # of another prompt
        reached("fedapt", None, 0.7),
        reached("promptfl", 8.0, 0.9),
        reached("fedapt", 1.0, 0.55),
        reached("fedapt", 8.0, 0.65),
    ]
    found = results_page.kept({"rows": rows})
    assert [kept for _, kept in found] == [0.75, 0.25]
    assert found[0][0] < found[1][0]


def test_a_page_without_a_place_for_tables_is_refused() -> None:
    with pytest.raises(SystemExit, match="no place"):
        results_page.renewed("nothing here")

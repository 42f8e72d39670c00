"""The tables in docs/scaling.md are those of the kept measurements, and the fit finds what is there."""

import json
from pathlib import Path

import pytest

from benchmarks.protocol import scaling_model as model

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_of_the_kept_measurements() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    found = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
    assert model.renewed(page, model.report(found)) == page, (
        "python -m benchmarks.protocol.scaling --from benchmarks/results/scaling.json --docs docs/scaling.md"
    )


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(SystemExit):
        model.renewed("no marks", "text")


def test_the_fit_finds_the_coefficients_that_are_there() -> None:
    sizes = ((10, 9.0), (20, 19.0), (50, 49.0), (100, 54.0), (200, 105.0), (1000, 240.0))
    runs = [{"institutions": n, "around": m, "drawn": m / 2} for n, m in sizes]

    def cost(run: dict) -> float:
        return 3.0 * run["institutions"] + 0.5 * run["institutions"] * run["around"]

    found = model.fitted(runs, cost, ("n", "nm", "nn"))
    assert found["n"] == pytest.approx(3.0)
    assert found["nm"] == pytest.approx(0.5)
    assert found["nn"] == pytest.approx(0.0, abs=1e-6)
    assert model.worst(runs, cost, found) < 1e-6
    assert model.exponent(runs, lambda run: float(run["institutions"] ** 2)) == pytest.approx(2.0)

"""The tables in docs/scaling.md are those of the kept measurements, and the fit finds what is there."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_model", ROOT / "benchmarks" / "scaling_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_tables_of_the_kept_measurements(model: ModuleType) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    found = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
    assert model.renewed(page, model.report(found)) == page, (
        "python benchmarks/scaling.py --from benchmarks/results/scaling.json --docs docs/scaling.md"
    )


def test_a_page_without_marks_is_refused(model: ModuleType) -> None:
    with pytest.raises(SystemExit):
        model.renewed("no marks", "text")


def test_the_fit_finds_the_coefficients_that_are_there(model: ModuleType) -> None:
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

import json
from pathlib import Path

import pytest

from benchmarks.pages import ablations_page


def test_the_page_is_what_was_kept() -> None:
    text = ablations_page.PAGE.read_text(encoding="utf-8")
    assert ablations_page.renewed(text) == text, "run python -m benchmarks.pages.ablations_page"


def made(folder: Path) -> Path:
    rows = [("fedapt", "FedAPT"), ("uniform-routing", "all alike"), ("keys-1", "one key")]
    (folder / "runs").mkdir(parents=True)
    table = {
        "title": "x",
        "failed": [],
        "rows": [{"row": f"{name}-eps-none", "title": title, "seeds": [0, 1]} for name, title in rows],
    }
    (folder / "comparison.json").write_text(json.dumps(table))
    for name, base in (("fedapt", 0.6), ("keys-1", 0.55)):
        for seed in (0, 1):
            run = folder / "runs" / f"{name}-eps-none-seed{seed}"
            run.mkdir()
            summary = {
                "method": "fedapt",
                "accuracy": {"fedapt": {"mean": base + 0.02 * seed}},
                "accuracy_by_routing": {"uniform": {"mean": base - 0.1}},
            }
            (run / "summary.json").write_text(json.dumps(summary))
    return folder


def test_differences_are_of_the_same_seed(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    found = ablations_page.taken(made(tmp_path / "table"))
    assert found["rows"] == {"FedAPT": [60.0, 62.0], "all alike": [50.0, 50.0], "one key": [55.0, 57.0]}
    (figures / "digits.json").write_text(json.dumps(found))
    assert ablations_page.rendered(figures).splitlines() == [
        "| FedAPT, but | `digits` | difference |",
        "| --- | ---: | ---: |",
        "| nothing | 61.0 ± 1.4 | 0 |",
        "| all alike | 50.0 ± 0.0 | -11.0 ± 1.4 |",
        "| one key | 56.0 ± 1.4 | -5.0 ± 0.0 |",
    ]


def test_a_table_with_failed_runs_is_not_taken(tmp_path: Path) -> None:
    folder = made(tmp_path / "table")
    fields = json.loads((folder / "comparison.json").read_text())
    (folder / "comparison.json").write_text(json.dumps(fields | {"failed": [{"row": "x"}]}))
    with pytest.raises(SystemExit, match="some runs of .* failed"):
        ablations_page.taken(folder)

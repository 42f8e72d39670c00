"""Rows from summaries: means, deviations, bytes an institution, the largest ε; and how they are written."""

import csv
import html
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import stdev

import pytest
from rich.console import Console

from fedapt_secure.simulate.comparison.cases import cases_of
from fedapt_secure.simulate.comparison.display import print_comparison
from fedapt_secure.simulate.comparison.figures import Comparison, gather
from fedapt_secure.simulate.comparison.output import (
    to_csv,
    to_fields,
    to_markdown,
    with_deviation,
    write_files,
)
from fedapt_secure.simulate.comparison.picture import draw
from fedapt_secure.simulate.comparison.report import to_html, write_report
from fedapt_secure.simulate.comparison.runs import Outcome
from fedapt_secure.simulate.comparison.wanted import CompareSettings

CASES = cases_of(
    CompareSettings(out=Path("x"), methods="zero-shot,local,fedapt,fedavg", epsilons="none,8", seeds="2"), {}
)


def summary(method: str, ink: float, *, private: bool) -> dict:
    trains, federated = method != "zero-shot", method not in ("zero-shot", "local")
    rounds = [
        {"status": status, "participants": ["a", "b"], "bytes_up": up, "bytes_down": 2 * up}
        for status, up in (("completed", 2048), ("aborted", 9), ("completed", 2048))
    ]
    return {
        "method": method,
        "accuracy": {
            name: {"mean": (ink + 0.5) / 2, "per_domain": {"ink": ink, "chalk | x": 0.5}}
            for name in {"zero_shot", method}
        },
        "own_domain": {"mean": 0.75, "per_domain": {}} if method == "local" else None,
        "parameters": {"trained": 5312 if trains else 0, "model": 1_000_000},
        "privacy": {"a": {"epsilon_spent": 7.5}, "b": {"epsilon_spent": 7.25}} if private else {},
        "rounds": rounds if federated else [],
        "seconds_total": 3.0,
        "not_private_because": None if private else "no_dp",
    }


def comparison(failing: str | None = None) -> Comparison:
    outcomes = []
    for number, case in enumerate(CASES.runs):
        private = case.label.epsilon is not None
        done = summary(case.label.method, 0.6 + 0.01 * number, private=private)
        failed = case.name == failing
        outcomes.append(Outcome(case, None, "disk full") if failed else Outcome(case, done))
    return gather("digits", outcomes, CASES.not_run)


def test_a_row_is_over_its_seeds() -> None:
    rows = {row.label.name: row for row in comparison().rows}
    assert list(rows) == [
        "zero-shot", "zero-shot-ensemble", "local-eps-none", "fedapt-eps-none", "fedavg-eps-none",
        "local-eps-8", "fedapt-eps-8",
    ]  # fmt: skip
    row = rows["fedapt-eps-8"]
    values = [0.66, 0.73]  # runs number 6 and 13
    assert row.domains["ink"].mean == pytest.approx(sum(values) / 2)
    assert row.domains["ink"].deviation == pytest.approx(stdev(values))
    assert row.domains["chalk | x"].deviation == 0
    assert row.mean.mean == pytest.approx((sum(values) / 2 + 0.5) / 2)
    # Of one of two institutions, and completed rounds only.
    assert (row.bytes_up, row.bytes_down) == (1024, 2048)
    assert row.epsilon_spent == 7.5
    assert row.share == pytest.approx(0.005312)
    assert rows["fedavg-eps-none"].epsilon_spent is None
    assert rows["zero-shot"].epsilon_spent == 0
    assert rows["local-eps-8"].own_domain is not None
    assert rows["local-eps-8"].bytes_up == 0


def test_a_failed_run_is_named_and_the_rest_of_its_row_counts() -> None:
    found = comparison(failing="fedapt-eps-8-seed1")
    row = {one.label.name: one for one in found.rows}["fedapt-eps-8"]
    assert row.seeds == (0,)
    assert row.mean.deviation is None
    assert not found.complete
    assert comparison().complete
    assert "FAILED: FedAPT, ε = 8, seed 1: disk full" in to_markdown(found)


def test_files_agree_with_each_other(tmp_path: Path) -> None:
    found = comparison()
    write_files(tmp_path, found)
    fields = json.loads((tmp_path / "comparison.json").read_text())
    assert fields == json.loads(json.dumps(to_fields(found)))
    assert fields["not_run"] == [{"row": "fedavg-eps-8", "reason": CASES.not_run[0].reason}]
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    for line, row in zip(lines, fields["rows"], strict=True):
        assert line["row"] == row["row"]
        assert float(line["mean"]) == pytest.approx(100 * row["accuracy"]["mean"]["mean"], abs=0.005)
        assert int(line["bytes_up"]) == row["bytes_up"]
    table = [line for line in to_markdown(found).splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(lines)
    # A bar in a name is no column of its own.
    assert {line.replace("\\|", "").count("|") for line in table} == {table[0].replace("\\|", "").count("|")}
    assert "| FedAPT | 8 | 69.5 ± 4.9 |" in to_markdown(found)


def test_the_page_has_every_figure_and_no_name_does_harm(tmp_path: Path) -> None:
    found = comparison(failing="fedapt-eps-8-seed1")
    found = replace(found, title="<script>alert(1)</script>", notes=("a <b>note</b>",))
    text = write_report(tmp_path, found).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a &lt;b&gt;note" in text
    for row in found.rows:
        assert row.label.title in text
        assert with_deviation(row.mean) in text
    assert "disk full" in text
    assert CASES.not_run[0].reason in html.unescape(text)
    assert "own domain" in text
    empty = replace(found, rows=(), title="digits")
    assert "No run was finished" in to_html(empty, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("width", [60, 80, 300])
def test_every_figure_is_on_the_screen_whatever_its_width(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_comparison(console, comparison())
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    for column in ("ink", "chalk | x", "mean", "own domain", "trained", "share", "up", "down", "ε spent"):
        assert column in text
    assert ("69.5 ± 4.9" in text) == (width == 300)
    assert "± 2.5" in text  # the mean keeps its deviation
    assert "Not run: FedAvg, ε = 8" in text


def test_pictures_of_few_and_of_many_bars(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "again"):
        (tmp_path / name).mkdir()
        files = draw(tmp_path / name, comparison())
        assert [path.name for path in files] == ["comparison.png", "comparison.svg"]
        assert files[0].stat().st_size > 10_000
        assert "FedAPT" in files[1].read_text()
    same = [(tmp_path / name / "comparison.svg").read_bytes() for name in ("one", "again")]
    assert same[0] == same[1]

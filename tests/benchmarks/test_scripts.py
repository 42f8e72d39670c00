"""Every benchmark runs through at tiny sizes, and refuses to time two things that are not the same."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness import MODULES, parse_result, run, section
from benchmarks.suite import BENCHMARKS


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


SLOW = {
    "dp_step",
    "dp_utility",
    "inference",
    "simulate_time",
    "training_step",
}  # minutes


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BENCHMARKS]
)
def test_a_benchmark_runs_through(name: str, tmp_path: Path, capsys) -> None:
    script = importlib.import_module(MODULES[name])
    run(script.measure, ["--quick", "--json", str(tmp_path / "found.json")])
    fields = json.loads((tmp_path / "found.json").read_text())
    found = parse_result(fields)
    assert found.benchmark == name
    assert found.quick
    assert found.tables
    for table in found.tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert section(fields) in capsys.readouterr().out


def test_different_gradients_are_not_timed(monkeypatch) -> None:
    script = importlib.import_module("benchmarks.learning.training_step")
    ways = importlib.import_module("benchmarks.learning.reference_way")
    plain = ways.both_losses
    monkeypatch.setattr(script, "both_losses", lambda *parts: 1.01 * plain(*parts))
    with pytest.raises(SystemExit, match="differ by"):
        script.measure(True)


def test_different_clipping_is_not_timed(monkeypatch) -> None:
    script = importlib.import_module("benchmarks.learning.dp_step")
    ways = importlib.import_module("benchmarks.learning.reference_way")
    plain = ways.clipped_sum
    monkeypatch.setattr(ways, "clipped_sum", lambda one, noise, norm: plain(one, noise, 1.01 * norm))
    with pytest.raises(SystemExit, match="clipped: ours and the alternative differ"):
        script.measure(True)


def test_other_predictions_are_not_timed(monkeypatch) -> None:
    script = importlib.import_module("benchmarks.learning.inference")
    weights = script.routing_weights
    monkeypatch.setattr(script, "routing_weights", lambda *parts: weights(*parts).roll(1, dims=1))
    with pytest.raises(SystemExit, match="differ by"):
        script.measure(True)


def test_a_wrong_sum_is_not_counted(monkeypatch) -> None:
    script = importlib.import_module("benchmarks.protocol.wire")
    monkeypatch.setattr(script.Parties, "total", lambda self, who: 2 * self.update(0))
    with pytest.raises(SystemExit, match="a sum is off"):
        script.measure(True)

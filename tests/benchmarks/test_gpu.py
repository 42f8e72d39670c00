"""``benchmarks.device.gpu``, rehearsed: all of its code runs here, on the CPU, on the shipped model."""

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pages import device_page as page

COMMAND = "benchmarks.device.gpu"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def rehearse(tmp_path, monkeypatch, capsys):
    def run(*parts):
        found, tables = tmp_path / "gpu.json", tmp_path / "gpu.md"
        options = ["--device", "cpu", "--tiny", "--json", found, "--markdown", tables, "--parts", *parts]
        monkeypatch.setattr(sys, "argv", [COMMAND, *map(str, options)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(COMMAND, run_name="__main__")
        assert ended.value.code == 0, capsys.readouterr().out
        return json.loads(found.read_text()), tables.read_text()

    return run


def test_the_page_is_renewed_between_its_marks(rehearse, tmp_path):
    found, _ = rehearse("exactness", "steps")
    place = tmp_path / "page.md"
    place.write_text(f"# Title\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.renew(found, place)
    text = place.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old" not in text
    assert f"{found['found']['steps'][0]['steps_s']:.1f}" in text
    page.renew(found, place)
    assert place.read_text() == text


@pytest.mark.slow
def test_a_time_limit_leaves_what_was_found(tmp_path):
    found = tmp_path / "gpu.json"
    command = [
        sys.executable,
        "-m",
        COMMAND,
        "--device",
        "cpu",
        "--tiny",
        "--json",
        found,
        "--parts",
        "steps",
        "task",
    ]
    with subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("[steps]"):
                process.terminate()
                break
        process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    written = json.loads(found.read_text())
    assert written["cut"]
    assert written["found"]["steps"]


@pytest.mark.slow
def test_features_steps_and_images(rehearse):
    found, tables = rehearse("exactness", "steps", "images")
    assert found["faults"] == found["broken_bounds"] == []
    checked = found["found"]["exactness"]
    assert {row["precision"] for row in checked} >= {"float32", "bfloat16"}
    assert len(checked) == 7
    assert all(0 < row["error"] < row["bound"] for row in checked)
    for part in ("ceilings", "exactness", "steps", "images", "files", "predicting"):
        assert f"## {part}\n" in tables
    assert all(row["replay_times_faster"] > 0 for row in found["found"]["steps"])
    rates = [row["steps_s"] for row in found["found"]["steps"]]
    rates += [row["images_s"] for part in ("images", "files") for row in found["found"][part][1:]]
    assert all(rate > 0 for rate in rates)


@pytest.mark.slow
def test_the_default_task_is_the_same_in_both_precisions(rehearse):
    found, _ = rehearse("task")
    rows = {row["what"]: row for row in found["found"]["default task"]}
    assert set(rows) == {"cpu float32", "cpu bfloat16"}
    assert abs(rows["cpu bfloat16"]["difference_points"]) <= 0.5

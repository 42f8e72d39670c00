"""`fedapt-secure compare` as its user runs it: real runs, taken over, redone, failed, killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedapt_crypto.errors import RunFailed
from fedapt_secure.cli.app import run
from fedapt_secure.simulate.comparison import command, runs

pytestmark = pytest.mark.integration
FAST = ("--rounds", "1", "--local-steps", "1", "--clients", "3")


@pytest.fixture
def compare(tmp_path: Path, known_features: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    common = ("--out", "c", "--cache", str(known_features), *FAST)
    return lambda *arguments: run(["compare", *common, *arguments])


def table(folder: Path = Path("c")) -> dict[str, dict]:
    fields = json.loads((folder / "comparison.json").read_text())
    return {row["row"]: row for row in fields["rows"]}


def test_one_command_one_table_and_a_second_one_goes_on(compare, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "can_draw", lambda: False)  # tests/cli/test_screens.py has the picture
    common = ("--epsilons", "8", "--ensemble", "imagenet-7")
    assert compare("--methods", "zero-shot,local,fedapt", *common) == 0
    rows = table()
    assert list(rows) == ["zero-shot", "zero-shot-ensemble", "local-eps-8", "fedapt-eps-8"]
    assert 0 < rows["fedapt-eps-8"]["epsilon_spent"] <= 8
    assert rows["fedapt-eps-8"]["bytes_up"] > 10_000
    finished = Path("c/runs/fedapt-eps-8-seed0")
    # What an auditor may have stays; keys, ledgers, images and models do not.
    assert sorted(one.name for one in finished.iterdir()) == [
        "config.yaml",
        "logs",
        "roster.json",
        "summary.json",
    ]
    assert run(["audit", str(finished)]) == 0
    assert not Path("c/dealt").exists()
    times = {one: (one / "summary.json").stat().st_mtime_ns for one in Path("c/runs").iterdir()}

    done = []
    original = runs.carry_out
    monkeypatch.setattr(
        runs, "carry_out", lambda f, *rest: (done.append(f.settings.method), original(f, *rest))
    )
    assert compare("--methods", "zero-shot,local,fedapt,linear-probe", *common) == 0
    assert done == ["linear-probe"]
    assert {one: (one / "summary.json").stat().st_mtime_ns for one in times} == times
    assert table()["fedapt-eps-8"] == rows["fedapt-eps-8"]
    capsys.readouterr()

    # Another plan does not mix with the runs that are there.
    assert compare("--methods", "fedapt", "--learning-rate", "fedapt=0.125", *common) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "was run with learning_rate" in error
    assert "0.125 is asked for now: choose another --out" in error


@pytest.mark.slow
def test_one_that_fails_is_named_and_tried_again(compare, monkeypatch, capsys) -> None:
    original = runs.carry_out

    def broken(federation, *rest) -> None:
        if federation.settings.method == "promptfl":
            raise RunFailed("clinic-2 ended with status 1: out of memory")
        original(federation, *rest)

    monkeypatch.setattr(runs, "carry_out", broken)
    monkeypatch.setattr(command, "can_draw", lambda: False)
    arguments = ("--methods", "promptfl,linear-probe", "--epsilons", "none")
    assert compare(*arguments) == 1
    printed = capsys.readouterr()
    assert "pip install 'fedapt-secure[plots]'" in " ".join(printed.out.split())
    assert not Path("c/comparison.png").exists()
    assert "FAILED: PromptFL, no privacy, seed 0: clinic-2 ended" in " ".join(printed.out.split())
    assert "1 of 2 runs failed" in printed.err
    assert list(table()) == ["linear-probe-eps-none"]

    def interrupted(federation, *rest) -> None:
        original(federation, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "carry_out", interrupted)
    assert compare(*arguments) == 130
    assert "the same command goes on from there" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(runs, "carry_out", original)
    assert compare(*arguments) == 0
    assert list(table()) == ["promptfl-eps-none", "linear-probe-eps-none"]


def test_bad_input_is_one_line(compare, capsys, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for arguments, expected in {
        ("--methods", "nonsense"): "no method 'nonsense'",
        ("--methods", "fedavg", "--epsilons", "8"): "nothing can be run",
        ("--dataset", "folder", "--data-root", "absent"): "absent",
        ("--model", "tniy"): "tiny",
        ("--clients", "1000", "--seeds", "3,"): "choose fewer with --clients",
        ("--out", "full"): "holds no comparison",
        ("--config", "absent.yaml"): "absent.yaml",
    }.items():
        assert compare(*arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert expected in error
        assert len(error.splitlines()) == 1
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_at_any_moment_it_goes_on(tmp_path: Path, with_signal: int) -> None:
    """A real process, interrupted inside its second run: the first is taken over, the second redone."""
    arguments = ["compare", "--out", "c", *FAST, "--methods", "linear-probe,promptfl", "--epsilons", "none"]
    arguments[arguments.index("--rounds") + 1] = "40"
    command = [sys.executable, "-c", "from fedapt_secure.cli import main; main()", *arguments]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    first, second = (
        tmp_path / "c" / "runs" / f"{name}-eps-none-seed0" for name in ("linear-probe", "promptfl")
    )
    under_way = second.with_name(second.name + ".unfinished") / "logs" / "coordinator.jsonl"
    while not (under_way.exists() and b"round_ended" in under_way.read_bytes()):
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.02)
    process.send_signal(with_signal)
    output = process.communicate()[0].decode()
    assert first.exists()
    assert not second.exists()
    if with_signal == signal.SIGINT:
        assert process.returncode == 130, output
        assert "the same command goes on from there" in output
    before = (first / "summary.json").stat().st_mtime_ns
    again = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (first / "summary.json").stat().st_mtime_ns == before
    assert sorted(one.name for one in second.parent.iterdir()) == [first.name, second.name]
    assert set(table(tmp_path / "c")) == {"linear-probe-eps-none", "promptfl-eps-none"}

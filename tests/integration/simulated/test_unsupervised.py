"""`simulate --unsupervised`: what it resolves to, what it says, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from fedapt_secure.cli.app import run
from fedapt_secure.log.reader import read_log
from fedapt_secure.process.exit_status import ExitStatus

SHORT = ["--rounds", "2", "--local-steps", "1", "--augmented-views", "1", "--clients", "3"]


def simulated(out: Path, *options: str) -> tuple[dict, dict, set[str]]:
    assert run(["simulate", "--unsupervised", *SHORT, "--out", str(out), *options]) == ExitStatus.DONE
    said = {
        entry.body["supervision"]
        for log in sorted((out / "logs").glob("clinic-*.jsonl"))
        for entry in read_log(log)
        if entry.type == "session_accepted"
    }
    summary = json.loads((out / "summary.json").read_text())
    return summary, yaml.safe_load((out / "config.yaml").read_text()), said


@pytest.mark.slow  # a whole simulation
def test_both_stages_without_privacy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, config, said = simulated(tmp_path / "run", "--no-dp", "--method", "promptfl")
    assert summary["supervision"] == "pseudo-labels; consistency with neighbours in the last 1 of 2 rounds"
    assert said == {summary["supervision"]}
    assert "consistency with neighbours" in capsys.readouterr().out
    assert config["consistency_rounds"] == 1
    assert config["augmentations"] == ["jitter", "greyscale", "blur"]  # no flip: these are digits
    assert (config["initial_context"], config["learning_rate"]) == ("a photo of a", 0.1)


@pytest.mark.slow
def test_under_privacy_the_first_stage_alone_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, config, said = simulated(tmp_path / "run")
    assert "no consistency rounds" in summary["supervision"]
    assert said == {summary["supervision"]}
    assert "no consistency rounds" in capsys.readouterr().out
    assert config["consistency_rounds"] == 0
    assert summary["privacy"]["clinic-1"]["epsilon_spent"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--unsupervised", "--consistency-rounds", "2"], "must be 0 under differential privacy"),
        (["--augmented-views", "2"], "give unsupervised as well"),
        (["--unsupervised", "--no-dp", "--method", "fedavg"], "cannot be trained without labels"),
        (["--unsupervised", "--augmentations", "blur,flip"], "in the order flip"),
        (["--unsupervised", "--no-dp", "--few-shot", "3"], "does not look at labels"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *options, "--out", str(tmp_path / "run")]) == ExitStatus.BAD_INPUT
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()

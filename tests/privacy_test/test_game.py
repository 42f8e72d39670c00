"""The game and its command: what it plays, how it ends, and that a leak ends it with 1."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedapt_secure.learning.privacy.mechanism import Mechanism
from fedapt_secure.privacy_test import __main__ as command
from fedapt_secure.privacy_test import game, mechanism_check
from fedapt_secure.privacy_test.bounds import ExactBound, OneRunBound
from fedapt_secure.privacy_test.reporting import Result
from fedapt_secure.process.exit_status import ExitStatus

FEW = ["--canaries", "600", "--rounds", "3"]
SURE = ["--confidence", "0.9999999"]
"""A right program is above the claim in two of ten million runs."""


@pytest.fixture(autouse=True)
def threads():
    """The command takes one thread for its process, which here is everybody's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "runs"), [(100, 1), (1024, 1), (1025, 2), (10_000, 10)])
def test_runs_have_nearly_as_many_canaries_each(count, runs):
    sizes = game._runs(count)
    assert (sum(sizes), len(sizes)) == (count, runs)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= game.CANARIES_OF_A_RUN


@pytest.mark.parametrize("rate", [0.01, 0.5, 1.0])
def test_the_evidence_is_the_mixtures_likelihood_ratio(rate):
    seen, sigma = np.linspace(-4, 5, 37), 0.9
    at = [np.exp(-((seen - shift) ** 2) / (2 * sigma**2)) for shift in (0, 1)]
    expected = np.log(((1 - rate) * at[0] + rate * at[1]) / at[0])
    assert np.allclose(game.evidence(seen, sigma, rate), expected)


def test_evidence_that_is_overwhelming_stays_finite():
    found = game.evidence(np.array([5.0, -5.0]), 0.05, 0.5)
    assert found[0] == pytest.approx(4.5 / 0.0025 + np.log(0.5))
    assert np.isfinite(game.evidence(np.array([5.0, -5.0]), 0.0, 1.0)).all()
    assert found[1] == pytest.approx(np.log(0.5))


def test_rounds_are_counted_as_an_institution_counts_them():
    plan = game.planned(2.0, 1e-5, 3, 0.5, "image")
    told = []
    played = game.play(plan, 1100, game.coins(1), lambda *counts: told.append(counts))
    assert told == [(number, 6) for number in range(1, 7)]
    assert len(played.scores) == len(played.present) == 1100
    assert 1.9 < played.claim <= 2.0
    again = game.play(plan, 1100, game.coins(1), lambda *counts: None)
    assert (again.present == played.present).all()
    assert not (again.scores == played.scores).any(), "noise and sampling never repeat"


@pytest.mark.parametrize("unit", ["image", "person"])
def test_a_right_program_is_not_above_its_claim(unit, capsys):
    assert command.run([*FEW, *SURE, "--unit", unit]) == ExitStatus.DONE
    said = capsys.readouterr().out
    assert "no bound is above the claim" in said
    assert ("per image, not per person" in said) == (unit == "image")


def test_json(capsys):
    assert command.run([*FEW, *SURE, "--json", "--epsilon", "4"]) == ExitStatus.DONE
    found = json.loads(capsys.readouterr().out)
    assert found["canaries"] == found["exact"]["guesses"] == 600
    assert 0 <= found["exact"]["epsilon"] < found["epsilon_claimed"] <= 4
    assert found["above_claim"] is found["refuted"] is False


def test_a_third_of_the_noise_refutes_the_claim(monkeypatch, capsys):
    real = Mechanism.noise_std
    monkeypatch.setattr(Mechanism, "noise_std", lambda self, values: real(self, values) / 3)
    assert command.run(FEW) == ExitStatus.FAILED
    assert "the claim is REFUTED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("epsilon", "chance", "above", "refuted"), [(7.9, 0.2, 0, 0), (8.1, 0.01, 1, 0), (9, 0, 1, 1)]
)
def test_chance_alone_refutes_nothing(epsilon, chance, above, refuted):
    plan = game.planned(8.0, 1e-5, 3, 0.5, "image")
    exact, one_run = ExactBound(epsilon, 600, 500, chance, 2.0), OneRunBound(4.0, 60, 59, 1.0)
    result = Result(plan, 8.0, exact, one_run, 0.95)
    assert (result.above_claim, result.refuted) == (above, refuted)
    starts = {(0, 0): "no bound is above", (1, 0): "above the claim at 0.95", (1, 1): "the claim is REFUTED"}
    assert result.verdict.startswith(starts[above, refuted])


def test_the_short_version_ends_with_its_findings(monkeypatch, capsys):
    monkeypatch.setattr(mechanism_check, "ROUNDS", 20)
    assert command.run(["--short"]) == ExitStatus.DONE
    assert "0 of 12 checks failed" in capsys.readouterr().out
    real = Mechanism.noise_std
    monkeypatch.setattr(Mechanism, "noise_std", lambda self, values: real(self, values) / 2)
    assert command.run(["--short", "--json"]) == ExitStatus.FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert len(found["checks"]) == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epsilon", "0"], "--epsilon"),
        (["--epsilon", "nan"], "--epsilon"),
        (["--epsilon", "0.001"], "epsilon"),
        (["--epsilon", "many"], "--epsilon"),
        (["--delta", "0.5"], "delta"),
        (["--canaries", "3"], "--canaries"),
        (["--rounds", "0"], "--rounds"),
        (["--sample-rate", "1.5"], "--sample-rate"),
        (["--confidence", "1"], "--confidence"),
        (["--seed", "-1"], "--seed"),
        (["--unit", "hospital"], "--unit"),
        (["--cannaries", "300"], "--cannaries"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert command.run(arguments) == ExitStatus.BAD_INPUT
    seen = capsys.readouterr()
    assert seen.out == ""
    assert len(seen.err.splitlines()) == 1
    assert said in seen.err


def test_it_can_be_interrupted(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(game, "play", interrupted)
    assert command.run(FEW) == ExitStatus.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_help_is_instant():
    code = "import sys, fedapt_secure.privacy_test.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

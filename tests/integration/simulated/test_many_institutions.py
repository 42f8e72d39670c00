"""More institutions than there are digits for: synthetic, marked as such, and the protocol all the same."""

import pytest

from fedapt_crypto.secagg.masking.graph import FULL_GRAPH_UP_TO, topology
from fedapt_secure.cli.app import run as command_line
from fedapt_secure.log.reader import read_log
from tests.integration.simulated.test_simulate import Tap, assert_model_is_the_plain_mean, tap  # noqa: F401

pytestmark = pytest.mark.integration
FAST = ("--rounds", "1", "--local-steps", "1")


@pytest.mark.slow  # a round of many institutions
def test_a_synthetic_run_says_so_on_screen_and_in_its_summary(
    simulate, capsys: pytest.CaptureFixture
) -> None:
    run = simulate("--clients", "21", *FAST)
    assert run.status == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Synthetic: there are digits for 20 institutions at most" in shown
    assert "Every ε below is for cost only" in shown
    assert "Privacy spent, for cost only" in shown
    assert "clinic-3" not in shown, "many institutions are shown by domain"
    assert "5 of them" in shown
    summary = run.summary
    assert summary["synthetic"] is True
    assert len(summary["privacy"]) == 21
    assert len(summary["rounds"][0]["contributors"]) == 21


@pytest.mark.slow
def test_eighty_institutions_on_the_neighbour_graph_and_one_that_vanishes(
    simulate,
    tap: Tap,  # noqa: F811
    capsys,
) -> None:
    institutions = 80
    assert institutions > FULL_GRAPH_UP_TO
    graph = topology(institutions)
    assert graph.neighbours < institutions - 1
    run = simulate("--clients", str(institutions), *FAST, "--fail", "clinic-7@1:masked_input")
    assert run.status == 0
    (entry,) = run.summary["rounds"]
    assert entry["status"] == "completed"
    assert entry["dropped"] == ["clinic-7"]
    assert len(entry["contributors"]) == institutions - 1
    assert_model_is_the_plain_mean(tap, run.folder, run.summary, institutions)
    closed = [e for e in read_log(run.folder / "logs" / "clinic-9.jsonl") if e.type == "session_closed"]
    assert len(closed) == 1
    assert len(closed[0].body["signatures"]) == institutions + 1
    capsys.readouterr()
    assert command_line(["audit", str(run.folder), "--trust", str(run.folder / "roster.json")]) == 0

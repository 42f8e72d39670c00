"""Lasting ledgers: what one run spends, the next one on the same images cannot spend again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_client.books.ledger import Ledger
from fedapt_secure.config.structured_log import LOGGERS
from fedapt_secure.log.reader import read_log

pytestmark = pytest.mark.integration

QUICK = ("--rounds", "1", "--clients", "3")


def steps(ledgers: Path) -> dict[str, list[int]]:
    """Steps taken in each session, by institution."""
    return {
        folder.name: [one.steps_taken for one in Ledger(folder / "ledger.sqlite", lambda *_: None).sessions]
        for folder in sorted(ledgers.iterdir())
    }


@pytest.mark.slow
def test_a_second_run_over_the_policy_is_refused_by_name_and_costs_nothing(
    simulate, tmp_path: Path, capsys, caplog
) -> None:
    ledgers = tmp_path / "ledgers"
    assert simulate(*QUICK, "--ledger", str(ledgers), out="first").status == 0
    capsys.readouterr()
    for number in range(2):
        run = simulate(*QUICK, "--ledger", str(ledgers), out=f"again-{number}")
        assert run.status == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: clinic-")
        assert "refuses: policy rule max_epsilon: 1 session on these images spent epsilon 7.9" in err
        assert err.count("\n") == 1
        assert not {record.name for record in caplog.records} & {*LOGGERS}, "the one line is all"
        assert "refused" not in out
        assert not (run.folder / "summary.json").exists()
        refused = [
            entry.body
            for name in ("clinic-1", "clinic-2", "clinic-3")
            for entry in read_log(run.folder / "logs" / f"{name}.jsonl")
            if entry.type == "refused"
        ]
        assert "max_epsilon" in {body["rule"] for body in refused}
        assert all(len(body["session"]) == 32 for body in refused)
    assert steps(ledgers) == {f"clinic-{i}": [4] for i in (1, 2, 3)}
    assert {path.stat().st_mode & 0o777 for path in ledgers.rglob("*") if path.is_file()} == {0o600}

    enough = simulate(*QUICK, "--ledger", str(ledgers), "--max-epsilon", "16", out="more")
    assert enough.status == 0
    assert steps(ledgers) == {f"clinic-{i}": [4, 4] for i in (1, 2, 3)}
    (accepted,) = [
        entry
        for entry in read_log(enough.folder / "logs" / "clinic-1.jsonl")
        if entry.type == "session_accepted"
    ]
    before = accepted.body["privacy"]["spent_before"]
    assert before["sessions"] == 1
    assert 7.9 < before["epsilon"] <= 8

    assert simulate(*QUICK, out="without").status == 0, "a ledger inside the run folder counts one run"


@pytest.mark.slow
def test_one_who_refuses_costs_the_others_nothing(simulate, tmp_path: Path, capsys) -> None:
    ledgers = tmp_path / "ledgers"
    assert simulate(*QUICK, "--ledger", str(ledgers), out="first").status == 0
    for name in ("clinic-2", "clinic-3"):
        shutil.rmtree(ledgers / name)
    capsys.readouterr()
    assert simulate(*QUICK, "--ledger", str(ledgers), "--processes", out="second").status == 2
    assert capsys.readouterr().err.startswith("error: clinic-1 refuses: policy rule max_epsilon: ")
    found = steps(ledgers)
    assert found["clinic-1"] == [4]
    assert all(set(taken) <= {0} for name, taken in found.items() if name != "clinic-1")


def test_renamed_and_added_images_are_known_again(simulate, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    for domain in ("a", "b", "c"):
        for label, colour in (("cat", 40), ("dog", 200)):
            folder = tmp_path / "data" / domain / label
            folder.mkdir(parents=True)
            for number in range(15):
                pixels = np.clip(rng.normal(colour, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    options = ("--dataset", "folder", "--data-root", str(tmp_path / "data"), "--rounds", "1")
    options += ("--dp-delta", "0.005")  # from so few images none follows that means anything
    ledgers = ("--ledger", str(tmp_path / "ledgers"))
    assert simulate(*options, *ledgers, out="first").status == 0
    for path in list((tmp_path / "data").rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    shutil.rmtree(tmp_path / "data" / "a" / "cat")
    (tmp_path / "data" / "a" / "cat").mkdir()
    for number in range(15):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "a" / "cat" / f"new-{number}.png")
    capsys.readouterr()
    assert simulate(*options, *ledgers, out="second").status == 2
    assert "policy rule max_epsilon: 1 session on these images" in capsys.readouterr().err

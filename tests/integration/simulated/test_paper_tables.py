"""``fedapt-secure paper``: a table from its configuration to its files, and all on made-up folders."""

import json
from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.process.exit_status import ExitStatus
from tests.test_examples import example

pytestmark = pytest.mark.integration


def table(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())


def test_an_ablation_of_the_digits_is_one_table_and_goes_on(
    tmp_path: Path, known_features: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cached = ("--cache", str(known_features))
    command = ["paper", "ablations-digits", "--out", "table", "--rounds", "1", *cached]
    assert run([*command, "--rows", "uniform-routing,oracle-routing,keys-added"]) == ExitStatus.DONE
    found = table(tmp_path / "table")
    assert [row["title"] for row in found["rows"]] == [
        "FedAPT",
        "no network: all keys alike",
        "no network: the own domain's key, told",
        "keys added",
    ]
    full, uniform, oracle, added = (row["accuracy"]["per_domain"] for row in found["rows"])
    assert full.keys() == uniform.keys() == oracle.keys() == added.keys() == {
        "ink", "chalk", "print", "pencil", "scan"
    }  # fmt: skip
    first = tmp_path / "table" / "runs" / "fedapt-eps-none-seed0" / "summary.json"
    told = json.loads(first.read_text())["accuracy_by_routing"]["oracle"]
    assert {name: one["mean"] for name, one in oracle.items()} == told["per_domain"]
    assert added != full
    assert found["notes"] == ["The table's settings, but for rounds 1."]
    capsys.readouterr()
    assert run([*command, "--rows", "keys-1"]) == ExitStatus.DONE
    said = capsys.readouterr().out
    assert "one key for all" in said
    assert len(list((tmp_path / "table" / "runs").iterdir())) == 3


def test_what_is_missing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        (["pacs-unseen"], "give --out: the folder for the table"),
        (["pacs-unseen", "--out", "x"], "the table pacs-unseen needs --data-root"),
        (["table-9", "--out", "x"], "there is no table 'table-9': choose domainnet-supervised"),
        (["ablations-digits", "--out", "x", "--rows", "y"], "has no row 'y': choose fedapt"),
        (["pacs-unseen", "--out", "x", "--data-root", "nowhere"], "nowhere"),
    ):
        assert run(["paper", *arguments]) == ExitStatus.BAD_INPUT
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    (tmp_path / "wrong.yaml").write_text("rouns: 3\n")
    wrong = ["ablations-digits", "--out", "x", "--config", "wrong.yaml"]
    assert run(["paper", *wrong]) == ExitStatus.BAD_INPUT
    assert "wrong.yaml: unknown option 'rouns'; did you mean 'rounds'?" in capsys.readouterr().err
    # A file that says what is another than in its table needs nothing besides to be right.
    (tmp_path / "share.yaml").write_text("test_share: 0.25\n")
    pacs = ["pacs-unseen", "--out", "x", "--config", "share.yaml", "--data-root", "nowhere"]
    assert run(["paper", *pacs]) == ExitStatus.BAD_INPUT
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "x").exists() or not any((tmp_path / "x").glob("runs/*"))
    assert run(["paper"]) == ExitStatus.DONE
    assert "office-caltech10-unsupervised" in capsys.readouterr().out


FOLDERS = {
    "office-caltech10-supervised": ("office-caltech10", 5),
    "office-caltech10-unsupervised": ("office-caltech10", 5),
    "ablations-office-caltech10": ("office-caltech10", 5),
    "pacs-unseen": ("pacs", 2),
    "officehome-unseen": ("officehome", 2),
    "domainnet-10-supervised": ("domainnet", 4),
    "domainnet-10-unsupervised": ("domainnet", 4),
}
"""Tables that take minutes with a random ViT-B/32: which folders, how many images a class."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_table_runs_on_folders_that_are_made(name: str, tmp_path: Path) -> None:
    data, count = FOLDERS[name]
    assert example("make_paper_data.py", data, tmp_path / "data", count).returncode == 0
    rows = "fedapt,keys-1,uniform-routing" if name.startswith("ablations") else "zero-shot,promptfl,fedapt"
    rounds = ["--rounds", "2"]
    if "unsupervised" in name:
        short = "consistency_rounds: 1\naugmented_views: 1\n"
        (tmp_path / "short.yaml").write_text(short)
        rounds += ["--config", str(tmp_path / "short.yaml")]
    command = ["paper", name, "--data-root", str(tmp_path / "data"), "--out", str(tmp_path / "table")]
    model = ["--model", "ViT-B-32", "--pretrained", "random"]
    assert run([*command, *model, *rounds, "--rows", rows]) == ExitStatus.DONE
    found = table(tmp_path / "table")
    assert [row["row"].removesuffix("-eps-none") for row in found["rows"]] == (
        ["fedapt", "uniform-routing", "keys-1"] if name.startswith("ablations") else rows.split(",")
    )
    assert len(found["domains"]) == (6 if data == "domainnet" else 4)
    if name == "pacs-unseen":
        assert [(one["title"], one["published"]) for one in found["published"]] == [
            ("PromptFL", 92.7),
            ("FedAPT", 93.56),
        ]

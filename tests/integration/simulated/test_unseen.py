"""`simulate --unseen-domain`: a domain that takes no part, and on which the finished model is evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedapt_secure.cli.app import run as run_command
from fedapt_secure.config.party_folder import roster_from_json
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.learning.data.reading.records import read_records
from tests.learning.data.trees import write_domains

pytestmark = pytest.mark.integration

DOMAINS = ("a", "b", "c", "d")


def test_the_unseen_domain_is_evaluated_and_nothing_else(
    simulate, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulate(
        "--unseen-domain", "chalk", "--rounds", "1", "--no-dp", "--keys", "per-institution", alone=True
    )
    assert run.status == 0
    path = run.folder / "roster.json"
    roster = roster_from_json(path.read_bytes(), path)
    assert roster.names == ("clinic-1", "clinic-3", "clinic-4", "clinic-5")
    assert read_bundle(run.folder / "model.safetensors").domains == ("ink", "print", "pencil", "scan")
    assert "chalk" not in run.summary["accuracy"]["fedapt"]["per_domain"]
    assert not (run.folder / "logs" / "clinic-2.jsonl").exists()

    unseen = run.summary["unseen"]
    records = read_records(run.folder / "parties" / "clinic-2" / "data").records
    assert unseen["domain"] == "chalk"
    assert unseen["all"]["images"] == len(records) > unseen["held_out"]["images"] > 0
    confusion = np.array(unseen["confusion"])
    assert confusion.sum() == len(records)
    assert np.trace(confusion) / len(records) == pytest.approx(unseen["all"]["top_1"])
    assert unseen["all"]["top_1"] <= unseen["all"]["top_5"] <= 1
    assert [one["support"] for one in unseen["per_class"]] == confusion.sum(axis=1).tolist()
    assert list(unseen["routing_counts"]) == ["ink", "print", "pencil", "scan"] == run.summary["keys"]
    assert sum(unseen["routing_counts"].values()) == len(records)
    assert {path.name for path in (run.folder / "pictures" / "unseen").iterdir()} == {
        "confusion.png", "confusion.svg"
    }  # fmt: skip
    assert "chalk (unseen)" in (run.folder / "pictures" / "routing.svg").read_text()
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["clients"] == 5  # the same deal again
    out = capsys.readouterr().out
    assert "Accuracy on chalk, which took no part" in out
    assert "routed to:" in out


def test_too_few_institutions_remain(simulate, capsys: pytest.CaptureFixture[str]) -> None:
    run = simulate("--clients", "3", "--unseen-domain", "ink", "--no-dp")
    assert run.status == 2
    assert "this data set gives 2 without the unseen domain" in " ".join(capsys.readouterr().err.split())


def test_more_keys_than_institutions(simulate, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--keys", "6", "--no-dp").status == 2
    assert "6 keys for 5 institutions" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_every_domain_in_turn(simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_domains(tmp_path / "data", DOMAINS, ("cat", "dog"), 12)
    options = ("--dataset", "folder", "--data-root", str(root), "--rounds", "1", "--no-dp", "--keys", "1")
    run = simulate(*options, "--unseen-domain", "all")
    assert run.status == 0
    summary = run.summary
    assert list(summary["unseen"]) == list(DOMAINS)
    for number, (domain, unseen) in enumerate(summary["unseen"].items(), 1):
        assert unseen["domain"] == domain
        assert unseen["all"]["images"] == 24
        assert (run.folder / f"{number}-{domain}" / "summary.json").exists()
    shares = [one["all"]["top_1"] for one in summary["unseen"].values()]
    assert summary["mean"]["FedAPT"] == pytest.approx(np.mean(shares))
    assert "unseen domain" in capsys.readouterr().out


@pytest.mark.slow
def test_methods_side_by_side_on_every_domain_in_turn(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    methods = ("--methods", "local,fedapt", "--epsilons", "none", "--unseen-domain", "all")
    assert run_command(["compare", "--out", "c", "--clients", "4", "--rounds", "1", *methods]) == 0
    fields = json.loads(Path("c/comparison.json").read_text())
    rows = {row["row"]: row for row in fields["rows"]}
    assert list(rows) == ["local-eps-none", "fedapt-eps-none"]
    domains = ["ink", "chalk", "print", "pencil"]
    for row, name in (("fedapt-eps-none", "fedapt"), ("local-eps-none", "local")):
        by_domain = rows[row]["accuracy"]["per_domain"]
        assert list(by_domain) == domains
        for domain in domains:
            summary = json.loads(Path(f"c/runs/{row}-without-{domain}-seed0/summary.json").read_text())
            assert domain not in summary["accuracy"][name]["per_domain"]
            assert by_domain[domain]["mean"] == pytest.approx(summary["unseen"]["all"]["top_1"])
        assert rows[row]["accuracy"]["mean"]["mean"] == pytest.approx(
            np.mean([one["mean"] for one in by_domain.values()])
        )
    assert "all images of a domain that took no part" in " ".join(capsys.readouterr().out.split())

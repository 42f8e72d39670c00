"""Privacy per person from a manifest's column to the audit's verdict, as its user meets it."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import audit
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import dossier
from fedapt_secure.audit.report.html import to_html
from fedapt_secure.audit.report.json_answer import to_fields
from fedapt_secure.cli.app import run as run_command
from fedapt_secure.learning.data.reading.records import is_test
from fedapt_secure.log.reader import read_log
from fedapt_secure.privacy.budget import declared_records

pytestmark = pytest.mark.integration

DOMAINS, PERSONS = ("ink", "chalk", "print"), 12
QUICK = (
    "--dataset",
    "folder",
    "--rounds",
    "1",
    "--dp-epsilon",
    "8",
    "--max-epsilon",
    "16",
    "--dp-delta",
    "5e-3",
)
"""δ by hand: from twelve persons none follows that means anything."""


def rows(folder: Path) -> Iterator[dict[str, str]]:
    """Write scans of persons who have one to thirty images each."""
    scans, number = load_digits(), 0
    for domain in DOMAINS:
        for person in range(PERSONS):
            for _ in range((1, 2, 5, 30)[person % 4]):
                path = folder / f"{number}.png"
                Image.fromarray((scans.images[number] * 15).astype("uint8")).save(path)
                label = str(scans.target[number])
                yield {"path": path.name, "label": label, "domain": domain, "subject": f"{domain}/{person}"}
                number += 1


def manifest(path: Path, lines: list[dict[str, str]], columns: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_per_person_from_manifest_to_verdict(simulate, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines, columns = list(rows(tmp_path)), ("path", "label", "domain", "subject")
    people = manifest(tmp_path / "people.csv", lines, columns)
    ledgers = tmp_path / "ledgers"
    run = simulate(*QUICK, "--data-root", str(people), "--ledger", str(ledgers))
    out = capsys.readouterr().out
    assert run.status == 0
    assert "Privacy spent (per person)" in out
    assert "declared persons" in out

    for name, spent in run.summary["privacy"].items():
        (plan,) = [
            entry.body["privacy"]
            for entry in read_log(run.folder / "logs" / f"{name}.jsonl")
            if entry.type == "session_accepted"
        ]
        (domain,) = {
            subject.partition("/")[0]
            for subject in (one["subject"] for one in csv.DictReader(own_images(run.folder, name)))
        }
        training = [n for n in range(PERSONS) if not is_test(f"{domain}/{n}".encode())]
        assert plan["unit"] == spent["unit"] == "person"
        assert plan["declared_records"] == spent["declared_records"] == declared_records(len(training))
        assert plan["delta"] == 5e-3

    judgement = audit([run.folder])
    assert judgement.verdict is Verdict.VERIFIED
    assert wording.claim(judgement).endswith("for every data set, per person.")
    fields = to_fields(judgement)
    assert {one["unit"] for party in fields["parties"] for one in party["data_sets"]} == {"person"}
    page = to_html(dossier(judgement, [run.folder]))
    assert "Declared persons" in page
    assert "not per person" not in page.partition("explained below")[0]
    logs = b"".join(path.read_bytes() for path in (run.folder / "logs").iterdir())
    assert not any(one["subject"].encode() in logs for one in lines)

    party = run.folder / "parties" / "clinic-1"
    assert run_command(["client", "ledger", "show", "--dir", str(party)]) == 0
    assert "; per person" in " ".join(capsys.readouterr().out.split())
    assert run_command(["client", "ledger", "show", "--dir", str(party), "--json"]) == 0
    assert [one["unit"] for one in json.loads(capsys.readouterr().out)["datasets"]] == ["person"]

    # The same images without the column: another unit, which does not add up.
    plain = manifest(tmp_path / "plain.csv", lines, columns[:3])
    again = simulate(*QUICK, "--data-root", str(plain), "--ledger", str(ledgers), out="again")
    error = capsys.readouterr().err
    assert again.status == 2
    assert "policy rule privacy_unit" in error
    assert "put the column subject back" in error
    assert error.count("\n") == 1


def own_images(folder: Path, name: str) -> list[str]:
    (path,) = (folder / "parties" / name).rglob("images.csv")
    return path.read_text().splitlines()

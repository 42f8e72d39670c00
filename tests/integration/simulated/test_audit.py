"""`fedapt-secure audit` over what a real run leaves: real sockets, keys, noise and logs."""

import json
from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.process.exit_status import ExitStatus

pytestmark = pytest.mark.integration


def audited(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[int, dict]:
    capsys.readouterr()
    status = run(["audit", str(folder), "--json", "--trust", str(folder / "roster.json"), *options])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "options",
    [
        ["--fail", "clinic-3@1:masked_input", "--clients", "4"],
        pytest.param(["--secure-aggregation", "ckks", "--clients", "3"], marks=pytest.mark.slow),
        pytest.param(["--no-dp", "--clients", "3"], marks=pytest.mark.slow),
    ],
)
def test_an_honest_run_is_verified(simulate, capsys, options: list[str]) -> None:
    folder = simulate("--rounds", "2", *options).folder
    status, fields = audited(capsys, folder)
    assert (status, fields["verdict"], fields["findings"]) == (ExitStatus.DONE, "VERIFIED", [])
    assert fields["self_attested"] == ["one operator held all keys and logs of this run"]
    assert fields["not_checked"] == []
    for party in fields["parties"]:
        (log,) = party["logs"]
        assert log["witnessed_line"] > 10
        assert party["closed_sessions"] == 1
        for data_set in party["data_sets"]:
            assert (
                0 < data_set["recomputed"] <= data_set["spent"] <= data_set["planned"] <= data_set["budget"]
            )


def test_noise_that_a_seed_decides_is_never_verified(simulate, capsys) -> None:
    folder = simulate("--rounds", "1", "--clients", "3", "--insecure-deterministic-noise").folder
    status, fields = audited(capsys, folder)
    assert (status, fields["verdict"]) == (ExitStatus.FAILED, "VIOLATED")
    assert {finding["kind"] for finding in fields["findings"]} == {"predictable noise"}


def test_a_changed_run_is_not(simulate, capsys) -> None:
    folder = simulate("--rounds", "1", "--clients", "3").folder
    log = folder / "logs" / "clinic-2.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if '"spend"' in line)
    lines[number] = lines[number].replace('"steps":4', '"steps":3')
    log.write_text("".join(lines))
    status, fields = audited(capsys, folder)
    assert (status, fields["verdict"]) == (ExitStatus.FAILED, "TAMPERED")
    first = fields["findings"][0]
    assert (first["party"], first["line"], first["kind"]) == ("clinic-2", number + 1, "signature")
    assert [p["verdict"] for p in fields["parties"]] == ["VERIFIED", "VERIFIED", "TAMPERED", "VERIFIED"]

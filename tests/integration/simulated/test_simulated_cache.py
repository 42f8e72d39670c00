"""`simulate --cache`: later runs on the same images find the features of earlier ones."""

from pathlib import Path

import pytest

from fedapt_secure.cli.app import run
from fedapt_secure.process.exit_status import ExitStatus

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_a_second_run_encodes_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "features"
    kept = []
    for number, epsilon in enumerate(("8", "4")):
        options = ["--rounds", "1", "--clients", "3", "--dp-epsilon", epsilon, "--cache", str(cache)]
        assert run(["simulate", *options, "--out", str(tmp_path / f"run-{number}")]) == ExitStatus.DONE
        kept.append(sorted(path.relative_to(cache) for path in cache.glob("*/*/*.safetensors")))
    assert kept[0] == kept[1]
    assert {path.parts[0] for path in kept[0]} == {"clinic-1", "clinic-2", "clinic-3"}
    assert not list(tmp_path.glob("run-*/parties/*/cache"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in [cache, *cache.rglob("*")])

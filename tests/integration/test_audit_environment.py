"""An auditor's machine: a fresh environment with requirements-audit.txt and the package, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.harness import federation

ROOT = Path(__file__).parents[2]


def run(*command: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, env=env, cwd="/"
    )


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_an_audit_runs_without_torch(tmp_path: Path) -> None:
    """Takes about a minute, and a package registry."""
    environment, source = tmp_path / "venv", tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in listed:
        origin, copy = ROOT / name, source / name
        if name and origin.is_file() and not origin.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(origin.read_bytes())
    python = environment / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", environment),
        (python, "-m", "pip", "install", *quiet, "-r", source / "requirements-audit.txt"),
        (python, "-m", "pip", "install", *quiet, "--no-deps", source),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    folder = federation(3).save(tmp_path / "run", simulated=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    page = tmp_path / "audit.html"
    audit = (environment / "bin" / "fedapt-secure", "audit", folder)
    done = run(*audit, "--json", "--html", page, "--trust", folder / "roster.json", env=clean)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["verdict"] == "VERIFIED"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert run(environment / "bin" / "fedapt-secure", "audit", "--explain", env=clean).returncode == 0
    assert run(python, "-c", "import torch", env=clean).returncode == 1
    log = folder / "logs" / "clinic-1.jsonl"
    log.write_bytes(log.read_bytes()[:-1])
    assert run(*audit, env=clean).returncode == 1

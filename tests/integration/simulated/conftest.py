"""One shared helper: run the command line in this process, in a folder of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedapt_secure.cli.app import run


@dataclass(frozen=True)
class Run:
    status: int
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text())


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str, out: str = "run") -> Run:
        status = run(["simulate", "--out", out, *arguments])
        return Run(status, tmp_path / out)

    return start

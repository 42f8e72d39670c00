"""One shared helper: run the command line in this process, in a folder of its own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedapt_secure.cli.app import run
from tests.support.digits import DealtDigits, run_folder


@dataclass(frozen=True)
class Run:
    status: int
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text())


@pytest.fixture(scope="session")
def known_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of image features that all simulations share: most deal the same digits."""
    return run_folder(tmp_path_factory, "features")


@pytest.fixture(scope="session")
def known_digits(tmp_path_factory: pytest.TempPathFactory) -> DealtDigits:
    """For all simulations: nobody changes an image of theirs."""
    return DealtDigits(run_folder(tmp_path_factory, "dealt"))


@pytest.fixture
def simulate(
    tmp_path: Path, known_features: Path, known_digits: DealtDigits, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """Run ``simulate``; with ``alone`` as a newcomer does, without features and with the extra [plots]."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str, out: str = "run", alone: bool = False) -> Run:
        shared = () if alone or "--cache" in arguments else ("--cache", str(known_features))
        with pytest.MonkeyPatch.context() as patch:
            if not alone:  # three pictures take as long as the rest of a short run
                patch.setattr("fedapt_secure.simulate.results.summary.can_draw", lambda: False)
                patch.setattr("fedapt_secure.learning.data.dealing.write_digits", known_digits)
                # It audits the whole run; `test_run_report` has runs with it.
                patch.setattr("fedapt_secure.simulate.command.write_report", lambda *_: "none in this test")
            status = run(["simulate", "--out", out, *arguments, *shared])
        return Run(status, tmp_path / out)

    return start

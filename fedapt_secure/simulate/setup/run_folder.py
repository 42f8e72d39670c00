"""Where a simulated run keeps what, and how its folder comes to be."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import make_private_folder
from fedapt_secure.config.simulate import SimulateSettings


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what; everything but ``parties/`` may go to an auditor."""

    path: Path

    @property
    def config(self) -> Path:
        """Everything that was asked for, resolved."""
        return self.path / "config.yaml"

    @property
    def summary(self) -> Path:
        """What came out."""
        return self.path / "summary.json"

    @property
    def roster(self) -> Path:
        """Who took part, with public keys and fingerprints."""
        return self.path / "roster.json"

    @property
    def model(self) -> Path:
        """The finished bundle."""
        return self.path / "model.safetensors"

    @property
    def pictures(self) -> Path:
        """Pictures of what the finished model answers."""
        return self.path / "pictures"

    @property
    def report(self) -> Path:
        """The run as one page."""
        return self.path / "report.html"

    def log(self, name: str) -> Path:
        """A party's log."""
        return self.path / "logs" / f"{name}.jsonl"

    def party(self, name: str) -> Path:
        """A party's own folder."""
        return self.path / "parties" / name


def run_path(settings: SimulateSettings) -> Path:
    """Return where this run is to go."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return settings.out or Path("runs") / f"{stamp}-seed{settings.seed}"


def new_run_folder(path: Path) -> RunFolder:
    """Return the run folder, made and empty.

    Raises:
        InvalidInput: If it exists and holds something, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise InvalidInput(f"the run folder {path} is not empty: choose another with --out")
        (path / "logs").mkdir()
        make_private_folder(path / "parties")
    except OSError as error:
        raise system_error(f"cannot make the run folder {path}", error) from None
    return RunFolder(path)

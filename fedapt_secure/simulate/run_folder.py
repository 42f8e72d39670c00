"""Where a simulated run keeps what."""

from dataclasses import dataclass
from pathlib import Path


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

    def log(self, name: str) -> Path:
        """A party's log."""
        return self.path / "logs" / f"{name}.jsonl"

    def party(self, name: str) -> Path:
        """A party's own folder."""
        return self.path / "parties" / name

"""What documents and example files say is what the code does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fedapt_secure.cli.app import app
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import DEFAULT_EPSILON, SimulateSettings

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "configs" / "simulate.yaml"


def test_the_example_configuration_shows_every_option_with_its_default() -> None:
    shown = build(SimulateSettings, read_yaml(EXAMPLE), source="example")
    assert yaml.safe_load(EXAMPLE.read_text()).keys() == SimulateSettings.model_fields.keys()
    assert shown == SimulateSettings(dp_epsilon=DEFAULT_EPSILON)


def options_of(words: list[str]) -> set[str] | None:
    """Return the options of the command that a line begins with, or nothing if there is no such command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        deeper = getattr(command, "commands", {}).get(word)
        if deeper is None:
            break
        command = deeper
    if getattr(command, "commands", None):
        return None
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "Makefile",
        "docs/tuning.md",
        "docs/ledger.md",
        "docs/cache.md",
        "docs/compare.md",
        "docs/audit.md",
        "docs/enrolment.md",
        "docs/service.md",
        "docs/use.md",
        "docs/gpu.md",
        "docs/institution.md",
        "docs/offline.md",
        "docs/ray.md",
        "docs/unsupervised.md",
    ],
)
def test_shown_commands_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    found = re.findall(
        r"fedapt-secure ((?:simulate|compare|plan|audit|client|server|cache|predict|evaluate|model-info)"
        r"[^\n`#|<;'…]*)",
        text,
    )
    for line in found:
        words = shlex.split(line)
        known = options_of(words)
        assert known is not None, f"{document} shows {line!r}"
        for word in words:
            if word.startswith("--"):
                assert word in known, f"{document}: {line!r}"
    assert found or document not in ("README.md", "docs/enrolment.md")


def test_documents_name_files_that_exist() -> None:
    for document in ("README.md", "SECURITY.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for path in re.findall(
            r"`((?:docs|configs|crypto|tests|fedapt_secure|benchmarks|\.ci)/[\w./-]*)`", text
        ):
            assert (ROOT / path).exists(), f"{document} names {path}"


def test_the_specification_is_up_to_date_with_the_code() -> None:
    command = [sys.executable, str(ROOT / "crypto" / "spec_tables.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run python crypto/spec_tables.py"


def test_the_shipped_model_is_small_enough() -> None:
    weights = ROOT / "fedapt_secure" / "learning" / "tiny_clip" / "open_clip_model.safetensors"
    assert weights.stat().st_size < 8_000_000

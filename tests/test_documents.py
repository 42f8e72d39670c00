"""What documents and example files say is what the code does."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.rooms import modules
from fedapt_secure.cli.app import app
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import DEFAULT_EPSILON, SimulateSettings

ROOT = Path(__file__).parent.parent
ROOMS = ("client", "crypto", "docs", "fedapt_secure", "server")
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


PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md")))
)
INDEX = "docs/README.md"
FOLLOWED = ("docs/deploy.md", "client/RUNBOOK.md", "server/RUNBOOK.md")
"""Their commands are carried out, by `tests/deploy`."""
LINK = re.compile(r"\]\(([^()\s]+)\)")


@pytest.mark.parametrize("document", [page for page in (*PAGES, "Makefile") if page not in FOLLOWED])
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


def links(document: str) -> list[str]:
    """Return where a page's links lead: paths from the root, without what leads out of the project."""
    found = [target for target in LINK.findall((ROOT / document).read_text()) if "://" not in target]
    folder = (ROOT / document).parent
    return [os.path.relpath(folder / target.partition("#")[0], ROOT) for target in found]


@pytest.mark.parametrize("document", PAGES)
def test_links_lead_somewhere(document: str) -> None:
    for target in links(document):
        assert (ROOT / target).exists(), f"{document} links to {target}"


@pytest.mark.parametrize("document", PAGES)
def test_a_page_is_two_clicks_from_the_readme(document: str) -> None:
    if document not in ("README.md", INDEX):
        assert INDEX in links("README.md")
        assert links(INDEX).count(document) == 1, f"{INDEX} has each page in exactly one place"


@pytest.mark.parametrize("document", PAGES)
def test_documents_name_files_that_exist(document: str) -> None:
    if document == "CHANGELOG.md":  # what was there when it was written
        return
    text = (ROOT / document).read_text()
    tops = "docs|configs|client|crypto|server|tests|fedapt_secure|benchmarks|examples|\\.ci"
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"
    for module in re.findall(r"python -m ((?:benchmarks|tests|docs|fedapt_secure)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{document}: {module}"


def defined(path: Path, name: str) -> bool:
    """Return whether ``name``, or ``Class.name``, is defined in a file."""
    body: list[ast.stmt] = ast.parse(path.read_text()).body
    for part in name.split("."):
        found = [one for one in body if getattr(one, "name", None) == part]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def test_the_way_of_a_round_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(steps) > 20
    for path, name in steps:
        assert defined(ROOT / path, name), f"{path}:{name}"
    for module in re.findall(r"`(fedapt_\w+(?:\.\w+)+)`", text):
        assert module in modules()


def test_the_specification_is_up_to_date_with_the_code() -> None:
    command = [sys.executable, str(ROOT / "crypto" / "spec_tables.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run python crypto/spec_tables.py"


def test_the_shipped_model_is_small_enough() -> None:
    weights = ROOT / "fedapt_secure" / "learning" / "tiny_clip" / "open_clip_model.safetensors"
    assert weights.stat().st_size < 8_000_000

"""The Dockerfiles, as far as that is possible without a container engine: form, contents, and RUN lines."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedapt_secure import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / room / "Dockerfile" for room in ("server", "client")]
HOME = "/opt/fedapt-secure"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    rest: str


def instructions(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines()]


def stages(path: Path) -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for instruction in instructions(path):
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def copied(stage: list[Instruction]) -> list[tuple[list[str], str]]:
    """Return the sources of each COPY from the project's folder, and where they go."""
    rests = [one.rest.split() for one in stage if one.name == "COPY" and not one.rest.startswith("--from")]
    return [(words[:-1], words[-1]) for words in rests]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_it_says_that_it_was_not_built_here(path: Path) -> None:
    assert path.read_text().startswith("# Not built here")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_the_last_stage_is_not_root_and_can_be_stopped_and_watched(path: Path) -> None:
    build, last = stages(path)
    named = {one.name: one.rest for one in last}
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", named["USER"])
    assert [one.name for one in last].index("USER") > max(
        i for i, one in enumerate(last) if one.name == "RUN"
    )
    assert named["STOPSIGNAL"] == "SIGTERM"  # and ENTRYPOINT is no shell, which would keep it for itself
    assert json.loads(named["ENTRYPOINT"]) == ["fedapt-secure", path.parent.name]
    assert json.loads(named["CMD"])[0] == "run"
    assert json.loads(named["VOLUME"]) == ["/data"]
    assert json.loads(named["HEALTHCHECK"].split(" CMD ")[1])
    assert [one.rest.split()[0] for one in last if one.name == "COPY"] == ["--from=build"]
    assert all(
        "--constraint" in one.rest or "requirements" in one.rest for one in build if "install" in one.rest
    )


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_exists_and_is_let_through(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for sources, _ in copied(stages(path)[0]):
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in through, source


def test_the_coordinators_pins_are_the_tested_ones() -> None:
    tested = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().split()
        if "==" in line and not line.startswith("#")
    )
    lines = (ROOT / "server" / "requirements.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if "==" in line]
    assert len(pins) >= 4
    assert [(name, version) for name, version in pins if tested.get(name, version) != version] == []
    assert "-r ../requirements-audit.txt" in lines


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not on this machine")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    done = subprocess.run(["hadolint", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_coordinators_image_has_what_a_coordinator_needs(tmp_path: Path) -> None:
    """Do by hand what its first stage does. Takes about a minute, and a package registry."""
    home, source = tmp_path / "installed", tmp_path / "source"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for instruction in stages(DOCKERFILES[0])[0]:
        if instruction.name == "COPY" and not instruction.rest.startswith("--from"):
            *origins, target = instruction.rest.split()
            for origin in origins:
                place = source / target
                if target.endswith("/"):
                    place /= Path(origin).name
                if (ROOT / origin).is_dir():
                    shutil.copytree(
                        ROOT / origin,
                        place,
                        ignore=shutil.ignore_patterns("__pycache__"),
                        dirs_exist_ok=True,  # as COPY does
                    )
                else:
                    place = place / origin if target == "./" and place.is_dir() else place
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / origin, place)
        if instruction.name == "RUN":
            command = instruction.rest.replace(HOME, str(home))
            done = subprocess.run(
                command, shell=True, cwd=source, env=clean, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (command, done.stderr)
    assert done.stdout.splitlines()[-1] == __version__
    program = home / "bin" / "fedapt-secure"
    for arguments in (
        ("server", "init", "--dir", "coordinator"),
        ("server", "invite", "clinic-1", "--domain", "scanner-a", "--dir", "coordinator"),
        ("server", "roster", "--dir", "coordinator"),
        ("audit", "--explain"),
    ):
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (arguments, done.stderr)
    python = home / "bin" / "python"
    # Whatever 'server run' may come to need: every module of the coordinator loads, and none brings torch.
    code = (
        "import importlib, pkgutil, sys, fedapt_server\n"
        "for one in pkgutil.walk_packages(fedapt_server.__path__, 'fedapt_server.'):\n"
        "    importlib.import_module(one.name)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([python, "-c", code], env=clean, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 1

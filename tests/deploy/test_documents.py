"""The documents come with the package: in a wheel, in a checkout, and by their names."""

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.app import run
from fedapt_secure.cli.work.documents import FOLDER, KINDS, documents, find, folder
from tests.deploy.wheels import ROOT, build_wheel


def test_the_package_has_what_the_command_lists() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = f"fedapt_secure.{FOLDER}"
    names = {room: f"{package}.{room}" if room else package for room in KINDS}
    for room, name in names.items():
        assert setuptools["package-data"][name] == list(KINDS[room])
        assert setuptools["package-dir"][name] == (room or ".")
        assert name in setuptools["packages"]
    listed = [name for name in setuptools["packages"] if name.startswith(package)]
    assert sorted(listed) == sorted(names.values())


def test_every_unit_example_and_document_is_among_them() -> None:
    command = ["git", "ls-files", "client", "server", "docs/*.md"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    here = {name for name in known if "/fedapt_" not in name or "/systemd/" in name}
    assert here
    assert here <= {one.name for one in documents()}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("client/RUNBOOK.md", "client/RUNBOOK.md"),
        ("client/RUNBOOK", "client/RUNBOOK.md"),
        ("deploy", "docs/deploy.md"),
        ("deploy.md", "docs/deploy.md"),
        ("fedapt-client.service", "client/systemd/fedapt-client.service"),
        ("server/Dockerfile", "server/Dockerfile"),
        ("README.md", "README.md"),
        ("README", "README.md"),
    ],
)
def test_by_name_or_by_its_end(wanted: str, name: str) -> None:
    assert find(wanted).name == name


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("RUNBOOK.md", "is the end of several: client/RUNBOOK.md, server/RUNBOOK.md"),
        ("passphrase.conf", "is the end of several"),
        ("depoly", "did you mean 'deploy'"),
        ("../../etc/passwd", "there is no document"),
        ("", "there is no document"),
    ],
)
def test_what_is_none_or_several(wanted: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        find(wanted)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(folder())
    assert any(
        line.split(maxsplit=1) == ["docs/deploy.md", "Three institutions, step by step"] for line in lines
    )
    assert run(["docs", "--path"]) == 0
    assert capsys.readouterr().out == f"{folder()}\n"
    assert run(["docs", "gpu.conf"]) == 0
    assert capsys.readouterr().out == find("gpu.conf").path.read_text()
    assert run(["docs", "gpu.conf", "--path"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "gpu.conf"
    assert run(["docs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == [one.name for one in documents()]
    assert run(["docs", "audit.png"]) == 2
    assert "is no text: it lies in" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["environment", pytest.param("target", marks=pytest.mark.slow)])
def test_they_are_in_the_wheel(way: str, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "dist")
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", str(wheel)]
    if way == "environment":
        venv.create(tmp_path / "env", with_pip=False, symlinks=True)
        python, options = (
            tmp_path / "env" / "bin" / "python",
            ["--python", str(tmp_path / "env"), "install", *options],
        )
    else:
        python, options = Path(sys.executable), ["install", "--target", str(tmp_path / "env"), *options]
    subprocess.run([sys.executable, "-m", "pip", *options], check=True)
    # What the program needs to run lies with these tests; what it is, and its documents, come from the wheel.
    [site] = (tmp_path / "env").rglob("fedapt_secure")
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import sys; sys.path[:0] = [{str(site.parent)!r}]; sys.path += {dependencies!r}\n"
        "from fedapt_secure.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [python, "-I", "-c", code, "docs", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert Path(said["folder"]).is_relative_to(tmp_path / "env")
    assert said["documents"] == [one.name for one in documents()]
    for one in documents():
        assert (Path(said["folder"]) / one.name).read_bytes() == one.path.read_bytes()
    [program] = (tmp_path / "env").rglob("bin/fedapt-secure")
    assert program.exists()

"""Paths that no system takes: one line and status 2, in every command and every settings file."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.app import app, run
from fedapt_secure.config.settings import build
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.process.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, check_path
from tests.cli.test_screens import leaves

NEEDED = {
    "plan": ["--epsilon", "8", "--records", "270"],
    "compare": ["--out", "out"],
    "paper": ["ablations-digits", "--out", "out"],
    "predict": ["model", "image"],
    "evaluate": ["model", "--data", "data"],
    "export": ["model", "out", "--to", "onnx"],
    "server invite": ["clinic-1", "--domain", "ink"],
    "server sign": ["request"],
    "server model": ["--out", "out"],
    "server revoke": ["clinic-1"],
    "client enroll": ["join"],
    "client install-cert": ["answer"],
}
"""What a command must be given besides."""
LONG_NAME = "n" * 300
LONG_PATH = "/".join(["d" * 200] * 25)


def commands() -> Iterator[tuple[str, object]]:
    root = typer.main.get_command(app)
    for name in leaves(root):
        command: object = root
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        yield name, command


def path_options() -> Iterator[tuple[str, str]]:
    """Return every option of every command that takes a path, from the commands themselves."""
    for name, command in commands():
        for one in command.params:  # type: ignore[attr-defined]
            annotation = str(getattr(getattr(one, "type_descriptor", None), "annotation", ""))
            if "Path" in annotation and one.opts[0].startswith("-"):
                yield name, one.opts[0]


OPTIONS = sorted(path_options())


def test_they_are_found() -> None:
    assert len(OPTIONS) > 40
    assert ("client status", "--dir") in OPTIONS


@pytest.mark.parametrize(
    "path", [LONG_NAME, f"folder/{LONG_NAME}/file", LONG_PATH], ids=["name", "part", "all"]
)
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=" ".join)
def test_too_long_in_every_option(
    command: str, option: str, path: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = [*command.split(), *NEEDED.get(command, []), option, path]
    assert run(arguments) == ExitStatus.BAD_INPUT
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith(f"error: {option}: the ")
    assert len(err) < 200
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [["audit", LONG_NAME], ["predict", "model", LONG_NAME], ["server", "sign", LONG_NAME]],
    ids=lambda one: one[0],
)
def test_too_long_in_an_argument(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitStatus.BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", [LONG_NAME, LONG_PATH, "zero\0byte"])
@pytest.mark.parametrize("field", ["data", "policy", "ledger", "cache", "log"])
def test_in_settings(field: str, path: str) -> None:
    fields = {"name": "clinic-1", "port": 8443, "data": "data"} | {field: path}
    with pytest.raises(InvalidInput, match=rf"^client.yaml: {field}: "):
        build(ClientSettings, fields, source="client.yaml")


def test_the_longest_that_is_taken(tmp_path: Path) -> None:
    longest = tmp_path / ("ä" * (MAX_NAME_BYTES // 2))
    check_path(longest, "--dir")
    longest.touch()
    with pytest.raises(InvalidInput):
        check_path(Path("ä" * (MAX_NAME_BYTES // 2 + 1)), "--dir")
    whole = "a/" * (MAX_PATH_BYTES // 2)
    check_path(Path(whole), "--dir")
    with pytest.raises(InvalidInput):
        check_path(Path(whole + "/bcd"), "--dir")


PLACES = {
    "server init": "--dir",
    "client status": "--dir",
    "client doctor": "--dir",
    "client run": "--dir",
    "client ledger show": "--dir",
    "client ledger export": "--dir",
    "client csr": "--dir",
    "server run": "--dir",
    "server status": "--dir",
    "cache show": "--dir",
    "audit": "",
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Paths that exist in a way, and cannot be used."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "a file": tmp_path / "file",
        "in a file": tmp_path / "file" / "below",
        "a loop": tmp_path / "loop",
        "in a loop": tmp_path / "loop" / "below",
        "nowhere": tmp_path / "nowhere" / "below",
        "a device": Path(os.devnull),
    }


@pytest.mark.parametrize("place", ["a file", "in a file", "a loop", "in a loop", "nowhere", "a device"])
@pytest.mark.parametrize("command", PLACES)
def test_places_that_cannot_be_used(
    command: str, place: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    option = [PLACES[command]] if PLACES[command] else []
    if (command, place) == ("server init", "nowhere"):
        return  # it makes folders
    status = run([*command.split(), *NEEDED.get(command, []), *option, str(places[place])])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if command == "client doctor" and status == ExitStatus.FAILED:
        assert "wrong" in out
        return
    assert (status, err.count("\n")) == (ExitStatus.BAD_INPUT, 1), (out, err)


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(one, marks=pytest.mark.slow if number % 2 else ())
        for number, one in enumerate(name for name in PLACES if name != "client doctor")
    ],
)
def test_a_folder_of_somebody_else(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    closed = Path(tempfile.gettempdir(), f"closed-{os.getpid()}-{command.replace(' ', '-')}")
    closed.mkdir(mode=0o700)
    try:
        code = (
            f"import os, sys; sys.path[:0] = {sys.path!r}; from fedapt_secure.cli.app import run\n"
            "import fedapt_secure.cli.work.audit, fedapt_secure.cli.work.ledger\n"
            "import fedapt_server.running, fedapt_server.membership.founding, fedapt_client.status\n"
            "import fedapt_secure.learning.data.features.store, fedapt_secure.cli.work.service_report\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "sys.exit(run(sys.argv[1:]))"
        )
        option = [PLACES[command]] if PLACES[command] else []
        arguments = [*command.split(), *NEEDED.get(command, []), *option, str(closed / "below")]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd="/"
        )
    finally:
        closed.rmdir()
    assert (done.returncode, done.stderr.count("\n")) == (ExitStatus.BAD_INPUT, 1), done.stderr

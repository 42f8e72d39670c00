"""Every command on every kind of screen: no failure for its encoding, nothing cut, nothing that steers it."""

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from fedapt_client.membership import rosters
from fedapt_secure.cli.app import app
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.protocol.joining.enrolment import to_file
from tests.client.books.ledgers import MINE, OTHER, images, open_ledger, terms
from tests.support.examples import examples
from tests.support.offices import Office
from tests.support.terminals import Seen, View, glance, look

pytestmark = pytest.mark.integration

ENCODINGS = ("ascii", "cp1252", "latin-1", "utf-8")
ALL = [View(encoding, columns) for encoding in ENCODINGS for columns in (60, 80, 120, None)]
SOME = [View("ascii", 60), View("cp1252", 80), View("latin-1", 120), View("utf-8", 60), View("ascii")]
FEW = [View("ascii", 60), View("cp1252")]
HOSTILE = "ev\n\x1b]0;owned\x07\u202eil"
MARKS = "QXZ"
"""Names share a long prefix and end with one of these letters, which stand nowhere else."""
NAMES = [f"hospital-of-the-northern-provinces-department-of-radiology-{mark}" for mark in MARKS]
DOMAINS = [f"scanner of the northern province's ε wing, [second] floor, room {mark}" for mark in MARKS]

TRAINING = ["--dataset", "folder", "--data-root", "images"]
SHORT = [*TRAINING, "--no-dp", "--rounds", "1", "--local-steps", "1", "--context-tokens", "2"]
COMPARED = ["--out", "compared", "--methods", "zero-shot", "--epsilons", "none"]
COMMANDS: dict[str, list[list[str]]] = {
    "plan": [["--epsilon", "8", "--records", "270"], ["--epsilon", "8", "--records", "270", "--json"]],
    "audit": [
        ["run"],
        ["run", "--json"],
        ["run", "--annex", "annex", "--html", "annex.html"],
        ["run", "--annex", HOSTILE, "--scores", HOSTILE],
        ["--explain"],
        [HOSTILE],
    ],
    "simulate": [SHORT],
    "compare": [[*COMPARED, *TRAINING]],
    "paper": [[], [HOSTILE, "--out", "new"], ["pacs-unseen", "--out", "new", "--data-root", HOSTILE]],
    "predict": [
        ["model.safetensors", "odd"],
        ["model.safetensors", "odd", "--csv"],
        [HOSTILE, HOSTILE],
    ],
    "evaluate": [["model.safetensors", "--data", "odd", "--split", "all"]],
    "export": [["model.safetensors", "new", "--to", HOSTILE], [HOSTILE, HOSTILE, "--to", "open-clip"]],
    "docs": [[], ["--path"], ["--json"], ["client/RUNBOOK.md", "--path"], [HOSTILE]],
    "model-info": [[], ["--model", HOSTILE]],
    "cache show": [["--dir", "run"], ["--dir", HOSTILE]],
    "cache clear": [["--dir", "run", "--model", HOSTILE], ["--dir", "run", "--yes", "--model", "tiny-ε"]],
    "server init": [["--dir", "coordinator"], ["--dir", "new", "--name", HOSTILE]],
    "server invite": [[NAMES[0], "--domain", DOMAINS[0], "--dir", "coordinator"], [HOSTILE, "--domain", "x"]],
    "server enroll": [["--dir", "coordinator"]],
    "server run": [["--dir", "coordinator"], ["--dir", HOSTILE]],
    "server page": [["--dir", "coordinator", "--address", HOSTILE], ["--dir", HOSTILE]],
    "server rehearse": [["--dir", "coordinator"], ["--dir", "coordinator", "--plan", HOSTILE]],
    "server status": [["--dir", "coordinator"]],
    "server model": [
        ["--dir", "run/parties/coordinator", "--out", "bundle"],
        ["--dir", HOSTILE, "--out", HOSTILE],
    ],
    "server sign": [[HOSTILE, "--dir", "coordinator"], ["roster", "--dir", "coordinator"]],
    "server revoke": [[HOSTILE, "--dir", "coordinator"]],
    "server renew": [["--dir", "coordinator"]],
    "server roster": [["--dir", "coordinator"], ["--dir", "coordinator", "--json"]],
    "server passwd": [["--dir", "coordinator", "--remove"], ["--dir", HOSTILE, "--remove"]],
    "client enroll": [[HOSTILE, "--dir", "new"]],
    "client csr": [["--dir", "member", "--request", f"{HOSTILE}.request"]],
    "client install-cert": [["roster", "--dir", "member"], [HOSTILE, "--dir", "member"]],
    "client renew": [["--if-due", "--dir", "member"]],
    "client run": [["--dir", "member", "--approve", HOSTILE], ["--dir", HOSTILE]],
    "client page": [["--dir", "member", "--address", HOSTILE], ["--dir", HOSTILE]],
    "client rehearse": [["--dir", "member"], ["--dir", "member", "--plan", HOSTILE]],
    "client status": [["--dir", "member"], ["--dir", "member", "--json"]],
    "client model": [["--dir", "run/parties/clinic-1"], ["--dir", HOSTILE]],
    "client doctor": [["--dir", "member"]],
    "client passwd": [["--dir", "member", "--remove"]],
    "client roster show": [["--dir", "member", "--file", "roster"]],
    "client roster approve": [["--dir", "member", "--file", "roster", "--fingerprint", HOSTILE]],
    "client ledger show": [["--dir", "member"], ["--dir", HOSTILE]],
    "client ledger history": [["--dir", "member"]],
    "client ledger export": [["--dir", "member"], ["--dir", "member", "--out", f"{HOSTILE}/{HOSTILE}"]],
}
"""What is tried of each command: something that works, and names that nobody should have to see raw."""
HEAVY = {
    "simulate",
    "compare",
    "predict",
    "evaluate",
    "export",
    "client doctor",
    "client model",
    "server model",
    "model-info",
    "audit",
}


def leaves(command: object, name: str = "") -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name
        return
    for child, one in below.items():
        yield from leaves(one, f"{name} {child}".strip())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A coordinator, an institution, images of three domains, a run: all with names that are hard to show."""
    path = tmp_path_factory.mktemp("screens")
    office = Office(path)
    for name, domain in zip(NAMES, DOMAINS, strict=True):
        office.enrol(name, domain)
    (path / NAMES[0]).rename(path / "member")
    (path / "roster").write_bytes(to_file(office.roster()))
    rosters.approve(office.institution("member"), office.roster())
    ledger = open_ledger(path / "member" / "ledger.sqlite")
    ledger.record_plan(terms(), images(1, 2, 3))
    ledger.record_plan(terms(OTHER), images(3, 4))
    ledger.reserve(MINE, 1, 4)
    _make_images(path)
    made = look(["simulate", *COMMANDS["simulate"][0], "--out", "run"], View("utf-8"), path)
    assert made.status == 0, made.text
    shutil.copy(path / "run" / "model.safetensors", path)
    with socket.socket() as rounds, socket.socket() as enrolment:
        for taken, port in ((rounds, office.settings.port), (enrolment, office.settings.enrolment_port)):
            taken.bind(("127.0.0.1", port))  # so that services end at once
        yield path


def _make_images(path: Path) -> None:
    dealt = iter(DOMAINS)
    deal_dataset("digits", 3, 0, None, lambda _: path / "all" / next(dealt))
    for domain in DOMAINS:
        for digit, name in (("zero", "näüght"), ("one", "[bold]one")):
            target = path / "images" / domain / name
            target.mkdir(parents=True)
            for image in sorted((path / "all" / domain / digit).iterdir())[:14]:
                shutil.copy(image, target)
    shutil.rmtree(path / "all")
    shutil.copytree(path / "images", path / "odd")
    (path / "odd" / DOMAINS[0] / "näüght" / f"{HOSTILE}.png").write_bytes(b"no image")


def check(seen: Seen, *, raw_names: bool = False) -> None:
    said = (seen.view, seen.text)
    assert "Traceback" not in seen.raw, said
    ours = {ExitStatus.DONE, ExitStatus.FAILED, ExitStatus.BAD_INPUT, ExitStatus.UNAVAILABLE}
    assert seen.status in ours, said
    assert raw_names or not [one for one in ("\x1b]", "\x07", "\u202e") if one in seen.raw], said
    assert not seen.too_wide, (seen.view, seen.too_wide)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_no_command_is_forgotten() -> None:
    assert sorted(COMMANDS) == sorted(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    for view in SOME:
        seen = glance([*command.split(), "--help"], view)
        check(seen)
        assert seen.status == ExitStatus.DONE
        assert "--help" in seen.text
        assert not re.search(r"[a-z](\.\.\.|…)", seen.text), "nothing is cut"


@pytest.mark.parametrize("command", COMMANDS)
def test_output(command: str, here: Path) -> None:
    views = FEW if command in HEAVY else ALL[:: examples(5, 1)]
    for arguments in COMMANDS[command]:
        for view in views:
            for left in ("new", "compared"):
                shutil.rmtree(here / left, ignore_errors=True)
            seen = glance([*command.split(), *arguments], view)
            # A program that reads CSV from a pipe gets names as they are.
            check(seen, raw_names="--csv" in arguments and view.columns is None)
            assert seen.text.strip()
            if command == "simulate":  # it shows every name; the others have `test_names_that_begin_alike`
                assert seen.status == ExitStatus.DONE, seen.text
                assert set(MARKS) <= set(seen.text), (view, seen.text)


@pytest.mark.parametrize("view", ALL, ids=str)
def test_letters_of_the_field_are_spelt(view: View, here: Path) -> None:
    said = glance(["plan", "--epsilon", "8", "--records", "270", "--rounds", "1"], view).text
    spelt = view.encoding != "utf-8"
    assert ("sigma 0.6" in said, "σ 0.6" in said) == (spelt, not spelt), said
    assert ("epsilon after" in said, "ε after" in said) == (spelt, not spelt)


@pytest.mark.parametrize(
    ("arguments", "views"),
    [
        (["server", "roster", "--dir", "coordinator"], ALL),
        (["server", "status", "--dir", "coordinator"], ALL),
        (["client", "roster", "show", "--dir", "member", "--file", "roster"], ALL),
        (["client", "status", "--dir", "member"], ALL),
        (["evaluate", "model.safetensors", "--data", "odd", "--split", "all"], SOME),
    ],
    ids=lambda one: " ".join(one[:2]) if isinstance(one[0], str) else "",
)
def test_names_that_begin_alike_stay_apart(arguments: list[str], views: list[View], here: Path) -> None:
    for view in views:
        shutil.rmtree(here / "new", ignore_errors=True)
        seen = glance(arguments, view)
        check(seen)
        assert seen.status == ExitStatus.DONE, seen.text
        assert set(MARKS) <= set(seen.text), (view, seen.text)


@pytest.mark.parametrize(
    ("command", "view"),
    [
        pytest.param(command, view, marks=() if command == "plan" or not number else pytest.mark.slow)
        for command in ("plan", "server roster", "client roster show", "client doctor")
        for number, view in enumerate(SOME)
    ],
    ids=str,
)
def test_in_a_process_of_its_own(command: str, view: View, folder: Path) -> None:
    seen = look([*command.split(), *COMMANDS[command][0]], view, folder)
    check(seen)
    assert seen.text.strip()

"""Real disks that are full: every command and service ends with 75 and one line, and goes on afterwards."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from tests.support import warm
from tests.support.disks import SmallDisk, small_disk
from tests.support.offices import free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("disk") / "mounted", 24) as disk:
        yield disk


@pytest.fixture(scope="module")
def federation(disk: SmallDisk) -> Federation:
    """Three institutions and their coordinator, all on the small disk, none of them started."""
    settings = SimulateSettings(rounds=1, clients=3, local_steps=1, dp_epsilon=8.0, out=disk.path / "run")
    federation, port = prepare(settings), free_port()
    connect_institutions(federation, port)
    path = federation.folder.party(COORDINATOR) / SERVER_FILE
    path.write_text(path.read_text().replace("\nport: 0\n", f"\nport: {port}\n"))
    return federation


@pytest.fixture(autouse=True)
def full(disk: SmallDisk, federation: Federation) -> Iterator[None]:
    disk.fill()
    yield
    disk.empty()


def command(*arguments: object) -> list[str]:
    return [*warm.program(), *map(str, arguments)]


def ends(*arguments: object) -> str:
    """Run a command that the full disk ends, and return what it says."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == ExitStatus.UNAVAILABLE, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def before_the_first(federation: Federation, name: str) -> dict[str, bytes]:
    folder = federation.folder.party(name)
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("options", [(), ("--json-log",)], ids=["text", "json"])
def test_a_coordinator_waits_for_room_and_goes_on(
    disk: SmallDisk, federation: Federation, options: tuple[str, ...]
) -> None:
    folder = federation.folder.party(COORDINATOR)
    run = ("server", "run", "--no-enrolment", "--dir", folder, *options)
    assert "free disk space" in ends(*run).splitlines()[-1]
    disk.empty()
    process = subprocess.Popen(command(*run), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "listening" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_an_institution_waits_for_room(disk: SmallDisk, federation: Federation) -> None:
    folder = federation.folder.party("clinic-1")
    assert "free disk space" in ends("client", "run", "--dir", folder).splitlines()[-1]
    disk.empty()
    log = federation.folder.log("clinic-1")
    process = subprocess.Popen(
        command("client", "run", "--dir", folder), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and b'"certificate"' in log.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == ExitStatus.TERMINATED
    process.communicate()


@pytest.mark.parametrize(
    "arguments",
    [
        ("server", "init", "--dir", "{disk}/new"),
        ("simulate", "--out", "{disk}/other"),
        ("compare", "--out", "{disk}/compared"),
        ("client", "ledger", "export", "--dir", "{copy}", "--out", "{disk}/ledger.json"),
        ("server", "roster", "--dir", "{office}", "--export", "{disk}/roster"),
    ],
    ids=" ".join,
)
def test_what_writes_a_file(
    disk: SmallDisk, arguments: tuple[str, ...], tmp_path: Path, elsewhere: dict[str, Path]
) -> None:
    names = {"disk": disk.path} | elsewhere
    said = ends(*(one.format(**names) for one in arguments))
    assert "No space left on device" in said
    assert "free disk space" in said


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, Path]:
    """Folders on another disk, which has room."""
    from tests.client.books.ledgers import images, open_ledger, terms  # noqa: PLC0415
    from tests.support.offices import Office  # noqa: PLC0415

    office = Office(tmp_path)
    office.enrol()
    copy = tmp_path / "copy"
    copy.mkdir()
    open_ledger(copy / "ledger.sqlite").record_plan(terms(), images(1, 2))
    return {"office": office.folder.path, "copy": copy}


def test_nothing_is_lost_on_it(disk: SmallDisk, federation: Federation) -> None:
    before = before_the_first(federation, "clinic-2")
    ends("client", "run", "--dir", federation.folder.party("clinic-2"))
    after = before_the_first(federation, "clinic-2")
    assert {name: content for name, content in after.items() if name in before and "sqlite" not in name} == {
        name: content for name, content in before.items() if "sqlite" not in name
    }


def test_standard_output_on_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("server", "init", "--help"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == ExitStatus.UNAVAILABLE
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_reader_that_has_gone_away() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command("server", "init", "--help"), stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (ExitStatus.READER_GONE, "")


def test_memory_that_the_machine_does_not_have(tmp_path: Path) -> None:
    """A limit on memory looks like a machine that has none left."""
    code = (
        "import resource, sys; from fedapt_secure.cli.app import run\n"
        "from fedapt_secure.cli.work.planning import plan\n"
        "def lacking(*_, **__): return bytearray(1 << 60)\n"
        "plan.print_plan = lacking\n"
        "sys.exit(run(['plan', '--epsilon', '8', '--records', '270']))"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([*warm.program("script"), str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == ExitStatus.UNAVAILABLE, done.stderr
    assert "memory" in done.stderr
    assert done.stderr.count("\n") == 1

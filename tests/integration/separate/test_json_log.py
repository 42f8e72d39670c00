"""``--json-log``: what reaches the log, from whomever, is one JSON object a line; journals hold both."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.process.exit_status import ExitStatus
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from tests.support import warm
from tests.support.offices import free_port

pytestmark = pytest.mark.integration


def objects(text: str) -> list[dict]:
    """Return the lines, each of which must be an object with a time and an event."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(one, dict) for one in found)
    return found


@contextmanager
def party(folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A service whose two streams go to one file, as they go to a journal."""
    journal = folder.parent / f"{folder.name}-{command[0]}.journal"
    with journal.open("w") as stream:
        process = subprocess.Popen(
            [*warm.program(), *command, "run", "--dir", str(folder), "--json-log"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            text=True,
        )
        try:
            yield process, journal
        finally:
            process.kill()
            process.wait()


def federation_in(path: Path) -> Federation:
    federation = prepare(
        SimulateSettings(rounds=1, clients=3, local_steps=1, dp_epsilon=8.0, out=path / "run")
    )
    port = free_port()
    connect_institutions(federation, port)
    settings = federation.folder.party(COORDINATOR) / SERVER_FILE
    settings.write_text(settings.read_text().replace("\nport: 0\n", f"\nport: {port}\n"))
    # Somebody is there who can agree later.
    plan = federation.folder.party(COORDINATOR) / "session.yaml"
    plan.write_text(plan.read_text().replace("return_timeout_s: 0.0", "return_timeout_s: 600.0"))
    return federation


def test_a_whole_session(tmp_path: Path) -> None:
    federation = federation_in(tmp_path)
    names = list(federation.institutions)
    policy = federation.folder.party(names[0]) / "policy.yaml"
    attended = yaml.safe_load(policy.read_text()) | {"unattended": False}
    unattended = policy.read_text()
    policy.write_text(yaml.safe_dump(attended))
    with ExitStack() as stack:
        start = lambda name, side: stack.enter_context(party(federation.folder.party(name), side))
        coordinator, said_by_coordinator = start(COORDINATOR, "server")
        process, said = start(names[0], "client")
        assert process.wait(120) == ExitStatus.BAD_INPUT, "nobody has approved it"
        (offer,) = [one["offer"] for one in objects(said.read_text()) if "offer" in one]
        assert offer["rounds"] == 1
        last = objects(said.read_text())[-1]
        assert (last["level"], last["event"]) == ("error", "error")
        assert offer["hash"] in last["message"]
        policy.write_text(unattended)
        for process, said in [start(name, "client") for name in names]:
            assert process.wait(200) == ExitStatus.DONE, said.read_text()
            assert len(objects(said.read_text())) > 5
            (finished,) = [one["finished"] for one in objects(said.read_text()) if "finished" in one]
            assert Path(finished["model"]).is_file()
        coordinator.terminate()
        assert coordinator.wait(30) == ExitStatus.DONE
        assert len(objects(said_by_coordinator.read_text())) > 5


@pytest.mark.parametrize(
    "arguments",
    [
        "server run --json-log --no-such-option",
        "server run --json-log --dir nowhere",
        "server run --dir nowhere --json-log --log-level loud",
        "server run --json-log --dir " + "n" * 300,
        "server enroll --json --dir nowhere",
        "server enroll --json --for ever",
        "client run --json-log --dir nowhere",
        "client run --json-log --approve x",
        "client run --json-log surplus",
    ],
)
def test_what_goes_wrong_at_the_start(arguments: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*warm.program(), *arguments.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (ExitStatus.BAD_INPUT, "")
    (said,) = objects(done.stderr)
    assert said.keys() == {"time", "level", "event", "message"}
    assert (said["level"], said["event"]) == ("error", "error")


DISTURBED = """
import logging, sys, threading, warnings
import fedapt_secure.cli.options
from fedapt_server import running

def disturbing(*_, **__):
    print("printed by a library", file=sys.stderr)
    sys.stderr.write("half a line, ")
    sys.stderr.write("and its end\\nand \\x1b[31mone more\\n")
    warnings.warn("something is\\ndeprecated", DeprecationWarning)
    logging.getLogger("some.library").error("it broke: %s", "a\\nb")
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("some.library").warning("again")
    logging.getLogger("fedapt_server").info("ours", extra={"event": "ours", "round": 3})
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start(); thread.join()
    raise KeyError("a mistake\\nof ours")

running.run = disturbing
warnings.simplefilter("always")
from fedapt_secure.cli.commands import server
server._settings = server.open_folder = lambda *_: None
sys.argv = ["fedapt-secure", "server", "run", "--json-log"]
from fedapt_secure.cli import main
main()
"""


def test_what_libraries_and_mistakes_say(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(DISTURBED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (ExitStatus.FAILED, "")
    said = objects(done.stderr)
    assert [(one["event"], one["message"]) for one in said] == [
        ("output", "printed by a library"),
        ("output", "half a line, and its end"),
        ("output", "and \x1b[31mone more"),
        ("warning", "DeprecationWarning: something is deprecated"),
        ("library", "it broke: a b"),
        ("library", "again"),
        ("ours", "ours"),
        ("crashed", "ZeroDivisionError: division by zero"),
        ("crashed", "KeyError: 'a mistake\\nof ours'"),
    ]
    assert any("disturbing" in line for line in said[-1]["traceback"])

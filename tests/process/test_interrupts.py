"""Ctrl-C at every moment of a start, by a real signal to a real, cold process: status 130, no traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedapt_secure.process.exit_status import ExitStatus
from tests.support.examples import often

pytestmark = pytest.mark.integration

WAITS = '''
"""Found by every process at its start: waits for the signal when a module begins to be imported.

In short sleeps: Python acts on a signal between two of its instructions, and one that comes just before a
sleep begins does not cut it short.
"""
import os, sys, time

class Waits:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["WAITS_AT"]:
            sys.meta_path.remove(self)
            os.write(int(os.environ["TELLS"]), b"there")
            for _ in range(1200):
                time.sleep(0.05)
        return None

if "WAITS_AT" in os.environ:
    sys.meta_path.insert(0, Waits())
'''
SCRIPT = "import sys; from fedapt_secure.cli import main; sys.exit(main())"
"""What pip installs as the program ``fedapt-secure``."""
MOMENTS = {
    "plan --epsilon 8 --records 270": [
        "fedapt_secure.cli.app",
        "typer",
        "rich",
        "fedapt_secure.cli.commands.server",
        "rich.console",
        "torch",
        "torch._C",
        "numpy",
        "numpy.linalg",
        "opacus",
        "scipy.stats",
    ],
    "simulate": ["pydantic", "open_clip", "torchvision"],
    "client run": ["fedapt_client.books.approval", "pydantic"],
    "server run --json-log": ["pydantic_core", "cryptography"],
}
MODULES = {"fedapt_client": ["pydantic", "yaml"], "fedapt_server": ["pydantic", "cryptography"]}


def interrupted(command: list[str], at: str, folder: Path) -> tuple[int, str]:
    (folder / "sitecustomize.py").write_text(WAITS)
    told, tells = os.pipe()
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": path, "WAITS_AT": at, "TELLS": str(tells)},
        pass_fds=[tells],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(tells)
    try:
        assert os.read(told, 5) == b"there", "it ended before"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        os.close(told)
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize(
    ("command", "at"), often([(command, at) for command, moments in MOMENTS.items() for at in moments], 2)
)
def test_while_a_command_is_loaded(command: str, at: str, tmp_path: Path) -> None:
    status, said = interrupted(["-c", SCRIPT, *command.split()], at, tmp_path)
    assert status == ExitStatus.INTERRUPTED, said
    if "--json-log" in command:
        assert json.loads(said)["event"] == "interrupted"
    else:
        assert said == "interrupted\n"


@pytest.mark.parametrize(
    ("module", "at"), [(module, at) for module, moments in MODULES.items() for at in moments]
)
def test_while_a_party_is_loaded(module: str, at: str, tmp_path: Path) -> None:
    assert interrupted(["-m", module], at, tmp_path) == (ExitStatus.INTERRUPTED, "interrupted\n")


def test_whoever_ignores_it_goes_on(tmp_path: Path) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from fedapt_secure.process import interrupts; interrupts.install()\n"
        "os.kill(os.getpid(), signal.SIGINT); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"


def test_between_imports_work_is_cleaned_up(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from fedapt_secure.process import ending, interrupts\n"
        "interrupts.install()\n"
        "def work():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
        "    finally:\n"
        "        print('cleaned up')\n"
        "sys.exit(ending.guarded(work))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "interrupted\n")

"""People at their desks: the real commands, each in a process of its own, in a folder of the test."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import warm
from tests.support.offices import HOST, free_port

COMMAND = [sys.executable, "-c", "from fedapt_secure.cli import main; main()"]


@dataclass
class Desk:
    """Where the commands run, and how."""

    path: Path
    environment: dict[str, str]

    def run(self, *arguments: object, status: int = 0, text: str = "") -> str:
        """Run a command that must end with a status; return what it printed, errors where it failed."""
        done = subprocess.run(
            [*warm.program(), *map(str, arguments)],
            cwd=self.path,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        if status:
            assert len(done.stderr.strip().splitlines()) <= 1, done.stderr
        return done.stdout if status == 0 else done.stdout + done.stderr

    def json(self, *arguments: object) -> dict:
        return json.loads(self.run(*arguments, "--json"))

    @contextmanager
    def serving(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """``server enroll`` in a process of its own, once it listens."""
        process = subprocess.Popen(
            [*COMMAND, "server", "enroll", "--dir", "coordinator", "--json", *options],
            cwd=self.path,
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            assert json.loads(process.stderr.readline())["event"] == "enrolment_listening"
            yield process
        finally:
            process.terminate()
            process.wait(20)
            process.stderr.close()

    def approve(self, name: str) -> None:
        shown = self.json("client", "roster", "show", "--dir", name)
        self.run("client", "roster", "approve", "--dir", name, "--fingerprint", shown["roster_fingerprint"])

    def join_string(self, name: str, domain: str, *options: str) -> str:
        return self.run(
            "server", "invite", name, "--domain", domain, "--dir", "coordinator", *options
        ).strip()


def at_their_desks(path: Path) -> Desk:
    """Found a federation in a folder, and return the place where its people type."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("FEDAPT_", "HTTP", "http"))
    }
    desk = Desk(path, environment | {"PYTHONPATH": os.pathsep.join(sys.path)})
    desk.run(
        "server", "init", "--dir", "coordinator", "--federation", "demo", "--address", HOST, "--host", HOST,
        "--port", free_port(), "--enrolment-port", free_port(),
    )  # fmt: skip
    return desk

"""A run folder whose parties are started one by one, as processes of their own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from tests.support import warm

HOLD_S = 200.0
"""Longer than anything here takes; only a test that fails waits for it."""


@dataclass
class World:
    """A run folder whose parties are started one by one, as processes."""

    federation: Federation
    port: int
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def party(self, name: str) -> Path:
        return self.federation.folder.party(name)

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.processes.append(process)
        return process

    def coordinator(self) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-m", "fedapt_server", "--dir", str(self.party(COORDINATOR)))

    def client(self, name: str, command: str, *options: str) -> subprocess.Popen[str]:
        return self.start(*warm.program(), "client", command, "--dir", str(self.party(name)), *options)

    def policy(self, name: str, **changes: object) -> None:
        _change(self.party(name) / "policy.yaml", changes)

    def settings(self, name: str, **changes: object) -> None:
        _change(self.party(name) / CLIENT_FILE, changes)

    def entries(self, name: str, kind: str) -> list[dict]:
        path = self.federation.folder.log(name)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [entry["body"] for entry in found if entry["type"] == kind]

    def until(self, holds: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + HOLD_S
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for: {what}"
            time.sleep(0.05)

    def logged(self, party: str, kind: str, /, **fields: object) -> bool:
        return any(body.items() >= fields.items() for body in self.entries(party, kind))


def _change(path: Path, changes: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@contextmanager
def new_world(folder: Path, **settings: object) -> Iterator[World]:
    """Yield a run folder with its parties enrolled; whatever was started has ended afterwards."""
    federation = prepare(SimulateSettings(local_steps=2, dp_epsilon=8.0, out=folder / "run", **settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    connect_institutions(federation, port)
    world = World(federation, port)
    path = world.party(COORDINATOR) / SERVER_FILE
    path.write_text(path.read_text().replace("\nport: 0\n", f"\nport: {port}\n"))
    plan = world.party(COORDINATOR) / "session.yaml"
    plan.write_text(yaml.safe_dump(yaml.safe_load(plan.read_text()) | {"return_timeout_s": 600.0}))
    yield world
    for process in world.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=HOLD_S)
    return process.returncode, out, errors

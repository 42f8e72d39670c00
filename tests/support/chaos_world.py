"""A federation of real processes to be killed, and what must hold in the end, whatever was killed when."""

import json
import multiprocessing
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import yaml

from fedapt_client.membership import rosters
from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.training.kept_models import MODEL_FILE
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.cli.app import run as fedapt_secure
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.config.settings import write_yaml
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import initial_parameters
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import model_hash
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from tests.protocol.federation import DOMAINS, make_plan
from tests.support.chaos_party import HELD, HOLD, STDERR, TRAINED, take_part, update_of
from tests.support.offices import Office
from tests.support.people import COMMAND

COORDINATOR = "coordinator"
INSTITUTIONS = 4
HOLD_S = 120.0
"""Longer than anything here takes; only a test that fails waits for it."""
LOOK_S = 0.001
POLICY = {
    "max_epsilon": 8.0,
    "max_delta": 0.01,
    "session_epsilon": 8.0,  # the one session of this world takes it all
    "session_delta": 0.01,
    "minimum_participants": 3,
    "minimum_institutions_per_key": 1,
    "minimum_records": 0,
    "minimum_persons": 0,
    "aggregation": ["masking", "ckks"],
    "unattended": True,
}

# Institutions are forked from one process that has loaded torch, which takes seconds, and does nothing else.
_light = multiprocessing.get_context("forkserver")
_light.set_forkserver_preload(["tests.support.chaos_party"])


@dataclass
class ChaosWorld:
    """Folders and processes of one federation; a context that leaves no process behind."""

    path: Path
    plan: SessionPlan
    office: Office = field(init=False)
    institutions: dict[str, ForkServerProcess] = field(default_factory=dict)
    coordinator: "subprocess.Popen[bytes] | None" = None
    kills: int = 0

    @classmethod
    def make(cls, path: Path, *, port: int | None = None, **plan: Any) -> "ChaosWorld":
        """Found and enrol; ``port`` is where institutions look for the coordinator, if not at its own."""
        times = {"round_timeout_s": 60.0, "phase_timeout_s": 30.0, "gather_timeout_s": 30.0}
        world = cls(path, make_plan(**(times | plan)))
        write_yaml(world.home(COORDINATOR) / "session.yaml", world.plan, comment="For a test.")
        for name in world.names:
            world.dial(name, port or world.office.settings.port)
        return world

    def __post_init__(self) -> None:
        self.office = Office(self.path)
        settings = self.office.settings.model_copy(update={"health_port": 0})
        (self.home(COORDINATOR) / SERVER_FILE).unlink()
        write_yaml(self.home(COORDINATOR) / SERVER_FILE, settings, comment="For a test.")
        (self.home(COORDINATOR) / "session.yaml").unlink()
        folders = [self.office.enrol(name, DOMAINS[i % len(DOMAINS)]) for i, name in enumerate(self.names)]
        for folder in folders:
            rosters.approve(folder, self.office.roster())
            write_atomically(folder.path / "policy.yaml", yaml.safe_dump(POLICY).encode())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"clinic-{number}" for number in range(1, INSTITUTIONS + 1))

    def home(self, name: str) -> Path:
        return self.path / name

    def dial(self, name: str, port: int) -> None:
        """Let an institution look for the coordinator at a port."""
        path = self.home(name) / CLIENT_FILE
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"port": port}))

    def log(self, name: str) -> Path:
        return self.home(name) / "log.jsonl"

    @contextmanager
    def running(self) -> Iterator["ChaosWorld"]:
        try:
            self.start(COORDINATOR)
            for name in self.names:
                self.start(name)
            yield self
        finally:
            self.stop()

    def start(self, name: str) -> None:
        """Start a party."""
        if name != COORDINATOR:
            self.institutions[name] = _light.Process(
                target=take_part, args=(str(self.home(name)),), daemon=True
            )
            self.institutions[name].start()
            return
        command = [*COMMAND, "server", "run", "--no-enrolment", "--json-log", "--dir", str(self.home(name))]
        with (self.home(name) / STDERR).open("ab") as errors:
            self.coordinator = subprocess.Popen(command, stderr=errors)

    def kill(self, name: str) -> None:
        """End a party's process with SIGKILL: it must have run, and must have died of that."""
        self.kills += 1
        if name == COORDINATOR:
            assert self.coordinator is not None
            self.coordinator.kill()
            assert self.coordinator.wait() == -signal.SIGKILL
            return
        self.institutions[name].kill()
        self.institutions[name].join()
        assert self.institutions[name].exitcode == -signal.SIGKILL

    def stop(self) -> None:
        for process in self.institutions.values():
            process.kill()
            process.join()
        if self.coordinator is not None and self.coordinator.poll() is None:
            self.coordinator.kill()
            self.coordinator.wait()

    def hold(self, name: str, point: str, number: int) -> None:
        """Let an institution wait at the next point of that kind; an earlier hold of it ends."""
        write_atomically(self.home(name) / HOLD, f"{number}:{point}".encode())

    def until_held(self, name: str) -> None:
        held, wanted = self.home(name) / HELD, (self.home(name) / HOLD).read_text()
        self.until(lambda: held.exists() and held.read_text() == wanted, f"{name} held at {wanted}")

    def until(self, holds: Callable[[], object], what: str, seconds: float = HOLD_S) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for: {what}\n{self.complaints()}"
            time.sleep(LOOK_S)

    def entries(self, name: str, *types: str) -> list[dict[str, Any]]:
        """Lines of a log so far, as they are; a line that is being written is left out."""
        if not self.log(name).exists():
            return []
        lines = [
            line for line in self.log(name).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
        ]
        found = [json.loads(line) for line in lines]
        return [entry for entry in found if not types or entry["type"] in types]

    def bodies(self, name: str, kind: str) -> list[dict[str, Any]]:
        return [entry["body"] for entry in self.entries(name, kind)]

    def complaints(self) -> str:
        """The last of what all parties said on standard error."""
        files = [self.home(name) / STDERR for name in (COORDINATOR, *self.names)]
        return "\n".join(f"{f.parent.name}: {f.read_text()[-1500:]}" for f in files if f.exists())

    def until_the_end(self, seconds: float = HOLD_S) -> None:
        """Wait until every institution's process has ended; then stop the coordinator in order."""
        processes = self.institutions.values()
        over = lambda: all(process.exitcode is not None for process in processes)
        self.until(over, "the session ends", seconds)
        assert {name: p.exitcode for name, p in self.institutions.items()} == dict.fromkeys(self.names, 0)
        assert self.coordinator is not None
        self.until(lambda: self.bodies(COORDINATOR, "session_ended"), "the coordinator closes the record")
        self.coordinator.terminate()
        assert self.coordinator.wait(HOLD_S) == 0
        assert "Traceback" not in self.complaints()

    # What must hold in the end.

    def check(self) -> dict[int, tuple[str, ...]]:
        """Check sums, spends, releases and the audit; return each completed round's contributors."""
        completed = self.check_sums()
        for name in self.names:
            self.check_books(name, completed)
        self.check_audit()
        return completed

    def trainings(self, name: str) -> list[dict[str, Any]]:
        path = self.home(name) / TRAINED
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def check_sums(self) -> dict[int, tuple[str, ...]]:
        """Compute the model from what the recorded contributors trained, and compare everybody's with it."""
        plan, blind = self.plan, self.plan.secure_aggregation == "ckks"
        model = initial_parameters(plan.shape, plan.initial_seed)
        completed: dict[int, tuple[str, ...]] = {}
        for ended in self.bodies(COORDINATOR, "round_ended"):
            if ended["status"] != "completed":
                continue
            number, contributors = ended["round"], tuple(ended["contributors"])
            assert number not in completed, "a round counted twice"
            assert 3 <= len(set(contributors)) == len(contributors)
            completed[number] = contributors
            updates = []
            for name in contributors:
                # An attempt after a completed one there is not: the last training of the round is in its sum.
                last = [one for one in self.trainings(name) if one["round"] == number][-1]
                assert blind or last["model"] == model_hash(m.model_to_bytes(model)).hex()
                updates.append(update_of(name, last["training"], plan.shape.size).astype("f8"))
            model = (model.astype("f8") + np.sum(updates, axis=0) / len(updates)).astype("f4")
        bundles = {(self.home(name) / MODEL_FILE).read_bytes() for name in self.names}
        assert len(bundles) == 1
        found = safetensors.numpy.load(bundles.pop())["model"]
        # CKKS adds noise that hides the key; fixed-point sums of these updates are exact.
        np.testing.assert_allclose(found, model, rtol=0, atol=1e-4 * plan.rounds if blind else 0)
        return completed

    def check_books(self, name: str, completed: dict[int, tuple[str, ...]]) -> None:
        """The ledger says at least what was used, and knows every update that was added up, once."""
        with closing(sqlite3.connect(self.home(name) / "ledger.sqlite")) as ledger:
            steps = ledger.execute("SELECT coalesce(sum(steps), 0) FROM reservations").fetchone()[0]
            released = [row[0] for row in ledger.execute("SELECT round FROM releases")]
        used = {one["round"] for one in self.trainings(name)}
        assert steps >= len(used) * self.plan.local_steps
        spent = [body["total_steps"] for body in self.bodies(name, "spend")]
        assert max(spent, default=0) >= len(used) * self.plan.local_steps
        assert len(set(released)) == len(released)
        assert {number for number, contributors in completed.items() if name in contributors} <= set(released)
        assert self.bodies(name, "session_closed"), "everybody gets the record with all signatures"

    def check_audit(self) -> None:
        logs = [str(self.log(name)) for name in (COORDINATOR, *self.names)]
        roster = PartyFolder(self.home(self.names[0])).roster_file
        assert fedapt_secure(["audit", *logs, "--trust", str(roster)]) == 0

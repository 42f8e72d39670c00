"""Run a consortium's processes, kill and restart them, and watch the coordinator from outside.

Institutions are grouped, several a process; a kill ends all of a group at once, and they come back from their
folders. What happens is read from the coordinator's own log.
"""

import json
import multiprocessing
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from fedapt_crypto.roster import COORDINATOR
from tests.soak.consortium import Consortium
from tests.soak.kills import PHASES, Kill, Plan
from tests.soak.party import serve

LOOK_S = 0.05
STOP_S = 30.0
SERVER = (sys.executable, "-c", "from fedapt_secure.cli import main; main()", "server", "run", "--dir")


@dataclass(frozen=True)
class Sample:
    """The coordinator at the end of an attempt at a round."""

    life: int
    number: int
    memory_mib: float
    files: int
    sockets: int


@dataclass
class Tail:
    """New whole lines of a log."""

    path: Path
    offset: int = 0

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


@dataclass
class Play:
    """A soak under way."""

    consortium: Consortium
    groups: int
    plan: Plan
    say: Callable[[str], None] = print
    samples: list[Sample] = field(default_factory=list)
    killed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    faults: list[str] = field(default_factory=list)
    lives: int = 0

    def __post_init__(self) -> None:
        names = self.consortium.roster.names
        self._members = [names[group :: self.groups] for group in range(self.groups)]
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.soak.party"])
        self._parties: dict[int, ForkServerProcess] = {}
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._armed: dict[int, list[Kill]] = {}
        self._closing = self._ended = False

    def run(self, seconds: float) -> None:
        """Play until the session has ended and every institution has left, or for so long."""
        end = time.monotonic() + seconds
        tail = Tail(self.consortium.log(COORDINATOR))
        try:
            self._start_coordinator()
            for group in range(self.groups):
                self._start_group(group)
            while not self._done() and not self.faults:
                if time.monotonic() > end:
                    self.faults.append(f"not over after {seconds:.0f} s")
                    break
                for entry in tail.read():
                    self._heard(entry["type"], entry["body"])
                self._carry_out_due()
                self._notice_deaths()
                time.sleep(LOOK_S)
            self._stop_coordinator()
        finally:
            self._end_all()

    def _done(self) -> bool:
        return self._ended and not self._due and not self._parties

    def _heard(self, type: str, body: dict[str, Any]) -> None:
        match type:
            case "round_started":
                self._arm(self.plan(body["round"], body["attempt"]))
            case "phase":
                self._enter(PHASES.index(body["phase"]))
            case "round_ended":
                self._armed = {}
                self._sample(body["round"])
                self._tell(body)
            case "closing":
                self._closing = True
            case "session_ended":
                self._ended = True

    def _arm(self, kills: list[Kill]) -> None:
        self._armed = {}
        for kill in kills:
            self._armed.setdefault(kill.phase, []).append(kill)
        self._enter(0)

    def _enter(self, phase: int) -> None:
        for kill in self._armed.pop(phase, []):
            self._due.append((time.monotonic() + kill.after_s, lambda kill=kill: self._kill(kill)))

    def _carry_out_due(self) -> None:
        now = time.monotonic()
        ready = [action for at, action in self._due if at <= now]
        self._due = [(at, action) for at, action in self._due if at > now]
        for action in ready:
            action()

    def _kill(self, kill: Kill) -> None:
        """Kill -9, and start again later; not what is down already, and nobody once the rounds are over."""
        if self._closing:
            return
        back: Callable[[], None]
        if kill.target is None:
            if self._coordinator is None:
                return
            self._coordinator.kill()
            self._coordinator.wait()
            self._coordinator, back = None, self._start_coordinator
            self.killed[COORDINATOR] += 1
        else:
            party = self._parties.pop(kill.target, None)
            if party is None:
                return
            party.kill()
            party.join()
            group = kill.target
            back = lambda: self._start_group(group)
            self.killed["institutions"] += len(self._members[group])
            self.killed["groups"] += 1
        self._due.append((time.monotonic() + kill.away_s, back))

    def _start_coordinator(self) -> None:
        self.lives += 1
        errors = (self.consortium.path / "coordinator.err").open("ab")
        command = [*SERVER, str(self.consortium.coordinator), "--no-enrolment", "--log-level", "warning"]
        with errors:
            self._coordinator = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)

    def _start_group(self, group: int) -> None:
        folders = [self.consortium.party(name) for name in self._members[group]]
        errors = self.consortium.path / f"group-{group}.err"
        party = self._context.Process(target=serve, args=(folders, errors), daemon=True)
        party.start()
        self._parties[group] = party

    def _notice_deaths(self) -> None:
        if self._coordinator is not None and self._coordinator.poll() is not None:
            self.faults.append(f"the coordinator ended by itself, status {self._coordinator.returncode}")
        for group, party in list(self._parties.items()):
            if party.exitcode is None:
                continue
            if party.exitcode != 0:
                self.faults.append(f"group {group} ended with status {party.exitcode}: {self.errors(group)}")
            del self._parties[group]

    def errors(self, group: int) -> str:
        """What a group's institutions said last."""
        path = self.consortium.path / f"group-{group}.err"
        return " | ".join(path.read_text().splitlines()[-3:]) if path.exists() else ""

    def _sample(self, number: int) -> None:
        if self._coordinator is None:
            return
        home = Path("/proc") / str(self._coordinator.pid)
        with suppress(OSError):
            status = (home / "status").read_text()
            memory = int(status.partition("VmRSS:")[2].split()[0]) / 1024
            kinds = []
            for handle in (home / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    kinds.append(str(handle.readlink()))
            sockets = sum(kind.startswith("socket:") for kind in kinds)
            self.samples.append(Sample(self.lives, number, memory, len(kinds) - sockets, sockets))

    def _tell(self, body: dict[str, Any]) -> None:
        now = self.samples[-1] if self.samples else None
        state = f"{now.memory_mib:.0f} MiB, {now.files}+{now.sockets} handles" if now else "gone"
        self.say(
            f"round {body['round']}, attempt {body['attempt']}: {body['status']},"
            f" {len(body['contributors'])} of {len(body['participants'])};"
            f" coordinator's life {self.lives}: {state}"
        )

    def _stop_coordinator(self) -> None:
        if self._coordinator is None or self._coordinator.poll() is not None:
            return
        self._coordinator.terminate()
        try:
            status = self._coordinator.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.faults.append("the coordinator does not stop")
            return
        if status != 0:
            self.faults.append(f"the coordinator stopped with status {status}")

    def _end_all(self) -> None:
        for party in self._parties.values():
            party.kill()
            party.join()
        if self._coordinator is not None and self._coordinator.poll() is None:
            self._coordinator.kill()
            self._coordinator.wait()

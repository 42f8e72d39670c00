"""A federation on hosts of their own, set up as its runbooks say: a coordinator, and institutions.

Each is a `Machine` in a network namespace, with the installed program, a user for the service, sudo, and a
service manager. What is typed comes from the runbooks, section by section; only what people tell each other
(a join string, a fingerprint) goes from one to another here.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.machine import Machine
from tests.deploy.networks import Place, joined
from tests.deploy.walkthrough import ROOT, Shell, Step, agree, steps

HOLD_S = 200.0
"""Longer than anything here takes; only a test that fails waits for it."""
PROGRAM = "/opt/fedapt-secure/bin/fedapt-secure"
READ_OUT = "WHAT THE OTHERS READ OUT"
SOONER = r"printf '[Service]\nRestartSec=2s\n'"
"""Like a drop-in of an operator who is in a hurry: the unit says 30 s."""


def section(room: str, heading: str) -> list[Step]:
    """Return the commands of one section of a runbook; those before the first heading are of ``""``."""
    page = ROOT / room / "RUNBOOK.md"
    found, under = steps(page), ""
    headings = {0: ""}
    for number, line in enumerate(page.read_text().splitlines()):
        if line.startswith("## "):
            headings[number] = line[3:]
    kept = []
    for step in found:
        under = headings[max(number for number in headings if number <= step.line)]
        if under == heading:
            kept.append(step)
    assert kept, f"{page.name} has no commands under {heading!r}"
    return kept


@dataclass
class Host:
    """One machine of a federation, and the root shell on it.

    Attributes:
        room: Which runbook is followed: ``client`` or ``server``.
        name: Who is there. machine, shell: Where, and what is typed into.
    """

    room: str
    name: str
    machine: Machine
    shell: Shell
    left: list[Step] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """Its service."""
        return f"fedapt-{self.room}"

    @property
    def folder(self) -> str:
        """The service's folder on its machine."""
        return f"/var/lib/{self.unit}"

    def does(self, command: str, status: int = 0) -> list[str]:
        """Type a command and return what it prints; it must end with a status."""
        ended, printed = self.shell.run(command)
        assert ended == status, f"{self.name}: {command}\n" + "\n".join(printed[-12:])
        return printed

    def turn_to(self, heading: str) -> None:
        """Open the runbook at a section."""
        self.left = section(self.room, heading)

    def follow(self, until: str | None = None) -> None:
        """Do what the page says, as it stands there; stop before the command that begins with ``until``."""
        while self.left and (until is None or not self.left[0].command.startswith(until)):
            step = self.left.pop(0)
            printed = self.does(step.command, step.expected_status)
            assert agree(step.shown, printed), f"{self.name}: {step.command}: {printed}"
        assert until is None or self.left, f"the runbook has no {until!r}"

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its signed log."""
        status, printed = self.shell.run(f"cat {self.folder}/log.jsonl")
        return [json.loads(line) for line in printed] if status == 0 else []

    def bodies(self, kind: str, session: str | None = None) -> list[dict[str, Any]]:
        """Return the bodies of its log's lines of a kind, of one session where one is named."""
        found = [line["body"] for line in self.log() if line["type"] == kind]
        return found if session is None else [body for body in found if body["session"] == session]

    def status(self) -> dict[str, Any]:
        """Return what its ``status`` command says."""
        command = "institution" if self.room == "client" else "coordinator"
        fields: dict[str, Any] = json.loads("\n".join(self.does(f"{command} status --json")))
        return fields


def until(holds: Callable[[], object], what: str, goes_on: Callable[[], object] = lambda: None) -> None:
    """Wait until something holds; anew for as long as what ``goes_on`` returns changes."""
    last, deadline = goes_on(), time.monotonic() + HOLD_S
    while not holds():
        if (now := goes_on()) != last:
            last, deadline = now, time.monotonic() + HOLD_S
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.2)


@dataclass
class Federation:
    """Who takes part.

    Attributes:
        coordinator, institutions: Their hosts.
    """

    coordinator: Host
    institutions: list[Host]

    def begin(self, rounds: int, local_steps: int = 4) -> str:
        """Begin a session, as the coordinator's operator does with an editor; return its name."""
        ahead, now = (f"{self.coordinator.folder}/{name}.yaml" for name in ("plan", "session"))
        self.coordinator.does(f"[ ! -e {ahead} ] || mv {ahead} {now}")
        for name, value in (("rounds", rounds), ("local_steps", local_steps)):
            self.coordinator.does(f"sed -i 's/^{name}: .*/{name}: {value}/' {now}")
        self.coordinator.does("systemctl restart fedapt-server")
        started: str = self.coordinator.bodies("session_started")[-1]["session"]
        return started

    def rounds(self, session: str) -> list[dict[str, Any]]:
        """Return how the completed rounds of a session ended, for the coordinator."""
        ended = self.coordinator.bodies("round_ended", session)
        return [body for body in ended if body["status"] == "completed"]

    def audit(self, folder: Path) -> list[str]:
        """Collect all logs and the roster as a visitor would, have them audited, and return the report."""
        for host in (self.coordinator, *self.institutions):
            host.does(f"mkdir {folder}/{host.name} && cp {host.folder}/log*.jsonl {folder}/{host.name}/")
        first = self.institutions[0]
        first.does(f"cp {first.folder}/roster.json {folder}/")
        return first.does(f"{PROGRAM} audit {folder}/*/log.jsonl --trust {folder}/roster.json")


@contextmanager
def federation(folder: Path, images: Iterable[Path], small_disk_mb: int) -> Iterator[Federation]:
    """Set up a federation without a plan of a session; the institutions' services are not started yet.

    Args:
        folder: For what the machines need.
        images: The images of each institution.
        small_disk_mb: How large the disk is that the last institution's folder has to itself.
    """
    images = list(images)
    with ExitStack() as stack:
        places = stack.enter_context(joined(len(images) + 1))
        coordinator = _host(stack, folder, "server", "coordinator", places, None)
        others = [
            _host(stack, folder, "client", f"clinic-{n}", places, coordinator.machine)
            for n in range(1, len(places))
        ]
        last = others[-1]
        last.does(f"mkdir {last.folder} && mount -t tmpfs -o size={small_disk_mb}m none {last.folder}")
        _found(coordinator)
        for host, source in zip(others, images, strict=True):
            _enrol(coordinator, host, source)
        _approve(others)
        yield Federation(coordinator, others)
        for host in (*others, coordinator):
            host.does(f"systemctl stop {host.unit}")


def _host(
    stack: ExitStack, folder: Path, room: str, name: str, places: list[Place], like: Machine | None
) -> Host:
    place = places[0] if room == "server" else places[int(name.rpartition("-")[2])]
    machine = Machine(folder / name, network=place.name, coordinator=places[0].address)
    machine.prepare(like)
    shell = machine.shell()
    stack.callback(shell.close)
    stack.callback(machine.kill)
    host = Host(room, name, machine, shell)
    host.turn_to("")
    host.follow()
    return host


def _found(coordinator: Host) -> None:
    coordinator.turn_to("Set up")
    coordinator.follow(until="systemctl enable --now")
    # The plan is put in place once everybody is enrolled: a session is of those who are there when it begins.
    coordinator.does(f"cd {coordinator.folder} && mv session.yaml plan.yaml; cd ~")
    coordinator.follow()


def _enrol(coordinator: Host, host: Host, images: Path) -> None:
    domain = f"domain-{'ab'[int(host.name[-1]) % 2]}"
    file = f"{host.name}.join"
    coordinator.does(f"(umask 077; coordinator invite {host.name} --domain {domain} > ~/{file})")
    [join] = coordinator.does(f"cat ~/{file}")
    host.does(f"cp -r {images} /srv/images && chmod -R go+rX /srv/images")
    host.does(f"(umask 077; echo {join} > ~/{file})")  # on a trusted way
    host.shell.names = {"clinic-1": host.name}
    host.turn_to("Set up")
    host.follow(until="institution roster approve")


def _approve(hosts: list[Host]) -> None:
    """Each types what the next one reads out."""
    for host, other in zip(hosts, [*hosts[1:], hosts[0]], strict=True):
        [said] = other.does("institution roster show | sed -n 's/^roster fingerprint *//p'")
        host.shell.names[READ_OUT] = said
        host.follow(until="systemctl enable --now")
        del host.shell.names[READ_OUT]
        drop_in = f"/etc/systemd/system/{host.unit}.service.d"
        host.does(f"mkdir -p {drop_in} && {SOONER} > {drop_in}/sooner.conf && systemctl daemon-reload")

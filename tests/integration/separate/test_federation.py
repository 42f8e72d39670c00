"""A whole federation as its people run it: a coordinator and four institutions, each a process of its own."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from fedapt_secure.learning.data.dealing import DealtDataset, deal_dataset
from tests.support import warm
from tests.support.offices import free_port
from tests.support.people import Desk, at_their_desks

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS, STEPS = 5, 2
HOLD_S = 240.0
"""Longer than anything here takes; only a test that fails waits for it."""


@dataclass
class Federation:
    """The desks, what each institution has to learn from, and which processes run."""

    desk: Desk
    dealt: DealtDataset
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.dealt.institutions)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*warm.program(), *map(str, arguments)],
            cwd=self.desk.path,
            env=self.desk.environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        out, errors = process.communicate(timeout=HOLD_S)
        assert "Traceback" not in errors
        return process.returncode, out, errors

    def status(self) -> dict:
        return self.desk.json("server", "status", "--dir", "coordinator")

    def until_it_runs(self, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + HOLD_S
        while not self.status()["ok"]:
            assert process.poll() is None
            assert time.monotonic() < deadline


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    desk = at_their_desks(tmp_path)
    dealt = deal_dataset("digits", 4, 0, None, lambda name: tmp_path / "images" / name)
    federation = Federation(desk, dealt)
    yield federation
    for process in federation.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def enrol_everybody(federation: Federation) -> None:
    """Do what docs/deploy.md says, up to the first session."""
    desk, dealt = federation.desk, federation.dealt
    home = desk.path / "coordinator"
    with desk.serving():
        for one in dealt.institutions:
            join = desk.join_string(one.name, dealt.domains[one.domain_index])
            desk.run("client", "enroll", join, "--dir", one.name, "--data", one.data)
        for one in dealt.institutions:
            desk.approve(one.name)
            path = desk.path / one.name / "policy.yaml"
            alone = {"minimum_institutions_per_key": 1}  # each has a domain of its own
            path.write_text(yaml.safe_dump({"max_epsilon": 8.0, "max_delta": 0.01} | alone))
            path.chmod(0o600)
    edit(home / "server.yaml", health_port=free_port())
    edit(home / "session.yaml", domains=list(dealt.domains), rounds=ROUNDS, local_steps=STEPS)


def test_five_rounds_by_four_institutions_are_verified(federation: Federation) -> None:
    desk, names = federation.desk, federation.names
    enrol_everybody(federation)
    coordinator = federation.start("server", "run", "--dir", "coordinator", "--json-log")
    federation.until_it_runs(coordinator)

    # Nobody is asked at the first: it is shown the offer, and the hash that all approve.
    status, _, errors = federation.end(federation.start("client", "run", "--dir", names[0]))
    assert status == 2
    [approved] = re.findall(r"--approve ([0-9a-f]{64})", errors)
    running = [federation.start("client", "run", "--dir", name, "--approve", approved) for name in names]
    for name, process in zip(names, running, strict=True):
        status, out, errors = federation.end(process)
        assert status == 0, (name, errors)
        assert "which stay here: FedAPT" in out

    # The service is still there, and says what came of it.
    told = federation.status()
    assert (told["running"], told["state"], told["completed"], told["aborted"]) == (True, "ended", ROUNDS, 0)
    assert told["institutions"] == sorted(names)
    models = {(desk.path / name / "model.safetensors").read_bytes() for name in names}
    assert len(models) == 1
    described = [desk.json("client", "model", "--dir", name) for name in names[:2]]
    assert {one["session"] for one in described} == {told["session"]}
    assert {one["origin"] for one in described} == {described[0]["origin"]}

    # Who has lost its bundle gets the same one from the coordinator.
    lost = desk.path / names[0] / "model.safetensors"
    lost.unlink()
    fetched = desk.json("client", "model", "--dir", names[0], "--out", "fetched.safetensors")
    assert fetched["sha256"] == described[0]["sha256"]
    assert fetched["origin"] != described[0]["origin"]
    assert {(desk.path / "fetched.safetensors").read_bytes()} == models

    coordinator.send_signal(signal.SIGTERM)
    status, _, errors = federation.end(coordinator)
    assert status == 0
    assert json.loads(errors.splitlines()[-1])["event"] == "stopped"

    # Each has a page of what came of it.
    report = (desk.path / "coordinator" / "reports" / f"{told['session']}.html").read_text()
    assert "log: VERIFIED" in report
    assert f"<b>{ROUNDS} of {ROUNDS} rounds</b>" in report
    for name in names:
        own = (desk.path / name / "models" / f"{told['session']}.html").read_text()
        assert all(title in own for title in ("Accuracy by class", "taken for what", "Whose knowledge"))

    for party in ("coordinator", *names):
        shutil.copytree(desk.path / party, desk.path / "evidence" / party, ignore=only_logs)
    logs = sorted((desk.path / "evidence").glob("*/log*.jsonl"))
    roster = desk.path / names[0] / "roster.json"
    status, out, errors = federation.end(federation.start("audit", *logs, "--trust", roster))
    assert status == 0, out + errors
    assert "VERIFIED" in out
    spent = [desk.json("client", "status", "--dir", name)["sessions"][0]["spent"] for name in names]
    assert [one["steps"] for one in spent] == [ROUNDS * STEPS] * len(names)

    # The same evidence with one character of one line changed is not verified.
    path = desk.path / "evidence" / names[1] / "log.jsonl"
    path.write_text(path.read_text().replace('"round":3', '"round":4', 1))
    assert federation.end(federation.start("audit", *logs, "--trust", roster))[0] == 1


def only_logs(folder: str, found: list[str]) -> list[str]:
    return [name for name in found if not name.startswith("log")]

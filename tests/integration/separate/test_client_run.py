"""``client run`` as people use it: own processes, a real coordinator, approval, refusal, what is left."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_secure.learning.bundle import FORMAT_VERSION
from fedapt_secure.simulate.setup.federation import COORDINATOR
from tests.support import warm
from tests.support.worlds import World, end, new_world

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with new_world(tmp_path, rounds=2, clients=4) as world:
        yield world


def test_unattended_approved_not_approved_and_forbidden(world: World) -> None:
    for name in ("clinic-2", "clinic-3"):
        world.policy(name, unattended=False)
    world.policy("clinic-4", minimum_participants=5)
    coordinator = world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")

    # Not approved: shown, exit status 2, one line that says how; the coordinator hears a code and waits.
    status, shown, errors = end(world.client("clinic-2", "run"))
    assert status == 2
    [configuration] = [body["configuration"] for body in world.entries(COORDINATOR, "session_started")]
    assert configuration in shown
    assert all(name in shown for name in world.federation.institutions)
    assert f"client run --approve {configuration}" in errors.splitlines()[-1]
    world.until(lambda: world.logged(COORDINATOR, "left", name="clinic-2"), "the code arrives")
    assert world.entries(COORDINATOR, "left") == [{"name": "clinic-2", "reason": "not_approved"}]
    assert world.entries("clinic-2", "session_accepted") == []

    status, _, errors = end(world.client("clinic-2", "run", "--approve", "0" * 64))
    assert status == 2
    assert "not the one given with --approve" in errors.splitlines()[-1]

    # Forbidden: the rule is named here, in the own log and in the coordinator's.
    status, _, errors = end(world.client("clinic-4", "run"))
    assert status == 2
    assert "policy rule minimum_participants" in errors.splitlines()[-1]
    assert world.logged("clinic-4", "refused", rule="minimum_participants")
    world.until(lambda: world.logged(COORDINATOR, "left", name="clinic-4"), "the refusal arrives")
    assert world.logged(COORDINATOR, "left", name="clinic-4", reason="policy_participants")

    first = world.client("clinic-1", "run", "--json", "--json-log")
    # Approved once, then killed: it does not ask again.
    second = world.client("clinic-2", "run", "--approve", configuration)
    world.until(lambda: world.logged("clinic-2", "session_accepted"), "clinic-2 accepts")
    second.kill()
    end(second)
    second = world.client("clinic-2", "run")
    world.until(lambda: len(world.entries("clinic-2", "session_accepted")) == 2, "clinic-2 accepts again")

    # A second process on the folder is refused, and status says that one is running.
    status, _, errors = end(world.client("clinic-2", "run"))
    assert status == 2
    assert "in use by another process" in errors.splitlines()[-1]
    status, out, _ = end(world.client("clinic-2", "status", "--json"))
    assert status == 0
    assert json.loads(out)["running"] is True

    third = world.client("clinic-3", "run", "--approve", configuration)
    assert end(coordinator)[0] == 0
    for process in (second, third):
        status, out, errors = end(process)
        assert (status, "Traceback" in errors) == (0, False)
        assert "held-out images, which stay here: FedAPT" in out
    status, out, errors = end(first)
    assert status == 0
    finished = json.loads(out)["finished"]
    assert Path(finished["model"]).exists()
    told = [json.loads(line) for line in errors.splitlines()]
    assert {"round_joined", "session_closed"} <= {line["event"] for line in told}
    assert {line["institution"] for line in told} == {"clinic-1"}

    status, out, _ = end(world.client("clinic-3", "status", "--json"))
    described = json.loads(out)
    assert described["running"] is False
    [session] = described["sessions"]
    assert (session["rounds_completed"], session["closed"]) == (2, True)
    assert session["spent"]["steps"] == session["spent"]["max_steps"] == 4

    status, out, _ = end(world.client("clinic-3", "model", "--json"))
    assert status == 0
    assert json.loads(out)["sha256"] == session["bundle"]
    assert json.loads(out)["session"] == session["session"]
    assert (json.loads(out)["bundle_format"], json.loads(out)["method"]) == (FORMAT_VERSION, "fedapt")

    audit = [*warm.program(), "audit", str(world.federation.folder.path / "logs"), "--trust"]
    status, out, errors = end(world.start(*audit, str(world.federation.folder.roster)))
    assert status == 0, out + errors
    assert "VERIFIED" in out


def test_a_coordinator_that_is_away_is_waited_for_and_a_stop_is_clean(world: World) -> None:
    waiting = world.client("clinic-1", "run", "--stay")
    world.until(lambda: world.logged("clinic-1", "disconnected"), "it notices")
    world.coordinator()
    world.until(lambda: world.logged("clinic-1", "session_accepted"), "it comes back by itself")
    waiting.send_signal(signal.SIGTERM)
    status, _, errors = end(waiting)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    said = [line for line in errors.splitlines() if "the coordinator is away" in line]
    assert len(said) == 1, "once, and not at every attempt"
    assert "the coordinator is back" in errors
    settings = yaml.safe_load((world.party("clinic-1") / CLIENT_FILE).read_text())
    status, out, _ = end(world.client(settings["name"], "status"))
    assert status == 0
    assert "running       no" in out


def test_another_preparation_of_images_is_another_model_and_starts_no_session(world: World) -> None:
    plan = world.party(COORDINATOR) / "session.yaml"
    described = yaml.safe_load(plan.read_text())
    described["model_identity"]["mean"] = [0.48, 0.46, 0.41]
    plan.write_text(yaml.safe_dump(described))
    coordinator = world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    status, _, errors = end(world.client("clinic-1", "run"))
    assert status == 2
    assert "mean is [0.5, 0.5, 0.5], the session's [0.48, 0.46, 0.41]" in errors.splitlines()[-1]
    world.until(lambda: world.logged(COORDINATOR, "left", name="clinic-1"), "the refusal arrives")
    assert world.logged(COORDINATOR, "left", name="clinic-1", reason="model_differs")
    assert not world.entries("clinic-1", "session_accepted")
    assert coordinator.poll() is None

"""``client status`` beside the real process: while it works, after SIGKILL, a restart and the end."""

import json
import signal
import sys

import pytest

from fedapt_client.activity import ACTIVITY_FILE
from tests.integration.separate.test_client_run import COORDINATOR, World, end, world

__all__ = ["world"]
pytestmark = [pytest.mark.integration, pytest.mark.slow]
NAME = "clinic-1"


def status(world: World, *options: str) -> str:
    code, out, errors = end(world.client(NAME, "status", *options))
    assert code == 0, errors
    return out


def running(world: World) -> str:
    return next(line for line in status(world).splitlines() if line.startswith("running"))


def told(world: World) -> dict | None:
    return json.loads(status(world, "--json"))["doing"]


def what(world: World) -> str | None:
    path = world.party(NAME) / ACTIVITY_FILE
    return json.loads(path.read_text())["what"] if path.exists() else None


def test_it_tells_the_truth_through_kills_and_restarts(world: World) -> None:
    assert running(world) == "running       no"

    # The coordinator is away, also for the process after a kill, and since the same moment.
    client = world.client(NAME, "run", "--stay")
    world.until(lambda: what(world) == "away", "it notices that nobody is there")
    said = running(world)
    assert said.startswith("running       yes: the coordinator is away, trying again, since ")
    since = said.rpartition(" ")[2]
    client.kill()
    end(client)
    assert running(world) == f"running       no; last: the coordinator is away, trying again, since {since}"
    client = world.client(NAME, "run", "--stay")
    world.until(lambda: (told(world) or {}).get("what") == "away", "the next one, too")
    assert running(world).rpartition(" ")[2] == since

    # It takes part and waits for the others; killed, it says so of the past.
    coordinator = world.coordinator()
    world.until(lambda: what(world) == "ready", "it takes part")
    assert "yes: takes part, waiting for the coordinator, since " in running(world)
    assert (world.party(NAME) / ACTIVITY_FILE).stat().st_mode & 0o777 == 0o600
    client.send_signal(signal.SIGKILL)
    end(client)
    assert "no; last: takes part, waiting for the coordinator, since " in running(world)

    # All are there: it trains to the end, and the log says how far it came.
    clients = [world.client(name, "run") for name in world.federation.institutions]
    seen = set()
    while clients[0].poll() is None:
        seen.add(what(world))
    assert end(coordinator)[0] == 0
    for process in clients:
        assert end(process)[0] == 0
    assert {"training", "aggregating", "concluding"} <= seen, sorted(map(str, seen))
    assert "no; last: the session has ended, since " in running(world)
    fields = json.loads(status(world, "--json"))
    assert (fields["running"], fields["doing"], fields["last"]["what"]) == (False, None, "ended")
    assert fields["sessions"][0]["rounds_completed"] == 2
    assert fields["last"]["session"] == fields["sessions"][0]["session"]


def test_a_session_that_nobody_has_approved(world: World) -> None:
    world.policy(NAME, unattended=False)
    world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    assert end(world.client(NAME, "run"))[0] == 2
    [configuration] = [body["configuration"] for body in world.entries(COORDINATOR, "session_started")]
    said = running(world)
    expected = f"no; last: waiting for approval of the session with the hash {configuration}"
    assert expected in said
    assert said.endswith("stopped: not_approved")


def test_killed_in_the_middle_of_a_round(world: World) -> None:
    """Stopped where it trains, so that it is certain what it was doing when it was killed."""
    script = (
        "import sys, time\n"
        "from fedapt_client.training.learner import Learner\n"
        "Learner.train = lambda *_: time.sleep(600)\n"
        "from fedapt_secure.cli import main\n"
        f"sys.argv = ['fedapt-secure', 'client', 'run', '--dir', {str(world.party(NAME))!r}]\n"
        "main()\n"
    )
    coordinator = world.coordinator()
    world.until(lambda: world.logged(COORDINATOR, "listening"), "the coordinator listens")
    slow = world.start(sys.executable, "-c", script)
    others = [world.client(name, "run") for name in world.federation.institutions if name != NAME]
    world.until(lambda: what(world) == "training", "it trains")
    assert "yes: training, round 1 of 2, since " in running(world)
    slow.kill()
    end(slow)
    assert "no; last: training, round 1 of 2, since " in running(world)
    again = world.client(NAME, "run")
    for process in (coordinator, *others, again):
        assert end(process)[0] == 0
    assert "no; last: the session has ended" in running(world)

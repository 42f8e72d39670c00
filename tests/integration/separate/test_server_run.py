"""``server run`` and ``server status`` as processes: what they say, resume and hand out, and how it stops."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.transport import client_context
from fedapt_server.running import read_plan
from tests.support import warm
from tests.support.attacks import World, is_cut
from tests.support.offices import Office, run

pytestmark = pytest.mark.integration


def fedapt(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*warm.program(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def status(folder: PartyFolder) -> dict:
    done = fedapt("server", "status", "--json", "--dir", str(folder.path))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def events(world: World) -> list[str]:
    return [json.loads(line)["event"] for line in world.stderr.read_text().splitlines()]


def test_from_an_unfinished_session_to_a_finished_model(tmp_path: Path) -> None:
    world = World.make(tmp_path, rounds=1)
    names = world.federation.institutions
    assert status(world.home)["state"] == "waiting"
    with world.running("--no-enrolment"):
        session = world.health()["session"]
        world.process.kill()
        world.process.wait()
    stored = status(world.home)
    assert (stored["running"], stored["state"], stored["session"]) == (False, "unfinished", session)

    async def story() -> None:
        async with world.member("clinic-1"):
            told = await asyncio.to_thread(status, world.home)
            assert told["running"]
            assert told["connected"] == ["clinic-1"]
            assert told["last_seen"].keys() == {"clinic-1"}
            assert told["institutions"] == list(names)
        await asyncio.gather(*(world.institution(name) for name in names))
        context = client_context(world.party("clinic-1"))
        async with world.knocking(context) as waiting:
            # A session that has ended is offered again: its record may not have come.
            await waiting.send(m.Hello(name="clinic-1").to_bytes())
            offer = m.SessionOffer.from_bytes(await waiting.recv())
            assert SessionConfiguration.from_bytes(offer.configuration).session.hex() == session
            async with world.knocking(context) as asking:
                await asking.send(m.ModelRequest(name="clinic-1").to_bytes())
                answer = m.FinishedModel.from_bytes(await asking.recv())
                assert len(m.SessionEnd.from_bytes(answer.end).key_seeds) == len(
                    read_plan(world.home, world.settings).domains
                )
            async with world.knocking(context) as asking:
                await asking.send(m.ModelRequest(name="clinic-2").to_bytes())
                assert await is_cut(asking), "in another's name"

    with world.running():
        assert world.health()["session"] == session, "it goes on where it was"
        run(story())
        world.process.send_signal(signal.SIGTERM)
        assert world.process.wait(20) == 0
    # Whoever was still connected may be seen off between the two.
    said = [one for one in events(world) if one not in ("disconnected", "report")]
    assert said[-2:] == ["stopping", "stopped"]
    assert events(world)[-1] == "stopped", "also where a report was being written"
    assert status(world.home)["completed"] == 1
    done = fedapt("server", "run", "--once", "--no-enrolment", "--dir", str(world.home.path))
    assert done.returncode == 2
    assert "--new-session" in done.stderr.splitlines()[-1]
    with world.running("--new-session"):
        assert world.health()["session"] not in (None, session)


def test_what_is_missing_is_said_and_enrolment_is_served(tmp_path: Path) -> None:
    office = Office(tmp_path)
    command = [sys.executable, "-c", "from fedapt_secure.cli import main; main()", "server", "run", "--dir"]
    settings = office.folder.path / "server.yaml"
    settings.write_text(settings.read_text().replace("# health_port: 9090", "health_port: 0"))
    process = subprocess.Popen([*command, str(office.folder.path)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    try:
        while "no session is open" not in said:
            said += process.stderr.readline()
        second = fedapt("server", "run", "--dir", str(office.folder.path))
        assert second.returncode == 2
        assert "is in use by another process" in second.stderr.splitlines()[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stderr.close()
    assert re.search(r"INFO enrolment listening  host=127\.0\.0\.1 port=\d+", said)
    assert "0 institutions are on the roster, a session needs 3" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--log-level", "loud"), "is not a level"),
        (("--config", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("--dir", "nowhere"), "is not a coordinator's folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    office = Office(tmp_path)
    where = () if "--dir" in arguments else ("--dir", str(office.folder.path))
    done = fedapt("server", "run", *where, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1

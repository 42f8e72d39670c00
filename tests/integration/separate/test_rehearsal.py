"""A session rehearsed before it is offered, by an institution and by the coordinator: real processes."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image

from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import audit
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from tests.support.warm import program

pytestmark = pytest.mark.integration

NAMES = ("clinic-1", "clinic-2", "clinic-3")
LONG_S = 120


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    path = tmp_path_factory.mktemp("rehearsal")
    made = prepare(SimulateSettings(rounds=2, clients=3, local_steps=2, dp_epsilon=8.0, out=path / "run"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    connect_institutions(made, port)
    server = made.folder.party(COORDINATOR) / SERVER_FILE
    server.write_text(server.read_text().replace("\nport: 0\n", f"\nport: {port}\n"))
    for name in NAMES:  # images of its own, in class folders
        client = made.folder.party(name) / CLIENT_FILE
        settings = yaml.safe_load(client.read_text())
        shutil.copytree(settings["data"], path / name)
        client.write_text(yaml.safe_dump(settings | {"data": str(path / name)}))
    return made


def command(federation: Federation, side: str, name: str, *options: str) -> list[str]:
    return [*program(), side, *options, "--dir", str(federation.folder.party(name))]


def run(words: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        env=os.environ | {"COLUMNS": "140"},
    )
    return done.returncode, done.stdout, done.stderr


def images(federation: Federation, name: str) -> Path:
    return Path(yaml.safe_load((federation.folder.party(name) / CLIENT_FILE).read_text())["data"])


def plan(federation: Federation) -> Path:
    return federation.folder.party(COORDINATOR) / "session.yaml"


def lines(federation: Federation, name: str) -> list[dict]:
    path = federation.folder.log(name)
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_an_institution_sees_every_file_the_cost_and_that_nothing_is_spent(federation: Federation) -> None:
    data = images(federation, "clinic-1")
    first = sorted((data / "one").iterdir())[0]
    (data / "notes.txt").write_text("x")
    (data / "loose.png").write_bytes(first.read_bytes()[:-1])
    (data / "one" / "old").mkdir()
    shutil.copy(first, data / "one" / "old" / "deep.png")
    (data / "one" / "broken.png").write_bytes(b"no image")
    shutil.copy(first, data / "one" / "zz-again.png")
    Image.open(first).save(data / "one" / "zz-anew.bmp")
    words = command(federation, "client", "clinic-1", "rehearse", "--plan", str(plan(federation)))
    status, shown, errors = run([*words, "--json"])
    assert (status, json.loads(shown)["reason"]) == (0, None), errors
    found = json.loads(shown)
    unused = {one["name"]: one["reason"].split(":")[0] for one in found["unused"]}
    assert unused.pop("one/broken.png") != ""
    copies = {name for name, why in unused.items() if why == "duplicate"}
    assert len(copies) == 2
    assert copies < {f"one/{first.name}", "one/zz-again.png", "one/zz-anew.bmp"}
    assert {name: why for name, why in unused.items() if name not in copies} == {
        "notes.txt": "not an image's suffix",
        "loose.png": "in no class",
        "one/old/deep.png": "too deep",
    }
    assert found["training"] + found["tests"] == found["records"] - 3  # the broken one, and two duplicates
    assert (found["duplicates"]["merged"], found["duplicates"]["contradictory"]) == (2, 0)
    assert found["policy_source"] == str(federation.folder.party("clinic-1") / "policy.yaml")
    assert found["lacking"] == []
    assert 0 < found["privacy"]["epsilon_planned"] <= 8.0
    assert found["privacy"]["max_steps"] == 4
    assert found["rounds"] == 2
    assert min(found[name] for name in ("encoding_s", "answer_s", "bytes_down", "bytes_up", "disk_bytes")) > 0
    entries = lines(federation, "clinic-1")
    assert [entry["type"] for entry in entries] == ["log_opened", "rehearsed"]
    assert entries[-1]["body"]["reason"] is None
    shown = run(command(federation, "client", "clinic-1", "ledger", "history"))[1]
    assert "rehears" not in shown
    assert run(command(federation, "client", "clinic-1", "ledger", "show", "--json"))[1].count("session") < 40
    status, shown, _ = run(words)
    assert status == 0
    assert "6 files: " in shown
    assert "2 image files are copies of another picture here" in shown
    assert f"policy         {federation.folder.party('clinic-1') / 'policy.yaml'}" in shown
    assert not any(word in json.dumps(entries) for word in ("copies", "duplicate", "merged"))
    assert "ready" in shown.splitlines()[-1]


def test_a_class_without_images_is_told_and_allowed_and_one_with_a_typo_is_refused(
    federation: Federation,
) -> None:
    data = images(federation, "clinic-2")
    words = command(federation, "client", "clinic-2", "rehearse", "--plan", str(plan(federation)))
    (data / "nine").rename(data.parent / "nine")
    status, shown, _ = run([*words, "--json"])
    assert (status, json.loads(shown)["lacking"]) == (0, ["nine"])
    (data.parent / "nine").rename(data / "nein")
    status, shown, errors = run([*words, "--json"])
    assert (status, json.loads(shown)["reason"]) == (2, "classes_differ")
    assert "nein" in errors
    (data / "nein").rename(data / "nine")


def test_the_coordinator_asks_all_and_hears_codes_alone(federation: Federation) -> None:
    policy = federation.folder.party("clinic-3") / "policy.yaml"
    kept = policy.read_text()
    policy.write_text(yaml.safe_dump(yaml.safe_load(kept) | {"minimum_participants": 5}))
    running = {
        name: subprocess.Popen(
            command(federation, "client", name, "run", "--stay"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in NAMES
    }
    try:
        asked = command(federation, "server", COORDINATOR, "rehearse", "--json", "--wait", "2m")
        status, shown, errors = run(asked)
        answers = json.loads(shown)
        assert status == 1, errors
        assert not answers["ready"]
        heard = answers["institutions"]
        reasons = {name: heard[name]["reason"] for name in NAMES}
        assert reasons == {"clinic-1": None, "clinic-2": None, "clinic-3": "policy_participants"}
        assert heard["clinic-2"]["round_s"] > 0
        policy.write_text(kept)
        running["clinic-1"].terminate()
        asked = command(federation, "server", COORDINATOR, "rehearse", "--wait", "5s")
        status, shown, errors = run(asked)
        rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("clinic")}
        assert "no answer" in rows["clinic-1"]
        assert all("ready" in rows[name] for name in NAMES[1:]), shown + errors
    finally:
        for process in running.values():
            process.terminate()
            process.communicate(timeout=LONG_S)
    kinds = [entry["type"] for entry in lines(federation, COORDINATOR)]
    assert kinds == ["log_opened", "rehearsal", "rehearsal"]
    assert "session_accepted" not in {entry["type"] for name in NAMES for entry in lines(federation, name)}
    judged = audit([federation.folder.log(name) for name in (COORDINATOR, *NAMES)])
    assert judged.verdict is Verdict.VERIFIED, judged.findings

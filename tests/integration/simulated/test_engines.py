"""One suite for whatever runs the parties: the same run, the same result, one line where it goes wrong."""

import os
import re
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fedapt_secure.cli.app import run as command
from fedapt_secure.learning.bundle import read_bundle
from fedapt_secure.log.reader import read_log
from fedapt_secure.protocol.parameters import flatten
from tests.integration.simulated.conftest import Run

pytestmark = pytest.mark.integration
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra [ray] is not installed")
RUN = ("--no-dp", "--rounds", "2", "--clients", "3", "--seed", "5")


@pytest.fixture(scope="module", autouse=True)
def _no_nicer_than_others() -> Iterator[None]:
    """Ray's workers would give way to all tests beside them, and take four times as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of two machines that were there before us."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    made.add_node(num_cpus=2)
    yield made.address
    made.shutdown()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run on this machine alone, that every other is held against."""
    folder = tmp_path_factory.mktemp("engines") / "here"
    return Run(command(["simulate", "--out", str(folder), *RUN]), folder)


def parameters(folder: Path) -> np.ndarray:
    bundle = read_bundle(folder / "model.safetensors")
    return flatten(bundle.shape, bundle.parameters)


def without_times(summary: dict) -> dict:
    rounds = [
        {k: v for k, v in one.items() if k not in ("seconds", "bytes_up", "bytes_down")}
        for one in summary["rounds"]
    ]
    return {k: v for k, v in summary.items() if k != "seconds_total"} | {"rounds": rounds}


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param("ray", marks=[needs_ray, pytest.mark.slow]),
        pytest.param("cluster", marks=[needs_ray, pytest.mark.slow]),
    ],
)
def test_the_same_seed_gives_the_same_model_without_dp(simulate, here: Run, engine: str, request) -> None:
    options = {"processes": ["--processes"], "ray": ["--engine", "ray"]}.get(engine)
    if options is None:
        options = ["--engine", "ray", "--ray-address", request.getfixturevalue("cluster")]
        options += ["--client-cpus", "1"]
    there = simulate(*RUN, *options, out="there")
    assert here.status == there.status == 0
    assert (parameters(here.folder) == parameters(there.folder)).all()
    assert without_times(here.summary) == without_times(there.summary)
    assert command(["audit", str(there.folder)]) == 0


def actors_of(folder: Path) -> dict[str, int]:
    """Institution to the process that has its log open."""
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            opened = [str(one.readlink()) for one in (process / "fd").iterdir()]
        except OSError:
            continue
        for path in opened:
            if path.startswith(str(folder / "logs")) and path.endswith(".jsonl"):
                found[Path(path).stem] = int(process.name)
    return found


def when_round(folder: Path, number: int, act) -> threading.Thread:
    """Do something once the coordinator's log says that a round has begun."""

    def wait() -> None:
        log = folder / "logs" / "coordinator.jsonl"
        begun = re.compile(rf'"round":\s*{number}\b.*"round_started"|"round_started".*"round":\s*{number}\b')
        for _ in range(1200):
            if log.exists() and begun.search(log.read_text()):
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@needs_ray
@pytest.mark.slow
def test_a_lost_actor_is_a_dropout_and_comes_back(simulate, tmp_path: Path, capsys) -> None:
    killed = []

    def kill() -> None:
        pid = actors_of(tmp_path / "run")["clinic-2"]
        killed.append(pid)
        os.kill(pid, 9)

    thread = when_round(tmp_path / "run", 2, kill)
    run = simulate(
        "--rounds", "4", "--clients", "4", "--local-steps", "20", "--engine", "ray", "--dp-epsilon", "8"
    )
    thread.join()
    assert run.status == 0
    assert killed
    out = " ".join(capsys.readouterr().out.split())
    assert "clinic-2: its Ray actor was lost" in out
    rounds = run.summary["rounds"]
    assert any("clinic-2" in one["dropped"] or "clinic-2" not in one["participants"] for one in rounds)
    assert "clinic-2" in rounds[-1]["contributors"]
    assert run.summary["away"] == []
    assert run.summary["privacy"]["clinic-2"]["epsilon_spent"] <= 8
    log = list(read_log(run.folder / "logs" / "clinic-2.jsonl"))
    assert [entry.seq for entry in log] == list(range(len(log)))
    assert command(["audit", str(run.folder)]) == 0


@needs_ray
@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--client-cpus", "900"], "do not fit on the Ray cluster", marks=pytest.mark.slow),
        # What needs no Ray comes first: there is none at that address.
        (["--ray-address", "127.0.0.1:1", "--method", "local"], "leave out --engine ray"),
        (["--ray-address", "127.0.0.1:1", "--fail", "clinic-9@1:share"], "clinic-9"),
    ],
)
def test_what_cannot_be_is_one_line(simulate, capsys, options: list[str], says: str) -> None:
    run = simulate(*RUN, "--engine", "ray", *options)
    assert run.status == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error
    assert not run.folder.exists()


@needs_ray
def test_no_cluster_at_the_address_is_one_line(simulate, capsys) -> None:
    run = simulate(*RUN, "--engine", "ray", "--ray-address", "127.0.0.1:1")
    assert run.status == 2
    error = capsys.readouterr().err.strip()
    assert "there is no Ray cluster at 127.0.0.1:1" in error
    assert "\n" not in error

"""Two real sessions over the same party folders, and what happens to a log in between."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fedapt_client import runner
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import SETTINGS_FILE as CLIENT_FILE
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import FedaptError, InvalidInput, RollbackDetected, RunFailed
from fedapt_secure.config.party_folder import PartyFolder, roster_from_json
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.log.reader import LogReader, segments
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.simulate.setup.federation import COORDINATOR, Federation, connect_institutions, prepare
from fedapt_secure.simulate.setup.run_folder import RunFolder
from fedapt_server.service import CoordinatorService
from fedapt_server.session.closing import Closing
from fedapt_server.settings import SETTINGS_FILE as SERVER_FILE
from fedapt_server.settings import ServerSettings
from tests.support.copies import copy_folder

pytestmark = pytest.mark.integration


@dataclass
class World:
    """A run folder in which session after session is played, each party started anew."""

    federation: Federation

    @property
    def logs(self) -> Path:
        return self.federation.folder.path / "logs"

    def session(
        self,
        coordinator: Callable[[ServerSettings], ServerSettings] = lambda settings: settings,
        institution: Callable[[ClientSettings], ClientSettings] = lambda settings: settings,
        stay: tuple[str, ...] | None = None,
    ) -> dict[str, FedaptError | None]:
        """Play a session with those who ``stay``; return how each party ended."""
        return asyncio.run(self._session(coordinator, institution, stay or self.federation.institutions))

    async def _session(self, change_server, change_client, stay) -> dict[str, FedaptError | None]:
        folder = self.federation.folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        connect_institutions(self.federation, port)
        home = folder.party(COORDINATOR)
        server = build(ServerSettings, read_yaml(home / SERVER_FILE), source="x")
        plan = build(SessionPlan, read_yaml(home / server.session), source="x")
        server = change_server(server.model_copy(update={"port": port}))
        ends: dict[str, FedaptError | None] = {}

        async def play(name: str, run: Callable[[], object]) -> None:
            try:
                await run()
                ends[name] = None
            except FedaptError as error:
                ends[name] = error

        def institution(name: str) -> InstitutionRunner:
            party = folder.party(name)
            settings = build(ClientSettings, read_yaml(party / CLIENT_FILE), source="x")
            return InstitutionRunner(party, change_client(settings), retry_for_s=5.0)

        service = CoordinatorService(PartyFolder(home), server, plan, again=True)
        serving = asyncio.create_task(play(COORDINATOR, service.run))
        others = [asyncio.create_task(play(name, institution(name).run)) for name in stay]
        done, _ = await asyncio.wait([serving, *others], timeout=60, return_when=asyncio.FIRST_EXCEPTION)
        for task in {serving, *others} - done:
            task.cancel()
        await asyncio.gather(serving, *others, return_exceptions=True)
        return ends

    def restore(self, name: str, copy: Path) -> None:
        """Put an old copy of one party's log back."""
        for file in self.logs.glob(f"{name}.*"):
            file.unlink()
        for file in copy.glob(f"{name}.*"):
            shutil.copy(file, self.logs / file.name)

    def problems(self) -> list[str]:
        roster = roster_from_json(self.federation.folder.roster.read_bytes(), Path("roster.json"))
        found = []
        for name in (COORDINATOR, *roster.names):
            reader = LogReader(segments(self.logs / f"{name}.jsonl"), identity=roster.identity_key(name))
            for _ in reader.entries():
                pass
            found += [problem.message for problem in reader.problems]
        return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Dealt and enrolled once; each test gets a copy, and features stay where all find them."""
    path = tmp_path_factory.mktemp("prepared")
    settings = SimulateSettings(
        rounds=1, clients=3, no_dp=True, local_steps=1, out=path / "run", cache=path / "features"
    )
    federation = prepare(settings)
    plan = federation.folder.party(COORDINATOR) / "session.yaml"
    plan.write_text(plan.read_text().replace("gather_timeout_s: 30.0", "gather_timeout_s: 3.0"))
    return federation


@pytest.fixture
def world(prepared: Federation, tmp_path: Path) -> World:
    copy_folder(prepared.folder.path, tmp_path / "run")
    return World(replace(prepared, folder=RunFolder(tmp_path / "run")))


@pytest.mark.slow  # three sessions
def test_session_after_session_goes_on_in_one_log(world: World, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        assert set(world.session().values()) == {None}
        assert world.problems() == []
        for name in (COORDINATOR, *world.federation.institutions):
            text = (world.logs / f"{name}.jsonl").read_text()
            assert text.count('"type":"session_closed"') == count
            assert text.count('"type":"log_opened"') == 1


@pytest.mark.parametrize(
    "kind", ["cut", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("older copy", "new"))]
)
def test_an_institutions_log_that_went_back(world: World, tmp_path: Path, kind: str) -> None:
    world.session()
    old = shutil.copytree(world.logs, tmp_path / "old")
    world.session()
    path = world.logs / "clinic-2.jsonl"
    newest = path.read_bytes()
    if kind == "cut":
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-8]))
    elif kind == "older copy":
        world.restore("clinic-2", old)
    else:
        path.unlink()
    ends = world.session()
    assert isinstance(ends["clinic-2"], RollbackDetected)
    assert "put its newest copy back" in str(ends["clinic-2"])
    assert "\n" not in str(ends["clinic-2"])
    assert '"error":"RollbackDetected"' in path.read_text()
    assert '"type":"left"' in (world.logs / "coordinator.jsonl").read_text()
    assert isinstance(ends[COORDINATOR], RunFailed), "two of three are not enough"

    path.write_bytes(newest)
    assert set(world.session().values()) == {None}, "with the newest copy back all is well"
    assert world.problems() == []


def test_the_coordinators_log_that_went_back(world: World, tmp_path: Path) -> None:
    world.session()
    old = shutil.copytree(world.logs, tmp_path / "old")
    world.session()
    newest = (world.logs / "coordinator.jsonl").read_bytes()
    world.restore(COORDINATOR, old)
    ends = world.session()
    assert isinstance(ends[COORDINATOR], RollbackDetected)
    assert "coordinator.jsonl lacks a line" in str(ends[COORDINATOR])
    assert any("rolled back" in str(end) for end in ends.values())
    (world.logs / "coordinator.jsonl").write_bytes(newest)
    assert set(world.session().values()) == {None}


@pytest.mark.slow  # several sessions
def test_a_coordinator_that_begins_a_new_log_is_told_of_the_old_one(world: World) -> None:
    world.session()
    path = world.logs / "coordinator.jsonl"
    path.unlink()
    ends = world.session()
    assert isinstance(ends[COORDINATOR], RollbackDetected)
    head = str(ends[COORDINATOR]).rpartition("log_continues: ")[2].partition("'")[0]
    path.unlink()
    ends = world.session(lambda settings: settings.model_copy(update={"log_continues": head}))
    assert set(ends.values()) == {None}, "a loss that is owned up to is no obstacle"
    assert world.problems() == []
    assert head.partition(":")[0] in path.read_text().splitlines()[0]


@pytest.mark.slow  # two sessions
def test_an_institution_owns_up_to_a_lost_log(world: World) -> None:
    world.session()
    path = world.logs / "clinic-3.jsonl"
    path.unlink()
    told = str(world.session()["clinic-3"])
    head = told.rpartition("log_continues: ")[2].partition("'")[0]
    path.unlink()

    def change(settings: ClientSettings) -> ClientSettings:
        own = settings.name == "clinic-3"
        return settings.model_copy(update={"log_continues": head if own else None})

    assert set(world.session(institution=change).values()) == {None}
    assert world.problems() == []


def test_a_coordinator_that_is_gone_before_the_record_comes(world: World, monkeypatch) -> None:
    """Institutions have finished and signed: they end in peace, and say that the record is missing."""

    def gone(closing: Closing, head: object) -> None:
        raise RunFailed("power cut")

    monkeypatch.setattr(Closing, "message", gone)
    monkeypatch.setattr(runner, "CLOSE_RETRY_S", 0.3)
    ends = world.session()
    assert isinstance(ends.pop(COORDINATOR), RunFailed)
    assert set(ends.values()) == {None}
    for name in world.federation.institutions:
        text = (world.logs / f"{name}.jsonl").read_text()
        assert '"type":"not_closed"' in text
        assert '"type":"session_closed"' not in text
    monkeypatch.undo()
    assert set(world.session().values()) == {None}
    assert world.problems() == []


def test_a_log_in_use_is_refused(world: World) -> None:
    party = world.federation.folder.party("clinic-1")
    connect_institutions(world.federation, 1)
    settings = build(ClientSettings, read_yaml(party / CLIENT_FILE), source="x")
    first = InstitutionRunner(party, settings)
    with pytest.raises(InvalidInput, match="in use by another process"):
        InstitutionRunner(party, settings)
    with contextlib.suppress(Exception):
        first._log.close()


@pytest.mark.slow  # two sessions
def test_a_torn_tail_from_a_crash_does_not_stop_the_next_session(world: World) -> None:
    world.session()
    for name in (COORDINATOR, "clinic-1"):
        with (world.logs / f"{name}.jsonl").open("ab") as stream:
            stream.write(b'{"seq":999,"time"')
    assert set(world.session().values()) == {None}
    assert world.problems() == []
    assert '"type":"torn_tail"' in (world.logs / "clinic-1.jsonl").read_text()

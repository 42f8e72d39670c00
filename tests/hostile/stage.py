"""A federation as `simulate` sets it up and runs it, over real sockets and TLS, with a lie in it.

All in one process. Real are the run folder, enrolment, certificates, the coordinator's service and store,
every institution's shell, ledger, log and policy, secure aggregation, and the audit. Two things are not:
training is a fixed update for each institution and round, so that the right model can be computed; and time,
see `meter`.
"""

import asyncio
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
from rich.console import Console

from fedapt_client import conduct
from fedapt_client.runner import InstitutionRunner
from fedapt_client.session.kept_model import KeptModel
from fedapt_client.session.states import State
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_secure.audit.judgement import Judgement, audit
from fedapt_secure.audit.report.text import print_report
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.simulate.engines import tasks
from fedapt_secure.simulate.engines.tasks import TaskEngine
from fedapt_secure.simulate.setup.federation import Federation, connect_institutions, prepare
from fedapt_secure.simulate.setup.run_folder import RunFolder
from tests.hostile.liar import Lie, LyingCoordinator, LyingOutbox
from tests.hostile.meter import Counted, Meter
from tests.support.copies import copy_folder
from tests.world.watched import Trainer

LOOK_S: Final = 0.002
WAIT_FOR_S: Final = 120.0
"""Nothing takes so long: a party that is still not at rest then hangs, which is a failure."""
ROUNDS: Final = 2


def prepare_run(folder: Path, scheme: str, institutions: int) -> Federation:
    """Set a federation up, once for all sessions that are to be played with it."""
    settings = SimulateSettings(
        clients=institutions,
        rounds=ROUNDS,
        local_steps=1,
        context_tokens=1,
        shared_context=True,
        secure_aggregation=scheme,
        no_dp=scheme == registry.NONE,
        dp_delta=None if scheme == registry.NONE else 1e-3,
        device="cpu",
        out=folder,
    )
    return prepare(settings, engine=TaskEngine())


def update_of(name: str, number: int, size: int) -> np.ndarray:
    """What an institution's training returns in a round."""
    seed = [int(name.rpartition("-")[2]), number]
    return np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32)


class _Learner(Trainer):
    """In place of training; the world's trainer knows no rounds."""

    def __init__(self, settings: Any, _: Path, configuration: SessionConfiguration, *__: object) -> None:
        steps = configuration.planned_steps(settings.name)
        super().__init__(settings.name, steps, lambda parameters: parameters, lambda model: None)
        self._private = configuration.plan.differential_privacy

    @property
    def privacy_plan(self) -> Any:
        return super().privacy_plan if self._private else None

    def budget(self, steps_spent: int) -> Any:
        return super().budget(steps_spent) if self._private else None

    def train(self, parameters: np.ndarray, domain_key: np.ndarray, round_number: int) -> np.ndarray:
        return update_of(self.name, round_number, parameters.size)


@dataclass(frozen=True)
class Ending:
    """How a session ended.

    Attributes:
        folder: The run's folder. configuration: The session.
        models: What each institution holds, the session's first where it has verified nothing.
        ended_with: The error with which each institution's process ended; ``None`` for none.
        waiting: Who had not ended when nothing was left to happen.
        sums: What the coordinator came to know: the model and the survivors of each unmasked sum.
    """

    folder: RunFolder
    configuration: SessionConfiguration
    models: Mapping[str, KeptModel]
    ended_with: Mapping[str, BaseException | None]
    waiting: frozenset[str]
    sums: tuple[tuple[bytes, tuple[str, ...]], ...]

    def lines(self, party: str, *types: str) -> list[dict[str, Any]]:
        """Return the bodies of a party's log lines of some types."""
        raw = self.folder.log(party).read_bytes().splitlines()
        found = [json.loads(line) for line in raw]
        return [line["body"] | {"line": line["type"]} for line in found if line["type"] in types]

    def judged(self) -> tuple[Judgement, str]:
        """Have all logs audited; returns the judgement, and what `fedapt-secure audit` prints of it."""
        judgement, out = audit([self.folder.path]), io.StringIO()
        print_report(Console(file=out, width=4000, color_system=None), judgement)
        return judgement, out.getvalue()


class Stage:
    """One session of a federation under one lie.

    Args:
        prepared: The federation; it is copied.
        folder: Where to.
        lie: What the coordinator does otherwise.
    """

    service: LyingCoordinator

    def __init__(self, prepared: Federation, folder: Path, lie: Lie) -> None:
        copy_folder(prepared.folder.path, folder)
        self.federation = replace(prepared, folder=RunFolder(folder))
        self.names = prepared.institutions
        self.meters = {name: Meter() for name in self.names}
        self.lie = lie
        self.runners: dict[str, InstitutionRunner] = {}
        self.sums: list[tuple[bytes, tuple[str, ...]]] = []
        lie.stage = self

    def tell(self, name: str, message: Any) -> None:
        """Send an institution a message besides, past the lie."""
        outbox = self.service._outboxes.get(name)
        if isinstance(outbox, LyingOutbox):
            outbox.put_frame(message.to_bytes())

    def play(self) -> Ending:
        """Run the session until nothing is left to happen.

        Raises:
            TimeoutError: If somebody hangs.
        """
        with self._parts():
            asyncio.run(asyncio.wait_for(self._run(), WAIT_FOR_S))
        configuration = self.service._stored.configuration
        return Ending(
            self.federation.folder,
            configuration,
            {name: self._kept(name, configuration) for name in self.names},
            self._errors,
            frozenset(self._waiting),
            tuple(self.sums),
        )

    def _kept(self, name: str, configuration: SessionConfiguration) -> KeptModel:
        kept = self.runners[name]._books.past(configuration).kept
        first = configuration.plan.initial_model()
        return kept if kept is not None else KeptModel(first, b"")

    @contextmanager
    def _parts(self) -> Iterator[None]:
        stage = self

        class Service(LyingCoordinator):
            pass

        class Posted(LyingOutbox):
            pass

        class Runner(InstitutionRunner):
            def __init__(self, folder: Path, *arguments: Any, **named: Any) -> None:
                super().__init__(folder, *arguments, **named)
                stage.runners[folder.name] = self

            async def _talk(self, connection: Any) -> None:
                meter = stage.meters[self._settings.name] = Meter(connected=True)
                try:
                    await super()._talk(Counted(connection, meter))
                finally:
                    meter.connected, meter.away = False, True

        Service.stage = Posted.stage = self
        right = MaskingCoordinator.close_phase

        def close_phase(machine: MaskingCoordinator) -> Any:
            payloads = right(machine)
            if machine.aggregate is not None:
                stage.sums.append((machine._context.model_hash, machine.contributors))
            return payloads

        with ExitStack() as stack:
            for patch in (
                mock.patch.object(tasks, "CoordinatorService", Service),
                mock.patch.object(tasks, "InstitutionRunner", Runner),
                mock.patch.object(conduct, "Learner", _Learner),
                mock.patch("fedapt_server.service.Outbox", Posted),
                mock.patch.object(MaskingCoordinator, "close_phase", close_phase),
            ):
                stack.enter_context(patch)
            yield

    async def _run(self) -> None:
        folder, count = self.federation.folder, len(self.names)
        coordinator = asyncio.create_task(tasks.coordinator(folder.party(COORDINATOR)))
        port = await self._listening(coordinator)
        connect_institutions(self.federation, port)
        institutions = {
            name: asyncio.create_task(tasks.institution(folder.party(name), count), name=name)
            for name in self.names
        }
        coordinator = await self._until_rest(coordinator, institutions, partial(self._again, port))
        self._waiting = {name for name, task in institutions.items() if not task.done()}
        everybody = [coordinator, *institutions.values()]
        for task in everybody:
            task.cancel()
        ends = await asyncio.gather(*everybody, return_exceptions=True)
        if isinstance(ends[0], Exception) and not isinstance(ends[0], FedaptError):
            raise ends[0]  # a mistake in a lie, or one of the coordinator's own
        self._errors = {
            name: None
            if isinstance(end, asyncio.CancelledError) or not isinstance(end, BaseException)
            else end
            for name, end in zip(institutions, ends[1:], strict=True)
        }

    async def _listening(self, coordinator: "asyncio.Task[None]") -> int:
        log = self.federation.folder.log(COORDINATOR)
        while not coordinator.done():
            raw = log.read_bytes().splitlines() if log.exists() else []
            ports = [json.loads(line)["body"]["port"] for line in raw if b'"type":"listening"' in line]
            if ports:
                return int(ports[-1])
            await asyncio.sleep(LOOK_S)
        coordinator.result()
        raise AssertionError("the coordinator does not listen")

    async def _again(self, port: int, ended: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """Start the coordinator again after a crash, on the port that everybody knows."""
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        folder = self.federation.folder.party(COORDINATOR)
        settings = folder / "server.yaml"
        settings.write_text(settings.read_text().replace("port: 0", f"port: {port}", 1))
        return asyncio.create_task(tasks.coordinator(folder))

    async def _until_rest(self, coordinator: Any, institutions: Mapping[str, Any], again: Any) -> Any:
        while True:
            await asyncio.sleep(LOOK_S)
            running = {name for name, task in institutions.items() if not task.done()}
            if self.service.crashed:
                coordinator = await again(coordinator)
                while self.service.crashed and not coordinator.done():
                    await asyncio.sleep(LOOK_S)
                self.service.crashed = (
                    False  # also where there is nothing to go on with: the session has ended
                )
            elif coordinator.done():
                if all(self.meters[name].away and not self._has_ended(name) for name in running):
                    return coordinator  # they look for a coordinator that is gone for good
            elif self._quiet(running):
                if not self.service.armed:
                    return coordinator
                self.service.ring()

    def _has_ended(self, name: str) -> bool:
        return self.runners[name]._conduct.session.state is State.ENDED

    def _quiet(self, running: set[str]) -> bool:
        connected = {name for name, meter in self.meters.items() if meter.connected}
        return (
            not self.service.busy
            and connected == running == set(self.service._outboxes)
            and all(self.meters[name].at_rest for name in running)
        )

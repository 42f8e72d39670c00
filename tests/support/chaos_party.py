"""A light institution for tests that kill it: the real shell, protocol, ledger and log, but no images.

In place of `Learner` stands one that returns updates which tests can compute: each training draws a fresh
one, and writes down durably which before it is used. The process stops at the point that the file ``hold`` in
its folder names, says so in ``held``, and goes on when ``hold`` says something else; so it can be killed, or
the coordinator while it waits for this institution, at a known point and not at a guessed time.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from websockets.asyncio.client import ClientConnection

from fedapt_client import conduct
from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.runner import InstitutionRunner, run_until_stopped
from fedapt_client.session.actions import Send
from fedapt_client.settings import SETTINGS_FILE, ClientSettings
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.learner import Concluded
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.data.reading.unused import Usage
from fedapt_secure.learning.evaluation.scores import Scores
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.privacy.budget import PrivacyBudget, PrivacyPlan, SessionShare
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration, model_hash

RECORDS, DELTA, NOISE_MULTIPLIER, EPSILON = 270, 1e-3, 4.0, 8.0
HOLD, HELD, TRAINED, STDERR = "hold", "held", "trained.jsonl", "stderr.txt"
TRAINING, CLOSING = "training", "closing"
LOOK_S = 0.005
_GRID = 2.0**-12
"""Updates are whole multiples of it: the fixed-point encoding holds them exactly."""


def update_of(name: str, training: int, size: int) -> np.ndarray:
    """Return what an institution's n-th training gives; every one is different."""
    rng = np.random.default_rng([int(name.split("-")[1]), training])
    return (rng.integers(-512, 513, size) * _GRID).astype(np.float32)


class HoldingPoint:
    """Waits where a file says so.

    Args:
        folder: Where ``hold`` is read and ``held`` is written. In ``hold`` stands NUMBER:POINT.
    """

    def __init__(self, folder: Path) -> None:
        self._hold, self._held = folder / HOLD, folder / HELD

    def holds(self, point: str) -> bool:
        """Whether to wait at a point; says so in ``held`` if that is new."""
        wanted = self._hold.read_text() if self._hold.exists() else ""
        if wanted.partition(":")[2] != point:
            return False
        if not self._held.exists() or self._held.read_text() != wanted:
            write_atomically(self._held, wanted.encode())
        return True


class KnownLearner:
    """In place of `Learner`."""

    declared_records = RECORDS
    subjects = None

    def __init__(
        self,
        settings: ClientSettings,
        folder: Path,
        configuration: SessionConfiguration,
        share: SessionShare,
        progress: object = None,
        patient_key: bytes | None = None,
    ) -> None:
        self._name, self._folder, self._plan = settings.name, folder, configuration.plan
        self._session = configuration.session.hex()
        self._point = HoldingPoint(folder)
        steps = self._plan.rounds * self._plan.local_steps
        rate = self._plan.sample_rate
        self.privacy_plan = PrivacyPlan(EPSILON, DELTA, NOISE_MULTIPLIER, rate, steps, RECORDS)

    @property
    def images(self) -> tuple[KnownImage, ...]:
        return (KnownImage((hashlib.sha256(self._name.encode()).digest(),)),)

    usage = Usage(used=RECORDS)
    lacking = ()
    duplicates = Duplicates()

    def check_possible(self) -> float:
        return 0.0

    def budget(self, steps_spent: int) -> PrivacyBudget:
        return PrivacyBudget(self.privacy_plan, epsilon_of, steps_spent=steps_spent)

    def train(self, parameters: np.ndarray, domain_key: np.ndarray, round_number: int) -> np.ndarray:
        path = self._folder / TRAINED
        training = len(path.read_text().splitlines()) if path.exists() else 0
        start = model_hash(m.model_to_bytes(parameters)).hex()
        with path.open("a") as stream:
            stream.write(json.dumps({"round": round_number, "training": training, "model": start}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        while self._point.holds(TRAINING):
            time.sleep(LOOK_S)
        return update_of(self._name, training, parameters.size)

    def conclude(self, model: np.ndarray, keys: tuple[np.ndarray, ...]) -> Concluded:
        data = safetensors.numpy.save({"model": model, "keys": np.stack(keys)})
        path = KeptModels(self._folder).keep(self._session, data)
        return Concluded(hashlib.sha256(data).digest(), path, Scores(0, 0, 0, 0))


class HoldingConduct(conduct.Conduct):
    """Waits before and after it sends, where asked to."""

    async def _send(self, connection: ClientConnection, send: Send) -> None:
        phase = CLOSING if isinstance(send.message, m.Done) else send.phase
        await self._hold_at(f"{phase}:before")
        await super()._send(connection, send)
        await self._hold_at(f"{phase}:after")

    async def _hold_at(self, point: str) -> None:
        while HoldingPoint(self._institution.folder.path).holds(point):
            await asyncio.sleep(LOOK_S)


def take_part(folder: str) -> None:
    """Run an institution in this process until its session has ended; the process ends with its status."""
    home = Path(folder)
    errors: Any = (home / STDERR).open("a", buffering=1)
    os.dup2(errors.fileno(), 2)
    sys.stderr = errors
    from fedapt_client import runner  # noqa: PLC0415 - patched here, and nowhere but in this process

    conduct.Learner, runner.Conduct = KnownLearner, HoldingConduct  # type: ignore[misc, assignment]
    settings = build(ClientSettings, read_yaml(home / SETTINGS_FILE), source=SETTINGS_FILE)
    try:
        run_until_stopped(InstitutionRunner(home, settings, retry_for_s=None, close_retry_s=120.0))
    except FedaptError as error:
        errors.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)

"""Institutions whose training is made up, everything else real: one process runs one or many, from folders.

A made-up update follows from institution, round and attempt, so that whoever reads a coordinator's log can
compute what each sum had to be. Its values are whole multiples of 2**-12: fixed point holds them exactly, and
sums of them too.

    python -m tests.soak.party FOLDER...
"""

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedapt_client import conduct
from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.books.own_log import read_own_log
from fedapt_client.runner import InstitutionRunner
from fedapt_client.settings import SETTINGS_FILE, ClientSettings
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.learner import Concluded
from fedapt_crypto.errors import FedaptError
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.evaluation.scores import Scores
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.privacy.budget import PrivacyBudget, SessionShare, declared_records
from fedapt_secure.protocol.session import SessionConfiguration

RECORDS = 1000
USED_FILE = "used.txt"
STEP = 2.0**-12
LARGEST = 1 << 10


def update_of(name: str, round_number: int, attempt: int, size: int) -> np.ndarray:
    """What an institution sends in an attempt at a round, float32."""
    seed = hashlib.sha256(f"{name} {round_number} {attempt}".encode()).digest()
    whole = np.random.default_rng(list(seed)).integers(-LARGEST, LARGEST, size, endpoint=True)
    return (whole * STEP).astype(np.float32)


class MadeUpLearner:
    """Stands in for `Learner`: same plan and budget, no images, a known update."""

    def __init__(
        self,
        settings: ClientSettings,
        folder: Path,
        configuration: SessionConfiguration,
        share: SessionShare,
        progress: object = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._configuration = configuration
        plan = configuration.plan
        self.declared_records = declared_records(RECORDS)
        delta = share.delta_for(self.declared_records)
        steps = plan.rounds * plan.local_steps
        self.privacy_plan = plan_session(share.epsilon, delta, RECORDS, plan.sample_rate, steps)
        self.images = (KnownImage((hashlib.sha256(settings.name.encode()).digest(),)),)
        self.subjects = None

    lacking = ()
    duplicates = Duplicates()

    def check_possible(self) -> float:
        return 0.0

    def budget(self, steps_spent: int) -> PrivacyBudget:
        return PrivacyBudget(self.privacy_plan, epsilon_of, steps_spent=steps_spent)

    def train(self, parameters: np.ndarray, domain_key: np.ndarray, round_number: int) -> np.ndarray:
        attempt = self._attempt(round_number)
        # On disk before the update exists: what was used can only be overstated by a crash.
        with (self._folder / USED_FILE).open("a") as file:
            file.write(f"{round_number} {attempt}\n")
            file.flush()
            os.fsync(file.fileno())
        return update_of(self._settings.name, round_number, attempt, len(parameters))

    def _attempt(self, round_number: int) -> int:
        """The attempt under way: the one that the ledger says was joined last."""
        query = "SELECT max(attempt) FROM executions WHERE session = ? AND round = ?"
        with contextlib.closing(sqlite3.connect(self._folder / self._settings.ledger, timeout=30)) as ledger:
            [attempt] = ledger.execute(query, (self._configuration.session, round_number)).fetchone()
        return int(attempt)

    def conclude(self, model: np.ndarray, keys: tuple[np.ndarray, ...]) -> Concluded:
        data = model.astype("<f4").tobytes() + b"".join(key.astype("<f4").tobytes() for key in keys)
        path = KeptModels(self._folder).keep(self._configuration.session.hex(), data)
        return Concluded(hashlib.sha256(data).digest(), path, Scores(0, 0, 0, 0))


def is_through(folder: Path, settings: ClientSettings) -> bool:
    """Whether the institution's session is closed: its command has ended, and nobody starts it again."""
    sessions = read_own_log(folder / settings.log).sessions.values()
    return any(session.closed for session in sessions)


async def take_part(folder: Path) -> None:
    """Run one institution from its folder until its session has ended."""
    path = folder / SETTINGS_FILE
    settings = build(ClientSettings, read_yaml(path), source=str(path))
    if not is_through(folder, settings):
        await InstitutionRunner(folder, settings, retry_for_s=None).run()


async def _all(folders: Sequence[Path]) -> int:
    ends = await asyncio.gather(*(take_part(folder) for folder in folders), return_exceptions=True)
    failed = 0
    for folder, end in zip(folders, ends, strict=True):
        if isinstance(end, BaseException):
            failed += 1
            sys.stderr.write(f"{folder.name}: {type(end).__name__}: {end}\n")
            if not isinstance(end, FedaptError):
                raise end
    return failed


def serve(folders: Sequence[Path], errors: Path | None = None) -> None:
    """Run institutions in this process, and end with status 0 if all of them came to their session's end."""
    if errors is not None:
        sys.stderr = errors.open("a", buffering=1)
    parent = multiprocessing.parent_process()
    if parent is not None:  # killed with its starter, not only when that ends in order
        threading.Thread(target=lambda: (parent.join(), os._exit(3)), daemon=True).start()
    conduct.Learner = MadeUpLearner  # type: ignore[assignment,misc]
    sys.exit(1 if asyncio.run(_all(folders)) else 0)


if __name__ == "__main__":
    serve([Path(argument) for argument in sys.argv[1:]])

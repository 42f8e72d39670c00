"""The parts of a party that touch the disk or the images, with a place for a power cut around each step."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fedapt_client import conduct, runner
from fedapt_client.books import books
from fedapt_client.books.bindings import Bindings, ModelRecord
from fedapt_client.books.fingerprints import KnownImage
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession
from fedapt_client.books.ledger_file import LedgerFile
from fedapt_crypto.errors import InvalidInput, Unavailable
from fedapt_crypto.secagg.scheme import CoordinatorGroup, InstitutionGroup, Opening, RoundContext
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.data.reading.unused import Usage
from fedapt_secure.learning.evaluation.scores import Scores
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.privacy.budget import PrivacyBudget, PrivacyPlan
from fedapt_secure.protocol.reasons import Reason
from tests.world.clock import Clock

RECORDS = 270
NOISE_MULTIPLIER, DELTA = 2.2, 1e-3


class PowerCut(BaseException):
    """The machine stops here; nothing of the party's code may catch it and go on."""


@dataclass
class Disk:
    """An institution's disk; it outlives its machine's power.

    Attributes:
        fails_in: How many entries can be written until it fails; ``None`` for as many as there are.
    """

    fails_in: int | None = None

    def write(self) -> None:
        """An entry of log or ledger is to be written."""
        if self.fails_in is None:
            return
        if self.fails_in <= 0:
            raise Unavailable("the disk is full; free disk space, then start it again")
        self.fails_in -= 1


@dataclass
class Fuse:
    """Cuts a party's power, or its line, after some more effects.

    Attributes:
        crash_in: How many effects there are until the power goes; ``None`` for never.
        cut_in: Likewise until the connection breaks, whatever was being sent.
    """

    crash_in: int | None = None
    cut_in: int | None = None
    disk: "Disk | None" = None

    def effect(self) -> None:
        """Something durable or visible is about to happen or has just happened."""
        if self.crash_in is not None:
            if self.crash_in <= 0:
                self.crash_in = None
                raise PowerCut
            self.crash_in -= 1

    def line_breaks(self) -> bool:
        """Whether the connection breaks before what is being sent now."""
        if self.cut_in is None:
            return False
        self.cut_in -= 1
        if self.cut_in >= 0:
            return False
        self.cut_in = None
        return True


class WatchedLog(LogWriter):
    """A log under the simulated clock, of which a power cut may take what was not synced.

    Args:
        synced_bytes: How much of the file is on disk for certain: a process that was killed leaves lines
            with the operating system, and a power cut during a later one may take them.
    """

    def __init__(self, path: Path, *, fuse: Fuse, clock: Clock, synced_bytes: int, **arguments: Any) -> None:
        self._fuse = fuse
        self.synced_bytes = synced_bytes
        super().__init__(path, clock=lambda: clock.wall(path.parent.name), **arguments)

    def write(self, type: str, body: Any, *, durable: bool | None = None) -> None:
        self._fuse.effect()
        if self._fuse.disk is not None:
            self._fuse.disk.write()
        super().write(type, body, durable=durable)
        self._fuse.effect()

    def _sync(self) -> None:
        syncs = self._unsynced
        super()._sync()
        if syncs:
            self.synced_bytes = self._size

    def power_cut(self, keep: int | None) -> None:
        """Leave the file as a power cut leaves it, with ``keep`` bytes of what was not synced, or all."""
        if self._descriptor < 0:
            return
        if keep is not None:
            self.synced_bytes = min(self._size, self.synced_bytes + keep)
            os.ftruncate(self._descriptor, self.synced_bytes)
        os.close(self._descriptor)
        self._descriptor = -1


class WatchedLedger(Ledger):
    """A ledger that can lose power before and after each entry."""

    fuse: Fuse
    joined: RoundContext

    def record_plan(self, *arguments: Any) -> PlannedSession:
        self._write()
        return super().record_plan(*arguments)

    def _write(self) -> None:
        self.fuse.effect()
        if self.fuse.disk is not None:
            self.fuse.disk.write()

    def join(self, context: RoundContext) -> None:
        self._write()
        super().join(context)
        self.joined = context
        self.fuse.effect()

    def reserve(self, session: bytes, round_number: int, steps: int) -> None:
        self._write()
        super().reserve(session, round_number, steps)
        self.fuse.effect()

    def release(self, context: RoundContext) -> None:
        self._write()
        super().release(context)
        self.fuse.effect()


class WatchedBindings(Bindings):
    """What sessions are bound to, with a place for a power cut before and after each entry."""

    def __init__(self, file: LedgerFile, fuse: Fuse) -> None:
        super().__init__(file)
        self._fuse = fuse

    def _write(self) -> None:
        self._fuse.effect()
        if self._fuse.disk is not None:
            self._fuse.disk.write()

    def bind_group(self, session: bytes, commitment: bytes) -> None:
        self._write()
        super().bind_group(session, commitment)
        self._fuse.effect()

    def open(self, opening: Opening) -> None:
        self._write()
        super().open(opening)
        self._fuse.effect()

    def adopt(self, session: bytes, record: ModelRecord) -> None:
        self._write()  # the model itself is written by now
        super().adopt(session, record)
        self._fuse.effect()


@dataclass
class Trainer:
    """In place of `Learner`: no images, a plan, and updates that the world knows.

    Args:
        name: The institution.
        steps: How many it plans for.
        on_train: Returns the update for the attempt that was joined last.
        on_conclude: Takes the finished model.
    """

    name: str
    steps: int
    on_train: Callable[[np.ndarray], np.ndarray]
    on_conclude: Callable[[np.ndarray], None]
    broken: bool = False

    declared_records = RECORDS
    subjects = None

    @property
    def privacy_plan(self) -> PrivacyPlan:
        return PrivacyPlan(8.0, DELTA, NOISE_MULTIPLIER, 0.5, self.steps, RECORDS)

    @property
    def images(self) -> tuple[KnownImage, ...]:
        return (KnownImage((hashlib.sha256(self.name.encode()).digest(),)),)

    lacking = ()
    duplicates = Duplicates()
    usage = Usage(used=RECORDS)

    def check_possible(self) -> float:
        if self.broken:
            error = InvalidInput("an image of DOE_JANE cannot be read")
            error.code = Reason.DATA_UNREADABLE.value
            raise error
        return 0.0

    def budget(self, steps_spent: int) -> PrivacyBudget:
        return PrivacyBudget(self.privacy_plan, epsilon_of, steps_spent=steps_spent)

    def train(self, parameters: np.ndarray, domain_key: np.ndarray, round_number: int) -> np.ndarray:
        return self.on_train(parameters)

    def conclude(self, model: np.ndarray, keys: tuple[np.ndarray, ...]) -> Any:
        self.on_conclude(model)
        return _Concluded(bytes(32), Scores(0, 0, 0, 0), Path("model.safetensors"))


@dataclass(frozen=True)
class _Concluded:
    bundle_hash: bytes
    scores: Scores
    path: Path
    unlabelled: int = 0


def close_group(group: InstitutionGroup | CoordinatorGroup | None) -> None:
    """End a group key's worker process, which dies with its party's machine."""
    if group is not None:
        group.close()


@contextmanager
def watched_parts(
    make_log: Callable[..., WatchedLog],
    make_ledger: Callable[..., WatchedLedger],
    make_trainer: Callable[..., Trainer],
    make_bindings: Callable[..., WatchedBindings],
) -> Iterator[None]:
    """Have the institution's shell use the watched parts."""
    with (
        mock.patch.object(runner, "LogWriter", make_log),
        mock.patch.object(conduct, "Learner", make_trainer),
        mock.patch.object(books, "Ledger", make_ledger),
        mock.patch.object(books, "Bindings", make_bindings),
    ):
        yield

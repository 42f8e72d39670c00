"""One institution of the world: its real shell on a still loop, its files, and how its machine may fail."""

import random
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosedError

from fedapt_client.runner import InstitutionRunner
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.session.states import State as SessionState
from fedapt_crypto.errors import FedaptError, PolicyRefused, Unavailable
from fedapt_secure.protocol.reasons import Reason
from tests.world.clock import Clock, Timer
from tests.world.consortium import POLICY, client_settings
from tests.world.invariants import Attempt, Watch
from tests.world.network import Connection
from tests.world.stillness import Wire, disconnect, resume
from tests.world.watched import Disk, Fuse, PowerCut, Trainer, WatchedLedger, WatchedLog, close_group

FIRST_RETRY_S, MAX_RETRY_S = 0.1, 5.0


class Machine(Enum):
    """What an institution's machine is doing."""

    DOWN = auto()
    RUNNING = auto()
    ENDED = auto()
    """The session is over, and it holds the model and the record."""
    OUT = auto()
    """It does not take part, or its disk has failed; it is started again once that is mended."""
    STOPPED = auto()
    """It ended with an error; `InstitutionHost.reason` says which."""


class InstitutionHost:
    """An institution's machine.

    Args:
        name: Its name.
        folder: Its folder.
        clock: The world's clock.
        watch: Sees what it does.
        dice: Decides what its training returns.
        connect: Opens a connection, or returns ``None`` where the coordinator cannot be reached.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        clock: Clock,
        watch: Watch,
        dice: random.Random,
        connect: Callable[[str], Connection | None],
    ) -> None:
        self.name = name
        self.folder = folder
        self.clock = clock
        self.watch = watch
        self.machine = Machine.DOWN
        self.reason: BaseException | None = None
        self.disk = Disk()
        self.broken = False
        self.fuse = Fuse(disk=self.disk)
        self.retry = Timer()
        self.refusals = 0
        self.connection: Connection | None = None
        self.crashes = 0
        self._dice = dice
        self._connect = connect
        self._runner: InstitutionRunner | None = None
        self._shell: Any = None
        self._pause_s = FIRST_RETRY_S
        self._opened: WatchedLog | None = None
        self._synced_bytes = 0

    def start(self) -> None:
        """Switch the machine on."""
        if self.machine is not Machine.DOWN:
            return
        self.watch.ledger_holds(self.name)
        self._guarded(self._boot)

    def _boot(self) -> None:
        self._runner = InstitutionRunner(self.folder, client_settings(self.name))
        self.machine = Machine.RUNNING
        self._pause_s = FIRST_RETRY_S
        self.retry.set(self.clock, 0.0)

    def try_to_connect(self) -> None:
        """Reach for the coordinator, as the shell does between connections."""
        self.retry.set(self.clock, None)
        connection = self._connect(self.name)
        if connection is None:
            self._guarded(self._try_later)
            return
        self._pause_s = FIRST_RETRY_S
        self.connection = connection
        self._shell = self._running()._talk(Wire(self._send))
        self._guarded(lambda: self._resume(None))

    def _try_later(self) -> None:
        self._log().write("disconnected", {"reason": "OSError"})
        self._wait()

    def _wait(self) -> None:
        self.retry.set(self.clock, self._pause_s)
        self._pause_s = min(2 * self._pause_s, MAX_RETRY_S)

    def deliver(self) -> None:
        """Take the next frame of the coordinator."""
        connection = self.connection
        if connection is not None:
            frame = connection.take("down")
            self._guarded(lambda: self._resume(frame))

    def lose_connection(self) -> None:
        """Notice that the connection is gone."""
        if self.connection is not None:
            self._guarded(self._see_it_gone)

    def _see_it_gone(self) -> None:
        shell, self._shell = self._shell, None
        self._hang_up()
        disconnect(shell)
        self._disconnected()

    def _disconnected(self) -> None:
        self._hang_up()
        self._log().write("disconnected", {"reason": "ConnectionClosedError"})
        self._wait()

    def _resume(self, frame: bytes | None) -> None:
        try:
            if resume(self._shell, frame):
                return
        except ConnectionClosedError:
            self._disconnected()
            return
        # The shell has returned: the session is over.
        self._hang_up()
        self._power_off(None)
        self.machine = Machine.ENDED

    def _send(self, data: bytes) -> None:
        self.fuse.effect()
        connection = self.connection
        if connection is None or self.fuse.line_breaks():
            if connection is not None:
                connection.cut()
                connection.open["up"] = False
            raise ConnectionClosedError(None, None)
        self.watch.sent(self.name, data)
        connection.put("up", data)
        self.fuse.effect()

    @property
    def waits_for_another(self) -> bool:
        """Whether it has the closed record, was started again, and waits for another session."""
        waiting = (
            self.machine is Machine.RUNNING and self._machine_state.state is SessionState.WAITING_FOR_OFFER
        )
        return waiting and b'"session_closed"' in self._log().path.read_bytes()

    def crash(self, keep: int | None = None) -> None:
        """Cut the power; of what was not synced ``keep`` bytes survive, or all."""
        if self.machine is not Machine.RUNNING:
            return
        self.crashes += 1
        self._hang_up()
        self._power_off(keep)
        self.machine = Machine.DOWN
        self.watch.ledger_holds(self.name)

    def make_stricter(self, how: int) -> None:
        """Let the policy refuse the session, or be as it was."""
        stricter = (
            "",
            "max_epsilon: 0.5\nsession_epsilon: 0.5\n",
            "minimum_participants: 99\n",
            "privacy_unit: person\n",
        )
        changed = stricter[how % len(stricter)]
        names = {line.split(":")[0] for line in changed.splitlines()}
        kept = [line for line in POLICY.splitlines() if line.split(":")[0] not in names]
        (self.folder / "policy.yaml").write_text("\n".join(kept) + "\n" + changed)

    def repair(self) -> None:
        """Mend disk, images and policy, and start what has ended."""
        self.disk.fails_in, self.broken = None, False
        (self.folder / "policy.yaml").write_text(POLICY)
        if self.machine is Machine.OUT:
            self.machine = Machine.DOWN
            self.start()

    def stop(self) -> None:
        """Switch the machine off."""
        self._hang_up()
        self._power_off(None)

    def _guarded(self, what: Callable[[], None]) -> None:
        """Let the machine do something; power cuts and errors end it, as they end a process."""
        try:
            what()
        except PowerCut:
            self.machine = Machine.RUNNING  # also where it was only starting
            self.crash(self._dice.choice((None, 0, 7)))
        except FedaptError as error:
            self.reason = error
            self._hang_up()
            self._power_off(None)
            mendable = isinstance(error, Unavailable | PolicyRefused) or error.code == Reason.DATA_UNREADABLE
            self.machine = Machine.OUT if mendable else Machine.STOPPED
            self.refusals += mendable

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.open["up"] = False
            self.connection.cut()
            self.connection = None

    def _power_off(self, keep: int | None) -> None:
        self.fuse = Fuse(disk=self.disk)
        self.retry.set(self.clock, None)
        if self._shell is not None:
            self._shell.close()
        if self._runner is not None:
            close_group(self._machine_state._grouping.held)
        if self._opened is not None:
            self._opened.power_cut(keep)
            self._synced_bytes = self._opened.synced_bytes
        self._runner = self._shell = self._opened = None

    def open_log(self, path: Path, **arguments: Any) -> WatchedLog:
        """Open the log for the shell; kept here, as a power cut may come while the shell is being made."""
        self._opened = WatchedLog(
            path, fuse=self.fuse, clock=self.clock, synced_bytes=self._synced_bytes, **arguments
        )
        return self._opened

    def open_ledger(self, path: Path, admission: Any) -> WatchedLedger:
        """Open the ledger for the shell."""
        ledger = WatchedLedger(path, admission)
        ledger.fuse = self.fuse
        self._ledger = ledger
        return ledger

    def make_trainer(self, steps: int) -> Trainer:
        """Make what stands in for the learner."""
        return Trainer(self.name, steps, self._train, self._conclude, broken=self.broken)

    def _train(self, parameters: np.ndarray) -> np.ndarray:
        attempt: Attempt = (self._ledger.joined.round, self._ledger.joined.attempt)
        self.fuse.effect()
        self.watch.training(self.name, attempt, parameters)
        values = np.random.default_rng(self._dice.getrandbits(64)).normal(0, 0.5, parameters.size)
        update = values.astype(np.float32)
        self.watch.trained_update(self.name, attempt, update)
        self.fuse.effect()
        return update

    def _conclude(self, model: np.ndarray) -> None:
        self.watch.check_model(model, self.name)

    def _running(self) -> InstitutionRunner:
        assert self._runner is not None
        return self._runner

    def _log(self) -> WatchedLog:
        assert self._opened is not None
        return self._opened

    @property
    def session_state(self) -> SessionState | None:
        """Where its session machine stands; ``None`` while it is down."""
        return self._machine_state.state if self._runner is not None else None

    @property
    def _machine_state(self) -> InstitutionSession:
        return self._running()._conduct.session

"""The coordinator of the world: its real session machine, store and log, and how its machine may fail."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.log.line import parse_line
from fedapt_secure.log.reader import segments
from fedapt_secure.log.witness import highest_heads
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.archive.store import SessionStore
from fedapt_server.session.actions import Action, CheckLog, End, Keep, Log, SendTo, SetTimer, TakeHead
from fedapt_server.session.machine import CoordinatorSession
from fedapt_server.session.states import State
from tests.world.clock import Clock, Timer
from tests.world.invariants import Watch
from tests.world.network import Connection
from tests.world.watched import Fuse, PowerCut, WatchedLog, close_group


class CoordinatorHost:
    """The coordinator's machine.

    Args:
        folder: Its folder.
        identity: Its key.
        configuration: The session that it runs, with commitments to ``key_seeds``.
        clock: The world's clock.
        watch: Sees what it does.
        dice: Decides what a power cut leaves.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        configuration: SessionConfiguration,
        key_seeds: tuple[bytes, ...],
        clock: Clock,
        watch: Watch,
        dice: random.Random,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.watch = watch
        self.fuse = Fuse()
        self.timer = Timer()
        self.running = False
        self.crashes = 0
        self.connections: dict[str, Connection] = {}
        self.session: CoordinatorSession | None = None
        self._identity = identity
        self._configuration = configuration
        self._key_seeds = key_seeds
        self._dice = dice
        self._log: WatchedLog | None = None
        self._synced_bytes = 0

    def log_bodies(self, type: str) -> list[dict[str, Any]]:
        """Return the bodies of the lines of a type in the coordinator's log."""
        lines = (self.folder / "log.jsonl").read_bytes().splitlines()
        return [entry["body"] for entry in map(json.loads, lines) if entry["type"] == type]

    @property
    def ended(self) -> bool:
        """Whether the session is over."""
        return self.session is not None and self.session.state is State.ENDED

    def start(self) -> None:
        """Switch the machine on."""
        if self.running:
            return
        try:
            self._boot()
        except PowerCut:
            self.running = True
            self.crash(self._dice.choice((None, 0, 7)))

    def _boot(self) -> None:
        path = self.folder / "log.jsonl"
        files = segments(path)
        witnessed, logged = highest_heads(files), _last_end(files)
        self._log = WatchedLog(
            path,
            fuse=self.fuse,
            clock=self.clock,
            synced_bytes=self._synced_bytes,
            party=COORDINATOR,
            role="coordinator",
            identity=self._identity,
        )
        self._store = store = SessionStore(self.folder)
        stored = store.unfinished() or store.finished()
        progress = stored.progress if stored is not None else None
        if progress is None:
            self.watch.is_new()
            store.create(self._configuration, self._key_seeds)
        else:
            self.watch.resumed(progress)
        self.session = CoordinatorSession(
            self._configuration, self._key_seeds, self._identity, witnessed, progress
        )
        self.running = True
        self._begun(self.session)
        self._carry_out(self.session.start(logged))

    def _begun(self, session: CoordinatorSession) -> None:
        """Do nothing with the session's machine; what lies does something (`lying`)."""

    def _told(self, name: str, data: bytes) -> Iterable[bytes]:
        """Return what an institution is sent: what it is to be sent."""
        return (data,)

    def _heard(self, name: str, frame: bytes) -> bytes | None:
        """Return what is taken of an institution: what it has sent."""
        return frame

    def accept(self, connection: Connection) -> None:
        """Take a frame from a connection; its first must be a greeting."""
        frame = connection.take("up")
        if connection.greeted:
            heard = self._heard(connection.name, frame)
            if heard is not None:
                self._guarded(lambda session: session.receive(connection.name, heard))
            return
        hello = decode_one_of(frame, m.FROM_INSTITUTION, max_bytes=m.Hello.max_bytes)
        if not isinstance(hello, m.Hello) or hello.name != connection.name:
            raise AssertionError("an institution does not begin with its greeting")
        connection.greeted = True
        replaced = self.connections.pop(connection.name, None)
        self.connections[connection.name] = connection
        if replaced is not None:
            replaced.open["down"] = False
            replaced.cut()
        self._guarded(lambda session: session.connected(connection.name))

    def lose(self, connection: Connection) -> None:
        """Notice that a connection is gone."""
        connection.open["down"] = False
        connection.cut()
        if self.connections.get(connection.name) is connection:
            del self.connections[connection.name]
            self._guarded(lambda session: session.disconnected(connection.name))

    def ring(self) -> None:
        """The session's timer goes off."""
        self.timer.set(self.clock, None)
        self._guarded(lambda session: session.timeout())

    def crash(self, keep: int | None = None) -> None:
        """Cut the power; of what was not synced ``keep`` bytes survive, or all."""
        if not self.running:
            return
        self.crashes += 1
        self.stop(keep)

    def stop(self, keep: int | None = None) -> None:
        """Switch the machine off."""
        self.running = False
        self.fuse = Fuse()
        self.timer.set(self.clock, None)
        for connection in self.connections.values():
            connection.open["down"] = False
            connection.cut()
        self.connections.clear()
        if self.session is not None:
            close_group(self.session._grouping.held)
        self.session = None
        if self._log is not None:
            self._log.power_cut(keep)
            self._synced_bytes = self._log.synced_bytes

    def _guarded(self, event) -> None:
        if self.session is None:
            return
        try:
            self._carry_out(event(self.session))
        except PowerCut:
            self.crash(self._dice.choice((None, 0, 7)))

    def _carry_out(self, actions: list[Action]) -> None:
        assert self._log is not None
        for action in actions:
            match action:
                case SendTo():
                    self.fuse.effect()
                    connection = self.connections.get(action.name)
                    for data in () if connection is None else self._told(action.name, action.data):
                        connection.put("down", data)
                case Log():
                    self._log.write(action.type, action.body)
                case Keep():
                    self.fuse.effect()
                    self._log.sync()
                    self._store.keep(self._configuration.session, action.progress)
                    self.watch.kept(action.progress, self._ends_on_disk())
                    self.fuse.effect()
                case TakeHead():
                    self._carry_out(action.then(self._log.head()))
                case CheckLog():
                    self._log.check_holds(action.heads)
                case SetTimer():
                    self.timer.set(self.clock, action.seconds)
                case End():
                    pass  # the service goes on to hand out the finished model

    def _ends_on_disk(self) -> int:
        """Count the lines about ends of rounds that no power cut could take any more."""
        raw = (self.folder / "log.jsonl").read_bytes()
        assert self._log is not None
        return raw[: self._log.synced_bytes].count(b'"type":"round_ended"')


def _last_end(files: Sequence[Path]) -> tuple[int, int] | None:
    """Return round and attempt of the last ``round_ended`` line in a log."""
    last = None
    for file in files:
        for raw in file.read_bytes().splitlines(keepends=True):
            if b'"round_ended"' in raw and raw.endswith(b"\n"):
                body = parse_line(raw[:-1], file.name).body
                last = (body["round"], body["attempt"])
    return last

"""The world itself: plays operations, lets faults end, and sees to it that everything comes to an end."""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from fedapt_client.books.ledger_file import LedgerFile
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.cohorts import EVERYBODY, Participation
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, audit
from tests.protocol.federation import DOMAINS
from tests.world.clock import Clock
from tests.world.consortium import Consortium, make_consortium, world_plan
from tests.world.coordinator import CoordinatorHost
from tests.world.institution import InstitutionHost, Machine
from tests.world.invariants import Violation, Watch
from tests.world.network import Connection, Way
from tests.world.operations import Kind, Operation
from tests.world.watched import Trainer, WatchedBindings, WatchedLedger, WatchedLog, watched_parts

SAMPLED_DOMAINS: Final = (*DOMAINS, "print")
WAITS_S: Final = (0.05, 0.5, 3.0, 11.0, 31.0, 61.0, 300.0, 601.0)
CLOCK_STEPS_S: Final = (-86400.0, -60.0, -0.5, 0.5, 60.0, 86400.0)
NOTICED_AFTER_S: Final = 40.0
"""A broken connection is noticed by pings at the latest."""
MAX_SETTLING_STEPS: Final = 3000
"""Far above what a session takes: more than that is a world that turns in circles."""


class World:
    """One federation in one session; use it in a ``with`` block. `lying` has one whose coordinator lies.

    Args:
        base: A folder for files of worlds.
        scheme: The secure-aggregation scheme.
        institutions, rounds: The size of the session.
        participation: Who takes part in a round; one a domain is one of each of three.
        seed: Decides training results and what power cuts leave, nothing else.
    """

    watching, coordinating = Watch, CoordinatorHost

    def __init__(
        self,
        base: Path,
        *,
        scheme: str = registry.MASKING,
        institutions: int = 4,
        rounds: int = 2,
        participation: Participation = EVERYBODY,
        seed: int = 0,
    ) -> None:
        domains = DOMAINS if participation == EVERYBODY else SAMPLED_DOMAINS
        self.counts: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.clock = Clock()
        self.consortium: Consortium = make_consortium(institutions, base, len(domains))
        self._folder = tempfile.TemporaryDirectory(dir=base)
        self.folder = Path(self._folder.name)
        self.consortium.furnish(self.folder)
        dice = random.Random(seed)
        plan = world_plan(scheme, rounds, participation, domains)
        self.configuration, key_seeds = self.consortium.configuration(seed, plan)
        names = self.consortium.names
        ledgers = {name: self.folder / name / "ledger.sqlite" for name in names}
        self.watch = self.watching(self.configuration, ledgers)
        self.coordinator = self.coordinating(
            self.folder / COORDINATOR,
            self.consortium.identities[COORDINATOR],
            self.configuration,
            key_seeds,
            self.clock,
            self.watch,
            dice,
        )
        self.institutions = {
            name: InstitutionHost(name, self.folder / name, self.clock, self.watch, dice, self._connect)
            for name in names
        }
        self._connections: list[Connection] = []
        self._noticed: dict[Connection, float] = {}
        self._partitioned: set[str] = set()
        self._turn = 0
        self._stack = ExitStack()

    def __enter__(self) -> "World":
        made = (self._open_log, self._open_ledger, self._make_trainer, self._bindings)
        self._stack.enter_context(watched_parts(*made))
        self._stack.callback(self._folder.cleanup)
        self._stack.callback(self._switch_off)
        self.coordinator.start()
        for host in self.institutions.values():
            host.start()
        self._ring_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _switch_off(self) -> None:
        for host in self.institutions.values():
            host.stop()
        self.coordinator.stop()

    def _open_log(self, path: Path, **arguments: object) -> WatchedLog:
        return self.institutions[path.parent.name].open_log(path, **arguments)

    def _open_ledger(self, path: Path, admission: object) -> WatchedLedger:
        return self.institutions[path.parent.name].open_ledger(path, admission)

    def _bindings(self, file: LedgerFile) -> WatchedBindings:
        return WatchedBindings(file, self.institutions[file.path.parent.name].fuse)

    def _make_trainer(self, settings, *_: object) -> Trainer:
        steps = self.configuration.planned_steps(settings.name)
        return self.institutions[settings.name].make_trainer(steps)

    def _connect(self, name: str) -> Connection | None:
        if not self.coordinator.running or name in self._partitioned:
            return None
        connection = Connection(name)
        self._connections.append(connection)
        return connection

    def play(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            self.apply(operation)

    def apply(self, operation: Operation) -> None:
        """Play one operation; one for which there is no occasion does nothing and is not counted."""
        if self._apply(*operation):
            self.counts[operation.kind.value] += 1
        self._sweep()

    def _apply(self, kind: Kind, who: int, amount: int) -> bool:
        match kind:
            case Kind.FLOW:
                return sum(self._deliver_next() for _ in range(amount)) > 0
            case Kind.DELIVER:
                ways = self._deliverable()
                return bool(ways) and self._deliver(*ways[who % len(ways)])
            case Kind.DELAY | Kind.CUT | Kind.REPEAT | Kind.NOTICE:
                return self._disturb(kind, who, amount)
            case Kind.PARTITION:
                self._partitioned ^= {self._host(who).name}
                return True
            case Kind.CRASH | Kind.CRASH_AT | Kind.CUT_AT | Kind.RESTART:
                return self._trouble(kind, self._host(who), amount)
            case Kind.BREAK | Kind.POLICY | Kind.DISK | Kind.REPAIR:
                return self._go_wrong(kind, self._host(who), amount)
            case Kind.COORDINATOR_CRASH | Kind.COORDINATOR_CRASH_AT | Kind.COORDINATOR_RESTART:
                return self._trouble_coordinator(kind, amount)
            case Kind.CLOCK:
                parties = (COORDINATOR, *self.institutions)
                self.clock.step(parties[who % len(parties)], CLOCK_STEPS_S[amount % len(CLOCK_STEPS_S)])
                return True
            case Kind.TICK | Kind.WAIT:
                self.clock.now += WAITS_S[amount % len(WAITS_S)]
                if kind is Kind.WAIT:
                    self._ring_all()
                return True
            case Kind.RING:
                due = self._due()
                if due:
                    due[who % len(due)]()
                return bool(due)

    def _disturb(self, kind: Kind, who: int, amount: int) -> bool:
        candidates = [one for one in self._connections if one.broken == (kind is Kind.NOTICE)]
        if not candidates:
            return False
        connection = candidates[who % len(candidates)]
        match kind:
            case Kind.DELAY:
                connection.held_until = self.clock.now + WAITS_S[amount % len(WAITS_S)]
            case Kind.CUT:
                connection.cut()
            case Kind.REPEAT:
                return connection.repeat("up" if amount % 2 else "down", amount // 2)
            case Kind.NOTICE:
                self._notice(connection, "up" if amount % 2 else "down")
        return True

    def _trouble(self, kind: Kind, host: InstitutionHost, amount: int) -> bool:
        if kind is Kind.RESTART:
            if host.machine is not Machine.DOWN:
                return False
            host.start()
            return True
        if host.machine is not Machine.RUNNING:
            return False
        match kind:
            case Kind.CRASH:
                host.crash(None if amount % 2 else amount)
            case Kind.CRASH_AT:
                host.fuse.crash_in = amount
            case Kind.CUT_AT:
                host.fuse.cut_in = amount % 8
        return True

    def _go_wrong(self, kind: Kind, host: InstitutionHost, amount: int) -> bool:
        match kind:
            case Kind.BREAK:
                host.broken = True
            case Kind.POLICY:
                host.make_stricter(amount)
            case Kind.DISK:
                host.disk.fails_in = amount % 20
            case Kind.REPAIR:
                host.repair()
        return True

    def _trouble_coordinator(self, kind: Kind, amount: int) -> bool:
        host = self.coordinator
        if host.running == (kind is Kind.COORDINATOR_RESTART):
            return False
        match kind:
            case Kind.COORDINATOR_CRASH:
                host.crash(None if amount % 2 else amount)
            case Kind.COORDINATOR_CRASH_AT:
                host.fuse.crash_in = amount
            case Kind.COORDINATOR_RESTART:
                host.start()
        return True

    def _host(self, who: int) -> InstitutionHost:
        hosts = list(self.institutions.values())
        return hosts[who % len(hosts)]

    def _deliverable(self) -> list[tuple[Connection, Way]]:
        ways: tuple[Way, Way] = ("up", "down")
        return [
            (one, way)
            for one in self._connections
            for way in ways
            if one.name not in self._partitioned and one.ready(way, self.clock.now)
        ]

    def _deliver_next(self) -> bool:
        ways = self._deliverable()
        if not ways:
            return False
        self._turn += 1
        return self._deliver(*ways[self._turn % len(ways)])

    def _deliver(self, connection: Connection, way: Way) -> bool:
        if way == "up":
            self.coordinator.accept(connection)
        else:
            self.institutions[connection.name].deliver()
        return True

    def _notice(self, connection: Connection, end: Way) -> None:
        if not connection.open[end]:
            return
        if end == "down":
            self.coordinator.lose(connection)
        else:
            connection.open["up"] = False
            host = self.institutions[connection.name]
            if host.connection is connection:
                host.lose_connection()

    def _due(self) -> list:
        due = [(host.retry.due, host.try_to_connect) for host in self.institutions.values()]
        due.append((self.coordinator.timer.due, self.coordinator.ring))
        for connection, when in self._noticed.items():
            due.append((when, lambda one=connection: self._notice_both(one)))
        ready = [(when, what) for when, what in due if when is not None and when <= self.clock.now]
        return [what for _, what in sorted(ready, key=lambda one: one[0])]

    def _notice_both(self, connection: Connection) -> None:
        self._noticed.pop(connection, None)
        self._notice(connection, "down")
        self._notice(connection, "up")

    def _ring_all(self) -> None:
        for what in self._due():
            what()
        self._sweep()

    def _sweep(self) -> None:
        """Forget connections that nobody believes in, and have pings find out about broken ones."""
        for connection in list(self._connections):
            if not self.coordinator.running and connection.open["down"]:
                connection.open["down"] = False
                connection.cut()
            if connection.broken and not any(connection.open.values()):
                self._connections.remove(connection)
                self._noticed.pop(connection, None)
            elif connection.broken and connection not in self._noticed:
                self._noticed[connection] = self.clock.now + NOTICED_AFTER_S

    def settle(self) -> None:
        """Let all faults end and time pass until everything has come to an end.

        Raises:
            Violation: If something has not, after very many steps.
        """
        self._partitioned.clear()
        self.clock.errors.clear()
        for connection in self._connections:
            connection.held_until = 0.0
        for host in self.institutions.values():
            host.fuse.crash_in = host.fuse.cut_in = None
            host.repair()
            host.start()
        self.coordinator.fuse.crash_in = None
        self.coordinator.start()
        for _ in range(MAX_SETTLING_STEPS):
            self.outcomes["steps until all came to its end"] += 1
            self._sweep()
            self._check_nobody_stopped()
            if self._deliver_next():
                continue
            if self._is_over:
                return
            self._next_event()
        raise Violation("after all faults have ended the world comes to no end: " + self.describe())

    def _next_event(self) -> None:
        moments = [host.retry.due for host in self.institutions.values()]
        moments += [self.coordinator.timer.due, *self._noticed.values()]
        later = [one for one in moments if one is not None]
        if not later:
            raise Violation("nothing will ever happen again: " + self.describe())
        self.clock.now = max(self.clock.now, min(later))
        self._ring_all()

    @property
    def _is_over(self) -> bool:
        """Every party has come to its end, or waits for another session and says so."""
        hosts = self.institutions.values()
        return self.coordinator.ended and all(
            host.machine is not Machine.RUNNING or host.waits_for_another for host in hosts
        )

    def figures(self) -> Counter[str]:
        """What happened in this world."""
        counts = Counter({f"operation: {name}": count for name, count in self.counts.items()})
        counts["rounds completed"] = len(self.watch.completed)
        counts["attempts aborted"] = len(self.watch.aborted)
        counts["updates sent"] = len(self.watch.inputs)
        counts["crashes of institutions"] = sum(host.crashes for host in self.institutions.values())
        counts["refusals and failed disks"] = sum(host.refusals for host in self.institutions.values())
        counts["crashes of the coordinator"] = self.coordinator.crashes
        return counts + self.outcomes

    def describe(self) -> str:
        """Say where everybody stands."""
        hosts = [
            f"{host.name} {host.machine.name} {host.session_state and host.session_state.name}"
            f"{'' if host.reason is None else f' ({type(host.reason).__name__}: {host.reason})'}"
            for host in self.institutions.values()
        ]
        session = self.coordinator.session
        return f"coordinator {session and session.state.name}, {', '.join(hosts)}"

    def check_end(self, *, audited: bool = False) -> None:
        """Check what must hold when everything has come to an end."""
        self._check_nobody_stopped()
        for host in self.institutions.values():
            self.watch.ledger_holds(host.name)
        if audited:
            self.check_audit()

    def _check_nobody_stopped(self) -> None:
        for host in self.institutions.values():
            if host.machine is Machine.OUT:
                raise Violation(f"{host.name} is out though nothing is wrong: {host.reason}")
            if host.machine is Machine.STOPPED:
                raise Violation(f"{host.name} stopped: {type(host.reason).__name__}: {host.reason}")

    def check_audit(self) -> None:
        """Have the real auditor read everybody's logs."""
        judgement = self._audited()
        if judgement.verdict not in (Verdict.VERIFIED, Verdict.OPEN):
            found = "; ".join(f"{one.party} {one.file}:{one.line} {one.detail}" for one in judgement.findings)
            raise Violation(f"the audit says {judgement.verdict.name}: {found}")
        for party in judgement.parties:
            if not party.is_coordinator:
                logged = sum(spend.steps for spend in party.spends)
                self.watch.ledger_agrees(party.party, logged)

    def _audited(self) -> Judgement:
        self._switch_off()
        judgement = audit([self.folder / name for name in (COORDINATOR, *self.institutions)])
        self.outcomes[f"audits: {judgement.verdict.name}"] += 1
        return judgement

"""A world whose coordinator lies, besides all that goes wrong anyway: the lies of `tests.hostile`, by a seed.

What counts as a failure then (`Violation`), besides what an institution never does in any world:
- an institution trains from, keeps or concludes with a model that no chain of verified sums leads to, each
  the sum of its contributors' updates, bit for bit;
- the coordinator comes to know two sums over different institutions from one model;
- the audit finds an institution at fault: all of them are honest;
- the audit says VERIFIED where an institution holds evidence of a lie in a signed record: a sum that never
  came for the model at which it stands; another configuration, group secret, outcome or list of contributors
  than the coordinator has in its log; an end of the session that it did not sign.

What does not: whatever a coordinator may do by being silent. An institution that waits, or ends the session
with an error, does as it should. A lie that is refused and leaves no such trace (a sum that is changed for
one, who then catches up) may end VERIFIED: the log says what was refused, and the model is right.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from fedapt_crypto.encoding import decode_one_of
from fedapt_crypto.errors import FedaptError, PeerError
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg.masking.coordinator import MaskingCoordinator
from fedapt_crypto.secagg.masking.messages import SurvivorAnnouncement, UnmaskRequest
from fedapt_crypto.secagg.scheme import RoundContext
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import model_hash
from fedapt_server.session.machine import CoordinatorSession
from tests.hostile.behaviour import FOUR, VICTIM
from tests.hostile.liar import Lie
from tests.hostile.lies import ends, offers, rounds, sums
from tests.world.coordinator import CoordinatorHost
from tests.world.institution import Machine
from tests.world.invariants import Attempt, Violation, Watch, _rows
from tests.world.world import World

ONE: Final = (VICTIM,)
LIES: Final[dict[str, Callable[[], Lie]]] = {
    "rewind": lambda: sums.Hidden((1,), left_out=VICTIM),
    "hidden sum": sums.Hidden,
    "other sum": lambda: sums.ChangedSum(sums.scaled),
    "other sum to one": lambda: sums.ChangedSum(sums.one_more, to=ONE),
    "two models": lambda: sums.ChangedSum(sums.negated, to=FOUR[2:]),
    "two sums": sums.TwoSums,
    "sum of another round": lambda: sums.OfAnotherRound(whole=True),
    "unsigned sum": lambda: sums.OtherFields(lambda sum_: {"signature": bytes(64)}),
    "sum withheld from one": lambda: sums.Withheld(ONE),
    "sum withheld from all": lambda: sums.Withheld(FOUR),
    "update ignored": sums.IgnoresAnUpdate,
    "statement ignored": sums.IgnoresAStatement,
    "rewound model": rounds.RewindsTheModel,
    "round begun again": rounds.BeginsAgain,
    "other start": lambda: rounds.ChangedStart(rounds.no_model),
    "round skipped": lambda: rounds.ChangedStart(rounds.numbered(2), rounds=(1,)),
    "repeated messages": lambda: rounds.Repeats(m.RoundStart, m.Aggregation, m.RoundEnd),
    "called aborted": lambda: rounds.ChangedEnd(rounds.aborted),
    "other contributors": lambda: rounds.ChangedEnd(rounds.other_contributors),
    "both secrets": lambda: rounds.ChangedPayload(UnmaskRequest, rounds.both_secrets),
    "other survivors": lambda: rounds.ChangedPayload(UnmaskRequest, rounds.other_survivors),
    "two survivor sets": lambda: rounds.ChangedPayload(SurvivorAnnouncement, rounds.without_one, to=ONE),
    "shares asked for again": rounds.AsksAgain,
    "no catching up": lambda: ends.CatchesUpWrong(ends.never),
    "too few statements": lambda: ends.CatchesUpWrong(ends.too_few_statements),
    "forged statement": lambda: ends.CatchesUpWrong(ends.forged_statement),
    "other model under statements": lambda: ends.CatchesUpWrong(ends.other_model),
    "stale model": ends.StaleModel,
    "junk final model": lambda: ends.ChangedSessionEnd(ends.junk_model, FOUR),
    "junk final model to one": lambda: ends.ChangedSessionEnd(ends.junk_model, ONE),
    "other keys at the end": lambda: ends.ChangedSessionEnd(ends.other_keys, FOUR),
    "other record": lambda: ends.OtherRecord(ends.junk_record, ONE),
    "other session": lambda: offers.ChangedOffer(offers.with_plan(initial_seed=7)),
    "other session, unminded": lambda: offers.ChangedOffer(offers.with_plan(initial_seed=7), minds=False),
    "swapped sealing key": lambda: offers.ChangedOffer(offers.SWAPPED_SEALING_KEY),
    "other domain key": lambda: offers.ChangedKey("other seed"),
    "altered group secret": lambda: offers.ChangedPart(offers.altered_box),
    "group secret withheld": lambda: offers.ChangedPart(offers.withheld),
    "two group secrets": lambda: offers.TwoSecrets(after=False),
    "second group secret": lambda: offers.TwoSecrets(after=True),
}
"""For four institutions or more under masking."""


def draw_lie(seed: int) -> str:
    """Return the name of a seed's lie."""
    return random.Random(f"which lie {seed}").choice(list(LIES))


def is_lying(seed: int, share: float) -> bool:
    """Whether the coordinator lies in a seed's schedule, where it does in a share of all."""
    return random.Random(f"whether it lies {seed}").random() < share


class LyingWatch(Watch):
    """Keeps what institutions used as a model, to be judged at the end: no coordinator's word counts.

    Attributes:
        used: Institution, and what stands for a model that it trained from or concluded with.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.used: set[tuple[str, str]] = set()

    def training(self, name: str, attempt: Attempt, parameters: np.ndarray) -> None:
        self._use(name, parameters)
        self.trained.setdefault(name, set()).add(attempt[0])
        self.ledger_holds(name)

    def check_model(self, model: np.ndarray, whose: str) -> None:
        if whose in self.ledgers:
            self._use(whose, model)

    def _use(self, name: str, model: np.ndarray) -> None:
        self.used.add((name, _hash(model)))


class LyingHost(CoordinatorHost):
    """The coordinator's machine with a lie in it. It is what a lie knows as its stage and its service."""

    lie: Lie

    @property
    def service(self) -> "LyingHost":
        return self

    @property
    def _session(self) -> CoordinatorSession | None:
        return self.session

    @property
    def identity(self) -> Identity:
        return self._identity

    def tell(self, name: str, message: Any) -> None:
        """Send a message besides."""
        connection = self.connections.get(name)
        if connection is not None:
            connection.put("down", message.to_bytes())

    def _begun(self, session: CoordinatorSession) -> None:
        self.lie.begins(session)

    def _told(self, name: str, data: bytes) -> Iterable[bytes]:
        message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.MAX_FRAME_BYTES)
        return [one if isinstance(one, bytes) else one.to_bytes() for one in self.lie.tells(name, message)]

    def _heard(self, name: str, frame: bytes) -> bytes | None:
        try:
            message = decode_one_of(frame, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
        except PeerError:
            return frame
        heard = self.lie.hears(name, message)
        return None if heard is None else frame if heard is message else heard.to_bytes()


class LyingWorld(World):
    """A world in which the coordinator lies.

    Args:
        base: A folder for files of worlds.
        lie: Its name, of `LIES`.
        arguments: As of `World`.
    """

    watching, coordinating = LyingWatch, LyingHost

    def __init__(self, base: Path, lie: str, **arguments: Any) -> None:
        super().__init__(base, **arguments)
        self.sums: dict[bytes, set[tuple[str, ...]]] = {}
        host = self.coordinator
        assert isinstance(host, LyingHost)
        host.lie = LIES[lie]()
        host.lie.stage = host  # type: ignore[assignment]
        self.outcomes[f"lies: {lie}"] += 1

    def __enter__(self) -> "LyingWorld":
        self._stack.enter_context(_sums_seen(self.sums))
        super().__enter__()
        return self

    def settle(self) -> None:
        """Let all faults end, and all come to an end or to a standstill."""
        try:
            super().settle()
        except Violation as still:
            if "nothing will ever happen" not in str(still) and "comes to no end" not in str(still):
                raise
            self.outcomes["worlds that a lie leaves standing"] += 1

    def _check_nobody_stopped(self) -> None:
        for host in self.institutions.values():
            if host.machine is Machine.STOPPED and not isinstance(host.reason, FedaptError):
                raise Violation(f"{host.name} stopped: {type(host.reason).__name__}: {host.reason}")

    def check_end(self, *, audited: bool = False) -> None:
        super().check_end()
        self._check_models()
        for survivors in self.sums.values():
            if len(survivors) > 1:
                raise Violation(f"the coordinator has sums of {sorted(survivors)} from one model")
        if audited:
            self.check_audit()

    def _check_models(self) -> None:
        right, lines = self._right_models(), self._lines("caught_up")
        taken = {(name, body["model"]) for name, body in lines}
        for name in self.institutions:
            query = "SELECT model FROM models WHERE session = ?"
            rows = _rows(self.watch.ledgers[name], query, self.configuration.session)
            taken |= {(name, model.hex()) for (model,) in rows}
        assert isinstance(self.watch, LyingWatch)
        for name, model in taken | self.watch.used:
            if model not in right:
                raise Violation(f"{name} has a model to which no sums of its contributors lead")

    def _right_models(self) -> set[str]:
        """Return what stands for the models to which the sums lead that institutions have verified."""
        first = self.configuration.plan.initial_model()
        right = {_hash(first): first}
        for _, body in sorted(self._lines("verified_sum"), key=lambda one: one[1]["round"]):
            before, attempt = right.get(body["model_before"]), (body["round"], body["attempt"])
            if before is None:
                continue
            context = self.configuration.round_context(*attempt, bytes(32), None)
            unit = 2.0**-context.fixed_point.fraction_bits
            updates = [self.watch.updates[name, attempt] for name in body["contributors"]]
            total = sum(np.rint(one.astype("f8") / unit).astype("i8") for one in updates)
            after = (before.astype("f8") + total * unit / len(updates)).astype("f4")
            right[_hash(after)] = after
        return set(right)

    def _lines(self, type: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the lines of a type in all institutions' logs."""
        found = []
        for name in self.institutions:
            path = self.folder / name / "log.jsonl"
            for raw in path.read_bytes().splitlines() if path.exists() else ():
                line = json.loads(raw) if raw.endswith(b"}") else {"type": ""}
                if line["type"] == type:
                    found.append((name, line["body"]))
        return found

    def check_audit(self) -> None:
        """Have the real auditor read everybody's logs, and hold it to what institutions know."""
        evidence, judgement = self.evidence(), self._audited()
        for party in judgement.parties:
            if not party.is_coordinator and party.verdict in (Verdict.VIOLATED, Verdict.TAMPERED):
                found = [str(one) for one in judgement.findings if one.party == party.party]
                raise Violation(f"the audit finds {party.party} at fault, which is honest: {found}")
        if evidence and judgement.verdict is Verdict.VERIFIED:
            raise Violation(f"the audit says VERIFIED, and institutions know better: {sorted(evidence)}")

    def evidence(self) -> set[str]:
        """Return what institutions hold in signed records that shows a lie; read without the audit's code."""
        found = set(self._sums_that_never_came())
        session, ends = self.configuration.session.hex(), self._completed()
        secrets = {body["commitment"] for _, body in self._lines("group")}
        closed = set()
        for name, body in self._lines("session_closed"):
            if name in body["signatures"]:
                closed.add(name)
        for name, body in self._lines("session_accepted"):
            if body["configuration"] != self.configuration.hash.hex():
                found.add(f"{name} was offered another configuration")
            if body["session"] == session and name not in closed:
                found.add(f"{name} has not signed the end")
        if len(secrets) > 1:
            found.add("two group secrets were given out")
        for name, body in self._lines("round_ended"):
            end = ends.get((body["round"], body["attempt"]))
            if end is not None and [body["status"], body["contributors"]] != end:
                found.add(f"{name} was told otherwise how round {body['round']} ended")
        return found

    def _completed(self) -> dict[Attempt, list[Any]]:
        bodies = self.coordinator.log_bodies("round_ended")
        return {(body["round"], body["attempt"]): [body["status"], body["contributors"]] for body in bodies}

    def _sums_that_never_came(self) -> Iterator[str]:
        """Executions for the model at which an institution stands, by its ledger and its own log."""
        logged = {(name, body["round"], body["attempt"]) for name, body in self._lines("unresolved")}
        for name, ledger in self.watch.ledgers.items():
            session = self.configuration.session
            kept = _rows(ledger, "SELECT model FROM models WHERE session = ? ORDER BY round", session)
            model = kept[-1][0] if kept else bytes.fromhex(_hash(self.configuration.plan.initial_model()))
            query = "SELECT round, attempt, context FROM openings WHERE session = ?"
            for number, attempt, context in _rows(ledger, query, session):
                waits = RoundContext.from_bytes(context).model_hash == model
                if waits and (name, number, attempt) in logged:
                    yield f"{name} waits for the sum of round {number}"


@contextmanager
def _sums_seen(sums: dict[bytes, set[tuple[str, ...]]]) -> Iterator[None]:
    """Note of whom the coordinator comes to know a sum, by the model from which it starts."""
    right = MaskingCoordinator.close_phase

    def close_phase(machine: MaskingCoordinator) -> Any:
        payloads = right(machine)
        if machine.aggregate is not None:
            sums.setdefault(machine._context.model_hash, set()).add(machine.contributors)
        return payloads

    with mock.patch.object(MaskingCoordinator, "close_phase", close_phase):
        yield


def _hash(model: np.ndarray) -> str:
    return model_hash(m.model_to_bytes(model)).hex()

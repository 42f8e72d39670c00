"""One party's private sessions in the order of its logs: which had begun where, and what the ledger knew.

The rule that ledger, policy and audit share is in `fedapt_secure.privacy.composition`: a session counts with
its whole plan from its first reserved step on, which in a log is its first ``spend`` line. After a crash
between the two the ledger knows more than the log, and so it does where an archived part of the log was not
given. What a plan states of earlier sessions says how much more.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from fedapt_secure.audit.checks.recompute import NOTHING, Recomputed, recompute
from fedapt_secure.audit.checks.renyi import renyi_divergence
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.collect import SECURE_NOISE, Beginning, LogRecord, SessionRecord, same_terms
from fedapt_secure.audit.evidence.facts import Place
from fedapt_secure.audit.findings import Findings, Kind

AGREEMENT: Final = 1.01
"""The two accountants are bounds from above with errors of their own; this far apart they still agree."""
_NOTHING: Final = 1e-9
"""What is left of a difference of sums that are equal."""

Position = tuple[int, int]
"""Which of a party's logs, in the order in which they follow each other, and which line."""
Rule = tuple[str, float | None]


@dataclass(frozen=True)
class Statement:
    """What a plan says was spent before it, and where it says so."""

    position: Position
    place: Place
    before: b.SpentBefore


@dataclass(frozen=True)
class SessionSpend:
    """One session's privacy, as planned and as taken.

    Attributes:
        record: The session. plan: Its plan. party: Whose.
        accepted: Where it was accepted. began: Where it began to count, ``None`` if it never did.
        start: Its first ``spend`` line. statements: What its plan says was spent before.
        whole: Whether nothing of the party's logs is missing.
        planned, taken: ε of the planned and of the taken steps, computed anew.
    """

    party: str
    record: SessionRecord
    plan: b.Plan
    accepted: Position
    began: Position | None
    start: Beginning | None
    statements: tuple[Statement, ...]
    whole: bool
    planned: Recomputed
    taken: Recomputed

    @property
    def committed(self) -> float:
        """What the session counts for under the sum rule: the larger of both accountants' planned ε.

        Infinite where somebody could foretell the noise, and so subtract it.
        """
        if self.plan.noise != SECURE_NOISE:
            return float("inf")
        return max(self.planned.epsilon, self.plan.epsilon_planned)

    @property
    def names(self) -> frozenset[str]:
        """The data sets that share records with it, its own included."""
        return frozenset((self.plan.dataset, *self.plan.overlaps))

    @property
    def policy(self) -> b.Policy | None:
        """The policy in force when it began, or else when it was accepted."""
        return self.record.policy if self.start is None else self.start.policy

    @property
    def rule(self) -> Rule:
        """How it adds up with others: as its plan says, in older logs as the policy said."""
        said = self.plan if self.plan.composition is not None else self.policy
        if said is None or said.composition is None:
            return "sum", None
        return said.composition, said.rdp_order

    def touches(self, names: Set[str]) -> bool:
        """Whether it used records of one of these data sets, as the ledger tells it."""
        return not self.names.isdisjoint(names)


@dataclass(frozen=True)
class Carried:
    """What the ledger counted and the log does not show.

    Attributes:
        epsilon: Sum of planned ε; infinite where nothing bounds it.
        delta: Sum of planned δ.
        rdp: Rényi divergence at the rule's order; ``None`` where the log does not state it.
    """

    epsilon: float = 0.0
    delta: float = 0.0
    rdp: float | None = 0.0

    def or_more(self, other: "Carried") -> "Carried":
        """Return the larger of both in each figure."""
        rdp = None if self.rdp is None or other.rdp is None else max(self.rdp, other.rdp)
        return Carried(max(self.epsilon, other.epsilon), max(self.delta, other.delta), rdp)


class History:
    """One party's sessions under differential privacy, over all its logs.

    Args:
        party: Whose.
        records: Its logs.
        findings: Where a plan that changed from one log to the next goes.
    """

    def __init__(self, party: str, records: Sequence[LogRecord], findings: Findings) -> None:
        logs = _in_order(records)
        rank = {record.index: number for number, record in enumerate(logs)}
        whole = all(record.is_whole for record in logs)
        merged: dict[str, SessionRecord] = {}
        for record in logs:
            for name, session in record.sessions.items():
                merged[name] = _joined(party, merged[name], session, findings) if name in merged else session
        self.sessions = sorted(
            (
                _spend(party, session, session.plan, rank, whole=whole)
                for session in merged.values()
                if session.plan is not None
            ),
            key=lambda one: one.accepted,
        )
        """In the order in which they were accepted."""
        self.begun = sorted(
            (one for one in self.sessions if one.began is not None), key=lambda one: one.began or one.accepted
        )
        """In the order in which they began."""

    def known(self, to: SessionSpend, position: Position) -> list[SessionSpend]:
        """Return the other sessions on a session's records that had begun before a line."""
        return [
            one
            for one in self.begun
            if one is not to and one.began is not None and one.began < position and one.touches(to.names)
        ]

    def carried(self, names: Set[str], until: Position | None = None) -> Carried:
        """Return what the ledger is known to have counted on some data sets beyond the log.

        Args:
            names: The data sets. Only what was stated of these or some of these is theirs for certain.
            until: What is stated from this line on is left out.
        """
        found = Carried()
        for said_of, position, more in self._stated_more:
            if said_of <= names and (until is None or position < until):
                found = found.or_more(more)
        return found

    @cached_property
    def _stated_more(self) -> list[tuple[frozenset[str], Position, Carried]]:
        """Return each statement that counts more than the log shows: of which data sets, where, how much."""
        all_of_them = [
            (one.names, said.position, self._more(one, said))
            for one in self.sessions
            for said in one.statements
        ]
        return [entry for entry in all_of_them if entry[2] != Carried()]

    def _more(self, one: SessionSpend, said: Statement) -> Carried:
        """Return what one statement counts beyond the sessions of which the log knew there.

        A session whose first line says that steps had been reserved before it may have been among them: it
        counts from its own line on, so not here as well.
        """
        before = said.before
        if before.epsilon is None:  # a session without private noise has used these records
            return Carried(epsilon=float("inf"))
        known = self.known(one, said.position)
        more = before.sessions - len(known)
        if more <= 0:
            return Carried()
        late = [
            other
            for other in self.begun
            if other is not one
            and other not in known
            and other.start is not None
            and other.start.late
            and other.touches(one.names)
        ]

        def rest(stated: float, shown: Iterable[float], perhaps: Iterable[float]) -> float:
            left = stated - sum(shown) - sum(sorted(perhaps, reverse=True)[:more])
            return left if left > _NOTHING * stated else 0.0

        rdp = (
            None
            if before.rdp is None
            else rest(before.rdp, _divergences(one, known), _divergences(one, late))
        )
        return Carried(
            epsilon=rest(
                before.epsilon,
                (other.plan.epsilon_planned for other in known),
                (other.plan.epsilon_planned for other in late),
            ),
            delta=rest(
                before.delta, (other.plan.delta for other in known), (other.plan.delta for other in late)
            ),
            rdp=rdp if one.rule[1] is not None else 0.0,
        )


def divergence(sessions: Iterable[SessionSpend], order: float) -> float:
    """Return the planned Rényi divergence of sessions at one order; infinite where none can be computed."""
    try:
        return sum(
            one.plan.max_steps * renyi_divergence(one.plan.sample_rate, one.plan.noise_multiplier, order)
            for one in sessions
        )
    except ValueError:  # an order that no divergence can be computed at bounds nothing
        return float("inf")


def _divergences(to: SessionSpend, sessions: Iterable[SessionSpend]) -> list[float]:
    order = to.rule[1]
    return [] if order is None else [divergence([one], order) for one in sessions]


def _in_order(records: Sequence[LogRecord]) -> list[LogRecord]:
    """Return a party's logs so that each follows the one whose place it takes."""
    by_id = {record.log_id: record for record in records}

    def depth(record: LogRecord) -> int:
        seen: set[str | None] = set()
        while record.log_id not in seen and record.files.header is not None:
            seen.add(record.log_id)
            continues = record.files.header.continues
            before = by_id.get(continues.log.hex()) if continues is not None else None
            if before is None:
                break
            record = before
        return len(seen)

    return sorted(records, key=depth)


def _joined(party: str, one: SessionRecord, other: SessionRecord, findings: Findings) -> SessionRecord:
    """Return one session of two logs that follow each other; it counts once."""
    if (
        one.accepted is not None
        and other.accepted is not None
        and not same_terms(one.accepted, other.accepted)
    ):
        findings.violated(
            Kind.PLAN,
            party,
            other.place.file,
            other.place.line,
            "the session's terms or its plan changed after it had begun",
        )
    first = one if one.accepted is not None else other
    return replace(
        first,
        began=one.began or other.began,
        spent_before=[*one.spent_before, *other.spent_before],
        steps=max(one.steps, other.steps),
        epsilon=max(one.epsilon, other.epsilon),
    )


def _spend(
    party: str, session: SessionRecord, plan: b.Plan, rank: dict[int, int], *, whole: bool
) -> SessionSpend:
    def position(place: Place) -> Position:
        return rank[place.log], place.seq

    event = (plan.sample_rate, plan.noise_multiplier)
    limit = min(plan.epsilon_budget, plan.epsilon_planned * AGREEMENT)
    planned = recompute({event: plan.max_steps}, plan.delta, limit=limit)
    taken = planned
    if session.steps != plan.max_steps:
        steps = session.steps
        taken = (
            NOTHING
            if steps == 0
            else recompute({event: steps}, plan.delta, limit=session.epsilon * AGREEMENT)
        )
    return SessionSpend(
        party=party,
        record=session,
        plan=plan,
        accepted=position(session.place),
        began=None if session.began is None else position(session.began.place),
        start=session.began,
        statements=tuple(Statement(position(place), place, said) for place, said in session.spent_before),
        whole=whole,
        planned=planned,
        taken=taken,
    )

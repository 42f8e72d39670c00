"""Privacy spent, data set by data set: plans and steps from a party's log, ε computed anew, budgets held.

The policy names the rule for several sessions on one data set. ``sum``: the sessions' planned (ε, δ) add up;
a session counts with its whole plan from its first step on. ``rdp-filter``: the Rényi divergences of what was
planned add up at one order fixed beforehand (Feldman and Zrnic, "Individual privacy accounting via a Rényi
filter", NeurIPS 2021) and are converted to (ε, δ) once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fedapt_secure.audit.checks.recompute import NOTHING, Recomputed, merged, recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon, renyi_divergence
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.collect import SECURE_NOISE, LogRecord, SessionRecord
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.privacy.unit import PrivacyUnit, said

AGREEMENT: Final = 1.01
"""The two accountants are bounds from above with errors of their own; this far apart they still agree."""
_ROUNDING: Final = 1 + 1e-9


@dataclass(frozen=True)
class SessionSpend:
    """One session's privacy, as planned and as taken.

    Attributes:
        record: The session. plan: Its plan. party: Whose.
        planned, taken: ε of the planned and of the taken steps, computed anew.
    """

    party: str
    record: SessionRecord
    plan: b.Plan
    planned: Recomputed
    taken: Recomputed

    @property
    def committed(self) -> float:
        """What the session counts for under the sum rule: the larger of both accountants' planned ε.

        Infinite where somebody could foretell the noise, and so subtract it.
        """
        if self.plan.noise != SECURE_NOISE:
            return math.inf
        return max(self.planned.epsilon, self.plan.epsilon_planned)


@dataclass
class DatasetSpend:
    """One data set's privacy over all sessions of a party.

    Attributes:
        party: Whose. dataset: Its random identifier. policy: The policy at its last session.
        sessions: Those on it. overlapping: Those on data sets that share records with it.
        carried: ε that the ledger had counted before the first line that was given.
    """

    party: str
    dataset: str
    policy: b.Policy | None = None
    sessions: list[SessionSpend] = field(default_factory=list)
    overlapping: list[SessionSpend] = field(default_factory=list)
    carried: float = 0.0

    @property
    def counted(self) -> list[SessionSpend]:
        """All sessions that count against its budget."""
        return [*self.sessions, *self.overlapping]

    @property
    def unit(self) -> PrivacyUnit:
        """What one record is: ``image`` or ``person``."""
        return self.sessions[-1].plan.unit

    @property
    def composition(self) -> str:
        """The rule for several sessions."""
        return self.policy.composition if self.policy is not None else "sum"

    @property
    def budget(self) -> float | None:
        """The largest ε that the policy allows; without a policy what the only session asked for."""
        if self.policy is not None and self.policy.max_epsilon is not None:
            return self.policy.max_epsilon
        return self.sessions[0].plan.epsilon_budget if len(self.counted) == 1 else None

    @property
    def spent(self) -> float:
        """ε of the taken steps, as the training accountant logged it, summed over sessions."""
        return self.carried + sum(one.record.epsilon for one in self.counted)

    @property
    def remove(self) -> float:
        """ε of the taken steps computed anew, remove direction, summed over sessions."""
        return self.carried + sum(one.taken.remove for one in self.counted)

    @property
    def add(self) -> float:
        """ε of the taken steps computed anew, add direction, summed over sessions."""
        return self.carried + sum(one.taken.add for one in self.counted)

    @property
    def recomputed(self) -> float:
        """The larger of both directions."""
        return self.carried + sum(one.taken.epsilon for one in self.counted)

    @property
    def error(self) -> float:
        """How far above the truth `recomputed` can be."""
        return sum(one.taken.error for one in self.counted)

    @property
    def committed(self) -> float:
        """What counts against the budget, by the policy's rule."""
        if self.composition == "sum":
            return self.carried + sum(one.committed for one in self.counted)
        order = self.order
        if order is None:
            return math.inf  # a filter without its order allows nothing
        if any(one.plan.noise != SECURE_NOISE for one in self.counted):
            return math.inf
        try:
            divergence = sum(
                one.plan.max_steps * renyi_divergence(one.plan.sample_rate, one.plan.noise_multiplier, order)
                for one in self.counted
            )
        except ValueError:  # an order that no divergence can be computed at bounds nothing
            return math.inf
        return self.carried + rdp_epsilon(divergence, order, self.delta_of_rule)

    @property
    def order(self) -> float | None:
        """The order of the Rényi filter, ``None`` under the sum rule."""
        return self.policy.rdp_order if self.policy is not None else None

    @property
    def delta_of_rule(self) -> float:
        """δ that goes with `committed`."""
        if self.composition == "rdp-filter":
            limit = self.policy.max_delta if self.policy is not None else None
            return limit if limit is not None else min(one.plan.delta for one in self.counted)
        return self.delta

    @property
    def delta(self) -> float:
        """The sessions' δ, summed."""
        return sum(one.plan.delta for one in self.counted)

    @property
    def margin(self) -> float | None:
        """What is left of the budget."""
        return None if self.budget is None else self.budget - self.committed

    @property
    def steps(self) -> int:
        """Steps taken."""
        return sum(one.record.steps for one in self.counted)

    def jointly(self) -> Recomputed | None:
        """Return ε of all taken steps composed as one history at the summed δ: tighter, and informational.

        Sessions that were chosen after the results of earlier ones are not covered by it.
        """
        if len(self.counted) < 2 or not 0 < self.delta < 1:
            return None
        events = [(one.plan.sample_rate, one.plan.noise_multiplier, one.record.steps) for one in self.counted]
        return recompute(merged(events), self.delta)


def account(records: Sequence[LogRecord], findings: Findings) -> list[DatasetSpend]:
    """Recompute every party's spend and hold it against plans, logs and policies.

    Args:
        records: Every log; the coordinator's spends nothing.
        findings: Where broken rules go.

    Returns:
        One entry for each party and data set, in order of first use.
    """
    datasets: dict[tuple[str, str], DatasetSpend] = {}
    for party in dict.fromkeys(record.party for record in records):
        own = [record for record in records if record.party == party]
        sessions = [session for record in own for session in record.sessions.values()]
        planned = sorted((one for one in sessions if one.plan is not None), key=lambda one: one.time)
        done: list[SessionSpend] = []
        for session in planned:
            plan = session.plan
            if plan is None:
                continue
            spend = SessionSpend(party, session, plan, *_both(session, plan))
            _check_statements(spend, findings)
            before = [one for one in done if _share_records(one.plan, plan)]
            _check_unit(spend, before, findings)
            entry = datasets.setdefault((party, plan.dataset), DatasetSpend(party, plan.dataset))
            entry.policy = session.policy
            entry.sessions.append(spend)
            entry.overlapping = [one for one in before if one.plan.dataset != plan.dataset]
            _carry(entry, spend, before, findings)
            if plan.noise == SECURE_NOISE:  # another noise was found fault with already
                _check_budget(entry, spend, findings)
            done.append(spend)
            for other in datasets.values():  # what is spent here counts for older data sets it overlaps, too
                shared = other.party == party and other.dataset != plan.dataset
                if shared and _share_records(other.sessions[-1].plan, plan):
                    other.overlapping.append(spend)
    return list(datasets.values())


def _share_records(one: b.Plan, other: b.Plan) -> bool:
    return one.dataset == other.dataset or one.dataset in other.overlaps or other.dataset in one.overlaps


def _both(session: SessionRecord, plan: b.Plan) -> tuple[Recomputed, Recomputed]:
    event = (plan.sample_rate, plan.noise_multiplier)
    limit = min(plan.epsilon_budget, plan.epsilon_planned * AGREEMENT)
    planned = recompute({event: plan.max_steps}, plan.delta, limit=limit)
    if session.steps == plan.max_steps:
        return planned, planned
    if session.steps == 0:
        return planned, NOTHING
    return planned, recompute({event: session.steps}, plan.delta, limit=session.epsilon * AGREEMENT)


def _check_statements(spend: SessionSpend, findings: Findings) -> None:
    """Hold what the log says of ε against the recomputed figures."""
    session, plan, place = spend.record, spend.plan, spend.record.place
    short = f"session {session.session[:8]}…"
    for what, stated, found in (
        ("planned", plan.epsilon_planned, spend.planned),
        ("spent", session.epsilon, spend.taken),
    ):
        if found.epsilon > stated * AGREEMENT:
            findings.violated(
                Kind.UNDERSTATED,
                spend.party,
                place.file,
                place.line,
                f"{short} says ε = {stated:.3f} {what}; noise, sampling and steps imply {found.epsilon:.3f}",
            )
    if spend.planned.epsilon > plan.epsilon_budget:
        findings.violated(
            Kind.BUDGET,
            spend.party,
            place.file,
            place.line,
            f"{short} asked for ε ≤ {plan.epsilon_budget:g} and its plan implies {spend.planned.epsilon:.3f}",
        )


def _check_unit(spend: SessionSpend, before: Sequence[SessionSpend], findings: Findings) -> None:
    """Find fault with sessions on shared records that count in different units: their ε do not add up."""
    place = spend.record.place
    others = {one.plan.unit for one in before} - {spend.plan.unit}
    if others:
        findings.violated(
            Kind.UNIT,
            spend.party,
            place.file,
            place.line,
            f"session {spend.record.session[:8]}… is {said(spend.plan.unit)}, earlier ones on this data are"
            f" {' or '.join(said(one) for one in sorted(others))}: their ε do not add up",
        )


def _carry(
    entry: DatasetSpend, spend: SessionSpend, before: Sequence[SessionSpend], findings: Findings
) -> None:
    """Take over what the ledger knew of before this log, and notice what it should have known."""
    stated, known = spend.plan.spent_before, sum(one.plan.epsilon_planned for one in before)
    if stated.epsilon is None:
        entry.carried = math.inf  # a session without private noise has used these records
        return
    place = spend.record.place
    if stated.sessions < len(before) or (entry.composition == "sum" and stated.epsilon * AGREEMENT < known):
        findings.violated(
            Kind.PLAN,
            spend.party,
            place.file,
            place.line,
            f"the plan counts ε = {stated.epsilon:.3f} of {stated.sessions} earlier sessions on this data;"
            f" the log holds {len(before)} with ε = {known:.3f}",
        )
    if stated.sessions > len(before):
        entry.carried = max(entry.carried, stated.epsilon - known, 0.0)


def _check_budget(entry: DatasetSpend, spend: SessionSpend, findings: Findings) -> None:
    """Hold everything committed on a data set against the policy in force when this session began."""
    policy, place = spend.record.policy, spend.record.place
    if policy is None:
        return
    if policy.max_epsilon is not None and not entry.committed <= policy.max_epsilon * _ROUNDING:
        findings.violated(
            Kind.BUDGET,
            spend.party,
            place.file,
            place.line,
            f"with session {spend.record.session[:8]}… ε = {_number(entry.committed)} is committed on data"
            f" set {entry.dataset[:8]}…; the policy allows {policy.max_epsilon:g}",
        )
    delta = entry.delta_of_rule if policy.composition == "rdp-filter" else entry.delta
    if policy.max_delta is not None and delta > policy.max_delta * _ROUNDING:
        findings.violated(
            Kind.DELTA,
            spend.party,
            place.file,
            place.line,
            f"with session {spend.record.session[:8]}… δ = {delta:.2e} is committed on data set"
            f" {entry.dataset[:8]}…; the policy allows {policy.max_delta:.2e}",
        )


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "unbounded"

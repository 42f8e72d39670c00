"""Privacy spent, data set by data set: plans and steps from a party's log, ε computed anew, budgets held.

A data set's rule for several sessions is fixed with its first one. ``sum``: the sessions' planned (ε, δ) add
up. ``rdp-filter``: the Rényi divergences of what was planned add up at one order fixed beforehand (Feldman
and Zrnic, "Individual privacy accounting via a Rényi filter", NeurIPS 2021) and are converted to (ε, δ) once.
Under both a session counts with its whole plan from its first ``spend`` line on; there it is held against the
policy in force at that line, next to all that had begun before (`fedapt_secure.privacy.composition`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fedapt_secure.audit.checks.history import AGREEMENT, Carried, History, Rule, SessionSpend, divergence
from fedapt_secure.audit.checks.recompute import Recomputed, merged, recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.collect import SECURE_NOISE, LogRecord
from fedapt_secure.audit.evidence.facts import Place
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.privacy.unit import PrivacyUnit, said

_ROUNDING: Final = 1 + 1e-9
_ROUNDED: Final = 1e-12
MOST_ABOVE: Final = 1.01
MOST_ABOVE_BY: Final = 0.05
"""How far above the recomputed ε the training accountant's own can be: it was never more than 0.012."""


@dataclass
class DatasetSpend:
    """One data set's privacy over all sessions of a party that have begun.

    Attributes:
        party: Whose. dataset: Its random identifier. unit: What one record is, ``image`` or ``person``.
        rule: Its rule for several sessions. policy: The policy at the beginning of the last one.
        sessions: Those on it. overlapping: Those on data sets that share records with it.
        beyond: What the ledger had counted that the given lines do not show.
    """

    party: str
    dataset: str
    unit: PrivacyUnit
    rule: Rule
    policy: b.Policy | None = None
    sessions: list[SessionSpend] = field(default_factory=list)
    overlapping: list[SessionSpend] = field(default_factory=list)
    beyond: Carried = field(default_factory=Carried)

    @property
    def counted(self) -> list[SessionSpend]:
        """All sessions that count against its budget, in the order in which they began."""
        return sorted((*self.sessions, *self.overlapping), key=lambda one: one.began or one.accepted)

    @property
    def carried(self) -> float:
        """ε that the ledger had counted and the given lines do not show."""
        return self.beyond.epsilon

    @property
    def composition(self) -> str:
        """The rule for several sessions."""
        return self.rule[0]

    @property
    def budget(self) -> float | None:
        """The largest ε that the policy allows; without a policy what the only session asked for."""
        if self.policy is not None and self.policy.max_epsilon is not None:
            return self.policy.max_epsilon
        return self.counted[0].plan.epsilon_budget if len(self.counted) == 1 else None

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
        """What counts against the budget, by the data set's rule."""
        return _committed(self.counted, self.beyond, self.rule, self.delta_of_rule)

    @property
    def order(self) -> float | None:
        """The order of the Rényi filter, ``None`` under the sum rule."""
        return self.rule[1]

    @property
    def delta_of_rule(self) -> float:
        """δ that goes with `committed`."""
        if self.composition == "rdp-filter":
            limit = self.policy.max_delta if self.policy is not None else None
            return limit if limit is not None else min((one.plan.delta for one in self.counted), default=1.0)
        return self.delta

    @property
    def delta(self) -> float:
        """The sessions' δ, summed."""
        return self.beyond.delta + sum(one.plan.delta for one in self.counted)

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
        One entry for each party and data set that anything counts against, in order of first use.
    """
    found: list[DatasetSpend] = []
    for party in dict.fromkeys(record.party for record in records):
        history = History(party, [record for record in records if record.party == party], findings)
        for spend in history.sessions:
            _check_statements(spend, findings)
            _check_before(spend, history, findings)
        for spend in history.begun:
            _check_beginning(spend, history, findings)
        found += _by_dataset(party, history)
    return found


def _by_dataset(party: str, history: History) -> list[DatasetSpend]:
    """Return each data set with what counts against it; sessions carry those of all that they overlap."""
    entries = []
    for dataset in dict.fromkeys(one.plan.dataset for one in history.sessions):
        linked = {dataset}.union(*(one.names for one in history.sessions if dataset in one.names))
        counted = [one for one in history.begun if one.touches(linked)]
        own = [one for one in history.sessions if one.plan.dataset == dataset]
        last = counted[-1] if counted else own[-1]
        entry = DatasetSpend(
            party=party,
            dataset=dataset,
            unit=own[-1].plan.unit,
            rule=last.rule,
            policy=last.policy,
            sessions=[one for one in counted if one.plan.dataset == dataset],
            overlapping=[one for one in counted if one.plan.dataset != dataset],
            beyond=history.carried(linked),
        )
        if counted or entry.carried:
            entries.append(entry)
    return entries


def _committed(sessions: Sequence[SessionSpend], beyond: Carried, rule: Rule, delta: float) -> float:
    """Return ε that sessions commit together under a rule, at the δ that goes with it."""
    composition, order = rule
    if composition == "sum":
        return beyond.epsilon + sum(one.committed for one in sessions)
    if order is None or any(one.plan.noise != SECURE_NOISE for one in sessions):
        return math.inf  # a filter without its order allows nothing
    total = divergence(sessions, order)
    if beyond.rdp is None:  # an older log states its ε alone, which is more
        return beyond.epsilon + rdp_epsilon(total, order, delta)
    if math.isinf(beyond.epsilon):
        return math.inf
    return rdp_epsilon(total + beyond.rdp, order, delta) if total + beyond.rdp else 0.0


def _check_statements(spend: SessionSpend, findings: Findings) -> None:
    """Hold what the log says of ε against the recomputed figures."""
    session, plan, place = spend.record, spend.plan, spend.record.place
    short = f"session {session.session[:8]}…"
    for what, name, stated, found in (
        ("planned", "privacy.epsilon_planned", plan.epsilon_planned, spend.planned),
        ("spent", "epsilon", session.epsilon, spend.taken),
    ):
        if found.epsilon > stated * AGREEMENT:
            _violated(
                findings,
                Kind.UNDERSTATED,
                spend,
                place,
                f"{short} says ε = {stated:.3f} {what}; noise, sampling and steps imply {found.epsilon:.3f}",
                name,
            )
        if stated > found.epsilon * MOST_ABOVE + MOST_ABOVE_BY:
            _violated(
                findings,
                Kind.OVERSTATED,
                spend,
                place,
                f"{short} says ε = {stated:.3f} {what}; noise, sampling and steps imply {found.epsilon:.3f}"
                " and no more",
                name,
            )
    if spend.planned.epsilon > plan.epsilon_budget:
        _violated(
            findings,
            Kind.BUDGET,
            spend,
            place,
            f"{short} asked for ε ≤ {plan.epsilon_budget:g} and its plan implies {spend.planned.epsilon:.3f}",
        )


def _check_before(spend: SessionSpend, history: History, findings: Findings) -> None:
    """Hold what a plan says was spent before against the sessions that had begun before that line.

    More may have been: what the log cannot show is carried. Less cannot.
    """
    for statement in spend.statements:
        before = statement.before
        if before.epsilon is None:
            continue  # it counts as unbounded
        known = history.known(spend, statement.position)
        epsilon = sum(one.plan.epsilon_planned for one in known)
        order = spend.rule[1]
        rdp = divergence(known, order) if order is not None and before.rdp is not None else 0.0
        delta = sum(one.plan.delta for one in known)
        figures = (
            ("epsilon", before.epsilon, epsilon),
            ("rdp", before.rdp or 0.0, rdp),
            ("delta", before.delta, delta),
        )
        # What another session adds is more than nothing; what none adds is nothing.
        more = before.sessions - len(known)
        for name, stated, shown in figures:
            above = stated > shown * AGREEMENT + _ROUNDED
            if (not more and above) or (more > 0 and not above and (name != "rdp" or order is not None)):
                _violated(
                    findings,
                    Kind.PLAN,
                    spend,
                    statement.place,
                    f"spent_before counts {name} {stated:.3g} of {before.sessions} earlier sessions; the log"
                    f" holds {len(known)} with {shown:.3g}",
                    f"privacy.spent_before.{name if not more else 'sessions'}",
                )
        if (
            before.sessions < len(known)
            or before.epsilon * AGREEMENT < epsilon
            or (before.rdp or 0.0) * AGREEMENT < rdp
        ):
            _violated(
                findings,
                Kind.PLAN,
                spend,
                statement.place,
                f"the plan counts ε = {before.epsilon:.3f} of {before.sessions} earlier sessions on this"
                f" data; the log holds {len(known)} with ε = {epsilon:.3f} that had begun before",
            )
    _check_named_rule(spend, findings)


def _check_named_rule(spend: SessionSpend, findings: Findings) -> None:
    """Hold a plan's rule against what the policy names; with a part missing its first line is not known.

    Where the policy names none the rule is that of the data's first session, which may be one that another
    federation's log has.
    """
    policy, plan = spend.record.policy, spend.plan
    if not spend.whole or policy is None or plan.composition is None:
        return
    named: dict[str, tuple[object, object]] = {"composition": (plan.composition, policy.composition)}
    if plan.composition == "rdp-filter":
        named["rdp_order"] = (plan.rdp_order, policy.rdp_order)
    for entry, (found, wanted) in named.items():
        if entry in policy.named and found != wanted:
            _violated(
                findings,
                Kind.PLAN,
                spend,
                spend.record.place,
                f"the plan is counted by {entry} {found}; the policy names {wanted}",
                f"privacy.{entry}",
            )


def _check_beginning(spend: SessionSpend, history: History, findings: Findings) -> None:
    """Hold a session that begins against all that had begun before it, and the policy in force there."""
    if spend.start is None or spend.began is None:
        return
    before, place = history.known(spend, spend.began), spend.start.place
    short = f"session {spend.record.session[:8]}…"
    units = {one.plan.unit for one in before} - {spend.plan.unit}
    if units:  # their ε do not add up
        _violated(
            findings,
            Kind.UNIT,
            spend,
            place,
            f"{short} is {said(spend.plan.unit)}, earlier ones on this data are"
            f" {' or '.join(said(one) for one in sorted(units))}: their ε do not add up",
        )
    rules = dict.fromkeys(one.rule for one in before if one.plan.composition is not None)
    if spend.plan.composition is not None and any(rule != spend.rule for rule in rules):
        _violated(
            findings,
            Kind.PLAN,
            spend,
            place,
            f"{short} is counted by {_rule(spend.rule)}, earlier ones on this data by"
            f" {' or '.join(_rule(rule) for rule in rules)}: the rule was changed",
        )
    if spend.plan.noise == SECURE_NOISE:  # another noise was found fault with already
        _check_budget(spend, before, history.carried(spend.names, until=spend.began), findings)


def _check_budget(
    spend: SessionSpend, before: Sequence[SessionSpend], beyond: Carried, findings: Findings
) -> None:
    """Hold everything committed on a session's data against the policy in force where it begins."""
    policy, plan = spend.policy, spend.plan
    if policy is None or spend.start is None:
        return
    delta = beyond.delta + sum(one.plan.delta for one in (*before, spend))
    if spend.rule[0] == "rdp-filter":  # the filter's δ covers the sessions'
        delta = policy.max_delta if policy.max_delta is not None else plan.delta
    committed = _committed([*before, spend], beyond, spend.rule, delta)
    with_it = f"with session {spend.record.session[:8]}…"
    on_it = f"is committed on data set {plan.dataset[:8]}…; the policy allows"
    alone = f"session {spend.record.session[:8]}… plans"
    for kind, found, most, words in (
        (Kind.BUDGET, committed, policy.max_epsilon, f"{with_it} ε = {_number(committed)} {on_it}"),
        (Kind.DELTA, delta, policy.max_delta, f"{with_it} δ = {delta:.2e} {on_it}"),
        (
            Kind.BUDGET,
            plan.epsilon_planned,
            policy.session_epsilon,
            f"{alone} ε = {plan.epsilon_planned:.3f}; the policy allows one session",
        ),
        (
            Kind.DELTA,
            plan.delta,
            policy.session_delta,
            f"{alone} δ = {plan.delta:.2e}; the policy allows one session",
        ),
    ):
        if most is not None and not found <= most * _ROUNDING:
            limit = f"{most:g}" if kind is Kind.BUDGET else f"{most:.2e}"
            _violated(findings, kind, spend, spend.start.place, f"{words} {limit}")


def _violated(
    findings: Findings, kind: Kind, spend: SessionSpend, place: Place, detail: str, field: str | None = None
) -> None:
    findings.violated(kind, spend.party, place.file, place.line, detail, field)


def _rule(rule: Rule) -> str:
    composition, order = rule
    return composition if order is None else f"{composition} of order {order:.6g}"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "unbounded"

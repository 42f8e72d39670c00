"""What each data set's ε means: in words, at a δ that all can be compared at, and what it rests on.

The sentences about guessing and about tests hold for every (ε, δ) (Kairouz, Oh, Viswanath, "The composition
theorem for differential privacy", 2015): they need no further assumption on who guesses.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fedapt_secure.audit.checks.history import divergence
from fedapt_secure.audit.checks.recompute import merged, recompute
from fedapt_secure.audit.checks.renyi import rdp_epsilon
from fedapt_secure.audit.checks.spend import DatasetSpend
from fedapt_secure.audit.evidence.collect import SECURE_NOISE
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, PartyJudgement
from fedapt_secure.audit.report import wording
from fedapt_secure.privacy.unit import PERSON

COMMON_DELTA: Final = 1e-5
"""δ at which figures of different federations are often compared; the declared one stands beside it."""
FALSE_ALARMS: Final = 0.01
_LARGEST: Final = 500.0
"""e to more than that is no number any more, and says nothing either."""


@dataclass(frozen=True)
class Guarantee:
    """One data set's guarantee, for people.

    Attributes:
        party, dataset: Whose, and which. unit: ``per person`` or ``per image, not per person``.
        epsilon, delta: What counts against the budget, and the δ that goes with it.
        common: ε at `COMMON_DELTA`; ``None`` where it cannot be converted.
        words: What ε says, in sentences.
        bound: How much one unit can move a step. composition: How sessions were added up.
    """

    party: str
    dataset: str
    unit: str
    epsilon: float
    delta: float
    common: float | None
    words: tuple[str, ...]
    bound: str
    composition: str


def guarantees(judgement: Judgement) -> tuple[Guarantee, ...]:
    """Return what is guaranteed for every data set; nothing for parties whose records were altered."""
    return tuple(
        _guarantee(judgement, party, spend)
        for party in judgement.parties
        if party.verdict is not Verdict.TAMPERED
        for spend in party.spends
    )


def grouped(said: Iterable[tuple[str, tuple[str, ...]]]) -> list[tuple[list[str], tuple[str, ...]]]:
    """Return what is said of parties, once for all of whom the same is said.

    Args:
        said: A party, and the sentences about it.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for party, words in said:
        whose = groups.setdefault(words, [])
        if party not in whose:
            whose.append(party)
    return [(whose, words) for words, whose in groups.items()]


def epsilon_at(spend: DatasetSpend, delta: float) -> float | None:
    """Return ε of everything that counts against a data set, at another δ than the declared one.

    Args:
        spend: The data set.
        delta: δ of all sessions together.

    Returns:
        An upper bound by the audit's own accountant; infinite where there is none, ``None`` where earlier
        sessions count of which these logs have only an ε.
    """
    if any(one.plan.noise != SECURE_NOISE for one in spend.counted):
        return math.inf
    if spend.composition == "rdp-filter":
        if spend.order is None or math.isinf(spend.beyond.epsilon):
            return math.inf
        if spend.beyond.rdp is None:
            return None if spend.beyond.epsilon else _filtered(spend, spend.order, 0.0, delta)
        return _filtered(spend, spend.order, spend.beyond.rdp, delta)
    if spend.carried:
        return None
    share = delta / max(1, len(spend.counted))
    return sum(
        recompute(
            merged([(one.plan.sample_rate, one.plan.noise_multiplier, one.plan.max_steps)]), share
        ).epsilon
        for one in spend.counted
    )


def _filtered(spend: DatasetSpend, order: float, carried: float, delta: float) -> float:
    return rdp_epsilon(divergence(spend.counted, order) + carried, order, delta)


def in_words(epsilon: float, delta: float, unit: str) -> tuple[str, ...]:
    """Return what (ε, δ) says to somebody who is no mathematician.

    Args:
        epsilon: ε.
        delta: δ.
        unit: ``image`` or ``person``.
    """
    whose = "a certain person's images were" if unit == PERSON else "a certain image was"
    if not epsilon < _LARGEST:
        return (f"Nothing bounds what may be learnt: whether {whose} used could be found out for sure.",)
    right = (math.exp(epsilon) + delta) / (math.exp(epsilon) + 1)
    most = min(1.0, math.exp(epsilon) * FALSE_ALARMS + delta)
    most = min(most, 1 - math.exp(-epsilon) * (1 - delta - FALSE_ALARMS))
    return (
        f"Whoever sees every update, every sum and the model, and has to guess whether {whose} used, where"
        f" both are as likely, is right in at most {_share(right)} of cases; who sees nothing, in 50 %.",
        f"A test that wrongly says 'used' in 1 % of cases finds at most {_share(most)} of those that were.",
    )


def contribution_bound(norms: list[float], unit: str) -> str:
    """Return how much one unit can move a step.

    Args:
        norms: The clipping norms C of the plans that are known, all different.
        unit: ``image`` or ``person``.
    """
    each = "person, with all training images," if unit == PERSON else "image"
    size = " or ".join(f"{norm:g}" for norm in norms)
    clipped = f"clipped to norm C = {size}" if norms else "clipped to a norm C that these logs do not name"
    return f"By the plan each {each} counts at most once in a step: its gradient, {clipped}."


def composition_said(spend: DatasetSpend) -> str:
    """Return how the sessions on a data set were added up."""
    count = len(spend.counted)
    sessions = f"{count} session{'' if count == 1 else 's'}"
    if spend.composition == "sum":
        words = f"{sessions}; the planned ε and δ of sessions add up"
    else:
        order = "unknown" if spend.order is None else f"{spend.order:g}"
        words = f"{sessions}, composed by a Rényi filter of order {order}"
    if spend.carried:
        words += f"; ε = {wording.number(spend.carried)} was spent before the first line that was given"
    return f"{words}."


def _guarantee(judgement: Judgement, party: PartyJudgement, spend: DatasetSpend) -> Guarantee:
    sessions = {one.record.session for one in spend.counted}
    norms = {
        one.plan.max_grad_norm
        for one in judgement.deployment.sessions
        if one.plan is not None and one.session in sessions
    }
    return Guarantee(
        party=party.party,
        dataset=spend.dataset,
        unit=wording.unit_said(spend),
        epsilon=spend.committed,
        delta=spend.delta_of_rule,
        common=epsilon_at(spend, COMMON_DELTA),
        words=in_words(spend.committed, spend.delta_of_rule, spend.unit),
        bound=contribution_bound(sorted(norms), spend.unit),
        composition=composition_said(spend),
    )


def _share(share: float) -> str:
    """Return a share that is an upper bound, rounded up."""
    rounded = min(100.0, math.ceil(share * 1e4 - 1e-9) / 100)
    return "100 %" if rounded >= 100 else f"{rounded:.2f} %"

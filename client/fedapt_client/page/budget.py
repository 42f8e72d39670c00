"""What each data set's sessions were planned to cost, under the policy: from the ledger, with no accountant.

The ε of a session is the one that it was planned for, at most; under the Rényi filter the total is that of
the filter, as the ledger counts it before a session is admitted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession, Terms
from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.policy import DEFAULT_RULE, Policy
from fedapt_secure.privacy.composition import conversion_cost, planned_rdp_of
from fedapt_secure.privacy.unit import said

Fields = dict[str, Any]


def budgets(ledger: Path, policy: Policy) -> list[Fields]:
    """Return each data set's sessions and what is left of its budget; none where there is no ledger yet.

    Args:
        ledger: The ledger's file.
        policy: The policy in force.

    Raises:
        InvalidInput: If the ledger cannot be read.
    """
    if not ledger.exists():  # opening one would make it
        return []

    def nothing_to_admit(*_: object) -> None:
        raise InvalidInput("nothing is accepted while looking")

    by_dataset: dict[bytes, list[PlannedSession]] = {}
    sessions = Ledger(ledger, nothing_to_admit).sessions
    for one in sessions:
        by_dataset.setdefault(one.dataset, [])
    for dataset, found in by_dataset.items():
        linked = {dataset}.union(
            *({one.dataset, *one.overlaps} for one in sessions if one.touches([dataset]))
        )
        found.extend(one for one in sessions if one.touches(list(linked)))
    return [_budget(dataset, found, policy) for dataset, found in by_dataset.items()]


def _budget(dataset: bytes, sessions: list[PlannedSession], policy: Policy) -> Fields:
    begun = [one.terms for one in sessions if one.steps_taken > 0]
    private = all(terms.private for terms in begun)
    rules = [(terms.composition, terms.rdp_order) for terms in begun if terms.private]
    composition, order = rules[-1] if rules else policy.allowance.rule
    curve = [_counted(begun[: number + 1], order, policy) for number in range(len(begun))]
    counted = (curve[-1] if curve else 0.0) if private else None
    return {
        "dataset": dataset.hex()[:12],
        "counted": counted,
        "curve": curve if private else [],
        "max_epsilon": policy.max_epsilon,
        "max_delta": policy.max_delta,
        "left": None if counted is None else max(0.0, policy.max_epsilon - counted),
        "rule": "sum of planned ε and δ" if composition != DEFAULT_RULE else "Rényi filter",
        "unit": said(sessions[-1].terms.unit),
        "sessions": [_session(one) for one in sessions],
    }


def _counted(begun: Sequence[Terms], order: float | None, policy: Policy) -> float:
    """Return the ε of sessions together, by the rule of their images."""
    if order is None:
        return sum(terms.epsilon_budget or 0.0 for terms in begun)
    used = planned_rdp_of([terms.cost for terms in begun], order)
    return max(0.0, used + conversion_cost(order, policy.max_delta))


def _session(one: PlannedSession) -> Mapping[str, Any]:
    return {
        "session": one.terms.session.hex(),
        "time": one.time[:16].replace("T", " "),
        "epsilon": one.terms.epsilon_budget if one.terms.private else None,
        "delta": one.terms.delta,
        "steps": one.steps_taken,
        "max_steps": one.terms.max_steps,
        "begun": one.steps_taken > 0,
    }

"""The work of ``fedapt-secure client ledger``: read a ledger, and say what it means under the policy."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fedapt_client.books.in_force import PolicyInForce, place_of
from fedapt_client.books.ledger import Ledger
from fedapt_client.books.ledger_events import PlannedSession, Terms
from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.config.policy import DEFAULT_RULE, Policy
from fedapt_secure.privacy.budget import EpsilonOf
from fedapt_secure.privacy.composition import (
    SessionCost,
    conversion_cost,
    planned_rdp_of,
    pld_epsilon,
    sum_of_plans,
)
from fedapt_secure.privacy.unit import said
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import say_json

FORMAT = "fedapt-ledger-export/1"
NOT_PRIVATE = "unbounded (NOT PRIVATE)"
NO_POLICY = "none here: this is no institution's folder"


@dataclass(frozen=True)
class Opened:
    """A ledger with the policy that governs it, where its folder says which one does."""

    path: Path
    ledger: Ledger
    in_force: PolicyInForce | None

    @property
    def policy(self) -> Policy | None:
        """The policy, where it is known."""
        return None if self.in_force is None else self.in_force.policy

    @property
    def source(self) -> str:
        """Where the policy is from, for people."""
        return NO_POLICY if self.in_force is None else self.in_force.source


def open_ledger(folder: Path) -> Opened:
    """Open the ledger of a party's folder, or one that lies in a folder by itself; never makes one.

    Raises:
        InvalidInput: If there is none, or ledger, settings or policy cannot be used.
    """
    place = place_of(folder)
    path = place.ledger
    try:
        if path.stat().st_size == 0:
            raise InvalidInput(f"the ledger {path} is empty: put the right one back")
    except OSError as error:
        raise system_error(f"there is no ledger {path}", error, "name its folder with --dir") from None
    return Opened(path, Ledger(path, _no_new_sessions), place.in_force)


def _no_new_sessions(earlier: Sequence[PlannedSession], terms: Terms) -> None:
    raise InvalidInput("this command only reads")


def show(folder: Path, *, as_json: bool) -> None:
    """Print what each data set has spent and what is left."""
    console = Screen()
    opened = open_ledger(folder)
    with console.status("computing ε"):
        from fedapt_secure.learning.privacy.accounting import epsilon_of  # noqa: PLC0415 - brings torch, seconds

        datasets = [
            _dataset(dataset, sessions, opened.policy, epsilon_of)
            for dataset, sessions in _by_dataset(opened.ledger.sessions).items()
        ]
    if as_json:
        fields = {
            "ledger": str(opened.path),
            "policy": _policy_body(opened),
            "policy_source": opened.source,
            "datasets": datasets,
        }
        say_json(fields)
        return
    for line in _policy_lines(opened, datasets):
        console.print(escape(line), highlight=False)
    if not datasets:
        console.print("no session is on record")
        return
    console.print(_show_table(datasets))
    if any(one["overlaps"] for one in datasets):
        console.print(
            "Data sets that overlap, in an image or a person, carry each other's sessions.", highlight=False
        )
    console.print(
        "Information only: ε by PLD is all sessions composed as if they had been fixed together.",
        highlight=False,
    )


def _policy_body(opened: Opened) -> dict[str, Any] | None:
    return None if opened.policy is None else opened.policy.to_body()


def _policy_lines(opened: Opened, datasets: Sequence[dict[str, Any]]) -> tuple[str, str]:
    policy = opened.policy
    if policy is None:
        advice = "name an institution's folder with --dir, and its ledger is shown with what is left of it"
        return f"policy: {NO_POLICY}, so nothing says what is left: {advice}", _units(datasets)
    allowance = policy.allowance
    scope = "for new data sets" if policy.composition is None else "for all data sets"
    rule = (
        "sum of planned (ε, δ)"
        if allowance.composition == "sum"
        else f"Rényi filter of order {allowance.order:.4g}"
    )
    return (
        f"policy ({opened.source}): ε at most {policy.max_epsilon:g} and δ at most"
        f" {policy.max_delta:.3g} for each data set over all sessions",
        f"one session: ε at most {allowance.session_epsilon:.4g} and δ at most {allowance.session_delta:.3g};"
        f" rule {scope}: {rule}; {_units(datasets)}",
    )


def _by_dataset(sessions: Sequence[PlannedSession]) -> dict[bytes, list[PlannedSession]]:
    """Return every data set with the sessions that its images carry, whether they have begun or not."""
    datasets = {one.dataset: None for one in sessions}  # in order of first use
    return {
        dataset: [one for one in sessions if not _linked(dataset, sessions).isdisjoint(_names(one))]
        for dataset in datasets
    }


def _linked(dataset: bytes, sessions: Sequence[PlannedSession]) -> set[bytes]:
    """Return the data set and those that some session found it to share images or people with."""
    return {dataset}.union(*(_names(one) for one in sessions if dataset in _names(one)))


def _names(one: PlannedSession) -> set[bytes]:
    return {one.dataset, *one.overlaps}


def _dataset(
    dataset: bytes, sessions: Sequence[PlannedSession], policy: Policy | None, epsilon_of: EpsilonOf
) -> dict[str, Any]:
    begun = [one.terms for one in sessions if one.steps_taken > 0]
    costs = [terms.cost for terms in begun]
    spent = sum_of_plans(costs, epsilon_of)
    composition, order = next(
        ((terms.composition, terms.rdp_order) for terms in reversed(begun) if terms.private),
        (DEFAULT_RULE, None) if policy is None else policy.allowance.rule,
    )
    # Without a policy ε is said for the δ that the sessions planned.
    max_epsilon, delta = (math.nan, spent.delta) if policy is None else (policy.max_epsilon, policy.max_delta)
    filtered, counted = None, spent.epsilon
    if order is not None and delta > 0:
        used, cost = planned_rdp_of(costs, order), conversion_cost(order, delta)
        counted = max(0.0, used + cost) if costs else 0.0
        filtered = {
            "order": order,
            "budget": _finite(max_epsilon - cost),
            "spent": _finite(used),
            "remaining": _finite(max_epsilon - cost - used),
        }
    others = set().union(*(_names(one) for one in sessions)) - {dataset}
    return {
        "dataset": dataset.hex(),
        "overlaps": sorted(other.hex() for other in others),
        "sessions": len(costs),
        "sessions_not_begun": len(sessions) - len(costs),
        "private": all(cost.noise_multiplier is not None for cost in costs),
        "composition": composition,
        "epsilon": _finite(spent.epsilon),
        "epsilon_counted": _finite(counted),
        "max_epsilon": _finite(max_epsilon),
        "epsilon_remaining": _finite(max_epsilon - spent.epsilon),
        "delta": spent.delta,
        "max_delta": None if policy is None else policy.max_delta,
        "delta_remaining": None if policy is None else policy.max_delta - spent.delta,
        "rdp_filter": filtered,
        "pld": {"epsilon": _pld(costs, delta), "delta": delta},
        "unit": sessions[-1].terms.unit,
    }


def _pld(costs: Sequence[SessionCost], delta: float) -> float | None:
    """Return ε by privacy loss distributions; ``None`` where nothing bounds it."""
    if not costs:
        return 0.0
    return _finite(pld_epsilon(costs, delta)) if delta > 0 else None


def _units(datasets: Sequence[dict[str, Any]]) -> str:
    """Return what the figures are per."""
    units = sorted({one["unit"] for one in datasets})
    return "; ".join(said(unit) for unit in units) or "per image or per person"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _show_table(datasets: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="Spent by data set")
    table.add_column("data set")
    mixed = len({one["unit"] for one in datasets}) > 1
    if mixed:
        table.add_column("per")
    table.add_column("overlaps")
    for column in ("sessions", "rule", "ε counted", "left", "δ planned", "δ left", "ε by PLD"):
        table.add_column(column, justify="right")
    for one in datasets:
        filtered = one["rdp_filter"]
        if filtered is None:
            rule, delta_left = one["composition"].removesuffix("-filter"), "-"
            left = "none" if one["epsilon_remaining"] is None else _number(one["epsilon_remaining"])
            if one["delta_remaining"] is not None:
                delta_left = f"{one['delta_remaining']:.2e}"
        else:
            rule, delta_left = f"RDP({filtered['order']:.4g})", "-"
            left = f"{_number(filtered['remaining'])} of {filtered['budget'] or math.nan:.3f}"
        if one["max_epsilon"] is None:
            left = delta_left = "not known"
        table.add_row(
            one["dataset"][:12],
            *([one["unit"]] if mixed else []),
            ", ".join(other[:12] for other in one["overlaps"]) or "-",
            str(one["sessions"]),
            rule,
            _number(one["epsilon_counted"]),
            left,
            f"{one['delta']:.2e}",
            delta_left,
            _number(one["pld"]["epsilon"]),
        )
    return table


def _number(value: float | None) -> str:
    return NOT_PRIVATE if value is None else f"{value:.3f}"


def history(folder: Path, *, as_json: bool) -> None:
    """Print the ledger's events."""
    events = open_ledger(folder).ledger.history()
    if as_json:
        fields = [
            {
                "time": event.time,
                "event": event.kind,
                "session": event.session.hex(),
                "round": event.round,
                "detail": event.detail,
            }
            for event in events
        ]
        say_json(fields)
        return
    table = Table(title="What the ledger has on record")
    for column in ("time (UTC)", "session", "event", "round", "detail"):
        table.add_column(column, justify="right" if column == "round" else "left")
    for event in events:
        number = "" if event.round is None else str(event.round)
        table.add_row(event.time[:19], event.session.hex()[:12], event.kind, number, escape(event.detail))
    Screen().print(table if events else "no session is on record")


def export(folder: Path, out: Path | None) -> None:
    """Write everything on record as JSON: facts, no ε, and nothing that follows from images.

    Raises:
        InvalidInput: If the file cannot be written.
    """
    opened = open_ledger(folder)
    fields = {
        "format": FORMAT,
        "policy": _policy_body(opened),
        "sessions": [_exported(one) for one in opened.ledger.sessions],
        "events": [
            {"time": event.time, "event": event.kind, "session": event.session.hex(), "round": event.round}
            for event in opened.ledger.history()
        ],
    }
    if out is None:
        say_json(fields)
        return
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise system_error(f"cannot write {out}", error) from None


def _exported(one: PlannedSession) -> dict[str, Any]:
    terms = {
        name: value.hex() if isinstance(value, bytes) else value for name, value in vars(one.terms).items()
    }
    return {
        **terms,
        "dataset": one.dataset.hex(),
        "overlaps": [other.hex() for other in one.overlaps],
        "steps_taken": one.steps_taken,
        "time": one.time,
    }

"""The work of ``fedapt-secure plan``: what a budget buys, before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.cli.work.planning.outlook import (
    FederationSize,
    outlook_fields,
    outlooks_of,
    print_outlooks,
)
from fedapt_secure.config.ranges import MAX_STEPS
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.privacy.budget import SessionShare, declared_records, delta_warning
from fedapt_secure.privacy.unit import PrivacyUnit, counted, said
from fedapt_secure.process.streams import say_json

if TYPE_CHECKING:
    from fedapt_client.books.in_force import PolicyInForce

MOST_ROUNDS: Final = 50
SOME_ROUNDS: Final = 20
"""Of more rounds than `MOST_ROUNDS` so many are shown: each is a figure to be computed."""


def print_plan(
    console: Console,
    *,
    epsilon: float | None,
    count: int,
    unit: PrivacyUnit,
    delta: float | None,
    rounds: int,
    local_steps: int,
    sample_rate: float,
    federation: FederationSize,
    folder: Path | None = None,
    as_json: bool,
) -> None:
    """Print noise, steps and ε after each round.

    Args:
        console: Where to.
        epsilon: ε; ``None`` for what the institution in ``folder`` lets one session spend.
        count: Training records or persons.
        unit: Which of the two.
        delta: δ; ``None`` for the default.
        rounds: How many.
        local_steps: Steps in each.
        sample_rate: q.
        federation: How many institutions like this one, and what is learned.
        folder: The institution's folder under whose policy is planned; ``None`` for no institution's.
        as_json: Print JSON.

    Raises:
        InvalidInput: If a number is out of range, or the institution's policy or settings cannot be used.
    """
    if rounds < 1 or local_steps < 1:
        raise InvalidInput("rounds and local steps must be at least 1")
    if rounds * local_steps > MAX_STEPS:
        raise InvalidInput(f"rounds x local steps must not exceed {MAX_STEPS:,}")
    own = None if folder is None else _own(folder)
    if own is not None:
        epsilon, delta = epsilon or own.share.epsilon, delta or own.share.delta_for(declared_records(count))
    assert epsilon is not None
    refused = None if own is None else own.refusal(epsilon, delta)
    shown = _some_of(rounds)
    with console.status("computing the noise (PRV accountant)"):
        plan = plan_session(epsilon, delta, count, sample_rate, rounds * local_steps, unit)
        spent = [
            epsilon_of(plan.noise_multiplier, sample_rate, number * local_steps, plan.delta)
            for number in shown
        ]
    warning = delta_warning(plan.delta, plan.declared_records, unit)
    outlooks = outlooks_of(federation, epsilon, delta, plan.declared_records)
    if as_json:
        fields = {
            "epsilon_budget": plan.epsilon_budget,
            "delta": plan.delta,
            "noise_multiplier": plan.noise_multiplier,
            "sample_rate": plan.sample_rate,
            "steps": plan.max_steps,
            "declared_records": plan.declared_records,
            "rounds": list(shown),
            "epsilon_after_round": spent,
            "unit": unit,
            "warning": warning,
            "policy_source": None if own is None else own.in_force.source,
            "would_be_refused": refused,
            **outlook_fields(federation, outlooks),
        }
        say_json(fields)
        return
    if own is not None:
        allowance, source = own.in_force.policy.allowance, escape(own.in_force.source)
        console.print(
            f"policy ({source}): one session at most ε {allowance.session_epsilon:g} and"
            f" δ {allowance.session_delta:.3g}",
            highlight=False,
        )
    console.print(
        f"noise multiplier σ {plan.noise_multiplier:.3f}, {plan.max_steps} steps at q = {sample_rate:g},"
        f" δ = {plan.delta:.2e}, {plan.declared_records} declared {counted(unit)}; {said(unit)}",
        highlight=False,
    )
    table = Table(title=f"ε after each round, of {epsilon:g}")
    table.add_column("round", justify="right")
    table.add_column("steps", justify="right")
    table.add_column("ε", justify="right")
    for number, value in zip(shown, spent, strict=True):
        table.add_row(str(number), str(number * local_steps), f"{value:.3f}")
    console.print(table)
    print_outlooks(console, federation, outlooks)
    if warning:
        console.print(f"[yellow]{warning}[/]", highlight=False)
    if refused:
        console.print(f"[yellow]{refused}[/]", highlight=False)


@dataclass(frozen=True)
class _Own:
    """What one institution lets a session plan, and the policy that says so."""

    in_force: "PolicyInForce"
    share: SessionShare

    def refusal(self, epsilon: float, delta: float | None) -> str | None:
        """Return that the policy would refuse a session of these figures; ``None`` where it would not."""
        allowance = self.in_force.policy.allowance
        over = [
            name
            for name, asked, most in (
                ("session_epsilon", epsilon, allowance.session_epsilon),
                ("session_delta", delta or 0.0, allowance.session_delta),
            )
            if asked > most
        ]
        if not over:
            return None
        return f"would be refused: more than {' and '.join(over)} in {self.in_force.file.name} allows"


def _own(folder: Path) -> _Own:
    from fedapt_client.books.in_force import policy_in_force, share_of  # noqa: PLC0415
    from fedapt_client.settings import read_settings  # noqa: PLC0415

    settings = read_settings(folder)
    in_force = policy_in_force(folder, settings)
    return _Own(in_force, share_of(settings, in_force.policy))


def _some_of(rounds: int) -> Sequence[int]:
    """Return the rounds that are shown: all, or evenly spread ones with the last of them."""
    every = 1 if rounds <= MOST_ROUNDS else -(-rounds // SOME_ROUNDS)
    return sorted({*range(every, rounds + 1, every), rounds})

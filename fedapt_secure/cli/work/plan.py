"""The work of ``fedapt-secure plan``: what a budget buys, before anything is spent."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.ranges import MAX_STEPS
from fedapt_secure.learning.privacy.accounting import epsilon_of, plan_session
from fedapt_secure.privacy.budget import delta_warning
from fedapt_secure.privacy.unit import PrivacyUnit, counted, said
from fedapt_secure.process.streams import say_json

MOST_ROUNDS: Final = 50
SOME_ROUNDS: Final = 20
"""Of more rounds than `MOST_ROUNDS` so many are shown: each is a figure to be computed."""


def print_plan(
    console: Console,
    *,
    epsilon: float,
    count: int,
    unit: PrivacyUnit,
    delta: float | None,
    rounds: int,
    local_steps: int,
    sample_rate: float,
    as_json: bool,
) -> None:
    """Print noise, steps and ε after each round.

    Raises:
        InvalidInput: If a number is out of range.
    """
    if rounds < 1 or local_steps < 1:
        raise InvalidInput("rounds and local steps must be at least 1")
    if rounds * local_steps > MAX_STEPS:
        raise InvalidInput(f"rounds x local steps must not exceed {MAX_STEPS:,}")
    shown = _some_of(rounds)
    with console.status("computing the noise (PRV accountant)"):
        plan = plan_session(epsilon, delta, count, sample_rate, rounds * local_steps, unit)
        spent = [
            epsilon_of(plan.noise_multiplier, sample_rate, number * local_steps, plan.delta)
            for number in shown
        ]
    warning = delta_warning(plan.delta, plan.declared_records, unit)
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
        }
        say_json(fields)
        return
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
    if warning:
        console.print(f"[yellow]{warning}[/]", highlight=False)


def _some_of(rounds: int) -> Sequence[int]:
    """Return the rounds that are shown: all, or evenly spread ones with the last of them."""
    every = 1 if rounds <= MOST_ROUNDS else -(-rounds // SOME_ROUNDS)
    return sorted({*range(every, rounds + 1, every), rounds})

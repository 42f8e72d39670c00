"""What a plan is likely to come to: prior weight, what was measured at such noise, what more would buy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from fedapt_secure.privacy.budget import LARGEST_DELTA, declared_records
from fedapt_secure.privacy.gain_kept import table
from fedapt_secure.privacy.prior_weight import Contribution, noise_quotient, weight_of

_STEPS = 1
"""Any number: it falls out of the quotient."""


@dataclass(frozen=True)
class FederationSize:
    """What decides beside a budget.

    Attributes:
        institutions: n, all with the same budget and as many records.
        classes: M.
        feature_size: D.
    """

    institutions: int
    classes: int
    feature_size: int


@dataclass(frozen=True)
class Outlook:
    """What one plan is likely to come to.

    Attributes:
        what: Which plan, in words.
        prior_weight: w.
        kept: By data set, the share of tuning's gain that was left at such noise.
        within: Whether noise as large as this was measured.
    """

    what: str
    prior_weight: float
    kept: dict[str, float]
    within: bool


def outlooks_of(size: FederationSize, epsilon: float, delta: float | None, declared: int) -> list[Outlook]:
    """Return the outlook of a plan, and of plans with twice as much of one thing each.

    Args:
        size: The federation.
        epsilon: ε of each institution.
        delta: δ; ``None`` for 1 / (2 N̂).
        declared: N̂.
    """
    twice = replace(size, institutions=2 * size.institutions)
    return [
        _outlook("this plan", size, epsilon, delta, declared),
        _outlook("twice the records", size, epsilon, delta, declared_records(2 * declared)),
        _outlook("twice the institutions", twice, epsilon, delta, declared),
        _outlook("twice the ε", size, 2 * epsilon, delta, declared),
    ]


def _outlook(what: str, size: FederationSize, epsilon: float, delta: float | None, declared: int) -> Outlook:
    stated = delta or min(1 / (2 * declared), LARGEST_DELTA)
    quotient = noise_quotient(
        [Contribution.of_budget(epsilon, stated, _STEPS, declared)] * size.institutions,
        participants=size.institutions,
        steps=_STEPS,
        noisy_values=size.feature_size * size.classes**2,
    )
    measured = table().datasets
    return Outlook(
        what,
        weight_of(quotient),
        {one.dataset: one.at(quotient) for one in measured},
        all(one.range[0] <= quotient <= one.range[1] for one in measured),
    )


def outlook_fields(size: FederationSize, outlooks: Sequence[Outlook]) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "institutions": size.institutions,
        "classes": size.classes,
        "feature_size": size.feature_size,
        "prior_weight": outlooks[0].prior_weight,
        "gain_kept": {
            one.what: {"prior_weight": one.prior_weight, "within": one.within, **one.kept} for one in outlooks
        },
        "gain_measured_on": table().measured_on,
    }


def print_outlooks(console: Console, size: FederationSize, outlooks: Sequence[Outlook]) -> None:
    """Print a row a plan, and where the figures are from."""
    console.print(
        f"prior weight {outlooks[0].prior_weight:g}: so much of the finished model stays the untuned CLIP's,"
        f" with {size.institutions} institutions like this one, {size.classes} classes and features of"
        f" {size.feature_size} values",
        highlight=False,
    )
    shown = Table(
        title="What is left of tuning's gain at such noise: measured on the embedded digits, not on yours"
    )
    shown.add_column("plan", no_wrap=True)
    shown.add_column("prior weight", justify="right")
    for name in outlooks[0].kept:
        shown.add_column(name, justify="right")
    for one in outlooks:
        mark = "" if one.within else " *"
        shown.add_row(one.what, f"{one.prior_weight:g}", *(f"{kept:.0%}{mark}" for kept in one.kept.values()))
    console.print(shown)
    if not all(one.within for one in outlooks):
        console.print("[dim]* more or less noise than was measured: the nearest figure[/]", highlight=False)
    console.print(f"[dim]{table().measured_on}[/]", highlight=False, soft_wrap=True)

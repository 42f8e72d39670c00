"""What a ledger's events say: a session's terms as planned, and what was done under them.

Immutable facts only. ε is computed from them by `fedapt_secure.privacy.composition`, never kept as the
truth.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Final, Literal

from fedapt_secure.privacy.budget import delta_warning
from fedapt_secure.privacy.composition import CompositionRule, SessionCost, Spent
from fedapt_secure.privacy.unit import PrivacyUnit, said

NO_MECHANISM: Final = "none"
NO_NOISE: Final = "none"
KEYSTREAM_NOISE: Final = "keystream"
INSECURE_NOISE: Final = "insecure-deterministic"
ACCOUNTANT: Final = "prv"

Noise = Literal["keystream", "insecure-deterministic", "none"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a session is going to do with the training images, fixed before its first step.

    Attributes:
        session: 16 bytes.
        configuration: Hash of the session's configuration.
        mechanism: Name of the mechanism; ``none`` without differential privacy.
        noise: Where the noise comes from.
        unit: What is counted and protected: an image, or a person.
        noise_multiplier, delta, epsilon_budget: σ, δ_s and the ε_s that was asked for; ``None`` without
            differential privacy.
        sample_rate: q.
        max_steps: Steps of all rounds.
        declared_records: N̂, a count of units.
        composition: The rule of these images: the policy's at their first session.
        rdp_order: Its order, for the Rényi filter alone.
    """

    session: bytes
    configuration: bytes
    mechanism: str
    noise: Noise
    unit: PrivacyUnit
    noise_multiplier: float | None
    sample_rate: float
    max_steps: int
    delta: float | None
    epsilon_budget: float | None
    declared_records: int
    composition: CompositionRule
    rdp_order: float | None

    @property
    def private(self) -> bool:
        """Whether differential privacy bounds what leaves."""
        return self.noise == KEYSTREAM_NOISE and self.noise_multiplier is not None

    def describe(self) -> str:
        """Return the terms in one line for people."""
        steps = f"at most {self.max_steps} steps at q = {self.sample_rate:g}"
        if self.noise_multiplier is None or self.delta is None:
            return f"no differential privacy, {steps}"
        caveat = "" if self.private else "NOT PRIVATE (the noise follows from a seed), "
        return f"{caveat}σ {self.noise_multiplier:g}, {steps}, δ = {self.delta:.2e}, {said(self.unit)}"

    @property
    def cost(self) -> SessionCost:
        """What the session costs if all planned steps are taken."""
        if not self.private:
            return SessionCost(None, self.sample_rate, self.max_steps, None)
        return SessionCost(self.noise_multiplier, self.sample_rate, self.max_steps, self.delta)


@dataclass(frozen=True)
class PlannedSession:
    """A session on record.

    Attributes:
        terms: What it was planned to do.
        dataset: Random identifier of its data set, 16 bytes.
        images: Hash over the fingerprints of its training images and people; stays in the ledger.
        time: When it was recorded, ISO 8601; for people, nothing depends on it.
        overlaps: Other data sets with which it shares images or people.
        steps_taken: Steps reserved so far. A session without any has used no image and costs nothing.
    """

    terms: Terms
    dataset: bytes
    images: bytes
    time: str
    overlaps: tuple[bytes, ...]
    steps_taken: int

    def to_row(self) -> tuple[Any, ...]:
        """Return the columns of a plan: the terms in their order, data set, images, time."""
        return (*astuple(self.terms), self.dataset, self.images, self.time)

    @classmethod
    def from_row(cls, row: Sequence[Any], overlaps: tuple[bytes, ...], steps_taken: int) -> "PlannedSession":
        """Undo `to_row`."""
        *terms, dataset, images, time = row
        names = [field.name for field in fields(Terms)]
        return cls(
            Terms(**dict(zip(names, terms, strict=True))), dataset, images, time, overlaps, steps_taken
        )

    def touches(self, datasets: Sequence[bytes]) -> bool:
        """Return whether it used one of these data sets, or one that shares images or people with them."""
        return not set(datasets).isdisjoint((self.dataset, *self.overlaps))


@dataclass(frozen=True)
class LedgerEvent:
    """One line of the ledger's history, for people: plan, reservation, or release."""

    time: str
    kind: str
    session: bytes
    round: int | None
    detail: str


def plan_body(
    planned: PlannedSession, epsilon_planned: float, before: Spent, rdp: float | None
) -> dict[str, Any]:
    """Return the plan as the log states it; what nothing bounds is null there.

    Args:
        planned: The session's plan.
        epsilon_planned: ε if all its steps are taken.
        before: What was spent before it.
        rdp: Their planned Rényi divergence at the plan's order; ``None`` under the sum rule.
    """
    terms = planned.terms
    assert terms.delta is not None
    return {
        "dataset": planned.dataset.hex(),
        "overlaps": [other.hex() for other in planned.overlaps],
        "unit": terms.unit,
        "declared_records": terms.declared_records,
        "mechanism": terms.mechanism,
        "noise": terms.noise,
        "noise_multiplier": terms.noise_multiplier,
        "sample_rate": terms.sample_rate,
        "max_steps": terms.max_steps,
        "delta": terms.delta,
        "epsilon_budget": terms.epsilon_budget,
        "epsilon_planned": epsilon_planned,
        "accountant": ACCOUNTANT,
        "composition": terms.composition,
        "rdp_order": terms.rdp_order,
        "spent_before": {
            "epsilon": before.epsilon if math.isfinite(before.epsilon) else None,
            "rdp": rdp if rdp is not None and math.isfinite(rdp) else None,
            "delta": before.delta,
            "sessions": before.sessions,
        },
        "warning": delta_warning(terms.delta, terms.declared_records, terms.unit),
    }

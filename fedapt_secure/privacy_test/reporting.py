"""What the test found, for people and for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fedapt_secure.privacy.budget import PrivacyPlan
from fedapt_secure.privacy.unit import said
from fedapt_secure.privacy_test.bounds import REFUTED, ExactBound, OneRunBound
from fedapt_secure.privacy_test.mechanism_check import FALSE_ALARM, Finding
from fedapt_secure.process.screen import Screen
from fedapt_secure.process.streams import say, say_json


@dataclass(frozen=True)
class Result:
    """What the game showed.

    Attributes:
        plan: What the institution committed to.
        claim: ε that its books say was spent.
        exact: Lower bound by the exact trade-off.
        one_run: Lower bound without assumptions.
        confidence: Of each of them.
    """

    plan: PrivacyPlan
    claim: float
    exact: ExactBound
    one_run: OneRunBound
    confidence: float

    @property
    def above_claim(self) -> bool:
        """Whether a lower bound is above what is claimed, as chance has it now and then."""
        return max(self.exact.epsilon, self.one_run.epsilon) > self.claim

    @property
    def refuted(self) -> bool:
        """Whether chance is no explanation any more."""
        return min(self.exact.chance, self.one_run.chance) <= REFUTED

    @property
    def verdict(self) -> str:
        """One sentence for people."""
        if self.refuted:
            return f"the claim is REFUTED: if it is true, at most one run in {1 / REFUTED:,.0f} shows this"
        at = f"at {self.confidence:.6g} confidence"
        if self.above_claim:
            return f"above the claim {at}, as chance has it now and then; not refuted: run it again"
        return f"no bound is above the claim, each {at}"


def report_result(result: Result) -> None:
    """Print both bounds beside the claim."""
    plan, exact = result.plan, result.exact
    say(
        f"{exact.guesses} canaries, privacy {said(plan.unit)}, {plan.max_steps} rounds of one step,"
        f" q {plan.sample_rate:g}, σ {plan.noise_multiplier:g}, δ {plan.delta:g}:"
        f" ε {result.claim:.2f} is claimed"
    )
    table = Table()
    for title in ("lower bound", "ε at least", "of the claim", "guesses", "right", "chance, if claim true"):
        table.add_column(title, justify="left" if title == "lower bound" else "right")
    for name, bound in (("exact trade-off", exact), ("one run, no assumption", result.one_run)):
        share = f"{bound.epsilon / result.claim:.0%}"
        counts = (str(bound.guesses), str(bound.right), f"{bound.chance:.2g}")
        table.add_row(name, f"{bound.epsilon:.2f}", share, *counts)
    Screen().print(table)
    say(result.verdict)


def result_fields(result: Result) -> dict[str, Any]:
    """Return the same for programs."""
    plan = result.plan
    bounds = {
        name: {"epsilon": one.epsilon, "guesses": one.guesses, "right": one.right, "chance": one.chance}
        for name, one in (("exact", result.exact), ("one_run", result.one_run))
    }
    return {
        "unit": plan.unit,
        "epsilon_budget": plan.epsilon_budget,
        "epsilon_claimed": result.claim,
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.sample_rate,
        "rounds": plan.max_steps,
        "canaries": result.exact.guesses,
        "confidence": result.confidence,
        **bounds,
        "above_claim": result.above_claim,
        "refuted": result.refuted,
    }


def report_findings(findings: Sequence[Finding]) -> None:
    """Print the checks of the short version."""
    table = Table()
    for title in ("check", "seen", "lowest", "highest", ""):
        table.add_column(title, justify="left" if title in {"check", ""} else "right")
    for one in findings:
        figures = (f"{value:.4f}" for value in (one.seen, one.lowest, one.highest))
        table.add_row(one.name, *figures, "ok" if one.passed else "FAILED")
    Screen().print(table)
    failed = sum(not one.passed for one in findings)
    say(
        f"{failed} of {len(findings)} checks failed; a right program fails one in at most"
        f" {len(findings) * FALSE_ALARM:.0e} of all runs"
    )


def findings_fields(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the same for programs."""
    checks = [
        {
            "check": one.name,
            "seen": one.seen,
            "lowest": one.lowest,
            "highest": one.highest,
            "passed": one.passed,
        }
        for one in findings
    ]
    return {"checks": checks, "passed": all(one.passed for one in findings)}


def report_json(fields: dict[str, Any]) -> None:
    """Print what programs read."""
    say_json(fields)

"""The audit's answer for programs: one JSON object, ``fedapt-audit/1``."""

import math
from typing import Any, Final

from fedapt_secure.audit.checks.history import SessionSpend
from fedapt_secure.audit.checks.recompute import Recomputed
from fedapt_secure.audit.checks.spend import DatasetSpend
from fedapt_secure.audit.evidence.deployment import Deployment
from fedapt_secure.audit.evidence.hiding import SessionSums
from fedapt_secure.audit.findings import Finding
from fedapt_secure.audit.judgement import Judgement, PartyJudgement
from fedapt_secure.audit.report import wording

FORMAT: Final = "fedapt-audit/1"


def to_fields(judgement: Judgement) -> dict[str, Any]:
    """Return the judgement as plain values; an unbounded ε is ``None``."""
    grid = judgement.participation
    return {
        "format": FORMAT,
        "verdict": judgement.verdict.value,
        "self_attested": list(judgement.self_attested),
        "identities": "trusted roster" if judgement.trusted else _untrusted(judgement),
        "roster_hash": judgement.roster_hash,
        "claim": wording.claim(judgement),
        "not_proved": list(wording.NOT_PROVED),
        "not_checked": list(judgement.unchecked),
        "findings": [_finding(finding) for finding in judgement.findings],
        "findings_in_all": sum(judgement.counts.values()),
        "parties": [_party(party) for party in judgement.parties],
        "sums": [_sums(one) for one in judgement.sums],
        "deployment": _deployment(judgement.deployment),
        "rounds": {"source": grid.source, "total": grid.rounds, "completed": grid.completed},
    }


def _deployment(deployment: Deployment) -> dict[str, Any]:
    return {
        "roster": deployment.roster,
        "coordinator": deployment.coordinator,
        "institutions": [
            {"name": one.name, "domain": one.domain, "identity": one.identity} for one in deployment.members
        ],
        "sessions": [
            {
                "session": one.session,
                "configuration": one.configuration,
                "first_line": one.first.isoformat(timespec="seconds"),
                "last_line": one.last.isoformat(timespec="seconds"),
                "closed": one.closed,
                "completed_rounds": one.completed,
                "model": one.model,
                "secure_aggregation": one.scheme,
                "participation": one.participation,
                "plan_agreed": one.agreed,
                "plan_of": one.plan_of,
                "weight_hash": None if one.plan is None else one.plan.weight_hash,
                "model_hash": None if one.plan is None else one.plan.model_hash,
                "class_names": None if one.plan is None else list(one.plan.class_names),
            }
            for one in deployment.sessions
        ],
    }


def _untrusted(judgement: Judgement) -> str:
    return "roster beside the logs" if judgement.roster_hash is not None else "the logs themselves"


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "party": finding.party,
        "file": finding.file,
        "line": finding.line,
        "kind": finding.kind.value,
        "detail": finding.detail,
    }


def _party(party: PartyJudgement) -> dict[str, Any]:
    return {
        "party": party.party,
        "role": "coordinator" if party.is_coordinator else "institution",
        "verdict": party.verdict.value,
        "identity": party.identity,
        "logs": [
            {
                "log": log.log,
                "files": list(log.files),
                "first_line": log.first_line,
                "lines": log.lines,
                "last_line_hash": log.last_line_hash,
                "witnessed_line": None if log.seen is None else log.seen.seq + 1,
                "witnesses": [] if log.seen is None else list(log.seen.witnesses),
            }
            for log in party.logs
        ],
        "sessions": party.sessions,
        "closed_sessions": party.closed,
        "rounds_contributed": party.contributed,
        "rounds_released": party.released,
        "refusals": party.refusal_count,
        "differential_privacy": party.private,
        "data_sets": [_data_set(spend) for spend in party.spends],
    }


def _sums(one: SessionSums) -> dict[str, Any]:
    return {
        "session": one.session,
        "secure_aggregation": one.scheme,
        "hides_a_single_institution": one.hiding.value,
        "alone_with_its_key": list(one.alone),
        "verified_rounds": one.verified,
        "did_not_come": [
            {
                "party": wait.party,
                "round": wait.round,
                "attempt": wait.attempt,
                "contributors": list(wait.survivors),
                "went_on_later": wait.settled,
            }
            for wait in one.waiting
        ],
    }


def _data_set(spend: DatasetSpend) -> dict[str, Any]:
    jointly = spend.jointly()
    return {
        "data_set": spend.dataset,
        "unit": spend.unit,
        "composition": spend.composition,
        "budget": spend.budget,
        "planned": _figure(spend.committed),
        "spent": _figure(spend.spent),
        "recomputed": _figure(spend.recomputed),
        "recomputed_remove": _figure(spend.remove),
        "recomputed_add": _figure(spend.add),
        "recomputed_error": _figure(spend.error),
        "margin": None if spend.margin is None else _figure(spend.margin),
        "delta": spend.delta_of_rule,
        "carried_from_before": _figure(spend.carried),
        "steps": spend.steps,
        "jointly": None if jointly is None else _recomputed(jointly),
        "sessions": [_session(one) for one in spend.counted],
    }


def _session(one: SessionSpend) -> dict[str, Any]:
    plan, record = one.plan, one.record
    return {
        "session": record.session,
        "data_set": plan.dataset,
        "unit": plan.unit,
        "noise": plan.noise,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.sample_rate,
        "delta": plan.delta,
        "declared_records": plan.declared_records,
        "max_steps": plan.max_steps,
        "steps": record.steps,
        "stated_planned": plan.epsilon_planned,
        "stated_spent": record.epsilon,
        "recomputed_planned": _recomputed(one.planned),
        "recomputed_spent": _recomputed(one.taken),
    }


def _recomputed(found: Recomputed) -> dict[str, Any]:
    return {
        "epsilon": _figure(found.epsilon),
        "remove": _figure(found.remove),
        "add": _figure(found.add),
        "error": _figure(found.error),
        "mesh": found.mesh,
    }


def _figure(value: float) -> float | None:
    return value if math.isfinite(value) else None

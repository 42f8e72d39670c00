"""What an institution takes part in when it agrees to a session: every figure that people decide by."""

from contextlib import suppress
from typing import Any

from fedapt_client.narration import said_of_rounds
from fedapt_client.settings import ClientSettings
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.identity import fingerprint
from fedapt_secure.config.policy import Policy
from fedapt_secure.privacy.unit import PrivacyUnit, unit_of
from fedapt_secure.protocol.hiding import hidden
from fedapt_secure.protocol.session import SessionConfiguration


def offer_fields(
    configuration: SessionConfiguration,
    settings: ClientSettings,
    policy: Policy,
    policy_source: str,
) -> dict[str, Any]:
    """Return a session as its institutions are to see it: what the hash covers, and this one's own share.

    Args:
        configuration: The session.
        settings: The institution's settings.
        policy: Its policy.
        policy_source: Where that is from.

    Raises:
        InvalidInput: If this institution is not on the session's roster.
    """
    plan, roster = configuration.plan, configuration.roster
    hides = hidden(configuration, settings.name)
    allowance = policy.allowance
    privacy = {
        "epsilon": settings.dp_epsilon or allowance.session_epsilon,
        "delta": settings.dp_delta,
        "session_epsilon": allowance.session_epsilon,
        "session_delta": allowance.session_delta,
        "max_epsilon": policy.max_epsilon,
        "max_delta": policy.max_delta,
        "sample_rate": plan.sample_rate,
        "steps": configuration.planned_steps(settings.name),
        "max_grad_norm": plan.max_grad_norm,
        "unit": _unit(settings),
        "policy_source": policy_source,
    }
    return {
        "hash": configuration.hash.hex(),
        "session": configuration.session.hex(),
        "purpose": plan.purpose,
        "class_names": list(plan.class_names),
        "model": plan.model,
        "pretrained": plan.pretrained,
        "weight_hash": plan.weight_hash,
        "model_hash": plan.model_hash,
        "activation": plan.model_identity.activation,
        "rounds": plan.rounds,
        "local_steps": plan.local_steps,
        "round": plan.round_said,
        "supervision": plan.supervision,
        "prior_weight": configuration.prior_weight,
        "prior_weight_expects": plan.expected.model_dump() if plan.prior_weight is None else None,
        "privacy": privacy if plan.differential_privacy else None,
        "secure_aggregation": plan.secure_aggregation,
        "participation": plan.participation,
        "cohort_size": configuration.cohort_size,
        "hides_a_single_institution": hides.hiding.value,
        "institutions_on_our_key": hides.own,
        "minimum_institutions_per_key": policy.minimum_institutions_per_key,
        "said_of_sums": hides.said,
        "minima": _minima(settings, policy),
        "bundle_for_coordinator": plan.bundle_for_coordinator,
        "own_rounds": list(configuration.own_rounds(settings.name)),
        "said_of_rounds": said_of_rounds(configuration, settings.name),
        "institutions": [
            {
                "name": member.name,
                "domain": plan.domains[member.domain_index],
                "fingerprint": fingerprint(member.identity_key),
            }
            for member in roster.members
        ],
        "threshold": configuration.threshold,
        "coordinator_fingerprint": fingerprint(roster.coordinator_key),
        "deadlines_s": {
            "training": plan.round_timeout_s,
            "phase": plan.phase_timeout_s,
            "gathering": plan.gather_timeout_s,
        },
        "minimum_rate_kbit_s": plan.minimum_rate_kbit_s,
    }


def _unit(settings: ClientSettings) -> PrivacyUnit | None:
    """Return what privacy would count on an institution's data; ``None`` where that cannot be read yet."""
    from fedapt_secure.learning.data.reading.manifest import names_subjects  # noqa: PLC0415 - torch, seconds

    try:
        return unit_of(has_subjects=settings.subjects is not None or names_subjects(settings.data))
    except InvalidInput:
        return None


def _minima(settings: ClientSettings, policy: Policy) -> dict[str, int | None]:
    """Return what the policy asks for, and how much may be here at most; ``None`` where nobody knows yet."""
    from fedapt_secure.learning.data.counting import TrainingCount, most_training  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.medical.people import PatientKey  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.records import read_unlabelled  # noqa: PLC0415

    people = PatientKey.to_count() if settings.subjects is not None else None
    there: TrainingCount | None = None
    with suppress(InvalidInput):
        there = most_training(read_unlabelled(settings.data, None, settings.reading, people).records)
    return {
        "minimum_records": policy.minimum_records,
        "minimum_persons": policy.minimum_persons,
        "records_at_most": None if there is None else there.images,
        "persons_at_most": None if there is None else there.persons,
    }

"""What an institution takes part in when it agrees to a session: every figure that people decide by."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fedapt_secure.cli.options import console
from fedapt_secure.privacy.unit import PrivacyUnit, counted, said, unit_of

if TYPE_CHECKING:
    from fedapt_client.settings import ClientSettings
    from fedapt_secure.config.policy import Policy
    from fedapt_secure.protocol.session import SessionConfiguration

MOST_CLASSES_SHOWN = 20


def offer_fields(
    configuration: "SessionConfiguration",
    settings: "ClientSettings",
    policy: "Policy",
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
    from fedapt_client.narration import said_of_rounds  # noqa: PLC0415
    from fedapt_crypto.identity import fingerprint  # noqa: PLC0415
    from fedapt_secure.protocol.hiding import hidden  # noqa: PLC0415

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


def _unit(settings: "ClientSettings") -> "PrivacyUnit | None":
    """Return what privacy would count on an institution's data; ``None`` where that cannot be read yet."""
    from fedapt_crypto.errors import InvalidInput  # noqa: PLC0415
    from fedapt_secure.learning.data.reading.manifest import names_subjects  # noqa: PLC0415

    try:
        return unit_of(has_subjects=settings.subjects is not None or names_subjects(settings.data))
    except InvalidInput:
        return None


def _minima(settings: "ClientSettings", policy: "Policy") -> dict[str, int | None]:
    """Return what the policy asks for, and how much may be here at most; ``None`` where nobody knows yet."""
    from fedapt_crypto.errors import InvalidInput  # noqa: PLC0415
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


def print_offer(fields: dict[str, Any]) -> None:
    """Print a session for people."""
    from rich.markup import escape  # noqa: PLC0415

    classes, model = fields["class_names"], fields["model_hash"][:16]
    more = ", ..." if len(classes) > MOST_CLASSES_SHOWN else ""
    institutions, deadlines = fields["institutions"], fields["deadlines_s"]
    rows = [
        ("session", fields["session"]),
        ("classes", f"{len(classes)}: {', '.join(classes[:MOST_CLASSES_SHOWN])}{more}"),
        ("model", f"{fields['model']}, all of it {model} ({fields['activation']})"),
        ("training", f"{fields['rounds']} rounds of {fields['round']}"),
        *([] if fields["supervision"] == "labels" else [("without labels", fields["supervision"])]),
        ("prior weight", _prior_weight(fields)),
        ("privacy", _privacy(fields["privacy"])),
        *([] if fields["privacy"] is None else [("", _share(fields["privacy"]))]),
        ("images", _images(fields["minima"])),
        ("aggregation", fields["secure_aggregation"]),
        ("", _hides(fields)),
        ("participants", _participants(fields)),
        *([] if fields["participation"] == "all" else [("this institution", fields["said_of_rounds"])]),
        *((f"  {one['name']}", f"{one['domain']}, {one['fingerprint']}") for one in institutions),
        ("coordinator", fields["coordinator_fingerprint"]),
        (
            "deadlines",
            f"training {deadlines['training']:g} s, other phases {deadlines['phase']:g} s, gathering"
            f" {deadlines['gathering']:g} s, and what messages take at {fields['minimum_rate_kbit_s']:g}"
            " kbit/s",
        ),
        ("hash", fields["hash"]),
    ]
    out = console()
    out.print("[bold]A session is offered to this institution[/bold]")
    for title, text in rows:
        out.print(f"{escape(title):<18} {escape(text)}")


def _prior_weight(fields: dict[str, Any]) -> str:
    expects = fields["prior_weight_expects"]
    said = f"{fields['prior_weight']:g} of the finished model stays the untuned CLIP's"
    if expects is None or fields["privacy"] is None:
        return said
    return f"{said}, for epsilon {expects['epsilon']:g} and {expects['records']} records at each institution"


def _participants(fields: dict[str, Any]) -> str:
    institutions, threshold = len(fields["institutions"]), fields["threshold"]
    if fields["participation"] == "all":
        return f"{institutions}, a round needs {threshold}"
    size = fields["cohort_size"]
    return f"{institutions}; a round has {size} of them, one of each domain, and needs {threshold}"


def _images(minima: dict[str, int | None]) -> str:
    """Return how many training images and persons the policy asks for, beside how many there may be."""
    words, refused = [], ""
    for what, asked, there in (
        ("training images", minima["minimum_records"], minima["records_at_most"]),
        ("persons", minima["minimum_persons"], minima["persons_at_most"]),
    ):
        if there is not None:
            words.append(f"at most {there} {what}, the policy asks for {asked}")
            refused = ". WOULD BE REFUSED" if there < (asked or 0) else refused
    return "; ".join(words) + refused or "cannot be read yet: 'fedapt-secure client doctor' says why"


def _hides(fields: dict[str, Any]) -> str:
    """Return what sums hide of this institution, what the policy asks for, and who gets the bundle."""
    words: str = fields["said_of_sums"]
    found, needed = fields["institutions_on_our_key"], fields["minimum_institutions_per_key"]
    if fields["secure_aggregation"] != "none":
        refused = "" if found >= needed else ". WOULD BE REFUSED"
        words += f"; the policy asks for {needed}{refused}"
    if fields["bundle_for_coordinator"]:
        words += "; the coordinator knows all keys and may have the finished bundle"
    return words


def _privacy(privacy: dict[str, Any] | None) -> str:
    if privacy is None:
        return "none: differential privacy is off"
    delta = privacy["delta"]
    unit = privacy["unit"]
    counts = "records" if unit is None else counted(unit)
    most = f"{privacy['session_delta']:g}"
    shown = f"{delta:g}" if delta is not None else f"1/(2 x {counts}) and at most {most}"
    per = "per image or per person, as the data will say" if unit is None else said(unit)
    return (
        f"epsilon {privacy['epsilon']:g} at most, delta {shown}; {privacy['steps']} steps with sampling rate"
        f" {privacy['sample_rate']:g}, clipping at {privacy['max_grad_norm']:g}; {per}"
    )


def _share(privacy: dict[str, Any]) -> str:
    """Return what the policy allows one session, of how much in all; and whether this one asks for more."""
    share = (
        f"the policy ({privacy['policy_source']}) allows one session epsilon"
        f" {privacy['session_epsilon']:g} and delta {privacy['session_delta']:g}, all sessions on"
        f" the same images {privacy['max_epsilon']:g} and {privacy['max_delta']:g}"
    )
    over = [
        name
        for name in ("epsilon", "delta")
        if privacy[name] is not None and privacy[name] > privacy[f"session_{name}"]
    ]
    if not over:
        return share
    asked = " and ".join(f"dp_{name} {privacy[name]:g}" for name in over)
    return f"{share}. WOULD BE REFUSED: client.yaml asks for {asked}"

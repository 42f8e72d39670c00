"""A deployment record for the public registry of differential privacy deployments, as a draft in YAML.

Names and order of fields follow the schema of the registry's data (``opendp/deployments-registry-data``,
``schemas/deployments-schema.yaml``) in the version 057e5d81 of 2026, which is the newest that was at hand in
November 2026. What the logs do not say is marked; such a mark does not fit where the schema has a closed
list, so that no record can be handed in before a person has filled it in.
"""

import math
from typing import Any, Final

import yaml

from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import TO_BE_ANSWERED, Dossier, day
from fedapt_secure.audit.report.trust import SOURCE
from fedapt_secure.privacy.unit import PERSON
from fedapt_secure.process.shown import shown

_HEAD: Final = """\
# Draft of a record for the public registry of differential privacy deployments.
# Fields: schemas/deployments-schema.yaml of opendp/deployments-registry-data, version 057e5d81 (2026).
# From the logs of a federated training; what they do not say is marked "{mark}"
# No legal advice. A person has to fill in the marks, check the rest and hand it in.
"""
_ADJACENT: Final = (
    "Two data sets of one institution are adjacent if one {unit} of the one is replaced by null records in"
    " the other (zero-out)."
)


def registry_record(dossier: Dossier) -> str:
    """Return the record as YAML."""
    text = yaml.safe_dump(record(dossier), allow_unicode=True, sort_keys=False, width=100)
    return _HEAD.format(mark=TO_BE_ANSWERED) + str(text)


def record(dossier: Dossier) -> dict[str, Any]:
    """Return the record as plain values."""
    return {
        "url_slug": TO_BE_ANSWERED,
        "deployment": {
            "basic": _basic(dossier),
            "dp_variant": {
                "variant_name": "Approximate DP" if dossier.is_bounded else TO_BE_ANSWERED,
                "data_domain": TO_BE_ANSWERED,
                "unprotected_quantities": (
                    "Who took part and when, sizes of messages, sampling rates, step counts and declared"
                    " numbers of records, rounded down. Held-out accuracies, where they are published."
                ),
            },
            "privacy_loss": _loss(dossier),
            "deployment_model": _model(dossier),
            "implementation": _implementation(dossier),
            "administrative": {
                "status": "Draft",
                "registry_authors": [TO_BE_ANSWERED],
                "tier": 3,
            },
        },
    }


def _basic(dossier: Dossier) -> dict[str, Any]:
    classes = ", ".join(shown(name) for name in dossier.class_names)
    models = ", ".join(dict.fromkeys(shown(plan.model) for plan in dossier.plans))
    described = (
        f"A classifier on {models}, tuned federatedly; classes: {classes}." if classes else TO_BE_ANSWERED
    )
    return {
        "name": TO_BE_ANSWERED,
        "data_curators": [{"data_curator_name": TO_BE_ANSWERED, "data_curator_type": TO_BE_ANSWERED}],
        "description": described,
        "intended_use": TO_BE_ANSWERED,
        "data_product_type": "Machine learning model",
        "data_product_region": TO_BE_ANSWERED,
        "data_product_sector": TO_BE_ANSWERED,
        "publication_date": TO_BE_ANSWERED,
    }


def _loss(dossier: Dossier) -> dict[str, Any]:
    found = dossier.guarantees
    units = list(dict.fromkeys(one.unit for one in found))
    spends = [spend for party in dossier.judgement.parties for spend in party.spends]
    named = {(one.party, one.dataset) for one in found}
    sizes = [
        max(one.plan.declared_records for one in spend.counted)
        for spend in spends
        if (spend.party, spend.dataset) in named and spend.counted
    ]
    kinds = list(dict.fromkeys("person" if spend.unit == PERSON else "image" for spend in spends))
    fields: dict[str, Any] = {
        "privacy_unit": "; ".join(units) or TO_BE_ANSWERED,
        "privacy_unit_details": " ".join(_ADJACENT.format(unit=unit) for unit in kinds) or TO_BE_ANSWERED,
    }
    if sizes and len(kinds) == 1 and len({one.party for one in found}) == len(found):
        fields["number_of_privacy_units"] = sum(sizes)  # data sets of one party may share records
    epsilon = max((one.epsilon for one in found), default=math.inf)
    if math.isfinite(epsilon) and not dossier.unprotected:
        fields["privacy_parameters"] = {"epsilon": _up(epsilon), "delta": max(one.delta for one in found)}
    fields["privacy_parameters_details"] = _details(dossier)
    return fields


def _details(dossier: Dossier) -> str:
    parts = [
        f"{one.party}, data set {one.dataset}: ε = {wording.number(one.epsilon)} at δ = {one.delta:.2e}, "
        + ("at δ = 1e-5 not known" if one.common is None else f"{wording.number(one.common)} at δ = 1e-5")
        for one in dossier.guarantees
    ]
    parts += [f"{name}: no differential privacy, no bound" for name in dossier.unprotected]
    return "; ".join(parts) or TO_BE_ANSWERED


def _model(dossier: Dossier) -> dict[str, Any]:
    actors = [
        f"{row.party}. Holds: {row.holds} Collusion: {row.collusion}"
        for table in dossier.trust
        for row in table.rows
    ]
    schemes = list(dict.fromkeys(one.scheme for one in dossier.sessions if one.scheme))
    count = len(dossier.sessions)
    rounds = [one.completed for one in dossier.sessions if one.completed is not None]
    return {
        "model_name": "Federated",
        "model_name_details": (
            "Each institution adds the whole noise for its own ε before its update leaves, by its plan;"
            " secure aggregation: " + (", ".join(shown(one) for one in schemes) or "not known")
        ),
        "trust_assumptions": SOURCE,
        "actors": f"Institutions: {', '.join(dossier.institutions) or 'not known'}. {' '.join(actors)}",
        "release_type": "Many releases",
        "release_type_details": (
            f"{count} session{'' if count == 1 else 's'} in these logs"
            + (
                f", {sum(rounds)} completed rounds; each round's sum is a release to the parties"
                if rounds
                else ""
            )
            + (f"; from {day(min(one.first for one in dossier.sessions))}" if count else "")
            + (f" to {day(max(one.last for one in dossier.sessions))}" if count else "")
        ),
        "data_source_type": TO_BE_ANSWERED,
        "access_type": "Non-interactive",
    }


def _implementation(dossier: Dossier) -> dict[str, Any]:
    plans = [
        f"{party.party}: σ = {one.plan.noise_multiplier:g}, q = {one.plan.sample_rate:g},"
        f" {one.record.steps} of {one.plan.max_steps} steps"
        for party in dossier.judgement.parties
        for spend in party.spends
        if (party.party, spend.dataset) in {(found.party, found.dataset) for found in dossier.guarantees}
        for one in spend.counted
    ]
    bounds = " ".join(dict.fromkeys(one.bound for one in dossier.guarantees))
    programs = "; ".join(f"{name}: {version.rstrip('.')}" for name, version in dossier.software)
    return {
        "preprocessing_and_hyperparameter_tuning": TO_BE_ANSWERED,
        "mechanisms": (
            f"Poisson-sampled Gaussian mechanism (DP-SGD). {bounds} {'; '.join(plans)}. {programs}"
            if plans
            else TO_BE_ANSWERED
        ),
        "composition": " ".join(f"{one.party}: {one.composition}" for one in dossier.guarantees)
        or TO_BE_ANSWERED,
        "post_processing": "Sums of updates move the model; all else follows from them and public values.",
        "justification": TO_BE_ANSWERED,
        "utility": "; ".join(
            f"{one.party}, as handed over and not checked: {one.accuracy:.1%} of {one.images} images"
            for one in dossier.scores
        )
        or TO_BE_ANSWERED,
        "additional_information": (
            f"Audit of the logs on {dossier.made_said}: {wording.headline(dossier.judgement)}."
            f" {wording.claim(dossier.judgement)} {wording.not_proved()}"
        ),
    }


def _up(epsilon: float) -> float:
    """Return ε with three decimals, rounded up, as everywhere."""
    return float(wording.number(epsilon))

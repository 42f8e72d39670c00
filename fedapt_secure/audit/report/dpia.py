"""An annex to a data protection impact assessment: questions, and what these logs answer to each.

The questions follow the topics of NIST SP 800-226 ("Guidelines for Evaluating Differential Privacy
Guarantees", March 2025) and of the EDPB's Opinion 28/2024 on AI models (17 December 2024), in our words and
without their numbers of sections. What no log says is left to the institution, in the open.
"""

from collections.abc import Iterator
from typing import Final

from fedapt_secure.audit.evidence.deployment import SessionFacts
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import (
    NO_ADVICE,
    NOT_RECORDED,
    SELF_REPORTED,
    TO_BE_ANSWERED,
    Dossier,
    day,
)
from fedapt_secure.audit.report.guarantees import grouped
from fedapt_secure.audit.report.markdown import code, plain, table
from fedapt_secure.audit.report.trust import SOURCE
from fedapt_secure.privacy.unit import PERSON, said

LOGS: Final = "the logs"
INSTITUTION: Final = "the institution"
PROGRAM: Final = "the program's documents"
HANDED_OVER: Final = "the institution, handed over beside the logs"


def dpia(dossier: Dossier) -> str:
    """Return the annex in Markdown."""
    lines = [
        "# Annex to a data protection impact assessment",
        "",
        f"Made {dossier.made_said} from the logs of a federated training. **{plain(_headline(dossier))}.**",
        plain(wording.claim(dossier.judgement)),
        "",
        f"Every answer says where it comes from. {NO_ADVICE}",
        "",
        f"**Purpose of the training:** {TO_BE_ANSWERED}",
        "",
        "## The training",
        "",
        *_training(dossier),
        "## Questions along NIST SP 800-226",
        "",
        *_nist(dossier),
        "## Questions along EDPB Opinion 28/2024",
        "",
        *_edpb(dossier),
        "## What the figures rest on",
        "",
        *[f"- **{what}.** {why}" for what, why in SELF_REPORTED],
        "",
        f"{wording.not_proved()}",
        "",
        "## Signatures",
        "",
        *table(
            ["Party", "Name and function", "Date", "Signature"],
            [[plain(name), "", "", ""] for name in (*dossier.institutions, "coordinator", "auditor")],
        ),
    ]
    return "\n".join(lines) + "\n"


def _headline(dossier: Dossier) -> str:
    return f"Verdict of the audit: {wording.headline(dossier.judgement)}"


def _asked(question: str, answer: list[str], source: str) -> Iterator[str]:
    """Yield a question, its answer and where that comes from."""
    yield f"### {question}"
    yield ""
    yield from answer
    yield ""
    yield f"*From: {source}.*"
    yield ""


def _open(question: str) -> Iterator[str]:
    yield from _asked(question, [TO_BE_ANSWERED], INSTITUTION)


def _training(dossier: Dossier) -> Iterator[str]:
    deployment = dossier.deployment
    rows = [["Roster", code(deployment.roster) if deployment.roster else "none was given"]]
    if deployment.coordinator:
        rows.append(["Coordinator, key", code(deployment.coordinator)])
    for member in deployment.members:
        where = f"domain {plain(member.domain)}, " if member.domain else ""
        rows.append([f"Institution {plain(member.name)}", f"{where}key {code(member.identity)}"])
    if not deployment.members:
        rows += [[f"Institution {plain(name)}", "no roster was given"] for name in dossier.institutions]
    for plan in dossier.plans:
        pretrained = f", {plain(plan.pretrained)}" if plan.pretrained else ""
        rows.append(["Model", f"{plain(plan.model)}{pretrained}, frozen weights {code(plan.weight_hash)}"])
        steps = f"{plan.rounds} rounds, an institution in each: {plan.round_said}"
        rows.append(["Method", f"{plain(plan.method)}, guided by {plain(plan.supervision)}; {steps}"])
        rows.append([f"Classes ({len(plan.class_names)})", ", ".join(map(plain, plan.class_names))])
    if not dossier.plans:
        rows.append(["Model, classes", NOT_RECORDED])
    for one in dossier.sessions:
        rows.append([f"Session {code(one.session)}", _session(one)])
    yield from table(["What", "As the logs have it"], rows)
    yield ""


def _session(one: SessionFacts) -> str:
    parts = [f"{day(one.first)} to {day(one.last)}", f"aggregation {plain(one.scheme or 'unknown')}"]
    if one.completed is not None:
        parts.append(f"{one.completed} rounds completed")
    parts.append(f"finished model {code(one.model)}" if one.model else "no finished model that is settled")
    parts.append(f"signed by {', '.join(map(plain, one.signed))}" if one.closed else "no close record")
    if one.missing:
        parts.append(f"not signed by {', '.join(map(plain, one.missing))}")
    return "; ".join(parts)


def _nist(dossier: Dossier) -> Iterator[str]:
    judgement = dossier.judgement
    yield from _asked("Privacy parameters: which ε and δ, for whom?", _parameters(dossier), LOGS)
    yield from _asked(
        "Variant: which definition of differential privacy?",
        [
            "Approximate differential privacy, (ε, δ), against whoever sees every update of an institution"
            " unmasked, every sum and the model; one unit is replaced by null records."
            if dossier.is_bounded
            else "None that these logs support."
        ],
        f"{LOGS} and {PROGRAM}",
    )
    yield from _asked("Unit of privacy: whose data does ε bound?", _units(dossier), LOGS)
    yield from _asked(
        "Composition: how are several trainings on the same data counted?",
        [f"- {plain(one.party)}, {code(one.dataset)}: {plain(one.composition)}" for one in dossier.guarantees]
        or [NOT_RECORDED],
        LOGS,
    )
    yield from _asked(
        "Algorithm: how much can one unit contribute, and which noise is added?", _steps(dossier), LOGS
    )
    yield from _utility(dossier)
    yield from _open("Bias: does the noise or the data put groups of people at a disadvantage?")
    yield from _asked(
        "Trust model: who must be trusted, and what does collusion break?",
        _trust(dossier),
        f"{LOGS}; {SOURCE}",
    )
    yield from _asked(
        "Implementation of the mechanism: floating point, randomness, timing?",
        [
            "Not a matter of logs: SECURITY.md of the program, section 'Differential privacy', says it. That"
            " it ran unchanged at every institution, no log shows. Versions of programs that trained: "
            + NOT_RECORDED
        ],
        PROGRAM,
    )
    yield from _open("Security and access: who may reach the data, the keys and the logs?")
    yield from _open("Exposure by collection: how, where and on which ground were the data collected?")
    if judgement.unchecked:
        items = [f"- {plain(item)}" for item in judgement.unchecked]
        yield from _asked("What could the audit not check, for want of evidence?", items, LOGS)


def _parameters(dossier: Dossier) -> list[str]:
    rows = [
        [
            plain(one.party),
            code(one.dataset),
            one.unit,
            wording.number(one.epsilon),
            f"{one.delta:.2e}",
            "not known" if one.common is None else wording.number(one.common),
        ]
        for one in dossier.guarantees
    ]
    head = ["Institution", "Data set", "Unit", "ε", "at declared δ", "ε at δ = 1e-5"]
    lines = table(head, rows) if rows else []
    for whose, words in grouped((one.party, one.words) for one in dossier.guarantees):
        lines += ["", f"{', '.join(map(plain, whose))}: {' '.join(words)}"]
    for party in dossier.judgement.parties:
        if party.verdict is Verdict.TAMPERED:
            lines += ["", f"{plain(party.party)}: figures would rest on altered records."]
        elif not party.is_coordinator and not party.private:
            lines += ["", f"{plain(party.party)}: no differential privacy, no bound at all."]
    return lines or [NOT_RECORDED]


def _units(dossier: Dossier) -> list[str]:
    found = [f"- {plain(one.party)}, {code(one.dataset)}: {one.unit}" for one in dossier.guarantees]
    if any(one.unit != said(PERSON) for one in dossier.guarantees):
        found += ["", "Where it is per image, a person with several images can be given away by more than ε."]
    return found or [NOT_RECORDED]


def _steps(dossier: Dossier) -> list[str]:
    bounds = {one.dataset: one.bound for one in dossier.guarantees}
    lines = []
    for party in dossier.judgement.parties:
        for spend in () if party.verdict is Verdict.TAMPERED else party.spends:
            for one in spend.counted:
                plan = one.plan
                lines.append(
                    f"- {plain(party.party)}, session {code(one.record.session)}: {bounds[spend.dataset]}"
                    f" Gaussian noise of σ = {plan.noise_multiplier:g} times C, from {plain(plan.noise)};"
                    f" each takes part in a step with q = {plan.sample_rate:g}; {one.record.steps} of"
                    f" {plan.max_steps} planned steps were taken; {plan.declared_records} declared."
                )
    return lines or [NOT_RECORDED]


def _utility(dossier: Dossier) -> Iterator[str]:
    question = "Utility: how well does the model do?"
    if not dossier.scores:
        yield from _asked(question, [f"No log holds accuracies. {TO_BE_ANSWERED}"], INSTITUTION)
        return
    lines = [
        f"- {plain(one.party)}, {plain(one.file)}: {one.accuracy:.1%} of {one.images} images of its own"
        for one in dossier.scores
    ]
    for one in dossier.scores:
        rows = [
            [plain(cls.name), str(cls.images), "—" if cls.recall is None else f"{cls.recall:.1%}"]
            for cls in one.classes
        ]
        if rows:
            lines += [
                "",
                f"{plain(one.party)}, by class:",
                "",
                *table(["Class", "Images", "Recognised"], rows),
            ]
    yield from _asked(question, [*lines, "", "This audit has checked none of it."], HANDED_OVER)


def _trust(dossier: Dossier) -> list[str]:
    lines: list[str] = []
    for one in dossier.trust:
        sessions = ", ".join(code(name) for name in one.sessions)
        lines += [f"Aggregation {plain(one.scheme or 'unknown')}; sessions {sessions}:", ""]
        rows = [[plain(row.party), plain(row.holds), plain(row.collusion)] for row in one.rows]
        lines += [*table(["Party", "What it holds", "What its collusion breaks"], rows), ""]
    return lines or [NOT_RECORDED]


def _edpb(dossier: Dossier) -> Iterator[str]:
    judgement = dossier.judgement
    yield from _asked(
        "Is the model claimed to be anonymous?",
        [
            "Nothing in these logs claims it. They bound what can be learnt about one unit (above); whether"
            " the likelihood of extraction is insignificant is to be assessed case by case. " + TO_BE_ANSWERED
        ],
        INSTITUTION,
    )
    yield from _open("Design: which sources of data were selected, and why are they adequate?")
    yield from _open("Design: how were the data prepared, minimised and filtered?")
    yield from _asked("Design: which methods of training reduce identifiability?", _methods(dossier), LOGS)
    yield from _open("Design: which measures guard the model's outputs in use?")
    yield from _asked(
        "Analysis: was it verified that the measures were applied as planned?",
        [
            f"{plain(_headline(dossier))}. {plain(wording.claim(judgement))}",
            "",
            plain(wording.identities(judgement)),
            "",
            wording.not_proved(),
            *[f"- {plain(finding)}" for finding, _ in judgement.grouped],
        ],
        LOGS,
    )
    yield from _asked(
        "Testing: how does the model resist membership inference, inversion, extraction, reconstruction?",
        [
            "No log holds such tests. For membership of one unit ε bounds every test, see the first answer. "
            + TO_BE_ANSWERED
        ],
        f"{LOGS} and {INSTITUTION}",
    )
    yield from _open(
        "Documentation: impact assessment, advice of the data protection officer, residual risks?"
    )
    yield from _open(
        "Legal basis: which interest, is the processing necessary for it, does it outweigh people's rights?"
    )
    yield from _open(
        "Were the data collected lawfully, and what follows for the model's use if they were not?"
    )


def _methods(dossier: Dossier) -> list[str]:
    lines = []
    if dossier.guarantees:
        lines.append("- Training under differential privacy at each institution, with the ε above.")
    unprotected = [
        party.party for party in dossier.judgement.parties if not party.is_coordinator and not party.private
    ]
    if unprotected:
        lines.append(f"- Without differential privacy: {', '.join(map(plain, unprotected))}.")
    lines += [
        f"- Session {code(one.session)}: {plain(wording.hiding_said(one))} (aggregation"
        f" {plain(one.scheme or 'unknown')})."
        for one in dossier.judgement.sums
    ]
    return lines or [NOT_RECORDED]

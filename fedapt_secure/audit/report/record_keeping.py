"""Which line of which log is evidence of what, along the AI Act's duties of keeping records.

Regulation (EU) 2024/1689: article 12 (record-keeping), 19 (automatically generated logs), 18 (documentation
keeping), 11 with annex IV (technical documentation), 26 (deployers). The logs here are of a training; those
of the system's use are somebody else's to keep, and the index says so.
"""

from typing import Final

from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.dossier import NO_ADVICE, TO_BE_ANSWERED, Dossier, day
from fedapt_secure.audit.report.markdown import code, plain, table
from fedapt_secure.log.line import FORMAT

_EVENTS: Final = (
    (
        "The period of each session",
        "`session_started`, `session_accepted`, `session_closed`, `session_ended`",
    ),
    ("Who took part in which round", "`round_started`, `round_joined`, `round_ended`"),
    ("What left an institution", "`released`, and `spend` before it: steps, σ, q, δ, ε"),
    ("Rules in force, and what they turned down", "`policy`, `refused`, `sum_refused`"),
    ("How the model moved", "`verified_sum`, `caught_up`, `unresolved`: hashes of sums and models"),
    ("That others saw the log", "`witnessed`: signed heads of all parties"),
)


def record_keeping(dossier: Dossier) -> str:
    """Return the index in Markdown."""
    lines = [
        "# Evidence index for record keeping under the AI Act",
        "",
        f"Made {dossier.made_said} from the logs of a federated training (format {FORMAT}). {NO_ADVICE}"
        " Whether the system is one of high risk, and whose duties these are, is for the parties to decide.",
        "",
        f"Verdict of the audit: **{plain(wording.headline(dossier.judgement))}**."
        f" {plain(wording.claim(dossier.judgement))}",
        "",
        "## Article 12: record-keeping",
        "",
        "Events are recorded automatically, chained and signed line by line. **These are logs of the"
        " training. Events of the system's use are in none of them**; recording those: " + TO_BE_ANSWERED,
        "",
        *table(["Event", "Lines that hold it (docs/log-format.md)"], [list(one) for one in _EVENTS]),
        "",
        "## Article 19: automatically generated logs, and where they end",
        "",
        *_logs(dossier),
        "",
        f"How long they are kept, where and by whom: {TO_BE_ANSWERED} What has to be kept together: all"
        " segments of each log, the roster, and this index; the hashes above say that they are the same.",
        "",
        "## Article 18: documentation keeping",
        "",
        *table(
            ["Document", "Where"],
            [
                [
                    "Roster of the parties",
                    code(dossier.deployment.roster) if dossier.deployment.roster else "none was given",
                ],
                *_models(dossier),
                ["Impact assessment", TO_BE_ANSWERED],
                ["Instructions for use", TO_BE_ANSWERED],
            ],
        ),
        "",
        "## Article 11 and annex IV: technical documentation",
        "",
        *table(["Topic", "Evidence"], _technical(dossier)),
        "",
        "## Article 26: deployers",
        "",
        "Logs of use under the deployer's control, human oversight, information of those concerned: "
        + TO_BE_ANSWERED,
        "",
        "## What the logs do not prove",
        "",
        wording.not_proved(),
        *[f"- Not checked, for want of evidence: {plain(item)}" for item in dossier.judgement.unchecked],
    ]
    return "\n".join(lines) + "\n"


def _logs(dossier: Dossier) -> list[str]:
    rows = [
        [
            plain(party.party),
            party.verdict.value,
            ", ".join(plain(name) for name in log.files),
            f"{log.first_line} to {log.first_line + log.lines - 1}",
            code(log.last_line_hash) if log.last_line_hash else "unreadable",
            f"line {log.seen.seq + 1}, by {', '.join(map(plain, log.seen.witnesses))}"
            if log.seen
            else "by nobody",
        ]
        for party in dossier.judgement.parties
        for log in party.logs
    ]
    return table(["Party", "Verdict", "Files", "Lines", "SHA-256 of the last line", "Witnessed up to"], rows)


def _models(dossier: Dossier) -> list[list[str]]:
    return [
        [
            f"Close record and finished model of session {code(one.session)}",
            f"{day(one.last)}; model {code(one.model)}" if one.model else "no finished model that is settled",
        ]
        for one in dossier.sessions
    ]


def _technical(dossier: Dossier) -> list[list[str]]:
    weights = [f"{plain(plan.model)}, frozen weights {code(plan.weight_hash)}" for plan in dossier.plans]
    programs = "; ".join(f"{plain(name)}: {plain(version.rstrip('.'))}" for name, version in dossier.software)
    return [
        ["Intended purpose", TO_BE_ANSWERED],
        ["Versions of programs", programs],
        ["Pre-trained parts", "; ".join(weights) or "not known from these logs"],
        ["Methods and steps of the training", "the plan in `session_started`; DPIA annex"],
        ["Data: origin, scope, labelling", TO_BE_ANSWERED],
        [
            "Accuracy and its limits",
            "handed over by institutions, see the DPIA annex" if dossier.scores else TO_BE_ANSWERED,
        ],
        ["Cybersecurity", "SECURITY.md of the program; the verdict above"],
        ["Human oversight", TO_BE_ANSWERED],
    ]

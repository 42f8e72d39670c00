"""The exact words of the audit: what each verdict claims, what no verdict proves, and what the terms mean.

Every report reads them from here, so that a screen, a file and a printed page say the same.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Final

from fedapt_secure.audit.checks.spend import DatasetSpend
from fedapt_secure.audit.evidence.hiding import SessionSums
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement, PartyJudgement
from fedapt_secure.privacy.unit import PrivacyUnit, counted, said
from fedapt_secure.protocol.hiding import Hiding

MEANING: Final = {
    Verdict.VERIFIED: (
        "The records are unaltered up to the last witnessed head, and the recorded parameters imply the ε"
        " that is stated here."
    ),
    Verdict.OPEN: (
        "Nothing is wrong with the records, but something is not settled: a session has no close record"
        " signed by its parties (it was interrupted, is still running, or the end of a log is missing), or an"
        " institution has revealed shares for a sum that never came."
    ),
    Verdict.VIOLATED: "The records are intact, and they themselves show that a rule was broken.",
    Verdict.TAMPERED: (
        "The records were altered, or do not belong together: nothing in them should be relied on."
    ),
}
MARK: Final = {
    Verdict.VERIFIED: "✓",
    Verdict.OPEN: "…",
    Verdict.VIOLATED: "!",
    Verdict.TAMPERED: "✕",
}
"""A sign of each that does without colour."""
NOT_PROVED: Final = (
    "that the recorded noise was applied",
    "that no unrecorded training took place",
    "that two data sets are distinct",
    "anything after the last witnessed head",
)
LONE_LOG: Final = (
    "The log of a single party cannot show by itself that its owner rewrote it from the start with its own"
    " key, or left out its end. The heads that other parties hold show it: audit all parties' logs together."
)
_WIDTH: Final = 88
SESSIONS_SHOWN: Final = 6
NAMES_SHOWN: Final = 8
WAITING_SHOWN: Final = 20
REFUSALS_SHOWN: Final = 20
SELF_ATTESTED: Final = "self-attested"
GLOSSARY: Final = (
    (
        "ε (epsilon)",
        "How much the results can reveal about any single record, at most. Nobody who sees all of them can"
        " thereby become more than e^ε times as sure that a certain record was used. 0 reveals nothing, 1 is"
        " strict, 8 is common for models of images; each unit more multiplies what may be learnt by 2.7.",
    ),
    (
        "δ (delta)",
        "The small chance that the promise of ε does not hold for a record. It should be well below one"
        " divided by the number of records.",
    ),
    (
        "Per image, per person",
        "Whose presence ε bounds. Per person: all images of one person together, as far as the institution's"
        " data says whose each is. Per image: a single image; a person with several can be given away by more"
        " than ε.",
    ),
    (
        "Budget",
        "The largest ε that the institution's own policy allows for one data set, all sessions together.",
    ),
    (
        "Planned",
        "The ε of all sessions that have begun. Each counts in full as it was planned from its first step on,"
        " also where less was used: what is reserved is never given back. Who never began costs nothing.",
    ),
    ("Spent", "The ε of the training steps that were taken, as the institution's log states it."),
    (
        "Recomputed",
        "The ε of the same steps, worked out anew by this audit with another method (privacy loss"
        " distributions), for a record removed and for a record added; the larger counts. It is never below"
        " the truth.",
    ),
    ("Margin", "What is left of the budget after everything that was planned."),
    (
        "Noise multiplier σ, sampling rate q, steps",
        "What ε follows from: how much random noise was added in each step, which share of the records took"
        " part in a step on average, and how many steps there were.",
    ),
    (
        "Session and round",
        "A session is one training of a model together. It consists of rounds; in each, every institution"
        " that takes part in it sends one protected update, and only the sum of all updates becomes known.",
    ),
    (
        "Verified sum",
        "Each institution checks by itself that a round's sum is what the contributors sent, moves its own"
        " copy of the model by it and signs a statement. One round has one sum: a second one, or one that was"
        " kept back, could be used to work out a single institution's update.",
    ),
    (
        "A sum that did not come",
        "An institution helped to open a sum, and the round ended without it. Rounds fail; but the"
        " coordinator may also have kept the sum to itself. The institution then helps with no other set of"
        " contributors on the same model, so that nothing can be learnt from a difference.",
    ),
    (
        "Hides a single institution",
        "Whether an update is mixed with others so that only their sum can be learnt. In FedAPT institutions"
        " have keys, and the update of one that is alone with its key can be separated from a sum, with"
        " effort; what protects it then is its own noise, which is what ε counts.",
    ),
    (
        "Log, chain, signature",
        "Each party keeps a log. Every line carries the fingerprint of the line before it and the party's"
        " signature, so that a line cannot be changed, removed or added in between without a trace.",
    ),
    (
        "Witnessed head",
        "The fingerprint of a log's last line, signed by its owner and kept by the others. It pins the log up"
        " to there: whoever changes it afterwards contradicts a signature that others hold.",
    ),
    (
        "Close record",
        "What all parties sign at the end of a session. Without it a session is open.",
    ),
    (
        "Roster",
        "The list of the parties and their public keys. Given with --trust, it says whose signatures count.",
    ),
    (
        "Self-attested",
        "One operator held all keys, or only one party's log was there: nobody independent vouches for it.",
    ),
)


def headline(judgement: Judgement) -> str:
    """Return the verdict in one line, with ``self-attested`` where it is."""
    if judgement.self_attested:
        return f"{judgement.verdict} ({SELF_ATTESTED})"
    return str(judgement.verdict)


def claim(judgement: Judgement) -> str:
    """Return what the verdict claims, with its figures."""
    if judgement.verdict is not Verdict.VERIFIED:
        return MEANING[judgement.verdict]
    return f"The records are unaltered up to the last witnessed head, and {implied(judgement.parties)}."


def implied(parties: Sequence[PartyJudgement]) -> str:
    """Return what the recorded parameters imply, as a clause."""
    spends = [spend for party in parties for spend in party.spends]
    unprotected = [party.party for party in parties if not party.private and not party.is_coordinator]
    if not spends and not unprotected:
        return "they hold no training on anybody's data"
    clauses = []
    if spends:
        for unit in units(parties):
            of_unit = [spend for spend in spends if spend.unit == unit]
            whose = "every data set" if len(spends) > 1 else "the data set"
            if len(of_unit) < len(spends):
                whose = f"the data of {', '.join(dict.fromkeys(spend.party for spend in of_unit))}"
            largest = max(spend.committed for spend in of_unit)
            clauses.append(
                f"the recorded parameters imply ε ≤ {number(largest)} at δ ≤"
                f" {max(spend.delta_of_rule for spend in of_unit):.2e} for {whose}, {said(unit)}"
            )
    if unprotected:
        clauses.append(
            f"they imply no bound at all for {', '.join(unprotected)}, who trained without"
            " differential privacy"
        )
    return "; ".join(clauses)


def units(parties: Sequence[PartyJudgement]) -> list[PrivacyUnit]:
    """Return what the parties' budgets count: images, persons, or some the one and some the other."""
    return sorted({spend.unit for party in parties for spend in party.spends})


def units_said(parties: Sequence[PartyJudgement]) -> str:
    """Return what the figures of a table are per, to stand behind its title; empty where there are none."""
    found = units(parties)
    if len(found) > 1:
        return ", per image for some and per person for others"
    return "".join(f", {said(unit)}" for unit in found)


def declared(spend: DatasetSpend) -> str:
    """Return the title of a column of declared counts."""
    return f"Declared {counted(spend.unit)}"


def unit_said(spend: DatasetSpend) -> str:
    """Return what one data set's figures are per."""
    return said(spend.unit)


def identities(judgement: Judgement) -> str:
    """Return where the identities come from."""
    if judgement.trusted:
        return "Identities: those of the roster given with --trust."
    if judgement.roster_hash is not None:
        return (
            "Identities: taken from the roster that lies beside the logs; nobody vouches for it. Give the"
            " roster that you approved with --trust."
        )
    return (
        "Identities: taken from the logs themselves; whoever made the logs could have made them. Give the"
        " roster that you approved with --trust."
    )


def not_proved() -> str:
    """Return what no verdict proves, as a sentence."""
    return f"Not proved: {'; '.join(NOT_PROVED)}."


def seen_until(party: PartyJudgement) -> str:
    """Return up to where others have seen a party's log."""
    parts = []
    for log in party.logs:
        last = log.first_line + log.lines - 1
        if party.verdict is Verdict.TAMPERED:
            parts.append(f"{log.lines} lines, altered or not this party's")
        elif log.seen is None:
            parts.append(f"{last} lines, seen by nobody else")
        else:
            who = ", ".join(log.seen.witnesses)
            parts.append(f"witnessed up to line {log.seen.seq + 1} of {last} (by {who})")
    return "; ".join(parts)


def sums_said(judgement: Judgement) -> list[str]:
    """Return what each session's sums hide, a sentence for all sessions of which the same is to be said."""
    groups: dict[str, list[str]] = {}
    for one in judgement.sums:
        groups.setdefault(hiding_said(one), []).append(f"{one.session[:8]}…")
    sentences = []
    for said_of, sessions in groups.items():
        shown, more = ", ".join(sessions[:SESSIONS_SHOWN]), len(sessions) - SESSIONS_SHOWN
        others = f" and {more} more" if more > 0 else ""
        sentences.append(f"{'Sessions' if len(sessions) > 1 else 'Session'} {shown}{others}: {said_of}.")
    return sentences


def hiding_said(one: SessionSums) -> str:
    """Return what one session's sums hide."""
    words = f"hides a single institution: {one.hiding}"
    if one.alone:
        words += f": {', '.join(one.alone[:NAMES_SHOWN])}"
        more = len(one.alone) - NAMES_SHOWN
        words += f" and {more} more" if more > 0 else ""
    if one.hiding is Hiding.NO_SCHEME:
        return f"{words}; nothing is claimed about its sums, which the coordinator made in clear"
    return words if one.verified is not None else f"{words}; its institutions did not verify sums yet"


def waiting_said(judgement: Judgement) -> list[str]:
    """Return which sums did not come, by party and round."""
    return [
        f"{wait.party}: the sum of round {wait.round}, attempt {wait.attempt} (session {one.session[:8]}…,"
        f" with {', '.join(wait.survivors)}) did not come"
        + ("; it went on from a sum that it verified later" if wait.settled else ", nor any later one")
        for one in judgement.sums
        for wait in one.waiting
    ]


def refusals_said(judgement: Judgement) -> list[str]:
    """Return what parties turned down, by round, a line for all that turned down the same."""
    groups: dict[tuple[int, str, str], list[str]] = {}
    for party in judgement.parties:
        for one in party.refusals:
            names = groups.setdefault((one.round, one.error, one.detail), [])
            if party.party not in names:
                names.append(party.party)
    said = []
    for (number, error, detail), names in sorted(groups.items()):
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        what = f"{error}: {detail}" if error else detail
        said.append(f"round {number}, {', '.join(names[:NAMES_SHOWN])}{more}: {what}")
    return said


def budget_text(spend: DatasetSpend) -> str:
    """Return a data set's budget for a table."""
    return "none stated" if spend.budget is None else f"{spend.budget:g}"


def margin_text(spend: DatasetSpend) -> str:
    """Return what is left of a data set's budget, for a table."""
    if spend.margin is None:
        return "—"
    return f"{spend.margin:.3f}" if math.isfinite(spend.margin) else "−∞"


def number(value: float) -> str:
    """Return an ε for people: three decimals, rounded up so that an upper bound stays one."""
    if value == math.inf:
        return "∞"
    rounded = -(-round(value * 1e6) // 1000) / 1000
    return f"{rounded:.3f}"


def explanation() -> str:
    """Return the text of ``--explain``."""
    blocks = [_heading("What the verdicts mean")]
    blocks += [_entry(str(verdict), meaning) for verdict, meaning in MEANING.items()]
    blocks += [
        _entry(
            f"({SELF_ATTESTED})",
            "is added where one operator held all keys, as in a simulation, or where only one party's log was"
            " given.",
        ),
        _heading("What no verdict proves"),
        "\n".join(f"  - {item}" for item in NOT_PROVED),
        textwrap.fill(LONE_LOG, _WIDTH, initial_indent="  ", subsequent_indent="  "),
        _heading("What the terms mean"),
    ]
    blocks += [_entry(term, words) for term, words in GLOSSARY]
    blocks.append("Exit status: 0 verified; 1 violated, tampered or open; 2 the input cannot be read.")
    return "\n\n".join(blocks)


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _entry(term: str, words: str) -> str:
    return f"  {term}\n" + textwrap.fill(words, _WIDTH, initial_indent="      ", subsequent_indent="      ")

"""Holds who took part in which round against the session's rule, where that names a cohort for each round.

The rule needs the configuration's hash, which every party's log states, and the roster. So whoever has both
computes every cohort anew: that nobody chose a round's participants does not rest on the coordinator's word.
"""

from collections import Counter
from collections.abc import Sequence

from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.cohorts import EVERYBODY, round_roster
from fedapt_secure.audit.evidence.bodies import SessionAccepted, SessionStarted
from fedapt_secure.audit.evidence.collect import LogRecord, SessionRecord
from fedapt_secure.audit.evidence.facts import Facts, names
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.audit.findings import Findings, Kind

MOST_NAMES_SHOWN = 5


def check_cohorts(
    evidence: Evidence, records: Sequence[LogRecord], facts: Facts, findings: Findings, unchecked: list[str]
) -> None:
    """Check that logs agree on each session's rule, and that each round's participants follow from it.

    Args:
        evidence: What was read besides the logs.
        records: What the logs hold.
        facts: What they say of rounds.
        findings: Where to note what does not agree.
        unchecked: Where to say what could not be checked.
    """
    _check_agreement(records, findings)
    for record in records:
        for session in record.sessions.values():
            terms = session.accepted
            if terms is None or terms.participation == EVERYBODY:
                continue
            roster = evidence.roster
            if roster is None or roster.hash.hex() != terms.roster:
                unchecked.append(
                    f"whose turn each round of session {session.session[:8]}… was, in the log of"
                    f" {record.party}: the session's roster was not given"
                )
                continue
            _check_session(record, session, terms, roster, facts, findings)


def _check_agreement(records: Sequence[LogRecord], findings: Findings) -> None:
    """Logs that state one configuration state one rule: the configuration holds it."""
    stated: dict[str, list[tuple[LogRecord, SessionRecord, str]]] = {}
    for record in records:
        for session in record.sessions.values():
            if session.accepted is not None:
                entry = (record, session, session.accepted.participation)
                stated.setdefault(session.accepted.configuration, []).append(entry)
    for entries in stated.values():
        (common, most), *others = Counter(rule for _, _, rule in entries).most_common()
        tied = bool(others) and others[0][1] == most
        for record, session, rule in entries:
            if others and (tied or rule != common):
                findings.tampered(
                    Kind.CONTEXT,
                    record.party,
                    session.place.file,
                    session.place.line,
                    f"who takes part in the rounds of session {session.session[:8]}… ({rule}) differs between"
                    " logs that state one configuration",
                )


def _check_session(
    record: LogRecord,
    session: SessionRecord,
    terms: SessionAccepted | SessionStarted,
    roster: Roster,
    facts: Facts,
    findings: Findings,
) -> None:
    configuration = bytes.fromhex(terms.configuration)
    query = (
        "SELECT file, line, kind, round, contributors, dropped, participants FROM round"
        " WHERE log = ? AND session = ? ORDER BY round, line_seq"
    )
    number, cohort = 0, frozenset[str]()
    for file, line, kind, round_number, *lists in facts.rows(query, record.index, session.session):
        if round_number != number:
            members = round_roster(roster, terms.participation, configuration, round_number)
            number, cohort = round_number, frozenset(members.names)
        present = {name for one in lists for name in names(one)}
        if kind in ("joined", "released"):
            present.add(record.party)
        strangers = sorted(present - cohort)
        if strangers:
            shown = ", ".join(strangers[:MOST_NAMES_SHOWN])
            more = f" and {len(strangers) - MOST_NAMES_SHOWN} more" if strangers[MOST_NAMES_SHOWN:] else ""
            findings.violated(
                Kind.COHORT,
                record.party,
                file,
                line,
                f"round {round_number} (session {session.session[:8]}…) has {shown}{more}, and the session's"
                f" rule names {', '.join(sorted(cohort)[:MOST_NAMES_SHOWN])} for it",
            )

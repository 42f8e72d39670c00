"""Holds the parties' accounts of the same rounds and sessions against each other.

Whoever took part in an attempt at a round must name the same context, transcript, outcome and contributors;
a contributor must have noted its release; and what was signed at the end of a session must be what logs say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from fedapt_crypto.errors import FedaptError
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.registry import NONE
from fedapt_secure.audit.checks.accused import accuses, said_otherwise
from fedapt_secure.audit.evidence.collect import Close, LogRecord, SessionRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, names
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.audit.findings import Findings, Kind, Verdict
from fedapt_secure.protocol.hiding import count_said, holders
from fedapt_secure.protocol.session import SessionConfiguration

_COMPARED = {
    "context": (Kind.CONTEXT, "what the parties agreed on before the round"),
    "transcript": (Kind.TRANSCRIPT, "the transcript"),
    "status": (Kind.TRANSCRIPT, "the outcome"),
    "contributors": (Kind.CONTRIBUTION, "the list of contributors"),
}


def check_rounds(
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    facts: Facts,
    findings: Findings,
) -> None:
    """Compare what all logs say of each attempt at a round.

    Args:
        records: What the logs hold.
        configurations: Session to its configuration, where that is known.
        facts: What they say of rounds.
        findings: Where to note what does not agree.
    """
    _check_configurations(records, findings)
    for column, (kind, what) in _COMPARED.items():
        query = (
            f"SELECT session, round, attempt FROM round WHERE {column} IS NOT NULL"  # noqa: S608 - our own names
            f" GROUP BY session, round, attempt HAVING count(DISTINCT {column}) > 1"
        )
        for key in list(facts.rows(query)):
            _name_the_odd_ones(records, facts, findings, column, kind, what, *key)
    _check_contributors(records, facts, findings)
    _check_releases(records, facts, findings)
    _check_minimum(records, configurations, facts, findings)


def _check_configurations(records: Sequence[LogRecord], findings: Findings) -> None:
    """A session has one configuration: the one that the coordinator runs, where its log is given."""
    accepted: dict[str, list[tuple[LogRecord, SessionRecord, str]]] = {}
    for record in records:
        for session in record.sessions.values():
            if session.accepted is not None:
                one = (record, session, session.accepted.configuration)
                accepted.setdefault(session.session, []).append(one)
    for name, given in accepted.items():
        own = {configuration for record, _, configuration in given if record.files.is_coordinator}
        common = Counter(configuration for *_, configuration in given).most_common(1)[0][0]
        expected = own or {common}
        for record, session, configuration in given:
            if configuration not in expected:
                findings.add(
                    Verdict.VIOLATED if own else Verdict.OPEN,
                    Kind.CONFIGURATION,
                    COORDINATOR if own else record.party,
                    session.place.file,
                    session.place.line,
                    f"{record.party} was offered session {name[:8]}… in another configuration than"
                    f" {'the coordinator runs' if own else 'others were'}, or its log is not true",
                )


def _name_the_odd_ones(
    records: Sequence[LogRecord],
    facts: Facts,
    findings: Findings,
    column: str,
    kind: Kind,
    what: str,
    session: str,
    round_number: int,
    attempt: int,
) -> None:
    """Report those whose account is not the most common one; all, where none is."""
    query = (
        f"SELECT log, file, line, {column} FROM round WHERE session = ? AND round = ? AND attempt = ?"  # noqa: S608
        f" AND {column} IS NOT NULL ORDER BY log, line_seq"
    )
    rows = list(facts.rows(query, session, round_number, attempt))
    holders = Counter(value for value, _ in {(row[3], records[row[0]].party) for row in rows})
    (common, most), *others = holders.most_common()
    tied = bool(others) and others[0][1] == most
    reported: set[str] = set()
    for log, file, line, value in rows:
        party = records[log].party
        if party in reported or (value == common and not tied):
            continue
        reported.add(party)
        against = "each other" if tied else f"{most} other" + ("s" if most > 1 else "")
        differs = (
            f"{what} of round {round_number} (session {session[:8]}…) differs between the logs ({against})"
        )
        if accuses(records, facts, party, session):
            findings.violated(kind, COORDINATOR, file, line, differs + said_otherwise(party))
        elif column == "context" and not took_part(records, facts, party, session, round_number, attempt):
            # Of what it was told to begin nothing has come: it may have been told another model or number.
            nothing = "; it joined, and has done nothing in it"
            findings.add(Verdict.OPEN, kind, party, file, line, differs + nothing)
        else:
            findings.tampered(kind, party, file, line, differs)


def took_part(
    records: Sequence[LogRecord], facts: Facts, party: str, session: str, number: int, attempt: int
) -> bool:
    """Return whether a party notes more of an attempt than that it has joined it.

    Args:
        records: Its logs, or all.
        facts: What they say of rounds.
        party: The party.
        session: The session.
        number: The round.
        attempt: The attempt at it.
    """
    own = [record for record in records if record.party == party]
    query = (
        "SELECT count(*) FROM round WHERE session = ? AND round = ? AND attempt = ? AND kind != 'joined'"
        " AND log IN (SELECT value FROM json_each(?))"
    )
    indices = str([record.index for record in own])
    return bool(facts.one(query, session, number, attempt, indices)[0])


def _whole(records: Sequence[LogRecord]) -> dict[str, LogRecord]:
    """Return the logs that nothing is missing from, by party; the last where there are more."""
    return {record.party: record for record in records if record.is_whole}


def _check_contributors(records: Sequence[LogRecord], facts: Facts, findings: Findings) -> None:
    logs = _whole(records)
    # One account a round, that of most: where they differ, that is noted already, and one that is not true
    # must not be held against those whom it names. (SQLite takes the other columns from that row.)
    query = (
        "SELECT session, round, attempt, contributors, log, file, line, max(most) FROM"
        " (SELECT session, round, attempt, contributors, min(log) AS log, file, line,"
        " count(DISTINCT log) AS most FROM round WHERE kind = 'ended' AND status = ?"
        " GROUP BY session, round, attempt, contributors) GROUP BY session, round, attempt"
    )
    has_release = (
        "SELECT count(*) FROM round WHERE kind = 'released' AND session = ? AND round = ? AND attempt = ?"
        " AND log IN (SELECT value FROM json_each(?))"
    )
    for session, round_number, attempt, contributors, log, file, line, _ in facts.rows(query, COMPLETED):
        for name in names(contributors):
            if name not in logs:
                continue
            own = str([record.index for record in records if record.party == name])
            if not facts.one(has_release, session, round_number, attempt, own)[0]:
                findings.tampered(
                    Kind.CONTRIBUTION,
                    name,
                    logs[name].files.files[-1].name,
                    None,
                    f"its update is in the sum of round {round_number} (session {session[:8]}…;"
                    f" {records[log].party}, {file} line {line}), and its log holds no release for it",
                )


def _check_releases(records: Sequence[LogRecord], facts: Facts, findings: Findings) -> None:
    """A release into a completed round shows in the coordinator's log, as contributed or as dropped."""
    query = (
        "SELECT r.log, r.file, r.line, r.round, r.session, c.contributors, c.dropped"
        " FROM round r JOIN round c ON c.session = r.session AND c.round = r.round"
        " AND c.attempt = r.attempt AND c.kind = 'ended'"
        " AND c.status = ? AND c.dropped IS NOT NULL WHERE r.kind = 'released'"
    )
    for log, file, line, round_number, session, contributors, dropped in facts.rows(query, COMPLETED):
        party = records[log].party
        if party not in names(contributors) and party not in names(dropped):
            findings.tampered(
                Kind.CONTRIBUTION,
                party,
                file,
                line,
                f"it released an update into round {round_number} (session {session[:8]}…), and the"
                " coordinator counts it neither as a contributor nor as dropped",
            )


def _check_minimum(
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    facts: Facts,
    findings: Findings,
) -> None:
    query = (
        "SELECT e.session, e.round, e.contributors, e.file, e.line FROM round e JOIN round r ON r.log = e.log"
        " AND r.session = e.session AND r.round = e.round AND r.attempt = e.attempt AND r.kind = 'released'"
        " WHERE e.log = ? AND e.kind = 'ended' AND e.status = ?"
    )
    for record in records:
        if record.files.is_coordinator:
            continue
        for session, round_number, contributors, file, line in facts.rows(query, record.index, COMPLETED):
            policy = record.sessions[session].policy if session in record.sessions else None
            among = list(names(contributors))
            if policy is None or record.party not in among:  # a sum without it is none of its policy's
                continue
            on_key = _on_key(configurations.get(session), record.party, among)
            if on_key is not None and on_key < policy.minimum_institutions_per_key:
                findings.violated(
                    Kind.PARTICIPANTS,
                    record.party,
                    file,
                    line,
                    f"the sum of round {round_number} has {count_said(on_key)} on its domain key; the policy"
                    f" asks for {policy.minimum_institutions_per_key}",
                )
            count = len(among)
            if count < policy.minimum_participants:
                findings.violated(
                    Kind.PARTICIPANTS,
                    record.party,
                    file,
                    line,
                    f"round {round_number} was completed by {count}; the policy asks for"
                    f" {policy.minimum_participants}",
                )


def _on_key(configuration: SessionConfiguration | None, party: str, among: Sequence[str]) -> int | None:
    """Return how many contributors hold a party's key; ``None`` where that is not known, or says nothing."""
    if configuration is None or configuration.plan.secure_aggregation == NONE:
        return None
    roster = configuration.roster.names
    return holders(configuration, party, [name for name in among if name in roster])


def check_closes(
    evidence: Evidence, records: Sequence[LogRecord], findings: Findings, unchecked: list[str]
) -> None:
    """Check all close records, their signatures, and that every session has one signed by its party."""
    closes = [(record, session.close) for record in records for session in record.sessions.values()]
    signers: dict[tuple[str, bytes], set[str]] = {}
    for record, close in closes:
        if close is not None:
            valid = _check_signatures(evidence, record, close, findings, unchecked)
            signers.setdefault((close.statement.session.hex(), close.statement.to_bytes()), set()).update(
                valid
            )
    for (session_id, statement), parties in signers.items():
        for party in sorted(parties):
            _check_signer(records, findings, session_id, statement, party)
    for record in records:
        for session in record.sessions.values():
            _check_session(record, session, signers, findings)


def _check_signatures(
    evidence: Evidence, record: LogRecord, close: Close, findings: Findings, unchecked: list[str]
) -> set[str]:
    valid = set()
    for entry in close.signatures:
        if evidence.key_of(entry.party) is None:
            unchecked.append(
                f"the signature of {entry.party} on the end of a session in the log of {record.party}: its"
                " identity is not known"
            )
            continue
        try:
            close.statement.check(evidence, entry.party, entry.signature)
            valid.add(entry.party)
        except FedaptError:
            findings.tampered(
                Kind.CLOSE,
                record.party,
                close.place.file,
                close.place.line,
                f"the close record holds a signature in the name of {entry.party} that is not its own",
            )
    return valid


def _check_signer(
    records: Sequence[LogRecord], findings: Findings, session_id: str, statement: bytes, party: str
) -> None:
    """A party that signed the end of a session has that session in its log, and the same end."""
    own = [record for record in records if record.party == party]
    if not own or not all(record.is_whole for record in own):
        return
    sessions = [record.sessions[session_id] for record in own if session_id in record.sessions]
    if not any(session.accepted is not None for session in sessions):
        findings.tampered(
            Kind.MISSING_SESSION,
            party,
            own[-1].files.files[-1].name,
            None,
            f"it signed the end of session {session_id[:8]}…, which its log does not hold",
        )
    for session in sessions:
        if session.close is not None and session.close.statement.to_bytes() != statement:
            place = session.close.place
            findings.tampered(
                Kind.CLOSE,
                party,
                place.file,
                place.line,
                f"it signed another end of session {session_id[:8]}… than the one in its log",
            )


def _check_session(
    record: LogRecord,
    session: SessionRecord,
    signers: dict[tuple[str, bytes], set[str]],
    findings: Findings,
) -> None:
    close, party, short = session.close, record.party, f"{session.session[:8]}…"
    signed_somewhere = any(key[0] == session.session and party in parties for key, parties in signers.items())
    if close is None:
        hint = (
            "; another log holds this party's signature on its end: the end of this log is missing"
            if signed_somewhere
            else ": it was interrupted, is still running, or the end of the log is missing"
        )
        place = session.place
        findings.add(
            Verdict.OPEN,
            Kind.NOT_CLOSED,
            party,
            place.file,
            place.line,
            f"session {short} has no close record{hint}",
        )
        return
    statement, place = close.statement, close.place
    signed = party in signers.get((session.session, statement.to_bytes()), set())
    if not signed and not record.files.is_coordinator:
        findings.add(
            Verdict.OPEN,
            Kind.NOT_CLOSED,
            party,
            place.file,
            place.line,
            f"the close record of session {short} does not bear this party's own signature",
        )
    faults = []
    if session.accepted is not None and session.accepted.configuration != statement.configuration.hex():
        faults.append("another configuration than the session began with")
    if record.files.is_coordinator and record.is_whole:
        if session.completed != statement.completed_rounds:
            faults.append(f"{statement.completed_rounds} completed rounds; the log holds {session.completed}")
        if session.transcript is not None and session.transcript != statement.transcript:
            faults.append("another transcript than that of the rounds in the log")
    elif session.completed > statement.completed_rounds:
        faults.append(f"{statement.completed_rounds} completed rounds; the log holds {session.completed}")
    for fault in faults:
        findings.tampered(
            Kind.CLOSE, party, place.file, place.line, f"the close record of session {short} names {fault}"
        )

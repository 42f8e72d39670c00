"""The audit itself: reads all logs, runs every check, and states a verdict for each party and overall."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedapt_crypto.identity import fingerprint
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.checks.agreement import check_closes, check_rounds
from fedapt_secure.audit.checks.cohort import check_cohorts
from fedapt_secure.audit.checks.coordinators_course import follow_coordinator
from fedapt_secure.audit.checks.counterparts import check_counterparts
from fedapt_secure.audit.checks.institutions_course import follow_institutions
from fedapt_secure.audit.checks.models import check_models
from fedapt_secure.audit.checks.spend import DatasetSpend, account
from fedapt_secure.audit.checks.sums import check_sums
from fedapt_secure.audit.checks.terms import check_terms
from fedapt_secure.audit.checks.witnesses import Seen, check_witnesses, last_seen
from fedapt_secure.audit.evidence.collect import Collector, LogRecord
from fedapt_secure.audit.evidence.configurations import known_configurations
from fedapt_secure.audit.evidence.deployment import Deployment, deployment
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts
from fedapt_secure.audit.evidence.files import Evidence, LogFiles, gather
from fedapt_secure.audit.evidence.hiding import SessionSums, session_sums
from fedapt_secure.audit.evidence.participation import Participation, participation
from fedapt_secure.audit.findings import Finding, Findings, Kind, Verdict, worst
from fedapt_secure.log.line_hashes import LineHashes
from fedapt_secure.log.reader import LogReader

PARALLEL_FROM_BYTES: Final = 4 << 20
"""Below it threads cost more than they save."""
MAX_REFUSALS: Final = 50
MAX_POINTS: Final = 240


@dataclass(frozen=True)
class Refusal:
    """One thing that a party turned down."""

    time: str
    round: int
    rule: str | None
    error: str
    detail: str


@dataclass(frozen=True)
class Point:
    """ε of one data set after a round, as the party's log has it."""

    session: str
    round: int
    epsilon: float


@dataclass(frozen=True)
class LogSummary:
    """What identifies a log, for the record."""

    files: tuple[str, ...]
    log: str | None
    lines: int
    last_line_hash: str | None
    seen: Seen | None
    first_line: int


@dataclass(frozen=True)
class PartyJudgement:
    """What the audit says about one party.

    Attributes:
        party: Its name. is_coordinator: Whether it is the coordinator. verdict: The verdict.
        identity: Fingerprint of the key that its lines were checked against.
        logs: Its logs. sessions: Sessions in them. closed: Those with a close record.
        contributed, released: Completed rounds whose sum holds its update; rounds it released one into.
        refusals, refusal_count: The first refusals, and how many there are.
        spends: Privacy by data set. curves: ε after each round, by data set.
        private: Whether every session of it ran under differential privacy with unpredictable noise.
    """

    party: str
    is_coordinator: bool
    verdict: Verdict
    identity: str | None
    logs: tuple[LogSummary, ...]
    sessions: int
    closed: int
    contributed: int
    released: int
    refusals: tuple[Refusal, ...]
    refusal_count: int
    spends: tuple[DatasetSpend, ...]
    curves: dict[str, tuple[Point, ...]]
    private: bool


@dataclass(frozen=True)
class Judgement:
    """The whole answer.

    Attributes:
        verdict: The worst of all parties. trusted: Whether ``--trust`` pinned the identities.
        self_attested: Whether one operator held all keys, or nobody else's log was given.
        roster_hash: Hash of the roster that identities were checked against.
        findings: What is wrong, worst first; the first ones of each party and kind.
        counts: How many of each party and kind there are.
        sums: What each session's sums hide, and which did not come.
        deployment: The federation, its sessions and their plans, for what an officer files.
    """

    verdict: Verdict
    trusted: bool
    self_attested: tuple[str, ...]
    roster_hash: str | None
    parties: tuple[PartyJudgement, ...]
    findings: tuple[Finding, ...]
    counts: Mapping[tuple[str, Kind], int]
    unchecked: tuple[str, ...]
    participation: Participation
    sums: tuple[SessionSums, ...]
    deployment: Deployment

    @property
    def grouped(self) -> list[tuple[Finding, int]]:
        """The first finding of each party and kind, and how many more of them there are."""
        first: dict[tuple[str, Kind], Finding] = {}
        for finding in self.findings:
            first.setdefault((finding.party, finding.kind), finding)
        return [(finding, self.counts[key] - 1) for key, finding in first.items()]


def audit(paths: Sequence[Path], trust: Path | None = None, *, threads: int | None = None) -> Judgement:
    """Audit everything behind some paths.

    Args:
        paths: Run folders, folders of logs, or logs.
        trust: A roster whose identities the auditor believes.
        threads: How many check signatures; all cores for large logs by default.

    Raises:
        InvalidInput: If something cannot be read or is not a log.
    """
    return judge(gather(paths, trust), threads=threads)


def judge(evidence: Evidence, *, threads: int | None = None) -> Judgement:
    """Run every check on the evidence."""
    if threads is None:
        size = sum(path.stat().st_size for log in evidence.logs for path in log.files)
        threads = (os.cpu_count() or 1) if size > PARALLEL_FROM_BYTES else 1
    facts, findings = Facts(), Findings()
    unchecked: list[str] = []
    records: list[LogRecord] = []
    try:
        for index, log in enumerate(evidence.logs):
            records.append(_read(index, log, evidence, facts, findings, unchecked, threads))
        _check_names(evidence, findings)
        check_witnesses(evidence, records, facts, findings, unchecked, threads=threads)
        configurations = known_configurations(evidence, records)
        check_rounds(records, configurations, facts, findings)
        check_cohorts(evidence, records, facts, findings, unchecked)
        check_closes(evidence, records, findings, unchecked)
        check_sums(evidence, records, facts, findings, unchecked)
        check_models(records, configurations, facts, findings)
        check_terms(evidence, records, configurations, findings, unchecked)
        follow_coordinator(records, configurations, facts, findings)
        follow_institutions(records, configurations, facts, findings)
        check_counterparts(records, facts, findings)
        spends = account(records, findings)
        _list_unchecked(evidence, records, unchecked)
        parties = tuple(
            _party(party, evidence, records, facts, findings, spends)
            for party in dict.fromkeys(record.party for record in records)
        )
        return Judgement(
            verdict=worst(party.verdict for party in parties),
            trusted=evidence.trusted,
            self_attested=tuple(_self_attested(evidence, parties)),
            roster_hash=evidence.roster.hash.hex() if evidence.roster is not None else None,
            parties=parties,
            findings=tuple(sorted(findings.kept, key=lambda one: -one.verdict.severity)),
            counts=findings.counts,
            unchecked=tuple(dict.fromkeys(unchecked)),
            participation=participation(records, facts),
            sums=session_sums(records, configurations, facts),
            deployment=deployment(evidence, records, configurations),
        )
    finally:
        facts.close()
        for record in records:
            record.hashes.close()


def _read(
    index: int,
    log: LogFiles,
    evidence: Evidence,
    facts: Facts,
    findings: Findings,
    unchecked: list[str],
    threads: int,
) -> LogRecord:
    """Read one log from end to end."""
    key = evidence.key_of(log.party)
    if evidence.roster is not None and key is None:
        findings.tampered(
            Kind.IDENTITY, log.party, log.files[0].name, 1, "nobody of this name is on the roster"
        )
    reader = LogReader(log.files, identity=key, threads=threads)
    record = LogRecord(index, log, LineHashes())
    continues = log.header.continues if log.header is not None else None
    given = {one.header.log for one in evidence.logs if one.header is not None and one.party == log.party}
    record.lacks_predecessor = continues is not None and continues.log not in given
    collector = Collector(record, evidence, facts, findings)
    for found in reader.entries():
        record.hashes.put(found.entry.seq, found.entry.hash, reader.lines)
        record.damaged = bool(reader.problem_count)
        collector.take(found)
    record.lines, record.damaged = reader.lines, bool(reader.problem_count)
    record.last_hash = reader.head.hash.hex() if reader.head is not None else None
    if not record.segment_starts:
        record.segment_starts.append((0, log.files[-1].name))
    for problem in reader.problems:
        place = f"{problem.file}, line {problem.line}: " if problem.line else f"{problem.file}: "
        findings.tampered(
            Kind(problem.kind.value),
            log.party,
            problem.file.name,
            problem.line or None,
            problem.message.removeprefix(place),
        )
    if record.begins_late:
        unchecked.append(
            f"the log of {log.party} before line {(record.hashes.first_seq or 0) + 1}: an archived part was"
            " not given"
        )
    return record


def _check_names(evidence: Evidence, findings: Findings) -> None:
    """A file that bears one party's name and holds another's log was put in its place."""
    known = {log.party for log in evidence.logs}
    known |= set(evidence.roster.names) if evidence.roster is not None else set()
    for log in evidence.logs:
        if log.header is not None and (log.header.role == COORDINATOR) != log.is_coordinator:
            findings.tampered(
                Kind.HEADER,
                log.party,
                log.files[0].name,
                1,
                f"role is {log.header.role}, and {log.party} is not one",
                "role",
            )
        if log.stem != log.party and log.stem in known:
            findings.tampered(
                Kind.IDENTITY,
                log.stem,
                log.files[0].name,
                1,
                f"this file bears the name of {log.stem} and holds the log of {log.party}",
            )
            findings.tampered(
                Kind.IDENTITY, log.party, log.files[0].name, 1, f"its log lies in the file of {log.stem}"
            )


def _list_unchecked(evidence: Evidence, records: Sequence[LogRecord], unchecked: list[str]) -> None:
    """Say what no check could reach for want of evidence."""
    given = {record.party for record in records}
    if "coordinator" not in given:
        unchecked.append("the coordinator's account of the rounds: its log was not given")
    named = set(evidence.roster.names) if evidence.roster is not None else set()
    named |= {
        name
        for record in records
        for session in record.sessions.values()
        for name in getattr(session.accepted, "institutions", ())
    }
    unchecked.extend(f"{name}: its log was not given" for name in sorted(named - given))
    roster_hash = evidence.roster.hash.hex() if evidence.roster is not None else None
    for record in records:
        if roster_hash is not None:
            others = {
                session.session
                for session in record.sessions.values()
                if session.accepted is not None and session.accepted.roster != roster_hash
            }
            if others:
                unchecked.append(
                    f"{len(others)} sessions of {record.party} were agreed on under another roster"
                )
        if record.files.is_coordinator:
            continue
        spent = [session for session in record.sessions.values() if session.plan is not None]
        if spent and not record.policies and record.is_whole:
            unchecked.append(f"a policy of {record.party}: its log holds none, so only its plans were held")
        late = [session for session in record.sessions.values() if session.accepted is None]
        if late and not record.damaged:
            unchecked.append(
                f"the plans of {len(late)} sessions of {record.party}: they began before what was given"
            )


def _self_attested(evidence: Evidence, parties: Sequence[PartyJudgement]) -> list[str]:
    reasons = []
    if evidence.simulated:
        reasons.append("one operator held all keys and logs of this run")
    elif len(parties) == 1:
        seen = any(log.seen is not None for log in parties[0].logs)
        reasons.append(
            "only one party's log was given" + ("" if seen else ", and nobody else is known to have seen it")
        )
    return reasons


def _party(
    party: str,
    evidence: Evidence,
    records: Sequence[LogRecord],
    facts: Facts,
    findings: Findings,
    spends: Sequence[DatasetSpend],
) -> PartyJudgement:
    own = [record for record in records if record.party == party]
    sessions = [session for record in own for session in record.sessions.values()]
    indices = str([record.index for record in own])
    rows = facts.rows(
        "SELECT time, round, rule, error, detail FROM refusal WHERE log IN (SELECT value FROM json_each(?))"
        " LIMIT ?",
        indices,
        MAX_REFUSALS,
    )
    refused = "SELECT count(*) FROM refusal WHERE log IN (SELECT value FROM json_each(?))"
    released = (
        "SELECT count(DISTINCT session || round) FROM round WHERE kind = 'released'"
        " AND log IN (SELECT value FROM json_each(?))"
    )
    contributed = (
        "SELECT count(DISTINCT session || round) FROM round, json_each(contributors) WHERE kind = 'ended'"
        " AND status = ? AND json_each.value = ?"
    )
    key = evidence.key_of(party)
    mine = tuple(spend for spend in spends if spend.party == party)
    return PartyJudgement(
        party=party,
        is_coordinator=own[0].files.is_coordinator,
        verdict=findings.verdict(party),
        identity=fingerprint(key) if key is not None else None,
        logs=tuple(_summary(record, records, facts) for record in own),
        sessions=len(sessions),
        closed=sum(session.close is not None for session in sessions),
        contributed=int(facts.one(contributed, COMPLETED, party)[0]),
        released=int(facts.one(released, indices)[0]),
        refusals=tuple(Refusal(*row) for row in rows),
        refusal_count=int(facts.one(refused, indices)[0]),
        spends=mine,
        curves={spend.dataset: _curve(spend, facts, indices) for spend in mine},
        private=all(session.plan is not None for session in sessions)
        and not Counter(f.kind for f in findings.kept if f.party == party)[Kind.INSECURE_NOISE],
    )


def _summary(record: LogRecord, records: Sequence[LogRecord], facts: Facts) -> LogSummary:
    return LogSummary(
        files=tuple(path.name for path in record.files.files),
        log=record.log_id,
        lines=record.lines,
        last_line_hash=record.last_hash,
        seen=last_seen(record, records, facts),
        first_line=(record.hashes.first_seq or 0) + 1,
    )


def _curve(spend: DatasetSpend, facts: Facts, indices: str) -> tuple[Point, ...]:
    """Return ε after each round; sessions before count with their whole plan, as the sum rule has it."""
    points: list[Point] = []
    base = spend.carried
    query = (
        "SELECT round, max(epsilon) FROM spend WHERE log IN (SELECT value FROM json_each(?)) AND session = ?"
        " GROUP BY round ORDER BY round"
    )
    for one in spend.counted:
        rows = list(facts.rows(query, indices, one.record.session))
        step = max(1, len(rows) // MAX_POINTS)
        kept = rows[::step] + (rows[-1:] if rows and (len(rows) - 1) % step else [])
        points += [Point(one.record.session, number, base + epsilon) for number, epsilon in kept]
        base += one.plan.epsilon_planned
    return tuple(points)

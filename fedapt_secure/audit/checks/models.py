"""Follows the model that each institution kept itself, from the session's first to the last that it verified.

Every sum leads from the model of the one before; no institution signs two sets of contributors on one model,
for the difference of two such sums could be somebody's update; and what is handed out in the end is the last
model that was verified.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.registry import NONE
from fedapt_secure.audit.checks.sums import sessions_with_sums
from fedapt_secure.audit.evidence.collect import LogRecord, SessionRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts
from fedapt_secure.audit.findings import Findings, Kind, Verdict
from fedapt_secure.protocol.messages import model_to_bytes
from fedapt_secure.protocol.session import SessionConfiguration, model_hash

_MOVED: Final = (
    "SELECT log, file, line, kind, round, attempt, names, before, after FROM moved WHERE session = ?"
    " AND log IN (SELECT value FROM json_each(?)) AND kind != 'refused' ORDER BY log, line_seq"
)


@dataclass
class _Walk:
    """Where an institution's model stands while its lines are followed.

    Attributes:
        model: The model; ``None`` while it is not known.
        round: The round whose sum made it.
        seen: How each round was noted, to tell a line that is there twice from a second sum.
        sets: The set of contributors that was signed on each model.
        open: Executions that wait for their sum, and where that stands.
    """

    model: str | None
    round: int = 0
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    sets: dict[str, tuple[int, str]] = field(default_factory=dict)
    open: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)


def check_models(
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    facts: Facts,
    findings: Findings,
) -> None:
    """Check every institution's models, and the commitments to the group secret.

    Args:
        records: What the logs hold.
        configurations: Session to its configuration, where that is known.
        facts: What the logs say of sums.
        findings: Where to note what does not hold.
    """
    new = sessions_with_sums(facts)
    first = {name: _first_model(configurations[name]) for name in new & configurations.keys()}
    for record in records:
        for session in record.sessions.values():
            if session.session not in new:
                continue
            if record.files.is_coordinator:
                _check_coordinators_end(record, session, facts, findings)
            elif record is _last_of(records, record.party, session.session):
                _follow(records, record, session, first.get(session.session), facts, findings)
    for name in sorted(new):
        _check_secret(records, name, facts, findings)


def _first_model(configuration: SessionConfiguration) -> str:
    return model_hash(model_to_bytes(configuration.plan.initial_model())).hex()


def _last_of(records: Sequence[LogRecord], party: str, session: str) -> LogRecord:
    return [one for one in records if one.party == party and session in one.sessions][-1]


def _follow(
    records: Sequence[LogRecord],
    record: LogRecord,
    session: SessionRecord,
    first: str | None,
    facts: Facts,
    findings: Findings,
) -> None:
    own = [one for one in records if one.party == record.party]
    indices, whole = str([one.index for one in own]), all(one.is_whole for one in own)
    walk = _Walk(first if whole else None)
    for log, file, line, kind, number, attempt, names, before, after in facts.rows(
        _MOVED, session.session, indices
    ):
        place = (records[log].party, file, line)
        about = f"round {number} (session {session.session[:8]}…)"
        if kind != "caught up":
            _note_set(walk, findings, place, about, number, names, before)
        if kind == "unresolved":
            walk.open[number, attempt] = (file, line)
            continue
        if (kind, number, attempt, after) in walk.seen:
            continue
        walk.seen.add((kind, number, attempt, after))
        if number <= walk.round:
            findings.violated(
                Kind.MODEL, *place, f"the model of {about} was taken after that of round {walk.round}"
            )
        elif (
            kind == "verified"
            and walk.model not in (None, before)
            and not _was_cut_short(facts, session.session, indices, walk.round, number)
        ):
            findings.violated(
                Kind.MODEL,
                *place,
                f"{about} starts from another model than "
                + (f"the one verified in round {walk.round}" if walk.round else "the session's first"),
            )
        walk.model, walk.round = after, max(number, walk.round)
        walk.open = {key: place for key, place in walk.open.items() if key[0] > number}
    for (number, attempt), (file, line) in walk.open.items():
        findings.add(
            Verdict.OPEN,
            Kind.UNRESOLVED,
            record.party,
            file,
            line,
            f"it revealed shares in round {number}, attempt {attempt} (session {session.session[:8]}…), and"
            " the sum never came: the round may have failed, or the coordinator kept the sum to itself",
        )
    if whole:
        _check_end(record, session, walk, indices, facts, findings)


def _note_set(
    walk: _Walk,
    findings: Findings,
    place: tuple[str, str, int],
    about: str,
    number: int,
    names: str,
    before: str,
) -> None:
    """Hold a set of contributors against the one that the institution signed before on the same model."""
    party = place[0]
    if f'"{party}"' not in names:
        return  # a sum that it was sent later, of a round without it
    signed = walk.sets.setdefault(before, (number, names))
    if signed[1] != names:
        findings.violated(
            Kind.SECOND_SUM,
            *place,
            f"{about} and round {signed[0]} start from one model, and it revealed shares for different sets"
            " of contributors: the difference of the two sums may show a single institution's update",
        )


def _was_cut_short(facts: Facts, session: str, indices: str, after: int, before: int) -> bool:
    """Return whether a crash may have come between a new model and its line: no round's end stands there."""
    query = (
        "SELECT count(*) FROM round j WHERE j.session = ?1 AND j.kind = 'joined' AND j.round > ?2"
        " AND j.round < ?3 AND j.log IN (SELECT value FROM json_each(?4)) AND NOT EXISTS (SELECT 1 FROM"
        " round e WHERE e.session = j.session AND e.round = j.round AND e.attempt = j.attempt"
        " AND e.kind = 'ended' AND e.log = j.log)"
    )
    return bool(facts.one(query, session, after, before, indices)[0])


def _check_end(
    record: LogRecord,
    session: SessionRecord,
    walk: _Walk,
    indices: str,
    facts: Facts,
    findings: Findings,
) -> None:
    """The model of the session's end is the last one that this institution verified."""
    close = session.close
    rounds = close.statement.completed_rounds if close is not None else 0
    if (walk.model is None and not rounds) or _was_cut_short(
        facts, session.session, indices, walk.round, 1 << 53
    ):
        return
    for place, model, what in _ends(record, session):
        if model != walk.model:
            findings.violated(
                Kind.FINAL_MODEL,
                record.party,
                place[0],
                place[1],
                f"the model of {what} session {session.session[:8]}… is not the last one that it verified"
                f" ({f'round {walk.round}' if walk.round else 'it has verified none'})",
            )


def _ends(record: LogRecord, session: SessionRecord) -> Iterator[tuple[tuple[str, int], str, str]]:
    if session.ended is not None:
        place, model = session.ended
        yield (place.file, place.line), model, "the finished"
    close = session.close
    if close is not None and record.party in {one.party for one in close.signatures}:
        yield (close.place.file, close.place.line), close.statement.model.hex(), "the close record of"


def _check_coordinators_end(
    record: LogRecord, session: SessionRecord, facts: Facts, findings: Findings
) -> None:
    close = session.close
    query = (
        "SELECT model FROM round WHERE log = ? AND session = ? AND kind = 'ended' AND status = ?"
        " ORDER BY line_seq DESC LIMIT 1"
    )
    last = next(facts.rows(query, record.index, session.session, COMPLETED), (None,))[0]
    if close is not None and last is not None and close.statement.model.hex() != last:
        findings.violated(
            Kind.FINAL_MODEL,
            record.party,
            close.place.file,
            close.place.line,
            f"the close record of session {session.session[:8]}… names another model than its last completed"
            " round has led to",
        )


def _check_secret(records: Sequence[LogRecord], session: str, facts: Facts, findings: Findings) -> None:
    """One commitment a session, in all logs; whoever joined a round of it holds that secret."""
    rows = list(
        facts.rows(
            "SELECT log, file, line, commitment FROM secret WHERE session = ? ORDER BY log, line_seq", session
        )
    )
    counts: dict[str, set[str]] = {}
    for log, _, _, commitment in rows:
        counts.setdefault(commitment, set()).add(records[log].party)
    most = max((len(parties) for parties in counts.values()), default=0)
    leading = [commitment for commitment, parties in counts.items() if len(parties) == most]
    common = leading[0] if len(leading) == 1 else None
    reported: set[str] = set()
    by_coordinator = any(record.files.is_coordinator for record in records)
    joined = (
        "SELECT count(*) FROM round WHERE session = ? AND kind = 'joined'"
        " AND log IN (SELECT value FROM json_each(?))"
    )
    for log, file, line, commitment in rows:
        party = records[log].party
        if len(counts) > 1 and commitment != common and party not in reported:
            reported.add(party)
            used = facts.one(joined, session, str([one.index for one in records if one.party == party]))[0]
            routed = records[log].files.is_coordinator or (not used and by_coordinator)
            findings.violated(
                Kind.GROUP,
                COORDINATOR if routed else party,
                file,
                line,
                f"the secret that the institutions of session {session[:8]}… share differs between the logs:"
                " a session has one"
                + (f"; {party} was given another, and joined no round with it" if routed else ""),
            )
    holders = {records[log].party for log, *_ in rows}
    query = "SELECT file, line FROM round WHERE log = ? AND session = ? AND kind = 'joined' LIMIT 1"
    for record in records:
        known = record.sessions.get(session)
        scheme = known.accepted.secure_aggregation if known is not None and known.accepted else NONE
        if record.party in holders or scheme == NONE or not record.is_whole:
            continue
        for file, line in facts.rows(query, record.index, session):
            findings.violated(
                Kind.GROUP,
                record.party,
                file,
                line,
                f"it joined a round of session {session[:8]}…, and its log does not hold the secret that the"
                " session's institutions share",
            )

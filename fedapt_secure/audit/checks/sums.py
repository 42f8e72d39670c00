"""Holds what institutions state of each round's sum against each other and the coordinator's account.

Whoever has verified a sum notes it with the models before and after, under a signature that others hold too.
One round has one sum: two of them, or one that was given out and called aborted, would show an update.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.registry import NONE
from fedapt_secure.audit.checks.accused import accuses, said_otherwise
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, names
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.protocol.stated import SumStatement
from fedapt_secure.protocol.statements import verify_sum

_ACCOUNT: Final = ("attempt", "transcript", "contributors", "sum", "tag", "model before", "model after")
_VERIFIED: Final = (
    "SELECT log, file, line, session, round, attempt, transcript, names, sum, tag, before, after, signature"
    " FROM moved WHERE kind = 'verified' ORDER BY session, round, log, line_seq"
)


@dataclass(frozen=True)
class Stated:
    """One ``verified_sum`` line: who, where, and its account in the order of `_ACCOUNT`."""

    party: str
    file: str
    line: int
    session: str
    round: int
    account: tuple[Any, ...]
    signature: str

    @property
    def attempt(self) -> int:
        """Of which attempt the sum is."""
        return int(self.account[0])


def sessions_with_sums(facts: Facts) -> set[str]:
    """Return the sessions whose institutions kept the model themselves; those of older logs did not."""
    return {row[0] for row in facts.rows("SELECT session FROM moved UNION SELECT session FROM secret")}


def check_sums(
    evidence: Evidence, records: Sequence[LogRecord], facts: Facts, findings: Findings, unchecked: list[str]
) -> None:
    """Check the statements about every round's sum.

    Args:
        evidence: Whose keys to check signatures against.
        records: What the logs hold.
        facts: What they say of rounds and sums.
        findings: Where to note what does not hold.
        unchecked: Where to say what could not be checked.
    """
    terms = {
        (r.party, s.session): s.accepted
        for r in records
        for s in r.sessions.values()
        if s.accepted is not None
    }
    schemes = {about: one.secure_aggregation for about, one in terms.items()}
    configurations = {about: one.configuration for about, one in terms.items()}
    for stated in _rounds(records, facts):
        for one in stated:
            _check_signature(evidence, one, configurations, findings, unchecked)
            _check_tag(one, schemes.get((one.party, one.session)), findings)
        common = _compare(stated, findings)
        _check_called_aborted(records, facts, findings, stated)
        if common is not None:
            _check_coordinator(records, facts, findings, common)
            _check_caught_up(records, facts, findings, common)
    _check_missing(records, facts, findings)


def _rounds(records: Sequence[LogRecord], facts: Facts) -> Iterator[list[Stated]]:
    """Yield the statements about each round."""
    rows = (
        Stated(records[log].party, file, line, session, number, tuple(account), signature)
        for log, file, line, session, number, *account, signature in facts.rows(_VERIFIED)
    )
    for _, group in groupby(rows, key=lambda one: (one.session, one.round)):
        yield list(group)


def _check_signature(
    evidence: Evidence,
    one: Stated,
    configurations: Mapping[tuple[str, str], str],
    findings: Findings,
    unchecked: list[str],
) -> None:
    key, configuration = evidence.key_of(one.party), configurations.get((one.party, one.session))
    if key is None or configuration is None:
        missing = "its identity" if key is None else "the session's configuration"
        unchecked.append(
            f"the signatures of {one.party} on the sums of session {one.session[:8]}…: {missing} is not known"
        )
        return
    attempt, transcript, _, total, tag, before, after = one.account
    try:
        statement = SumStatement(
            session=bytes.fromhex(one.session),
            configuration_hash=bytes.fromhex(configuration),
            round=one.round,
            attempt=attempt,
            transcript=bytes.fromhex(transcript),
            sum_hash=bytes.fromhex(total),
            sum_tag=bytes.fromhex(tag),
            model_before=bytes.fromhex(before),
            model_after=bytes.fromhex(after),
        )
        verify_sum(key, statement, one.party, bytes.fromhex(one.signature))
    except (ValueError, VerificationFailed):
        findings.tampered(
            Kind.STATEMENT,
            one.party,
            one.file,
            one.line,
            f"its statement about the sum of {_round(one)} does not bear its own signature",
        )


def _check_tag(one: Stated, scheme: str | None, findings: Findings) -> None:
    tag = one.account[_ACCOUNT.index("tag")]
    if scheme is None or bool(tag) == (scheme != NONE):
        return
    findings.violated(
        Kind.NOT_VERIFIED,
        one.party,
        one.file,
        one.line,
        f"the sum of {_round(one)} was taken without the tag that proves it"
        if not tag
        else f"the sum of {_round(one)} has a tag, which aggregation {scheme!r} has none of",
    )


def _compare(stated: Sequence[Stated], findings: Findings) -> Stated | None:
    """Report who states another sum than most, and return one statement that most make, if there is one."""
    first: dict[str, Stated] = {}
    for one in stated:
        before = first.setdefault(one.party, one)
        if one.account != before.account:
            findings.violated(
                Kind.SUMS_DIFFER,
                one.party,
                one.file,
                one.line,
                f"it states two different sums of {_round(one)} ({_difference(before, one)}); one round has"
                " one sum",
            )
    (common, most), *others = Counter(one.account for one in first.values()).most_common()
    tied = bool(others) and others[0][1] == most
    example = next(one for one in first.values() if one.account == common)
    for one in first.values():
        if one.account == common and not tied:
            continue
        other = next(two for two in first.values() if two.account != one.account)
        against = "each other" if tied else f"{most} other" + ("s" if most > 1 else "")
        findings.violated(
            Kind.SUMS_DIFFER,
            one.party,
            one.file,
            one.line,
            f"what institutions verified as the sum of {_round(one)} differs between the logs ({against}):"
            f" {_difference(other if tied else example, one)}. Either two sums were given out, or this"
            " statement is not true",
        )
    return None if tied else example


def _check_called_aborted(
    records: Sequence[LogRecord], facts: Facts, findings: Findings, stated: Sequence[Stated]
) -> None:
    """A sum that somebody was given counts: the coordinator may not call its round aborted."""
    for attempt in sorted({one.attempt for one in stated}):
        holders = [one for one in stated if one.attempt == attempt]
        place = _aborted(records, facts, holders[0], attempt, {one.party for one in holders})
        if place is None:
            continue
        party, file, line = place
        given = ", ".join(dict.fromkeys(one.party for one in holders))
        refused = facts.rows(
            "SELECT names FROM moved WHERE kind = 'refused' AND session = ? AND round = ? AND attempt = ?",
            holders[0].session,
            holders[0].round,
            attempt,
        )
        by = sorted({name for row in refused for name in names(row[0])})
        findings.violated(
            Kind.CALLED_ABORTED,
            party,
            file,
            line,
            f"the coordinator called {_round(holders[0])}, attempt {attempt}, aborted, and had given its sum"
            f" out: {given} verified it" + (f" (refused by {', '.join(by)})" if by else ""),
        )


def _aborted(
    records: Sequence[LogRecord], facts: Facts, one: Stated, attempt: int, holders: Collection[str]
) -> tuple[str, str, int] | None:
    """Return in whose log an execution is called aborted, and where: the coordinator's, else a holder's."""
    rows = facts.rows(
        "SELECT log, file, line FROM round WHERE kind = 'ended' AND session = ? AND round = ? AND attempt = ?"
        " AND status != ? ORDER BY log, line_seq",
        one.session,
        one.round,
        attempt,
        COMPLETED,
    )
    found = [(records[log], file, line) for log, file, line in rows]
    found = [row for row in found if row[0].files.is_coordinator or row[0].party in holders]
    if not found:
        return None
    record, file, line = min(found, key=lambda row: not row[0].files.is_coordinator)
    accused = accuses(records, facts, record.party, one.session)
    return COORDINATOR if accused else record.party, file, line


def _check_coordinator(
    records: Sequence[LogRecord], facts: Facts, findings: Findings, common: Stated
) -> None:
    """The coordinator's account of the completed round is that of those who verified its sum."""
    rows = facts.rows(
        "SELECT log, file, line, transcript, contributors, model FROM round WHERE kind = 'ended'"
        " AND session = ? AND round = ? AND attempt = ? AND status = ?",
        common.session,
        common.round,
        common.attempt,
        COMPLETED,
    )
    stated = dict(zip(_ACCOUNT, common.account, strict=True))
    expected = (stated["transcript"], stated["contributors"], stated["model after"])
    for log, file, line, *account in rows:
        if not records[log].files.is_coordinator:
            account[0] = account[0] or expected[0]  # none where it did not get that far
            account[2] = expected[2]  # only the coordinator's line names the model
        differing = [
            what
            for what, own, other in zip(
                ("transcript", "contributors", "model after it"), account, expected, strict=True
            )
            if own != other
        ]
        party = records[log].party
        accused = accuses(records, facts, party, common.session)
        if differing:
            findings.violated(
                Kind.SUMS_DIFFER,
                COORDINATOR if accused else party,
                file,
                line,
                f"its account of {_round(common)} is not that of those who verified its sum:"
                f" {', '.join(differing)}" + (said_otherwise(party) if accused else ""),
            )


def _check_caught_up(records: Sequence[LogRecord], facts: Facts, findings: Findings, common: Stated) -> None:
    model = common.account[_ACCOUNT.index("model after")]
    rows = facts.rows(
        "SELECT log, file, line FROM moved WHERE kind = 'caught up' AND session = ? AND round = ?"
        " AND after != ?",
        common.session,
        common.round,
        model,
    )
    for log, file, line in rows:
        findings.violated(
            Kind.SUMS_DIFFER,
            records[log].party,
            file,
            line,
            f"it was given another model after {_round(common)} than those have who verified the sum",
        )


def _check_missing(records: Sequence[LogRecord], facts: Facts, findings: Findings) -> None:
    """A contributor that saw the round's end has verified its sum, or its log says why not."""
    new = sessions_with_sums(facts)
    query = (
        "SELECT session, round, attempt, file, line, contributors FROM round WHERE log = ?"
        " AND kind = 'ended' AND status = ?"
    )
    explained = (
        "SELECT count(*) FROM moved WHERE session = ?1 AND log IN (SELECT value FROM json_each(?4)) AND ("
        " (round = ?2 AND attempt = ?3 AND kind IN ('verified', 'unresolved'))"
        " OR (kind = 'caught up' AND round >= ?2))"
    )
    refused = (
        "SELECT count(*) FROM refusal WHERE session = ?1 AND round = ?2"
        " AND log IN (SELECT value FROM json_each(?3))"
    )
    for record in records:
        if record.files.is_coordinator or not record.is_whole:
            continue
        own = str([other.index for other in records if other.party == record.party])
        for session, number, attempt, file, line, contributors in facts.rows(query, record.index, COMPLETED):
            closed = session in record.sessions and record.sessions[session].close is not None
            if session not in new or not closed or record.party not in names(contributors):
                continue
            if facts.one(explained, session, number, attempt, own)[0]:
                continue
            if facts.one(refused, session, number, own)[0]:
                continue
            findings.violated(
                Kind.NOT_VERIFIED,
                record.party,
                file,
                line,
                f"its update is in the sum of round {number} (session {session[:8]}…), and its log neither"
                " holds that it verified this sum nor why it did not",
            )


def _difference(one: Stated, other: Stated) -> str:
    return ", ".join(what for what, a, b in zip(_ACCOUNT, one.account, other.account, strict=True) if a != b)


def _round(one: Stated) -> str:
    return f"round {one.round} (session {one.session[:8]}…)"

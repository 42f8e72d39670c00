"""Holds every log against the heads that others have seen of it: cut, rolled back and rewritten logs show.

A head is signed by the party whose log it is about, so a head with a valid signature that its log does not
contain is that party's own word against its log, whoever kept it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

from fedapt_crypto.errors import FedaptError
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import Facts
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.log.heads import SignedHead
from fedapt_secure.log.line import LogHead

_KEY = "party, of_log, seq, hash, session, round, signature"
_DISTINCT = (
    f"CREATE TEMP TABLE one_head AS SELECT {_KEY}, min(rowid) AS example, 0 AS valid FROM head"  # noqa: S608
    f" GROUP BY {_KEY}"
)
_BATCH = f"SELECT rowid, {_KEY}, example FROM one_head WHERE rowid > ? ORDER BY rowid"  # noqa: S608
_SPREAD = (
    f"UPDATE head SET valid = 1 WHERE ({_KEY}) IN"  # noqa: S608 - our own names
    f" (SELECT {_KEY} FROM one_head WHERE valid = 1)"
)
_BATCH_HEADS: Final = 256


@dataclass(frozen=True)
class Seen:
    """Up to which line others have seen a log, and who."""

    seq: int
    witnesses: tuple[str, ...]


def check_witnesses(
    evidence: Evidence,
    records: Sequence[LogRecord],
    facts: Facts,
    findings: Findings,
    unchecked: list[str],
    *,
    threads: int = 1,
) -> None:
    """Check the signatures of all heads, and every log against the heads of it.

    Args:
        evidence: What was read besides the logs.
        records: What the logs hold.
        facts: What they say of sessions.
        findings: Where to note what does not hold.
        unchecked: Where to say what could not be checked.
        threads: How many signatures to check at once.
    """
    _check_signatures(evidence, records, facts, findings, unchecked, threads)
    _check_forks(facts, findings)
    for record in records:
        _check_log(record, records, facts, findings)
    _check_other_logs(records, facts, findings, unchecked)
    _check_coordinator_has_what_it_countersigned(records, facts, findings)


def last_seen(record: LogRecord, records: Sequence[LogRecord], facts: Facts) -> Seen | None:
    """Return up to which line others have seen this log.

    A head in another's log counts, and one of its own that the coordinator countersigned.

    Args:
        record: The log.
        records: All logs.
        facts: What they say of sessions.
    """
    query = (
        "SELECT max(seq) FROM head WHERE party = ? AND of_log = ? AND valid = 1 AND hash IS NOT NULL"
        " AND (log NOT IN (SELECT value FROM json_each(?)) OR (countersigned = 1 AND party != 'coordinator'))"
    )
    own = [one.index for one in records if one.party == record.party]
    found = facts.one(query, record.party, record.log_id, str(own))[0]
    if found is None:
        return None
    query = "SELECT DISTINCT log FROM head WHERE party = ? AND of_log = ? AND valid = 1 AND seq = ?"
    holders = {records[row[0]].party for row in facts.rows(query, record.party, record.log_id, found)}
    return Seen(int(found), tuple(sorted(holders - {record.party})) or ("coordinator",))


def _check_signatures(
    evidence: Evidence,
    records: Sequence[LogRecord],
    facts: Facts,
    findings: Findings,
    unchecked: list[str],
    threads: int,
) -> None:
    """Check each distinct head once, in batches and threads: checking releases Python's lock."""
    parties = [row[0] for row in facts.rows("SELECT DISTINCT party FROM head ORDER BY party")]
    unknown = [party for party in parties if evidence.key_of(party) is None]
    unchecked.extend(
        f"heads of {party} in others' logs: its identity is neither in a roster nor in a log of its own"
        for party in unknown
    )
    facts.execute(_DISTINCT)
    with ThreadPoolExecutor(threads) as pool:
        last = 0
        while batch := list(facts.rows(f"{_BATCH} LIMIT ?", last, _BATCH_HEADS * threads)):
            last = batch[-1][0]
            parts = [batch[start : start + _BATCH_HEADS] for start in range(0, len(batch), _BATCH_HEADS)]
            for row, valid in chain.from_iterable(pool.map(partial(_verified, evidence), parts)):
                if valid:
                    facts.execute("UPDATE one_head SET valid = 1 WHERE rowid = ?", row[0])
                elif row[1] not in unknown:
                    _false_head(evidence, records, facts, findings, row[1], row[-1])
    facts.execute(_SPREAD)


def _verified(evidence: Evidence, rows: Sequence[Sequence[Any]]) -> list[tuple[Sequence[Any], bool]]:
    checked = []
    for row in rows:
        _, party, of_log, seq, hash, session, round_number, signature, _ = row
        head = SignedHead(
            party=party,
            log=bytes.fromhex(of_log),
            seq=seq,
            hash=bytes.fromhex(hash),
            signature=bytes.fromhex(signature),
        )
        try:
            head.check(evidence, bytes.fromhex(session), round_number)
        except FedaptError:
            checked.append((row, False))
        else:
            checked.append((row, True))
    return checked


def _false_head(
    evidence: Evidence, records: Sequence[LogRecord], facts: Facts, findings: Findings, party: str, row: int
) -> None:
    holder, file, line = facts.one("SELECT log, file, line FROM head WHERE rowid = ?", row)
    witness = records[holder].party
    if evidence.roster is None and witness != party:
        findings.tampered(
            Kind.IDENTITY,
            party,
            None,
            None,
            f"{witness} holds a head of this log ({file} line {line}) signed by another key than the one"
            " the log names: one of both logs was made anew; a roster (--trust) tells which",
        )
        return
    findings.tampered(
        Kind.HEAD_SIGNATURE,
        witness,
        file,
        line,
        f"it holds a head in the name of {party} that {party} did not sign",
    )


def _check_forks(facts: Facts, findings: Findings) -> None:
    query = (
        "SELECT party, of_log, seq FROM head WHERE valid = 1 GROUP BY party, of_log, seq"
        " HAVING count(DISTINCT hash) > 1"
    )
    for party, of_log, seq in facts.rows(query):
        findings.tampered(
            Kind.FORK, party, None, None, f"it signed two versions of line {seq} of its log {of_log[:8]}…"
        )


def _check_log(record: LogRecord, records: Sequence[LogRecord], facts: Facts, findings: Findings) -> None:
    """Hold one log against all heads of it; the earliest that fails is reported, with how many there are."""
    query = (
        "SELECT seq, hash, log, file, line FROM head WHERE party = ? AND of_log = ? AND valid ORDER BY seq"
    )
    first: dict[Kind, tuple[int, str, int, str]] = {}
    counts = dict.fromkeys((Kind.REWRITTEN, Kind.ROLLED_BACK), 0)
    for seq, hash, holder, file, line in facts.rows(query, record.party, record.log_id):
        mine = record.hashes.at(seq)
        if seq < (record.hashes.first_seq or 0) or (mine is not None and mine.hex() == hash):
            continue
        if mine is None and seq < record.hashes.next_seq:
            continue  # that line is not genuine, which the reader has said
        kind = Kind.ROLLED_BACK if seq >= record.hashes.next_seq else Kind.REWRITTEN
        counts[kind] += 1
        first.setdefault(kind, (seq, file, line, records[holder].party))
    for kind, (seq, file, line, witness) in first.items():
        more = f" ({counts[kind] - 1} more such heads)" if counts[kind] > 1 else ""
        holder = "it holds itself" if witness == record.party else f"{witness} holds"
        mine_file, mine_line = record.locate(seq)
        if kind is Kind.ROLLED_BACK:
            detail = (
                f"the log ends at line {mine_line}; a head of line {seq + 1} that it signed itself is known"
                f" ({holder} it, {file} line {line}): its end was cut off or an older copy put in its place"
            )
        else:
            detail = (
                f"this line or one before it is not the one that it signed a head of ({holder} it, {file}"
                f" line {line}): the log was rewritten"
            )
        findings.tampered(kind, record.party, mine_file, mine_line, detail + more)


def _check_other_logs(
    records: Sequence[LogRecord], facts: Facts, findings: Findings, unchecked: list[str]
) -> None:
    """Heads of a log that was not given, by a party of which another one was; and predecessors by name."""
    by_id = {(record.party, record.log_id): record for record in records}
    followed = {
        record.files.header.continues.log.hex(): (record, record.files.header.continues)
        for record in records
        if record.files.header is not None and record.files.header.continues is not None
    }
    for log_id, (record, end) in followed.items():
        earlier = by_id.get((record.party, log_id))
        if earlier is None:
            unchecked.append(
                f"the earlier log {log_id[:8]}… of {record.party}, which its log continues: not given"
            )
            _check_somebody_knows(record, end, records, facts, findings)
        elif earlier.hashes.at(end.seq) != end.hash:
            file, line = earlier.locate(end.seq)
            findings.tampered(
                Kind.REWRITTEN,
                record.party,
                file,
                line,
                "it is not the log that the party's later log continues",
            )
    query = "SELECT party, of_log, max(seq) FROM head WHERE valid = 1 GROUP BY party, of_log"
    for party, log_id, seq in facts.rows(query):
        theirs = [record for record in records if record.party == party]
        if not theirs or (party, log_id) in by_id:
            continue
        if log_id in followed and seq <= followed[log_id][1].seq:
            continue
        findings.tampered(
            Kind.MISSING_LOG,
            party,
            theirs[0].files.files[-1].name,
            None,
            f"others hold heads of its log {log_id[:8]}… up to line {seq + 1}, and this is another log:"
            " it was replaced, or the real one was not given",
        )


def _check_somebody_knows(
    record: LogRecord, end: LogHead, records: Sequence[LogRecord], facts: Facts, findings: Findings
) -> None:
    """A log takes the place of a lost one of which others hold a head: it was they who told which."""
    others = [one for one in records if one.party != record.party]
    held = facts.one(
        "SELECT count(*) FROM head WHERE party = ? AND of_log = ? AND valid = 1", record.party, end.log.hex()
    )[0]
    if held or not others or not all(one.is_whole for one in others):
        return
    findings.tampered(
        Kind.HEADER,
        record.party,
        record.files.files[0].name,
        1,
        f"it says that it takes the place of log {end.log.hex()[:8]}…, of which nobody else holds a head",
        "continues",
    )


def _check_coordinator_has_what_it_countersigned(
    records: Sequence[LogRecord], facts: Facts, findings: Findings
) -> None:
    coordinator = next((r for r in records if r.party == "coordinator" and r.is_whole), None)
    if coordinator is None:
        return
    query = (
        "SELECT DISTINCT h.party, h.log, h.file, h.line, h.session, h.round FROM head h"
        " WHERE h.countersigned = 1 AND h.valid = 1 AND h.party != 'coordinator'"
        " AND NOT EXISTS (SELECT 1 FROM head c WHERE c.log = ?"
        " AND c.party = h.party AND c.of_log = h.of_log AND c.seq = h.seq AND c.hash = h.hash"
        " AND c.session = h.session"
        " AND c.round = h.round)"
    )
    own = "SELECT file, line FROM head WHERE log = ? AND session = ? AND round = ? LIMIT 1"
    first = (coordinator.files.files[0].name, 1)
    for party, holder, file, line, *of in facts.rows(query, coordinator.index):
        own_file, own_line = next(facts.rows(own, coordinator.index, *of), first)
        findings.tampered(
            Kind.REWRITTEN,
            "coordinator",
            own_file,
            own_line,
            f"it countersigned a head of {party} ({records[holder].party} has it, {file} line {line}) that"
            " its own log does not hold",
            "heads",
        )

"""What each session's sums hide: whether an institution's update is one of several under the same key.

It follows from plan and roster, and from who was in fact in the sums: in FedAPT the update of an institution
that is alone with its key can be separated from a sum (docs/what-a-sum-hides.md).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedapt_crypto.secagg.registry import NONE
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, names
from fedapt_secure.protocol.hiding import Hiding, alone_among, planned_sets
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class Waiting:
    """An execution whose shares an institution revealed and whose sum did not come when the round ended.

    Attributes:
        party, round, attempt: Whose log, and which execution. survivors: The contributors that it signed.
        settled: Whether it went on from a verified sum of that round or of a later one.
    """

    party: str
    round: int
    attempt: int
    survivors: tuple[str, ...]
    settled: bool


@dataclass(frozen=True)
class SessionSums:
    """What is to be said of one session's sums.

    Attributes:
        session: Identifier. scheme: Its secure aggregation, ``None`` where no log says it.
        hiding: Whether its sums hide a single institution.
        alone: Who is alone with its key in some round, where that is known.
        verified: Rounds whose sum an institution states to have verified; ``None`` for sessions of before
            institutions did.
        waiting: Executions whose sum did not come.
    """

    session: str
    scheme: str | None
    hiding: Hiding
    alone: tuple[str, ...]
    verified: int | None
    waiting: tuple[Waiting, ...]


def session_sums(
    records: Sequence[LogRecord], configurations: Mapping[str, SessionConfiguration], facts: Facts
) -> tuple[SessionSums, ...]:
    """Return what is to be said of every session's sums, in the order in which sessions appear.

    Args:
        records: What the logs hold.
        configurations: What `configurations.known_configurations` returns.
        facts: What the logs say of rounds and sums.
    """
    schemes: dict[str, str | None] = {}
    hashes: dict[str, set[str]] = {}
    for record in records:
        for session in record.sessions.values():
            terms = session.accepted
            schemes.setdefault(session.session, None)
            if terms is not None:
                schemes[session.session] = schemes[session.session] or terms.secure_aggregation
                hashes.setdefault(session.session, set()).add(terms.configuration)
    kept = {row[0] for row in facts.rows("SELECT session FROM moved UNION SELECT session FROM secret")}
    found = []
    for name, scheme in schemes.items():
        configuration = configurations.get(name) if len(hashes.get(name, ())) == 1 else None
        hiding, alone = _hiding(name, scheme, configuration, facts)
        verified = facts.one(
            "SELECT count(DISTINCT round) FROM moved WHERE session = ? AND kind = 'verified'", name
        )[0]
        waiting = tuple(_waiting(records, name, facts))
        found.append(SessionSums(name, scheme, hiding, alone, verified if name in kept else None, waiting))
    return tuple(found)


def _hiding(
    session: str, scheme: str | None, configuration: SessionConfiguration | None, facts: Facts
) -> tuple[Hiding, tuple[str, ...]]:
    if scheme == NONE:
        return Hiding.NO_SCHEME, ()
    if configuration is None:
        return Hiding.UNKNOWN, ()
    alone: set[str] = set()
    for contributors in _sets(session, configuration, facts):
        known = [name for name in contributors if name in configuration.roster.names]
        alone |= alone_among(configuration, known)
    in_order = tuple(name for name in configuration.roster.names if name in alone)
    return (Hiding.NO_ALONE if alone else Hiding.YES), in_order


def _sets(session: str, configuration: SessionConfiguration, facts: Facts) -> Iterator[Iterable[str]]:
    """Yield whom the plan puts into one sum, and whoever was in one."""
    yield from planned_sets(configuration)
    query = (
        "SELECT DISTINCT contributors FROM round WHERE session = ?1 AND kind = 'ended' AND status = ?2"
        " UNION SELECT names FROM moved WHERE session = ?1 AND kind IN ('verified', 'unresolved')"
    )
    for (contributors,) in facts.rows(query, session, COMPLETED):
        yield names(contributors)


def _waiting(records: Sequence[LogRecord], session: str, facts: Facts) -> Iterator[Waiting]:
    query = (
        "SELECT DISTINCT log, round, attempt, names FROM moved WHERE session = ? AND kind = 'unresolved'"
        " ORDER BY log, line_seq"
    )
    went_on = (
        "SELECT count(*) FROM moved WHERE session = ? AND round >= ? AND kind IN ('verified', 'caught up')"
        " AND log IN (SELECT value FROM json_each(?))"
    )
    for log, number, attempt, survivors in facts.rows(query, session):
        party = records[log].party
        own = str([record.index for record in records if record.party == party])
        settled = bool(facts.one(went_on, session, number, own)[0])
        yield Waiting(party, number, attempt, tuple(names(survivors)), settled)

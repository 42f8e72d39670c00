"""Who took part in which round, for the grid of the report; long histories are shown in groups of rounds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, names

MAX_COLUMNS: Final = 60


@dataclass(frozen=True)
class Column:
    """One round, or some consecutive ones.

    Attributes:
        label: What stands above it. session: Of its first round.
        rounds: How many rounds it stands for. completed: How many of them gave a sum.
        contributed, dropped: By institution, in how many of them.
    """

    label: str
    session: str
    rounds: int
    completed: int
    contributed: dict[str, int]
    dropped: dict[str, int]


@dataclass(frozen=True)
class Participation:
    """The grid: institutions by rounds.

    Attributes:
        source: Whose log it is from.
        rounds, completed: How many rounds there were, and how many gave a sum.
    """

    institutions: tuple[str, ...]
    columns: tuple[Column, ...]
    source: str | None
    rounds: int
    completed: int


@dataclass(frozen=True)
class RoundTaken:
    """One round of a session: who began it, in whatever attempt, and who is in its sum, if it has one."""

    number: int
    present: frozenset[str]
    contributors: frozenset[str]
    completed: bool


def of_rounds(institutions: Sequence[str], rounds: Sequence[RoundTaken], session: str) -> Participation:
    """Return the grid of one session whose rounds are known; they stand together where they are too many.

    Args:
        institutions: Names, in the order of the grid.
        rounds: In order.
        session: Which session.
    """
    each = max(1, -(-len(rounds) // MAX_COLUMNS))
    columns = []
    for start in range(0, len(rounds), each):
        part = rounds[start : start + each]
        columns.append(
            Column(
                label=str(part[0].number) if len(part) == 1 else f"{part[0].number}–{part[-1].number}",
                session=session,
                rounds=len(part),
                completed=sum(one.completed for one in part),
                contributed=dict(Counter(name for one in part for name in one.contributors)),
                dropped=dict(Counter(name for one in part for name in one.present - one.contributors)),
            )
        )
    completed = sum(one.completed for one in rounds)
    return Participation(tuple(institutions), tuple(columns), None, len(rounds), completed)


def participation(records: Sequence[LogRecord], facts: Facts) -> Participation:
    """Return the grid as the coordinator's log has it, else as the first institution's log has it."""
    if not records:
        return Participation((), (), None, 0, 0)
    source = next((record for record in records if record.files.is_coordinator), records[0])
    total = facts.one(
        "SELECT count(DISTINCT session || ' ' || round),"
        " count(DISTINCT CASE WHEN status = ? THEN session || ' ' || round END)"
        " FROM round WHERE log = ? AND kind = 'ended'",
        COMPLETED,
        source.index,
    )
    group = max(1, -(-total[0] // MAX_COLUMNS))
    query = (
        "SELECT session, round, max(status = ?) FROM round WHERE log = ? AND kind = 'ended'"
        " GROUP BY session, round ORDER BY min(line_seq)"
    )
    rounds = facts.rows(query, COMPLETED, source.index)
    found: set[str] = set()
    columns = []
    while part := list(islice(rounds, group)):
        contributed: dict[str, int] = {}
        dropped: dict[str, int] = {}
        for session, number, _ in part:
            _count(facts, source.index, session, number, contributed, dropped)
        found |= contributed.keys() | dropped.keys()
        label = str(part[0][1]) if len(part) == 1 else f"{part[0][1]}–{part[-1][1]}"
        completed = sum(one[2] for one in part)
        columns.append(Column(label, part[0][0], len(part), completed, contributed, dropped))
    return Participation(tuple(sorted(found)), tuple(columns), source.party, total[0], total[1])


def _count(
    facts: Facts,
    log: int,
    session: str,
    number: int,
    contributed: dict[str, int],
    dropped: dict[str, int],
) -> None:
    """Count who contributed to a round in its completed attempt, and who else was in one of its attempts."""
    query = (
        "SELECT status, contributors, dropped, participants FROM round WHERE log = ? AND kind = 'ended'"
        " AND session = ? AND round = ?"
    )
    ins: set[str] = set()
    present: set[str] = set()
    for status, contributors, left, participants in facts.rows(query, log, session, number):
        present |= {*names(left), *names(participants)}
        if status == COMPLETED:
            ins |= set(names(contributors))
    for name in ins:
        contributed[name] = contributed.get(name, 0) + 1
    for name in present - ins:
        dropped[name] = dropped.get(name, 0) + 1

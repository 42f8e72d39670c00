"""Whose fault a difference is: the institution's whose log differs, or the coordinator's that told it so.

One institution that was lied to looks like one whose log is not true: both differ from all others. What tells
them apart is what it did about it. One that turned the coordinator's word down in that session, in its log
and so under the heads that others hold, accuses it; so the difference is noted as the coordinator's, with the
accusation. It cannot be proved by logs alone, which is why the sentence says whose word it is.
"""

from collections.abc import Sequence

from fedapt_crypto.errors import ContextMismatch
from fedapt_crypto.roster import COORDINATOR
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import Facts


def accuses(records: Sequence[LogRecord], facts: Facts, party: str, session: str) -> bool:
    """Return whether an institution has turned down what the coordinator said of a session's rounds.

    Args:
        records: What the logs hold. Without the coordinator's own log nobody accuses it here.
        facts: What they say of refusals.
        party: The institution.
        session: The session.
    """
    if party == COORDINATOR or not any(record.files.is_coordinator for record in records):
        return False
    own = str([record.index for record in records if record.party == party])
    query = (
        "SELECT count(*) FROM refusal WHERE log IN (SELECT value FROM json_each(?)) AND session = ?"
        " AND error = ? AND detail LIKE ?"
    )
    return bool(facts.one(query, own, session, ContextMismatch.__name__, f"{COORDINATOR}: %")[0])


def said_otherwise(party: str) -> str:
    """Return the end of a sentence about a difference that is noted as the coordinator's."""
    return f"; {party}, whose account it is, turned down what it was told at the time"

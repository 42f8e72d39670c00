"""The configuration of each session, put together from what a log holds of it and the roster that was given.

`session_started` and `session_accepted` hold plan and key commitments as they were offered; with the roster
they are all that the configuration's hash is of. All parties sign that hash at the session's end, so whoever
changes the plan in its own log has changed it against its own signature and everybody else's.
"""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from fedapt_crypto.errors import FedaptError
from fedapt_crypto.roster import Roster
from fedapt_secure.audit.evidence.bodies import SessionAccepted, SessionStarted
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration


def put_together(terms: SessionAccepted | SessionStarted, roster: Roster) -> SessionConfiguration | None:
    """Return the configuration that a log's terms and a roster make, ``None`` where they make none."""
    try:
        return SessionConfiguration(
            session=bytes.fromhex(terms.session),
            plan=SessionPlan.model_validate(terms.plan),
            roster=roster,
            key_commitments=tuple(bytes.fromhex(one) for one in terms.key_commitments),
        )
    except (ValidationError, FedaptError, ValueError):
        return None


def known_configurations(evidence: Evidence, records: Sequence[LogRecord]) -> dict[str, SessionConfiguration]:
    """Return each session's configuration, where one can be put together that has the hash that was noted."""
    found: dict[str, SessionConfiguration] = {}
    for terms in _terms(records):
        if terms.session in found or terms.plan is None or evidence.roster is None:
            continue
        made = put_together(terms, evidence.roster)
        if made is not None and made.hash.hex() == terms.configuration:
            found[terms.session] = made
    return found


def _terms(records: Sequence[LogRecord]) -> Iterator[SessionAccepted | SessionStarted]:
    """Yield the terms of all sessions, the coordinator's first."""
    for record in sorted(records, key=lambda one: not one.files.is_coordinator):
        for session in record.sessions.values():
            if session.accepted is not None:
                yield session.accepted

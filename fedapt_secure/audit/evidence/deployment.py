"""What a file about a training has to name: federation, sessions, dates, plans, and the finished model.

All of it is what lines say; whether they are to be relied on, the verdicts say. A plan counts as agreed where
it has, with the roster, the hash that the parties accepted; else it is the word of the log that holds it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from fedapt_crypto.errors import FedaptError
from fedapt_crypto.identity import fingerprint
from fedapt_crypto.roster import Roster
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.collect import LogRecord, SessionRecord
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration


@dataclass(frozen=True)
class MemberFacts:
    """One institution of the roster.

    Attributes:
        name: Its name. domain: Name of its domain, ``None`` where no plan names domains.
        identity: Fingerprint of its key.
    """

    name: str
    domain: str | None
    identity: str


@dataclass(frozen=True)
class SessionFacts:
    """One session, as the logs have it.

    Attributes:
        session: Identifier. configuration: Hash of what was agreed on, where all logs name the same.
        first, last: Times of the first and of the last line about it, over all logs.
        closed: Whether a close record ends it. signed, missing: Who signed that, and who did not.
        completed: Completed rounds by the close record, else ``None``.
        model: SHA-256 of the finished model by the close records, ``None`` without one or where they differ.
        institutions: Who was to take part, by the coordinator's log, else by the roster of the plan.
        scheme: Secure aggregation. participation: Who takes part in a round.
        plan: The plan. plan_of: Whose log holds it. agreed: Whether it has the hash that was accepted.
    """

    session: str
    configuration: str | None
    first: datetime
    last: datetime
    closed: bool
    signed: tuple[str, ...]
    missing: tuple[str, ...]
    completed: int | None
    model: str | None
    institutions: tuple[str, ...]
    scheme: str | None
    participation: str | None
    plan: SessionPlan | None
    plan_of: str | None
    agreed: bool


@dataclass(frozen=True)
class Deployment:
    """The federation and its sessions.

    Attributes:
        roster: Hash of the roster. authority, coordinator: Fingerprints that it states.
        members: Its institutions. sessions: All sessions, in the order in which they began.
        policies: The last policy of each institution whose log holds one.
    """

    roster: str | None
    authority: str | None
    coordinator: str | None
    members: tuple[MemberFacts, ...]
    sessions: tuple[SessionFacts, ...]
    policies: Mapping[str, b.Policy]

    def plans(self, distrusted: Iterable[str] = ()) -> tuple[SessionPlan, ...]:
        """Return the plans that can be named: agreed on, or in the log of somebody who is not distrusted."""
        without = set(distrusted)
        return tuple(
            one.plan
            for one in self.sessions
            if one.plan is not None and (one.agreed or one.plan_of not in without)
        )


def deployment(
    evidence: Evidence, records: Sequence[LogRecord], configurations: Mapping[str, SessionConfiguration]
) -> Deployment:
    """Return what the logs say of the federation and its sessions.

    Args:
        evidence: What was given.
        records: What the logs hold.
        configurations: The sessions' configurations, as far as they have the hash that was accepted.
    """
    found: dict[str, list[tuple[str, SessionRecord]]] = {}
    for record in records:
        for session in record.sessions.values():
            found.setdefault(session.session, []).append((record.party, session))
    hashed = evidence.roster.hash.hex() if evidence.roster is not None else None
    sessions = [_session(name, seen, configurations.get(name), hashed) for name, seen in found.items()]
    sessions.sort(key=lambda one: one.first)
    policies = {record.party: record.policies[-1][1] for record in records if record.policies}
    roster = evidence.roster
    if roster is None:
        return Deployment(None, None, None, (), tuple(sessions), policies)
    return Deployment(
        roster=roster.hash.hex(),
        authority=roster.authority_fingerprint.hex(),
        coordinator=fingerprint(roster.coordinator_key),
        members=_members(roster, sessions),
        sessions=tuple(sessions),
        policies=policies,
    )


def _session(
    name: str,
    seen: Sequence[tuple[str, SessionRecord]],
    known: SessionConfiguration | None,
    roster: str | None,
) -> SessionFacts:
    terms = [(party, one.accepted) for party, one in seen if one.accepted is not None]
    closes = [one.close for _, one in seen if one.close is not None]
    models = {close.statement.model.hex() for close in closes}
    hashes = {accepted.configuration for _, accepted in terms}
    started = next((one for _, one in terms if isinstance(one, b.SessionStarted)), None)
    plan, plan_of = _stated_plan(terms, roster) if known is None else (known.plan, None)
    institutions = tuple(started.institutions) if started is not None else ()
    if not institutions and known is not None:
        institutions = known.roster.names
    first = closes[0] if closes else None
    return SessionFacts(
        session=name,
        configuration=hashes.pop() if len(hashes) == 1 else None,
        first=min(one.time for _, one in seen),
        last=max(one.until or one.time for _, one in seen),
        closed=first is not None,
        signed=tuple(one.party for one in first.signatures) if first is not None else (),
        missing=first.missing if first is not None else (),
        completed=first.statement.completed_rounds if first is not None else None,
        model=models.pop() if len(models) == 1 else None,
        institutions=institutions,
        scheme=next((one.secure_aggregation for _, one in terms), None),
        participation=next((one.participation for _, one in terms), None),
        plan=plan,
        plan_of=plan_of,
        agreed=known is not None,
    )


def _stated_plan(
    terms: Sequence[tuple[str, b.SessionAccepted | b.SessionStarted]], roster: str | None
) -> tuple[SessionPlan | None, str | None]:
    """Return the first plan that a log holds, the coordinator's before others, and whose log that is.

    With the session's own roster at hand, a plan that does not have the hash is not the one agreed on: none.
    """
    for party, accepted in terms:
        fields: dict[str, Any] | None = getattr(accepted, "plan", None)
        if fields is None or accepted.roster == roster:
            continue
        try:
            return SessionPlan.model_validate(fields), party
        except (ValidationError, FedaptError):
            continue
    return None, None


def _members(roster: Roster, sessions: Sequence[SessionFacts]) -> tuple[MemberFacts, ...]:
    domains = next((one.plan.domains for one in reversed(sessions) if one.plan is not None), ())
    return tuple(
        MemberFacts(
            name=member.name,
            domain=domains[member.domain_index] if member.domain_index < len(domains) else None,
            identity=fingerprint(member.identity_key),
        )
        for member in roster.members
    )

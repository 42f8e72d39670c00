"""Holds what each log says of a session's terms against the plan that its parties accepted.

Whatever stands in a log beside the plan, and follows from it, is computed again: an institution's sampling
rate and steps, its scheme, who takes part, the coordinator's summary. What an institution decides itself
(its noise, δ, its own records) is held against its policy and against what its spends say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fedapt_crypto.errors import FedaptError
from fedapt_secure.audit.checks.course import short
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.collect import LogRecord, SessionRecord
from fedapt_secure.audit.evidence.configurations import put_together
from fedapt_secure.audit.evidence.files import Evidence
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.privacy.budget import delta_warning
from fedapt_secure.protocol.session import SessionConfiguration

MECHANISMS: Final = frozenset({"gaussian-grid"})
ACCOUNTANTS: Final = frozenset({"prv"})
Expected = Iterator[tuple[str, Any, Any]]
"""A field's name, what stands there, and what should."""


def check_terms(
    evidence: Evidence,
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    findings: Findings,
    unchecked: list[str],
) -> None:
    """Check every log's account of the terms of its sessions.

    Args:
        evidence: What was read besides the logs.
        records: What the logs hold.
        configurations: Session to its configuration, where that is known.
        findings: Where to note what does not hold.
        unchecked: Where to say what could not be checked.
    """
    for record in records:
        for session in record.sessions.values():
            if session.accepted is None:
                continue
            configuration = own_configuration(session, configurations, evidence)
            known = session.session in configurations
            _check_plan(evidence, record, session, findings, known=known)
            if configuration is None:
                unchecked.append(
                    f"the terms of session {session.session[:8]}… in the log of {record.party}: no log has a"
                    " plan that goes with them and the roster given"
                )
                continue
            _compare(record, session, _expected(record, session.accepted, configuration), findings)
            if isinstance(session.accepted, b.SessionAccepted) and session.accepted.privacy is not None:
                _compare(record, session, _privacy(record, session.accepted.privacy, configuration), findings)


def own_configuration(
    session: SessionRecord, configurations: Mapping[str, SessionConfiguration], evidence: Evidence
) -> SessionConfiguration | None:
    """Return the configuration that a party accepted: whoever was offered another one is held to that.

    Args:
        session: The session in the party's log.
        configurations: Session to the configuration that is known of it.
        evidence: What was read besides the logs.
    """
    terms = session.accepted
    if terms is None:
        return None
    known = configurations.get(session.session)
    if known is not None and known.hash.hex() == terms.configuration:
        return known
    if terms.plan is None or evidence.roster is None:
        return None
    made = put_together(terms, evidence.roster)
    return made if made is not None and made.hash.hex() == terms.configuration else None


def _check_plan(
    evidence: Evidence, record: LogRecord, session: SessionRecord, findings: Findings, *, known: bool
) -> None:
    """The plan in the log is the one that the configuration's hash is of."""
    terms = session.accepted
    assert terms is not None
    if terms.plan is None:
        if (record.files.is_coordinator and known) or terms.key_commitments:
            _violated(findings, record, session, "plan", "the line holds no plan, and should")
        return
    if evidence.roster is None or evidence.roster.hash.hex() != terms.roster:
        return
    made = put_together(terms, evidence.roster)
    if made is None or made.hash.hex() != terms.configuration:
        _violated(
            findings,
            record,
            session,
            "plan",
            "plan and key_commitments are not those that the configuration's hash is of"
            + (f": they make {made.hash.hex()[:16]}…" if made is not None else ": they make no session"),
        )


def _expected(
    record: LogRecord, terms: b.SessionAccepted | b.SessionStarted, configuration: SessionConfiguration
) -> Expected:
    """Yield what follows from the configuration alone."""
    plan = configuration.plan
    yield "roster", terms.roster, configuration.roster.hash.hex()
    yield "secure_aggregation", terms.secure_aggregation, plan.secure_aggregation
    yield "participation", terms.participation, plan.participation
    if terms.plan is not None:
        commitments = [one.hex() for one in configuration.key_commitments]
        yield "key_commitments", terms.key_commitments, commitments
    if isinstance(terms, b.SessionStarted):
        yield "institutions", list(terms.institutions), list(configuration.roster.names)
        if terms.threshold is not None:
            yield "threshold", terms.threshold, configuration.threshold
        yield "rounds", terms.rounds, plan.rounds
        yield "differential_privacy", terms.differential_privacy, plan.differential_privacy
    else:
        if terms.supervision is not None:
            yield "supervision", terms.supervision, plan.supervision
        private = terms.privacy is not None
        yield "privacy", "a plan" if private else None, "a plan" if plan.differential_privacy else None


def _privacy(record: LogRecord, plan: b.Plan, configuration: SessionConfiguration) -> Expected:
    """Yield what of an institution's privacy follows from the configuration, or from its own other fields."""
    yield "privacy.sample_rate", plan.sample_rate, configuration.plan.sample_rate
    try:
        steps = configuration.planned_steps(record.party)
    except FedaptError:  # it is not on the roster, which is found fault with elsewhere
        steps = plan.max_steps
    yield "privacy.max_steps", plan.max_steps, steps
    if plan.mechanism is not None and plan.mechanism not in MECHANISMS:
        yield "privacy.mechanism", plan.mechanism, " or ".join(sorted(MECHANISMS))
    if plan.accountant is not None and plan.accountant not in ACCOUNTANTS:
        yield "privacy.accountant", plan.accountant, " or ".join(sorted(ACCOUNTANTS))
    if plan.mechanism is not None:  # logs of before the two had no warning either
        warning = delta_warning(plan.delta, plan.declared_records, plan.unit)
        yield "privacy.warning", plan.warning, warning


def _compare(record: LogRecord, session: SessionRecord, expected: Expected, findings: Findings) -> None:
    for field, found, wanted in expected:
        if found != wanted:
            _violated(
                findings,
                record,
                session,
                field,
                f"{field} is {short(found)}; by the session's plan it is {short(wanted)}",
            )


def _violated(findings: Findings, record: LogRecord, session: SessionRecord, field: str, detail: str) -> None:
    place = session.place
    findings.violated(
        Kind.TERMS,
        record.party,
        place.file,
        place.line,
        f"session {session.session[:8]}…: {detail}",
        field,
    )

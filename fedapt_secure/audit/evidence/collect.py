"""From checked lines to what a party's log says: its policy over time, its sessions, plans and spends.

Rules that one log alone can break are checked here, in the order of its lines: a spend needs a plan before
it, and a plan is held against the policy in force at that moment, not against a later one.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_secure.audit.evidence import bodies as b
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, Place
from fedapt_secure.audit.evidence.files import Evidence, LogFiles
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.log.heads import (
    CloseSignature,
    CloseStatement,
    RoundRecord,
    check_countersignature,
    read_closed,
    read_witnessed,
    transcript_digest,
)
from fedapt_secure.log.line import SESSION_CLOSED, WITNESSED, LogEntry
from fedapt_secure.log.line_hashes import LineHashes
from fedapt_secure.log.reader import Located
from fedapt_secure.privacy.budget import largest_count
from fedapt_secure.privacy.unit import PERSON, counted, said

SECURE_NOISE: Final = "keystream"
_BEGINNINGS: Final = frozenset({"session_started", "session_resumed", "session_accepted", "round_started"})
"""Lines from which on a log is about the session that they name."""


@dataclass(frozen=True)
class Close:
    """A close record and where it stands."""

    place: Place
    statement: CloseStatement
    signatures: tuple[CloseSignature, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Beginning:
    """A session's first ``spend`` line: from here on it counts against its data set.

    Attributes:
        place: Where it stands. policy: The policy in force there.
        late: Whether steps had been reserved before, of which no line tells: a crash came between ledger and
            log, or the line stands in a part that was not given.
    """

    place: Place
    policy: b.Policy | None
    late: bool


@dataclass
class SessionRecord:
    """One session in the eyes of one log.

    Attributes:
        place, time: Where and when it was accepted or first mentioned.
        accepted: The line by which the party entered it, or ``None`` where that stands in an earlier part.
        policy: The policy in force when it was accepted.
        began: Its beginning, ``None`` while it has not begun.
        spent_before: What each acceptance says of earlier sessions, and where: the first, and those after
            restarts that say something else.
        steps: Steps spent, from the running totals. epsilon: What the training accountant said of them.
        completed: Completed rounds. rounds: Every ended attempt, for the coordinator's log only.
        close: The close record. ended: Where an institution says that it has finished, and with which model.
        until: Time of the last line about its course.
    """

    session: str
    place: Place
    time: datetime
    accepted: b.SessionAccepted | b.SessionStarted | None = None
    policy: b.Policy | None = None
    began: Beginning | None = None
    spent_before: list[tuple[Place, b.SpentBefore]] = field(default_factory=list)
    steps: int = 0
    epsilon: float = 0.0
    completed: int = 0
    transcript: bytes | None = field(default_factory=lambda: transcript_digest(()))
    close: Close | None = None
    ended: tuple[Place, str] | None = None
    until: datetime | None = None

    @property
    def plan(self) -> b.Plan | None:
        """The privacy plan, ``None`` without differential privacy."""
        return self.accepted.privacy if isinstance(self.accepted, b.SessionAccepted) else None


@dataclass
class LogRecord:
    """What one log came to.

    Attributes:
        index: Its position among the logs.
        files: Its files. hashes: The hash of each of its lines. lines: Lines read.
        last_time: Time of the last genuine line. last_hash: SHA-256 of the last line, hexadecimal.
        sessions: By session identifier, in order of appearance.
        policies: Every policy with its place, in order.
        segment_starts: First line number and name of each file, in order.
        damaged: Whether a line so far was not in order; what is missing then may have stood in it.
        lacks_predecessor: Whether it follows a lost log that was not given.
    """

    index: int
    files: LogFiles
    hashes: LineHashes
    lines: int = 0
    last_time: datetime | None = None
    last_hash: str | None = None
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    policies: list[tuple[Place, b.Policy]] = field(default_factory=list)
    segment_starts: list[tuple[int, str]] = field(default_factory=list)
    damaged: bool = False
    lacks_predecessor: bool = False

    @property
    def party(self) -> str:
        """Whose log it is."""
        return self.files.party

    @property
    def log_id(self) -> str | None:
        """The log's identifier, hexadecimal."""
        return self.files.header.log.hex() if self.files.header else None

    @property
    def begins_late(self) -> bool:
        """Whether an archived first part was not given."""
        return (self.hashes.first_seq or 0) > 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing: only then does it mean something that a line is not there."""
        return not (self.begins_late or self.damaged or self.lacks_predecessor)

    def locate(self, seq: int) -> tuple[str, int]:
        """Return file name and line of a line number; the last line for a number beyond the end."""
        seq = min(seq, self.hashes.next_seq - 1)
        start, name = self.segment_starts[0]
        for first, file in self.segment_starts:
            if first <= seq:
                start, name = first, file
        return name, seq - start + 1


class Collector:
    """Takes the facts of one log in order."""

    def __init__(self, record: LogRecord, evidence: Evidence, facts: Facts, findings: Findings) -> None:
        self.record = record
        self._evidence = evidence
        self._facts = facts
        self._findings = findings
        self._policy: b.Policy | None = None
        self._under_way: str | None = None

    def take(self, found: Located) -> None:
        """Interpret one genuine line; the checks of its form and place are the reader's."""
        record, fact = self.record, found.entry
        if found.line == 1 or not record.segment_starts:
            record.segment_starts.append((fact.seq - found.line + 1, found.file.name))
        place = Place(record.index, found.file.name, found.line, fact.seq)
        record.last_time = fact.time
        try:
            if fact.type == WITNESSED:
                self._witnessed(place, fact)
            elif fact.type == SESSION_CLOSED:
                statement, signatures, missing = read_closed(fact.body)
                session = self._session(place, fact.time, statement.session.hex())
                session.close = Close(place, statement, signatures, missing)
            elif fact.type in b.MODELS:
                body = b.read_body(fact.type, fact.body)
                if isinstance(body, b.Policy) and body.hash != b.policy_hash(fact.body):
                    self._violated(Kind.POLICY, place, "hash is not that of the policy beside it", "hash")
                self._interpret(place, fact.time, body)
            self._note_course(place, fact)
        except (ValueError, InvalidInput) as error:
            self._tampered(Kind.BODY, place, f"a {fact.type!r} line that the program does not write: {error}")

    def _note_course(self, place: Place, fact: LogEntry) -> None:
        named = fact.body.get("session")
        if fact.type in _BEGINNINGS and isinstance(named, str):
            self._under_way = named
        if fact.type in b.MODELS or fact.type == SESSION_CLOSED:
            session = named if isinstance(named, str) else self._under_way
            self._facts.add_course(place, fact.type, session, fact.time, fact.body)

    def _interpret(self, place: Place, time: datetime, body: b.Body) -> None:
        match body:
            case b.Policy():
                self._policy = body
                self.record.policies.append((place, body))
            case b.SessionAccepted() | b.SessionStarted():
                self._session_begins(place, time, body)
            case b.Spend():
                self._spend(place, time, body)
            case b.RoundStarted():
                self._facts.add_round(place, "started", body)
            case b.RoundJoined():
                self._facts.add_round(place, "joined", body)
            case b.Released():
                self._released(place, time, body)
            case b.RoundEnded():
                self._round_ended(place, time, body)
            case b.Refused():
                self._facts.add_refusal(place, time, body)
            case _:
                self._about_sums(place, time, body)

    def _about_sums(self, place: Place, time: datetime, body: b.Body) -> None:
        match body:
            case b.VerifiedSum():
                self._facts.add_verified(place, body)
            case b.CaughtUp():
                self._facts.add_caught_up(place, body)
            case b.Unresolved():
                self._facts.add_unresolved(place, body)
            case b.SumRefused() if self._under_way is not None:
                self._facts.add_sum_refused(place, self._under_way, body)
                what = f"{body.name} did not accept the sum: {body.detail}"
                refusal = b.Refused(session=self._under_way, round=body.round, error="", detail=what)
                self._facts.add_refusal(place, time, refusal)
            case b.GroupSecret():
                self._facts.add_secret(place, body)
            case b.SessionEnded(model=str(model)):
                if body.session in self.record.sessions:
                    self.record.sessions[body.session].ended = (place, model)

    def _session(self, place: Place, time: datetime, session: str) -> SessionRecord:
        found = self.record.sessions.setdefault(session, SessionRecord(session, place, time))
        found.until = time
        return found

    def _session_begins(
        self, place: Place, time: datetime, body: b.SessionAccepted | b.SessionStarted
    ) -> None:
        session = self._session(place, time, body.session)
        if isinstance(body, b.SessionAccepted) and body.privacy is not None:
            stated = body.privacy.spent_before
            if not session.spent_before or session.spent_before[-1][1] != stated:
                session.spent_before.append((place, stated))
        if session.accepted is not None:
            if not same_terms(session.accepted, body):
                self._violated(Kind.PLAN, place, "the session's terms or its plan changed after it had begun")
            return
        session.accepted, session.policy, session.place, session.time = body, self._policy, place, time
        if isinstance(body, b.SessionAccepted):
            self._check_against_policy(place, body)

    def _check_against_policy(self, place: Place, body: b.SessionAccepted) -> None:
        policy, plan = self._policy, body.privacy
        if plan is not None and plan.noise != SECURE_NOISE:
            self._violated(
                Kind.INSECURE_NOISE, place, f"not private: the noise is {plan.noise!r}, which can be foretold"
            )
        if policy is None:
            return
        if policy.require_differential_privacy and plan is None:
            self._violated(
                Kind.NO_PRIVACY, place, "a session without differential privacy, which the policy requires"
            )
        if plan is not None and policy.privacy_unit == PERSON != plan.unit:
            self._violated(Kind.UNIT, place, f"a session {said(plan.unit)}; the policy asks for per person")
        if plan is not None:
            most = largest_count(plan.declared_records)
            asked = policy.minimum_persons if plan.unit == PERSON else policy.minimum_records
            if most < asked:
                what = f"at most {most} {counted(plan.unit)} trained; the policy asks for {asked}"
                self._violated(Kind.RECORDS, place, what)
        if body.secure_aggregation not in policy.aggregation:
            allowed = ", ".join(policy.aggregation) or "none at all"
            self._violated(
                Kind.SCHEME, place, f"aggregation {body.secure_aggregation!r}; the policy allows {allowed}"
            )

    def _spend(self, place: Place, time: datetime, body: b.Spend) -> None:
        session = self._session(place, time, body.session)
        self._facts.add_spend(place, body)
        before = session.steps
        if session.began is None:
            session.began = Beginning(place, self._policy, late=body.total_steps > body.steps)
        late = session.accepted is None and not self.record.is_whole
        # After a crash between ledger and log a total holds steps that have no line of their own.
        if body.total_steps < before + body.steps and not late:
            self._tampered(
                Kind.SPEND_SUM,
                place,
                f"{body.steps} steps after {before} cannot make {body.total_steps}: a spend was changed",
            )
        session.steps = max(before + body.steps, body.total_steps)
        session.epsilon = max(session.epsilon, body.epsilon)
        plan = session.plan
        if plan is None:
            if not late:
                self._violated(Kind.PLAN, place, "steps were spent without a plan in the log")
            return
        stated = (body.dataset, body.noise_multiplier, body.sample_rate, body.delta)
        if stated != (plan.dataset, plan.noise_multiplier, plan.sample_rate, plan.delta):
            self._violated(Kind.PLAN, place, "data set, noise, sampling rate or δ are not those of the plan")
        if session.steps > plan.max_steps:
            self._violated(
                Kind.PLAN, place, f"{session.steps} steps were spent, the plan allows {plan.max_steps}"
            )

    def _released(self, place: Place, time: datetime, body: b.Released) -> None:
        self._facts.add_round(place, "released", body)
        if self._session(place, time, body.session).plan is None:
            return
        query = "SELECT count(*) FROM spend WHERE log = ? AND session = ? AND round = ?"
        spends = self._facts.one(query, self.record.index, body.session, body.round)[0]
        if not spends and self.record.is_whole:
            self._violated(
                Kind.RELEASE,
                place,
                f"an update was released in round {body.round} and no spend stands for it",
            )

    def _round_ended(self, place: Place, time: datetime, body: b.RoundEnded) -> None:
        self._facts.add_round(place, "ended", body)
        session = self._session(place, time, body.session)
        session.completed += body.status == COMPLETED
        if body.context is None or body.status not in ("completed", "aborted"):
            session.transcript = None  # nothing to recompute the digest from
        if session.transcript is None or not self.record.files.is_coordinator:
            return
        transcript = None if body.transcript is None else bytes.fromhex(body.transcript)
        ended = RoundRecord(
            round=body.round,
            attempt=body.attempt,
            status="completed" if body.status == COMPLETED else "aborted",
            context=bytes.fromhex(body.context or ""),
            transcript=transcript,
        )
        session.transcript = transcript_digest([ended], session.transcript)

    def _witnessed(self, place: Place, fact: LogEntry) -> None:
        heads, countersignature = read_witnessed(fact.body)
        countersigned = False
        if countersignature is not None and heads and self._evidence.key_of("coordinator") is not None:
            signed = [head.signed for head in heads]
            try:
                check_countersignature(
                    self._evidence, heads[0].session, heads[0].round, signed, countersignature
                )
                countersigned = True
            except VerificationFailed as error:
                self._tampered(Kind.HEAD_SIGNATURE, place, f"the coordinator's countersignature: {error}")
        self._facts.add_heads(place, heads, countersigned=countersigned)

    def _tampered(self, kind: Kind, place: Place, detail: str) -> None:
        self._findings.tampered(kind, self.record.party, place.file, place.line, detail)

    def _violated(self, kind: Kind, place: Place, detail: str, field: str | None = None) -> None:
        self._findings.violated(kind, self.record.party, place.file, place.line, detail, field)


def same_terms(
    one: b.SessionAccepted | b.SessionStarted, other: b.SessionAccepted | b.SessionStarted
) -> bool:
    """Tell whether an acceptance after a restart repeats the first.

    What was spent before may have grown; and the program may have been updated in between, to a version that
    also states the rule of composition.
    """
    if isinstance(one, b.SessionAccepted) and isinstance(other, b.SessionAccepted):
        before, after = one.privacy, other.privacy
        if before is not None and after is not None:
            update: dict[str, object] = {"spent_before": before.spent_before}
            if before.composition is None:
                update |= {"composition": None, "rdp_order": None}
            other = other.model_copy(update={"privacy": after.model_copy(update=update)})
    return one == other

"""Follows a log line by line: what a line says has to follow from the lines before it.

A round that ends has begun, with the same participants; phases come in the scheme's order; whoever takes part
was there; counts count. What a power cut takes from a log is its end, never its middle, so a line that is
missing before one that needs it was never there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedapt_crypto.errors import FedaptError
from fedapt_crypto.secagg import registry
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import Facts, Step
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.protocol.messages import model_to_bytes
from fedapt_secure.protocol.session import SessionConfiguration, model_hash

VERIFY = "verify"
"""What follows the last phase of a scheme: the sum is with the institutions."""
Attempt = tuple[int, int]
"""Number of a round, and of the attempt at it."""


@dataclass
class Course:
    """What all of a log's sessions have in common while its lines are followed.

    Attributes:
        record: The log. facts: What all logs say. findings: Where to note what does not follow.
        configurations: Session to its configuration, where that is known.
    """

    record: LogRecord
    facts: Facts
    findings: Findings
    configurations: Mapping[str, SessionConfiguration]

    def wrong(self, step: Step, field: str, detail: str, kind: Kind = Kind.COURSE) -> None:
        """Note that a field of a line does not follow from what was before.

        Args:
            step: The line.
            field: The field's name.
            detail: One sentence for people.
            kind: What sort of fault.
        """
        place, body = step.place, step.body
        about = f", round {body['round']}" if body.get("round") is not None else ""
        about = f" (session {step.session[:8]}…{about})" if step.session else ""
        self.findings.violated(
            kind, self.record.party, place.file, place.line, f"{step.type}{about}: {detail}", field
        )

    def same(self, step: Step, field: str, expected: Any, of: str) -> None:
        """Note where a field is not what it should be.

        Args:
            step: The line.
            field: The field's name.
            expected: What should stand there.
            of: By what, as the end of a sentence.
        """
        found = step.body.get(field)
        if found != expected:
            self.wrong(step, field, f"{field} is {short(found)}, and {short(expected)} by {of}")

    def configuration(self, session: str | None) -> SessionConfiguration | None:
        """Return a session's configuration, where it is known and the one that this log's party accepted."""
        known, mine = self.configurations.get(session or ""), self.record.sessions.get(session or "")
        accepted = None if mine is None or mine.accepted is None else mine.accepted.configuration
        return known if known is not None and known.hash.hex() == accepted else None

    def first_model(self, session: str) -> str | None:
        """Return what stands for the model that a session starts from, where its plan is known."""
        configuration = self.configuration(session)
        if configuration is None:
            return None
        return model_hash(model_to_bytes(configuration.plan.initial_model())).hex()

    def group(self, session: str) -> bytes | None:
        """Return the commitment to the group secret that all logs state, if it is one."""
        found = {
            row[0]
            for row in self.facts.rows("SELECT DISTINCT commitment FROM secret WHERE session = ?", session)
        }
        return bytes.fromhex(found.pop()) if len(found) == 1 else None

    def check_context(self, step: Step, model: str | None) -> None:
        """Compute anew what the parties of an attempt agree on, where all of it is known."""
        body, configuration = step.body, self.configuration(step.session)
        group = self.group(step.session or "")
        if configuration is None or model is None or (configuration.needs_group and group is None):
            return
        try:
            context = configuration.round_context(
                body["round"],
                body["attempt"],
                bytes.fromhex(model),
                group if configuration.needs_group else None,
            )
        except (FedaptError, ValueError):
            self.wrong(step, "round", "the session has no such round or attempt")
            return
        if context.hash.hex() != body["context"]:
            self.wrong(
                step, "context", "context is not what session, round, attempt, model and group secret make"
            )


@dataclass
class Phases:
    """The phases of the round under way, as one log has them.

    Attributes:
        order: Those of the scheme; empty where it is not known.
        attempt: Round and attempt; ``None`` between rounds.
        last: The phase of the last line.
    """

    order: tuple[str, ...] = ()
    attempt: Attempt | None = None
    last: str | None = None

    def begin(self, scheme: str | None, attempt: Attempt, first: str | None) -> None:
        """Take note that a round begins.

        Args:
            scheme: Its secure aggregation, where that is known.
            attempt: Its number, and that of the attempt.
            first: The phase that is named with it; ``None`` where none is.
        """
        try:
            known = () if scheme is None else registry.phases(scheme)
        except FedaptError:
            known = ()
        self.order, self.attempt, self.last = tuple(one.value for one in known), attempt, first

    def check(self, course: Course, step: Step, *, last: str | None) -> None:
        """Hold a ``phase`` line against the order.

        Args:
            course: Where to note what is wrong.
            step: The line.
            last: What may come after the last phase.
        """
        if self.attempt is None:
            course.wrong(step, "round", "a phase, and no round is under way")
            return
        course.same(step, "round", self.attempt[0], "the round under way")
        order = [*self.order, *([last] if last is not None else [])]
        at = -1 if self.last is None else order.index(self.last) if self.last in order else -1
        following = order[at + 1] if at + 1 < len(order) else None
        if self.order and step.body["phase"] != following:
            course.wrong(
                step,
                "phase",
                f"phase is {step.body['phase']}, and {following or 'no other'} follows"
                f" {self.last or 'the beginning'}",
            )
        self.last = step.body["phase"]


@dataclass
class Counted:
    """What was counted of a session: its rounds, the newest model, who signed its end."""

    completed: int = 0
    newest: Attempt = (0, 0)
    model: str | None = None
    done: dict[str, str | None] = field(default_factory=dict)


def scheme_of(record: LogRecord, session: str | None) -> str | None:
    """Return a session's scheme as a log states it."""
    known = record.sessions.get(session or "")
    return known.accepted.secure_aggregation if known is not None and known.accepted is not None else None


def followed(records: Sequence[LogRecord], party_is_coordinator: bool) -> list[LogRecord]:
    """Return the logs of one kind of party that nothing is missing from."""
    return [
        record
        for record in records
        if record.is_whole and record.files.is_coordinator == party_is_coordinator
    ]


def short(value: object) -> str:
    """Return a value as a sentence has it, cut where it is long."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

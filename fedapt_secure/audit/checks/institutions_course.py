"""Follows an institution's log: what it agreed to, spent, released and verified, line by line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fedapt_secure.audit.checks.course import (
    Attempt,
    Counted,
    Course,
    Phases,
    followed,
    scheme_of,
)
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, Step
from fedapt_secure.audit.findings import Findings, Kind
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration

_ABOUT_A_SESSION: Final = frozenset(
    {
        "group_made",
        "group",
        "round_joined",
        "spend",
        "released",
        "verified_sum",
        "caught_up",
        "unresolved",
        "round_ended",
        "answer_time",
        "not_closed",
        "session_ended",
    }
)


@dataclass
class _Session(Counted):
    """Where a session stands.

    Attributes:
        private: Whether there is a privacy plan.
        steps: Steps spent, by the running total. spent: Rounds of which there is a line.
        restarted: Whether it was accepted again, and no step was spent since.
        joined: The context and model of each attempt that was joined.
        released: Rounds into which an update was released, and the attempt.
        transcripts: What the sum of an attempt was verified with.
    """

    private: bool = False
    steps: int = 0
    restarted: bool = False
    spent: set[int] = field(default_factory=set)
    joined: dict[Attempt, tuple[str, str | None]] = field(default_factory=dict)
    released: dict[int, int] = field(default_factory=dict)
    transcripts: dict[Attempt, str] = field(default_factory=dict)
    phases: Phases = field(default_factory=Phases)


def follow_institutions(
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    facts: Facts,
    findings: Findings,
) -> None:
    """Check that each line of an institution's log follows from those before it.

    Args:
        records: What the logs hold.
        configurations: Session to its configuration, where that is known.
        facts: All lines.
        findings: Where to note what does not follow.
    """
    for record in followed(records, party_is_coordinator=False):
        follower = _Follower(Course(record, facts, findings, configurations))
        for step in facts.course(record.index):
            follower.take(step)


class _Follower:
    """Takes the lines of an institution's log in their order."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._sessions: dict[str, _Session] = {}

    def take(self, step: Step) -> None:
        if step.type == "session_accepted":
            self._accepted(step)
            return
        if step.type == "certificate":
            self._course.same(step, "name", self._course.record.party, "the log's first line")
            return
        now = self._sessions.get(step.session or "")
        if now is None:
            if step.type in _ABOUT_A_SESSION:
                self._course.wrong(step, "session", "it is about a session that was not accepted before")
            return
        match step.type:
            case "round_joined":
                self._joined(now, step)
            case "phase":
                now.phases.check(self._course, step, last=None)
            case "spend":
                self._spend(now, step)
            case "released":
                self._released(now, step)
            case "verified_sum" | "unresolved" | "round_ended":
                self._of_an_attempt(now, step)
            case "answer_time" if step.body["round"] not in (0, now.newest[0]):
                self._course.wrong(step, "round", "the round was not joined before")
            case "caught_up":
                now.model = step.body["model"]
            case "refused" if step.body.get("code") is not None and step.body["code"] not in set(Reason):
                self._course.wrong(step, "code", "code is none of those that there are")

    def _accepted(self, step: Step) -> None:
        name, private = step.body["session"], step.body["privacy"] is not None
        model = self._course.first_model(name)
        known = name in self._sessions
        now = self._sessions.setdefault(name, _Session(private=private, model=model))
        now.restarted = known
        now.phases.attempt = None

    def _joined(self, now: _Session, step: Step) -> None:
        body, course = step.body, self._course
        attempt = (body["round"], body["attempt"])
        if attempt <= now.newest:
            course.wrong(
                step,
                "attempt" if attempt[0] == now.newest[0] else "round",
                f"round {attempt[0]}, attempt {attempt[1]} was joined after round {now.newest[0]},"
                f" attempt {now.newest[1]}",
            )
        if body["round"] in now.released:
            course.wrong(step, "round", "a round that its update had been released into was joined again")
        course.check_context(step, body.get("model"))
        now.newest = max(now.newest, attempt)
        now.joined[attempt] = (body["context"], body.get("model"))
        now.phases.begin(scheme_of(course.record, step.session), attempt, None)

    def _spend(self, now: _Session, step: Step) -> None:
        body, course = step.body, self._course
        configuration = course.configuration(step.session)
        if configuration is not None:
            whole = configuration.plan.local_steps
            # Steps that a crash kept out of the log stand in the total of the first line after it.
            again = body["round"] in now.spent or now.restarted
            if body["steps"] != whole and not (body["steps"] == 0 and again):
                course.wrong(
                    step, "steps", f"steps is {body['steps']}; by the session's plan a round takes {whole}"
                )
        now.spent.add(body["round"])
        now.restarted = False
        now.steps = max(now.steps + body["steps"], body["total_steps"])

    def _released(self, now: _Session, step: Step) -> None:
        body, course = step.body, self._course
        attempt = (body["round"], body["attempt"])
        if body["round"] in now.released:
            course.wrong(
                step,
                "round",
                f"an update was released in attempt {now.released[body['round']]} of this round already: one"
                " spend stands for one release",
                Kind.RELEASED_TWICE,
            )
        now.released.setdefault(body["round"], body["attempt"])
        self._check_joined(now, step, attempt)
        if not now.private:
            return
        if body["round"] not in now.spent:
            course.wrong(step, "round", "no spend stands for this round", Kind.RELEASE)
        configuration = course.configuration(step.session)
        least = 0 if configuration is None else configuration.plan.local_steps * len(now.released)
        if now.steps < least:
            course.wrong(
                step,
                "round",
                f"updates were released in {len(now.released)} rounds, which take {least} steps; {now.steps}"
                " are spent",
                Kind.RELEASE,
            )

    def _check_joined(self, now: _Session, step: Step, attempt: Attempt) -> None:
        joined = now.joined.get(attempt)
        if joined is None:
            field = "attempt" if any(one[0] == attempt[0] for one in now.joined) else "round"
            self._course.wrong(step, field, f"attempt {attempt[1]} at the round was not joined before")
        elif "context" in step.body:
            self._course.same(step, "context", joined[0], "the line by which the attempt was joined")

    def _of_an_attempt(self, now: _Session, step: Step) -> None:
        body = step.body
        attempt = (body["round"], body["attempt"])
        if step.type == "round_ended":
            self._round_ended(now, step, attempt)
            return
        ended = now.transcripts.get(attempt)
        if step.type == "unresolved" and ended is not None:
            self._course.same(step, "transcript", ended, "the line about the attempt's end")
        now.transcripts[attempt] = body["transcript"]
        if step.type == "verified_sum":
            now.model = body["model"]
            return
        self._check_joined(now, step, attempt)
        joined = now.joined.get(attempt)
        if joined is not None and joined[1] is not None:
            self._course.same(step, "model", joined[1], "the line by which the attempt was joined")

    def _round_ended(self, now: _Session, step: Step, attempt: Attempt) -> None:
        body, course = step.body, self._course
        if body["status"] == COMPLETED:
            now.completed += 1
        joined = now.joined.get(attempt)
        if joined is not None:
            course.same(step, "context", joined[0], "the line by which the attempt was joined")
        elif body["context"] is None:
            course.wrong(step, "context", "the attempt has no context")
        verified = now.transcripts.get(attempt)
        if verified is not None:
            course.same(step, "transcript", verified, "the line about its sum")
        elif body["transcript"] is not None:
            now.transcripts[attempt] = body["transcript"]
        if now.phases.attempt == attempt:
            now.phases.attempt = None

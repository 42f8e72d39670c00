"""Follows the coordinator's log: gathering, rounds, phases, and the end, each out of what was before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fedapt_secure.audit.checks.course import (
    VERIFY,
    Attempt,
    Counted,
    Course,
    Phases,
    followed,
    scheme_of,
)
from fedapt_secure.audit.evidence.collect import LogRecord
from fedapt_secure.audit.evidence.facts import COMPLETED, Facts, Step
from fedapt_secure.audit.findings import Findings
from fedapt_secure.log.line import SESSION_CLOSED
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration

_NAMED: Final = frozenset({"connected", "disconnected", "ready", "declined", "left", "done", "sum_refused"})
_LOSING: Final = frozenset({"disconnected", "left", "late", "declined", "refused", "sum_refused"})
_NAMING_SOME: Final = frozenset({"late", "not_waiting_for", "waiting_for_return"})
_ABOUT_THE_SESSION: Final = frozenset(
    {"group", "session_resumed", "round_started", "round_ended", "session_ended"}
)


@dataclass
class _Session(Counted):
    """Where a session stands.

    Attributes:
        names: Its institutions.
        there, ready: Who has a connection, and who has got as far as to take part.
        participants: Of the attempt under way or the last one; ``None`` where its line is missing.
        context: Of that attempt. gone: Who has been lost in it, and said so by a line.
        signed: Whose signatures the record of its end has.
        lost: An attempt that a crash ended, of which there may be no line but this.
    """

    names: frozenset[str] = frozenset()
    there: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)
    participants: list[str] | None = None
    context: str | None = None
    gone: set[str] = field(default_factory=set)
    signed: set[str] = field(default_factory=set)
    lost: Attempt | None = None
    phases: Phases = field(default_factory=Phases)


def follow_coordinator(
    records: Sequence[LogRecord],
    configurations: Mapping[str, SessionConfiguration],
    facts: Facts,
    findings: Findings,
) -> None:
    """Check that each line of a coordinator's log follows from those before it.

    Args:
        records: What the logs hold.
        configurations: Session to its configuration, where that is known.
        facts: All lines.
        findings: Where to note what does not follow.
    """
    for record in followed(records, party_is_coordinator=True):
        follower = _Follower(Course(record, facts, findings, configurations))
        for step in facts.course(record.index):
            follower.take(step)


class _Follower:
    """Takes the lines of a coordinator's log in their order."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._sessions: dict[str, _Session] = {}
        self._under_way: str | None = None

    def take(self, step: Step) -> None:
        if step.type == "session_started":
            self._begins(step)
            return
        if step.type == "certificate":
            self._course.same(step, "name", self._course.record.party, "the log's first line")
        now = self._sessions.get(self._under_way or "")
        if now is not None:  # else it is before the first session, or one whose beginning is not there
            self._take(now, step)

    def _take(self, now: _Session, step: Step) -> None:
        if step.type in _ABOUT_THE_SESSION:
            self._course.same(step, "session", self._under_way, "the lines before it")
        self._check_names(now, step)
        if step.type in _LOSING:
            now.gone |= {*step.body.get("names", ()), step.body.get("name", "")}
        match step.type:
            case "session_resumed":
                self._resumed(now, step)
            case "connected" | "disconnected" | "ready" | "left":
                self._moves(now, step)
            case "round_started":
                self._round_started(now, step)
            case "phase":
                now.phases.check(self._course, step, last=VERIFY)
            case "late" | "declined" | "sum_refused":
                self._in_round(now, step)
            case "round_ended":
                self._round_ended(now, step)
            case "closing":
                self._course.same(step, "completed_rounds", now.completed, "the rounds before it")
                self._check_model(now, step)
            case "done":
                now.done[step.body["name"]] = step.body["bundle"]
            case "session_ended":
                self._ended(now, step)
            case _ if step.type == SESSION_CLOSED:
                self._closed(now, step)

    def _begins(self, step: Step) -> None:
        name = step.body["session"]
        before = self._sessions.get(name)
        self._under_way = name
        fresh = _Session(names=frozenset(step.body["institutions"]), model=self._course.first_model(name))
        if before is None or before.newest == (0, 0):  # started again before its first round
            self._sessions[name] = fresh

    def _resumed(self, now: _Session, step: Step) -> None:
        """After a restart nobody is connected; of an attempt that has begun there may be no line."""
        body = step.body
        now.there.clear()
        now.ready.clear()
        found, under_way = (body["round"], body["attempt"]), now.phases.attempt
        may = {now.newest} if under_way is not None else {now.newest, *_next(now)}
        if found not in may:
            self._course.wrong(
                step,
                "attempt" if found[0] == now.newest[0] else "round",
                f"round {found[0]}, attempt {found[1]}, and the lines before are of round {now.newest[0]},"
                f" attempt {now.newest[1]}",
            )
        interrupted = under_way is not None or found != now.newest
        self._course.same(step, "interrupted", interrupted, "the lines before it")
        terms = self._course.record.sessions[self._under_way or ""].accepted
        if terms is not None:
            self._course.same(step, "configuration", terms.configuration, "the session's beginning")
        self._check_model(now, step)
        now.lost = found if interrupted else None
        if under_way is None and interrupted:
            now.participants = now.context = None

    def _check_names(self, now: _Session, step: Step) -> None:
        named = [step.body["name"]] if step.type in _NAMED else []
        named += step.body["names"] if step.type in _NAMING_SOME else []
        key = "name" if step.type in _NAMED else "names"
        for name in named:
            if name not in now.names:
                self._course.wrong(step, key, f"{name} is not of this session")

    def _moves(self, now: _Session, step: Step) -> None:
        name = step.body["name"]
        match step.type:
            case "connected":
                now.there.add(name)
                now.ready.discard(name)
            case "disconnected":
                if name not in now.there:
                    self._course.wrong(step, "name", f"{name} was not connected")
                now.there.discard(name)
                now.ready.discard(name)
            case "ready":
                if name not in now.there:
                    self._course.wrong(step, "name", f"{name} is ready, and was not connected")
                now.ready.add(name)
            case "left":
                self._check_reason(step)
                now.ready.discard(name)

    def _check_reason(self, step: Step) -> None:
        if step.body["reason"] not in set(Reason):
            self._course.wrong(step, "reason", "reason is none of the codes that there are")

    def _round_started(self, now: _Session, step: Step) -> None:
        body, course = step.body, self._course
        attempt = (body["round"], body["attempt"])
        if attempt not in _next(now):
            wrong = "round" if body["round"] not in {one[0] for one in _next(now)} else "attempt"
            course.wrong(
                step,
                wrong,
                f"round {attempt[0]}, attempt {attempt[1]} cannot follow round {now.newest[0]},"
                f" attempt {now.newest[1]}",
            )
        if now.phases.attempt is not None:
            course.wrong(step, "round", "a round begins while another is under way")
        configuration = course.configuration(self._under_way)
        cohort = now.names
        if configuration is not None:
            cohort = frozenset(configuration.round_roster(body["round"]).names)
        for name in body["participants"]:
            if name not in cohort or name not in now.ready:
                why = "was not ready" if name in cohort else "is not of the round's cohort"
                course.wrong(step, "participants", f"{name} takes part, and {why}")
        self._check_model(now, step)
        course.check_context(step, body.get("model"))
        now.newest, now.lost, now.gone = attempt, None, set()
        now.participants, now.context = list(body["participants"]), body["context"]
        now.phases.begin(scheme_of(course.record, self._under_way), attempt, body.get("phase"))
        if now.phases.order and body.get("phase") is not None:
            course.same(step, "phase", now.phases.order[0], "the scheme's order")

    def _in_round(self, now: _Session, step: Step) -> None:
        course, under_way = self._course, now.phases.attempt
        if under_way is None:
            course.wrong(step, "round", "no round is under way")
            return
        course.same(step, "round", under_way[0], "the round under way")
        if step.type == "sum_refused":
            course.same(step, "attempt", under_way[1], "the attempt under way")
        if step.type == "declined":
            self._check_reason(step)
        named = step.body["names"] if step.type == "late" else [step.body["name"]]
        for name in named:
            if now.participants is not None and name not in now.participants:
                key = "names" if step.type == "late" else "name"
                course.wrong(step, key, f"{name} did not take part in the round")

    def _round_ended(self, now: _Session, step: Step) -> None:
        body, course = step.body, self._course
        attempt = (body["round"], body["attempt"])
        if attempt == now.newest and now.phases.attempt is None and now.lost is None:
            return  # a line that a crash may have kept out, written again
        if attempt not in {now.phases.attempt, now.lost} and not (
            now.phases.attempt is None and attempt in _next(now)
        ):
            wrong = "round" if attempt[0] != now.newest[0] else "attempt"
            course.wrong(step, wrong, f"round {attempt[0]}, attempt {attempt[1]} ends, and has not begun")
        if attempt == now.phases.attempt and now.context is not None:
            course.same(step, "context", now.context, "the round's beginning")
        contributors = set(body["contributors"])
        participants = body.get("participants")
        if participants is not None:
            began_with = now.participants if attempt == now.phases.attempt else None
            if began_with is not None and participants and sorted(participants) != sorted(began_with):
                course.wrong(step, "participants", "participants are not those with whom the round began")
            if not contributors <= set(participants):
                course.wrong(step, "contributors", "somebody contributed who did not take part")
            self._check_dropped(now, step, set(participants), attempt)
        if body["status"] == COMPLETED:
            now.completed += 1
            now.model = body.get("model") or now.model
        else:
            self._check_model(now, step)
        now.newest = max(now.newest, attempt)
        now.phases.attempt = now.lost = None

    def _check_dropped(self, now: _Session, step: Step, participants: set[str], attempt: Attempt) -> None:
        """Whoever takes part and does not contribute is dropped; and nobody of whom no line says why."""
        body, dropped = step.body, set(step.body.get("dropped") or ())
        others = participants - set(body["contributors"])
        if body["status"] == COMPLETED and not others <= dropped:
            self._course.wrong(step, "dropped", "dropped lacks participants that did not contribute")
        explained = now.gone if attempt == now.phases.attempt else participants
        if not dropped <= explained:
            names = ", ".join(sorted(dropped - explained))
            self._course.wrong(step, "dropped", f"no line of the round says that {names} was lost")

    def _check_model(self, now: _Session, step: Step) -> None:
        found = step.body.get("model")
        if found is not None and now.model is not None:
            self._course.same(step, "model", now.model, "the rounds before it")

    def _ended(self, now: _Session, step: Step) -> None:
        course = self._course
        course.same(step, "completed_rounds", now.completed, "the rounds before it")
        course.same(step, "rounds", now.newest[0], "the rounds before it")
        done = set(step.body["done"] or ())
        if not set(now.done) <= done <= set(now.done) | now.signed:  # a crash may have taken lines
            course.same(step, "done", sorted(now.done), "the lines before it")

    def _closed(self, now: _Session, step: Step) -> None:
        signed = set(step.body["signatures"])
        course = self._course
        now.signed |= signed
        if step.body["session"] == self._under_way:
            course.same(step, "missing", sorted(now.names - signed), "the signatures beside it")


def _next(now: _Session) -> set[Attempt]:
    """Return what can begin next: the round again, or the one after it."""
    number, attempt = now.newest
    if number == 0:
        return {(1, 1)}
    return {(number, attempt + 1), (number + 1, 1)}

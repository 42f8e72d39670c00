"""Between rounds: whether the next one can begin, with whom, or is left out; without I/O.

A round belongs to its cohort: everybody, or the institutions that the session's rule names for it. Nobody
else is waited for.

Rules:
- A round begins when everyone of its cohort who is not out is ready, or after the gathering time with at
  least the threshold of them. Who has said that so few are too few for it is in the next attempt once there
  are more.
- Where a cohort is not the whole roster, a round of which too few are there after the gathering time is left
  out if as many as a round needs are there at all: other rounds can go on. Where fewer are there, the session
  waits for them, however long: to leave out one round after the other would end it for nothing.
- A round of whose cohort too many are out is left out at once, if another one can take place.
- Where shares were revealed in a round that gave no sum, the next one is with exactly its survivors, for
  institutions sign no other set from that model: it waits for all of them, and cannot do without one.
- Where so many are out, or want more than there can be, that no round can take place, the session waits for
  them to come back, for the plan's ``return_timeout_s``; then it cannot go on. It ends at once where coming
  back would not help.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies, deadlines
from fedapt_server.session.actions import Action, Keep, Log, SetTimer
from fedapt_server.session.agenda import Agenda
from fedapt_server.session.attendance import Attendance
from fedapt_server.session.progress import Progress
from fedapt_server.session.states import Presence


@dataclass(frozen=True)
class Begin:
    """Begin with these institutions, in roster order."""

    participants: tuple[str, ...]


class For(Enum):
    """What is waited for."""

    MISSING = auto()
    """Those who are to come."""
    RETURN = auto()
    """Those who are out, without whom no round can take place."""


@dataclass(frozen=True)
class Wait:
    """Wait for others; ``anew`` if the time for it has run out and begins again."""

    anew: bool
    what: For = For.MISSING


@dataclass(frozen=True)
class LeaveOut:
    """Go on with the following round."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """No round can take place any more."""

    reason: str


Decision = Begin | Wait | LeaveOut | Stop


class Gathering:
    """Decides about the next attempt at a round.

    Args:
        configuration: The session. attendance: Who is there. agenda: Which round comes next.
    """

    def __init__(self, configuration: SessionConfiguration, attendance: Attendance, agenda: Agenda) -> None:
        self._configuration = configuration
        self._attendance = attendance
        self._agenda = agenda
        self._everybody = frozenset(configuration.roster.names)
        self._threshold = configuration.threshold
        self._is_sampled = configuration.cohort_size < len(self._everybody)
        self._waiting: For | None = None
        self._rounds_begun = 0
        self._wanted: dict[str, int] = {}
        self._newest: tuple[int, frozenset[str]] = (0, self._everybody)
        self.bound: Callable[[], tuple[str, ...]] = tuple
        """Returns the one survivor set that is signed from the present model; empty for any."""

    @property
    def cohort(self) -> frozenset[str]:
        """Who may take part in the next attempt: its round's cohort without those who sit it out."""
        number = self._agenda.next_number
        if self._newest[0] != number:
            self._newest = (number, self._cohort(number))
        return self._newest[1] - (self._agenda.sitting_out if self._agenda.again else frozenset())

    def decide(self, *, late: bool) -> Decision:
        """Return what is to be done now; ``late`` when the gathering time has run out."""
        if bound := self.bound():
            return self._decide_bound(bound, late=late)
        cohort, threshold = self.cohort, self._threshold
        remaining = self._attendance.remaining
        if not self._any_round_to_come(remaining, self._content):
            waited = late and self._waiting is For.RETURN
            if not waited and self._any_round_to_come(self._attendance.may_come, tuple):
                return Wait(anew=False, what=For.RETURN)
            of_one = " of one round's cohort" if self._is_sampled else ""
            too_few = f", too few for {len(self._wanted)} of them" if self._wanted else ""
            return Stop(f"{len(remaining)} institutions remain{too_few}, {threshold}{of_one} are needed")
        late = late and self._waiting is not For.RETURN
        if len(self._content(name for name in remaining if name in cohort)) < threshold:
            return LeaveOut(f"too few institutions of the round's cohort remain: {threshold} are needed")
        if self._attendance.awaited(cohort) and not late:
            return Wait(anew=False)
        there = self._attendance.which(Presence.READY)
        ready = self._content(name for name in there if name in cohort)
        if len(ready) >= threshold:
            return Begin(ready)
        if late and len(there) >= threshold and self._is_sampled:
            return LeaveOut(
                f"{len(ready)} institutions of the round's cohort were there, {threshold} are needed"
            )
        return Wait(anew=late)

    def _decide_bound(self, bound: tuple[str, ...], *, late: bool) -> Decision:
        """Return what is to be done where only one set is signed."""
        whom = f"shares were revealed for {', '.join(bound)}, without whom no round can take place"
        resting = [name for name in bound if self._attendance.of(name) is Presence.RESTING]
        following = range(self._agenda.number + 1, self._agenda.rounds + 1)
        if resting or not any(self._cohort(number).issuperset(bound) for number in following):
            return Stop(whom)
        if self._agenda.again or not self.cohort.issuperset(bound):
            return LeaveOut(whom)  # what was released in that round is not released again
        if any(self._attendance.of(name) is Presence.OUT for name in bound):
            waited = late and self._waiting is For.RETURN
            return Stop(whom) if waited else Wait(anew=False, what=For.RETURN)
        if all(self._attendance.of(name) is Presence.READY for name in bound):
            return Begin(bound)
        return Wait(anew=late)

    def begun(self) -> None:
        """Take note that a round has begun."""
        self._waiting = None
        self._rounds_begun += 1

    def wants_more_than(self, name: str, count: int) -> None:
        """Take note that a round of so many is too small for an institution."""
        self._wanted[name] = count + 1

    def asks_anew(self, name: str) -> None:
        """Take note that an institution accepts the session again, perhaps under another policy."""
        self._wanted.pop(name, None)

    def wait(self, wait: Wait, missed_bytes: int) -> list[Action]:
        """Set the gathering timer once, so that one who keeps coming and going cannot put it off.

        Args:
            wait: What is waited for.
            missed_bytes: What who was away may have to get besides the session.
        """
        if self._waiting is wait.what and not wait.anew:
            return []
        self._waiting = wait.what
        plan = self._configuration.plan
        if wait.what is For.RETURN:
            return [
                Log("waiting_for_return", {"names": sorted({*self._attendance.reasons, *self._wanted})}),
                SetTimer(plan.return_timeout_s),
            ]
        # Before their first round institutions load models and encode images, as before training.
        first = self._rounds_begun == 0
        seconds = plan.round_timeout_s if first else plan.gather_timeout_s
        waiting_s = deadlines.gathering_s(
            self._configuration, seconds, first=first, missed_bytes=missed_bytes
        )
        return [SetTimer(waiting_s)]

    def leave_out(self, progress: Progress, reason: str) -> tuple[Progress, list[Action]]:
        """Go on with the following round; one that was never attempted is on record as aborted."""
        self._waiting = None
        if self._agenda.again:
            self._agenda.give_up()
            return progress, []
        number, attempt = self._agenda.begin()
        self.begun()
        begun = replace(progress, number=number, attempt=attempt)
        body, after = bodies.without_sum(self._configuration, begun, reason)
        return after, [Keep(after), Log("round_ended", body)]

    def _content(self, who: Iterable[str]) -> tuple[str, ...]:
        """Leave out those to whom so few are too few, until it is enough for all who are left."""
        some = tuple(who)
        while True:
            content = tuple(name for name in some if self._wanted.get(name, 0) <= len(some))
            if content == some:
                return some
            some = content

    def _any_round_to_come(
        self, who: Collection[str], content: Callable[[Iterable[str]], tuple[str, ...]]
    ) -> bool:
        """Whether a cohort to come has enough of them; the next one's nearly always has."""
        if not self._is_sampled:
            return len(content(who)) >= self._threshold
        numbers = range(self._agenda.next_number, self._agenda.rounds + 1)
        return any(
            len(content(self._cohort(number).intersection(who))) >= self._threshold for number in numbers
        )

    def _cohort(self, number: int) -> frozenset[str]:
        return frozenset(self._configuration.round_roster(number).names)

"""Between rounds: whether the next one can begin, with whom, or is left out; without I/O.

A round belongs to its cohort: everybody, or the institutions that the session's rule names for it. Nobody
else is waited for.

Rules:
- A round begins when everyone of its cohort who has not left for good is ready, or after the gathering time
  with at least the threshold of them.
- Where a cohort is not the whole roster, a round of which too few are there after the gathering time is left
  out if as many as a round needs are there at all: other rounds can go on. Where fewer are there, the session
  waits for them, however long: to leave out one round after the other would end it for nothing.
- A round of whose cohort too many have left for good is left out at once.
- The session cannot go on when that holds for all rounds to come.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies
from fedapt_server.session.actions import Action, Keep, Log, SetTimer
from fedapt_server.session.agenda import Agenda
from fedapt_server.session.attendance import Attendance
from fedapt_server.session.progress import Progress
from fedapt_server.session.states import Presence


@dataclass(frozen=True)
class Begin:
    """Begin with these institutions, in roster order."""

    participants: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """Wait for others; ``anew`` if the time for it has run out and begins again."""

    anew: bool


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
        self._waiting = False
        self._rounds_begun = 0
        self._newest: tuple[int, frozenset[str]] = (0, self._everybody)

    @property
    def cohort(self) -> frozenset[str]:
        """Who may take part in the next attempt: its round's cohort without those who sit it out."""
        number = self._agenda.next_number
        if self._newest[0] != number:
            self._newest = (number, self._cohort(number))
        return self._newest[1] - (self._agenda.sitting_out if self._agenda.again else frozenset())

    def decide(self, *, late: bool) -> Decision:
        """Return what is to be done now; ``late`` when the gathering time has run out."""
        cohort, threshold = self.cohort, self._threshold
        if not self._any_round_to_come():
            remaining = len(self._attendance.remaining)
            of_one = " of one round's cohort" if self._is_sampled else ""
            return Stop(f"{remaining} institutions remain, {threshold}{of_one} are needed")
        if self._remaining(cohort) < threshold:
            return LeaveOut(f"too few institutions of the round's cohort remain: {threshold} are needed")
        if self._attendance.awaited(cohort) and not late:
            return Wait(anew=False)
        there = self._attendance.which(Presence.READY)
        ready = tuple(name for name in there if name in cohort)
        if len(ready) >= threshold:
            return Begin(ready)
        if late and len(there) >= threshold and self._is_sampled:
            return LeaveOut(
                f"{len(ready)} institutions of the round's cohort were there, {threshold} are needed"
            )
        return Wait(anew=late)

    def begun(self) -> None:
        """Take note that a round has begun."""
        self._waiting = False
        self._rounds_begun += 1

    def wait(self, *, anew: bool) -> list[Action]:
        """Set the gathering timer once, so that one who keeps coming and going cannot put it off."""
        if self._waiting and not anew:
            return []
        self._waiting = True
        # Before their first round institutions load models and encode images, as before training.
        plan, first = self._configuration.plan, self._rounds_begun == 0
        return [SetTimer(plan.round_timeout_s if first else plan.gather_timeout_s)]

    def leave_out(self, progress: Progress, reason: str) -> tuple[Progress, list[Action]]:
        """Go on with the following round; one that was never attempted is on record as aborted."""
        if self._agenda.again:
            self._agenda.give_up()
            return progress, []
        number, attempt = self._agenda.begin()
        self.begun()
        begun = replace(progress, number=number, attempt=attempt)
        body, after = bodies.without_sum(self._configuration, begun, reason)
        return after, [Keep(after), Log("round_ended", body)]

    def _any_round_to_come(self) -> bool:
        """Whether a cohort to come has not lost too many for good; the next one's nearly always has not."""
        if not self._is_sampled:
            return self._remaining(self._everybody) >= self._threshold
        numbers = range(self._agenda.next_number, self._agenda.rounds + 1)
        return any(self._remaining(self._cohort(number)) >= self._threshold for number in numbers)

    def _cohort(self, number: int) -> frozenset[str]:
        return frozenset(self._configuration.round_roster(number).names)

    def _remaining(self, cohort: Collection[str]) -> int:
        return sum(name in cohort for name in self._attendance.remaining)

"""The rounds of a session at the coordinator, one after the other, from start to end; without I/O.

A round that gave a sum ends when those who were given it have said what came of it. The sum is durable before
anybody is given it: after a crash it is the session's all the same.
"""

from collections.abc import Collection, Sequence

from fedapt_crypto.errors import PeerError, RoundAborted, UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies, deadlines
from fedapt_server.session.actions import Action, Log, SetTimer
from fedapt_server.session.agenda import Agenda
from fedapt_server.session.attendance import Attendance
from fedapt_server.session.book import Book
from fedapt_server.session.grouping import Grouping
from fedapt_server.session.outcome import Outcome
from fedapt_server.session.reception import refusal, send, to_all
from fedapt_server.session.round import CoordinatorRound
from fedapt_server.session.sums import Sums, moved_by
from fedapt_server.session.witness import Witness


class Rounds:
    """Runs one round at a time.

    Args:
        configuration: The session.
        identity: The coordinator's signing key.
        book: How far the session has come.
        agenda: Which round comes next.
        attendance: Who is there.
        witness: What is known of all parties' logs.
        grouping: The session's group secret.
        sums: Who has which sum.
    """

    def __init__(
        self,
        configuration: SessionConfiguration,
        identity: Identity,
        book: Book,
        agenda: Agenda,
        attendance: Attendance,
        witness: Witness,
        grouping: Grouping,
        sums: Sums,
    ) -> None:
        self._configuration = configuration
        self._plan = configuration.plan
        self._identity = identity
        self._book = book
        self._agenda = agenda
        self._attendance = attendance
        self._witness = witness
        self._grouping = grouping
        self._sums = sums
        self.current: CoordinatorRound | None = None

    def start(self, participants: tuple[str, ...]) -> list[Action]:
        """Begin the next attempt at a round."""
        number, attempt = self._agenda.begin()
        kept = self._book.keep(number=number, attempt=attempt, **self._sums.kept)
        self.current = CoordinatorRound(
            self._configuration,
            number,
            attempt,
            self._book.progress.model_id,
            participants,
            self._witness,
            self._identity,
            group=self._grouping.held,
            confirmations=self._grouping.confirmations(),
        )
        start = self.current.start_message()
        behind = self._sums.catch_up(self._book.progress, participants)
        sends = self.current.traffic.down([*behind, *(send(name, start) for name in participants)])
        started = Log("round_started", bodies.round_started(self.current))
        seconds = deadlines.phase_s(
            self._configuration, self._plan.round_timeout_s, sends, self.current.phase
        )
        return [kept, started, *sends, SetTimer(seconds)]

    def drop(self, name: str, reason: str) -> list[Action]:
        """Go on without an institution, if a round is under way."""
        if self.current is None:
            return []
        self.current.drop(name, reason)
        if self._is_lost(self.current):
            error = RoundAborted(f"{name} is gone, and shares of a round before bind all to one set")
            return self._finish(self.current.aborted(error))
        return self.proceed()

    def _is_lost(self, round_: CoordinatorRound) -> bool:
        """Whether an institution of the one set that is signed is gone before that set is fixed."""
        bound = self._book.progress.bound
        return bool(bound) and round_.transcript is None and not round_.dropped.keys().isdisjoint(bound)

    def late(self, round_: CoordinatorRound) -> list[Action]:
        """Go on without those who are late."""
        late = round_.drop_missing()
        return [Log("late", {"round": self._agenda.number, "names": list(late)}), *self.proceed()]

    def receive(self, round_: CoordinatorRound, name: str, message: m.Aggregation) -> list[Action]:
        """Take a payload of secure aggregation, or the word that the sum does not hold.

        Args:
            round_: The round under way.
            name: The sender.
            message: The payload.
        """
        refused: list[Action] = []
        try:
            round_.receive(name, message)
        except RoundAborted as error:
            if round_.given is None:
                return self._finish(round_.aborted(error))
            return [*self._failed(round_, name, error), *self.proceed()]
        except UnexpectedMessage:
            raise  # late or twice: what it sent before still counts
        except PeerError as error:
            # It will not send a better one: going on without it beats waiting for the deadline.
            round_.drop(name, "refused")
            refused = [refusal(name, error)]
        return [*refused, *self.proceed()]

    def verified(self, name: str, message: m.SumVerified) -> list[Action]:
        """Take an institution's statement about the newest sum."""
        round_ = self.current
        try:
            self._sums.take(name, message)
        except UnexpectedMessage:
            return []  # of an earlier one, said again
        except PeerError as error:
            if round_ is None or round_.given is None:
                raise
            return [*self._failed(round_, name, error), *self.proceed()]
        if round_ is None:
            return []
        round_.answered(name)
        return self.proceed()

    def _failed(self, round_: CoordinatorRound, name: str, error: RoundAborted | PeerError) -> list[Action]:
        round_.sum_failed(name, error)
        body = {"name": name, "round": round_.number, "attempt": round_.attempt, "detail": str(error)[:200]}
        return [Log("sum_refused", body)]

    def proceed(self) -> list[Action]:
        """Close the phase if nobody is waited for any more."""
        round_ = self.current
        if round_ is None or not round_.phase_complete:
            return []
        if round_.given is not None:
            return self._finish(self._judged(round_))
        try:
            deliveries = round_.close_phase()
        except RoundAborted as error:
            return self._finish(round_.aborted(error))
        sends = round_.traffic.down([send(name, message) for name, message in deliveries.items()])
        kept: list[Action] = []
        if round_.phase is not None and round_.revealing:
            kept = [self._book.keep(bound=round_.revealing)]
        if round_.given is not None:
            round_.moved = moved_by(self._configuration, self._book.progress, round_.given)
            self._sums.expect(round_.moved.statement)
            kept = [self._book.keep(pending=round_.given)]
        phase = "verify" if round_.phase is None else round_.phase.value
        body = {"round": round_.number, "phase": phase}
        seconds = deadlines.phase_s(self._configuration, self._plan.phase_timeout_s, sends, round_.phase)
        return [*kept, Log("phase", body), *sends, SetTimer(seconds), *self.proceed()]

    def _judged(self, round_: CoordinatorRound) -> Outcome:
        """Return how a round ended of whose sum everybody has said what came of it, or is gone.

        With fewer corrupt institutions than it takes to state a model, a sum that so many state is right. One
        that nobody has seen yet stays the session's: who comes back checks it.
        """
        if round_.failed and not self._sums.is_stated:
            progress = self._book.progress
            self._sums.forget(progress.stated, progress.statements)
            return round_.not_verified()
        return round_.completed()

    def _finish(self, outcome: Outcome) -> list[Action]:
        """End the round."""
        ended, self.current = self.current, None
        assert ended is not None  # it was under way
        body, after = bodies.after_round(self._book.progress, ended, outcome)
        self._agenda.ended(completed=outcome.status == "completed")
        self._agenda.sitting_out |= ended.released
        self._book.progress = after
        if ended.given is not None and outcome.given is None:
            self._book.keep(pending=None)  # nobody is to be given it again
        heads = tuple(ended.heads[n] for n in outcome.participants if n in ended.heads)
        there = self._attendance.connected
        return [
            self._book.keep(**self._sums.kept),
            Log("round_ended", body),
            *self._witness.lines(ended.number, heads),
            to_all(there, lambda head: self._witness.round_end(ended.context, outcome, heads, head)),
            *self._missed(ended, outcome, self._attendance.takes_sums),
        ]

    def _missed(self, ended: CoordinatorRound, outcome: Outcome, names: Collection[str]) -> Sequence[Action]:
        """Return what gives a sum that only institutions can open to those who were not given it."""
        given = outcome.given
        if given is None or not self._configuration.blind:
            return []
        there = set(given.contributors) - ended.dropped.keys()
        return [send(name, given.missed) for name in names if name not in there]

"""The coordinator in one session, without I/O: events in, actions out.

Gather the institutions, run the planned rounds, then open all domain keys and hand out the model. When a
round begins, and with whom, is decided in `gathering`; how often it is attempted, in `agenda`.

What others hear of has been made durable before (`Keep`): after a crash a session made from its stored
`Progress` goes on with the round that was interrupted, as a fresh attempt. A session that has ended still
gives the finished model to whoever was away.
"""

from collections.abc import Iterable
from typing import Any

from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import PeerError, RolledBackLog, UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_secure.log.heads import WitnessedHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session import bodies, deadlines
from fedapt_server.session.actions import Action, CheckLog, Doing, Keep, Log, SendTo, SetTimer, TakeHead
from fedapt_server.session.agenda import Agenda
from fedapt_server.session.attendance import Attendance
from fedapt_server.session.book import Book
from fedapt_server.session.closing import Closing
from fedapt_server.session.gathering import Begin, Gathering, LeaveOut, Stop, Wait
from fedapt_server.session.grouping import Grouping
from fedapt_server.session.progress import Progress
from fedapt_server.session.reception import Reception, refusal, send
from fedapt_server.session.resuming import resumed
from fedapt_server.session.round import CoordinatorRound
from fedapt_server.session.rounds import Rounds
from fedapt_server.session.states import Presence, State, is_due
from fedapt_server.session.sums import Sums
from fedapt_server.session.witness import News, Witness


class CoordinatorSession:
    """The coordinator's side of the session protocol.

    Args:
        configuration: The session, with commitments to ``key_seeds``.
        key_seeds: One seed a domain key.
        identity: The coordinator's signing key.
        witnessed: The highest heads of the institutions' logs that the coordinator's log holds.
        progress: How far the session has come, where it goes on after a crash.
    """

    def __init__(
        self,
        configuration: SessionConfiguration,
        key_seeds: tuple[bytes, ...],
        identity: Identity,
        witnessed: Iterable[WitnessedHead] = (),
        progress: Progress | None = None,
    ) -> None:
        self._configuration = configuration
        self._plan = configuration.plan
        self._identity = identity
        self._attendance = Attendance(configuration.roster.names)
        self._is_new = progress is None
        self._book = Book(progress or Progress.initial(configuration))
        progress = self._book.progress
        self._agenda = Agenda(self._plan.rounds, progress.number, progress.attempt)
        if progress.records:
            self._agenda.ended(completed=progress.records[-1].status == "completed")
        self._gathering = Gathering(configuration, self._attendance, self._agenda)
        self._gathering.bound = lambda: self._progress.bound
        self._state = State.ENDED if progress.ended else State.GATHERING
        self._closing: Closing | None = None
        self._grouping = Grouping(configuration)
        self._witness = Witness(configuration, identity, witnessed)
        self._reception = Reception(configuration, key_seeds, identity, self._witness)
        self._sums = Sums(configuration, progress)
        self._held: set[str] = set()
        self._rounds = Rounds(
            configuration,
            identity,
            self._book,
            self._agenda,
            self._attendance,
            self._witness,
            self._grouping,
            self._sums,
        )

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def progress(self) -> Progress:
        """How far the session has come."""
        return self._book.progress

    @property
    def _progress(self) -> Progress:
        return self._book.progress

    def start(self, logged: tuple[int, int] | None = None) -> list[Action]:
        """Begin to gather the institutions, or go on where a crash has interrupted.

        Args:
            logged: Round and attempt of this session's last ``round_ended`` in the coordinator's log: a
                crash may have come between store and log.
        """
        if self._is_new:
            return [Log("session_started", bodies.session_started(self._configuration)), SetTimer(None)]
        before = self._progress
        self._book.progress, actions = resumed(self._configuration, before, logged)
        if self._progress.group is not None:
            self._grouping.take(self._progress.group)
        if self._progress.ended:
            self._closing = self._open_closing()
            return actions
        if before.interrupted and not before.ended:
            self._agenda.ended(completed=before.given is not None)
            self._sums.forget(self._progress.stated, self._progress.statements)
        is_over = self._agenda.over or self._progress.closing
        return [*actions, SetTimer(None), *(self._close() if is_over else [])]

    def _keep(self, **changes: Any) -> Keep:
        return self._book.keep(**changes)

    def connected(self, name: str) -> list[Action]:
        """An institution has connected and said hello under its certificate's name."""
        lost = self.disconnected(name) if self._attendance.of(name).there else []
        self._attendance.mark(name, Presence.CONNECTED)
        return [
            *lost,
            Log("connected", {"name": name}),
            TakeHead(lambda head: [self._reception.offer(name, head)]),
        ]

    def disconnected(self, name: str) -> list[Action]:
        """An institution's connection is gone; who is out stays out, and is not waited for."""
        actions: list[Action] = [Log("disconnected", {"name": name})]
        if self._attendance.of(name) is Presence.OUT:
            return actions
        self._attendance.mark(name, Presence.ABSENT)
        actions += self._ask_for_group()
        if self._rounds.current is not None:
            return actions + self._after(self._rounds.drop(name, "disconnected"))
        return actions + self._maybe_start_round()

    def receive(self, name: str, data: bytes) -> list[Action]:
        """Take a message. What does not hold is logged and refused; the sender keeps its connection."""
        try:
            message = decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
            if is_due(self._state, self._attendance.of(name), message.kind, name):
                return self._dispatch(name, message, len(data))
        except PeerError as error:
            return [refusal(name, error)]
        return []

    def timeout(self) -> list[Action]:
        """The timer has run out: go on with whoever is there."""
        match self._state:
            case State.ROUND if self._rounds.current is not None:
                return self._after(self._rounds.late(self._rounds.current))
            case State.GATHERING if self._grouping.is_awaited:
                self._grouping.give_up()
                return self._ask_for_group()
            case State.GATHERING:
                missing = self._attendance.give_up_on_missing(self._gathering.cohort)
                return [Log("not_waiting_for", {"names": missing}), *self._maybe_start_round(late=True)]
            case State.CLOSING:
                return self._end()
            case _:
                return []

    def _dispatch(self, name: str, message: TaggedMessage, size: int) -> list[Action]:
        match message:
            case m.Activity():
                return [Doing(name, message.doing, message.percent)]
            case m.SessionAccept():
                return self._accept(name, message)
            case m.GroupOffer() if self._configuration.needs_group:
                return self._receive_group(name, message)
            case m.GroupReady() if self._configuration.needs_group:
                self._grouping.confirm(name, message)
                return self._ready(name)
            case m.SessionRefuse():
                news = self._witness.hear(message.witnessed, News())
                return [*self._hear(news), *self._out(name, message.reason)]
            case m.RoundDecline() if self._rounds.current is not None:
                return self._decline(self._rounds.current, name, message)
            case m.Aggregation() if self._rounds.current is not None:
                self._rounds.current.traffic.bytes_up += size
                return self._after(self._rounds.receive(self._rounds.current, name, message))
            case m.SumVerified():
                return [*self._after(self._rounds.verified(name, message)), *self._end_what_was_held()]
            case m.Done() if self._closing is not None:
                return self._done(self._closing, name, message)
            case _:
                raise UnexpectedMessage(f"sent {message.kind!r}, which is not of this session", peer=name)

    def _decline(self, round_: CoordinatorRound, name: str, message: m.RoundDecline) -> list[Action]:
        """An institution sits the round out, or all that follow."""
        if not round_.is_named_by(message):
            return []  # of an attempt that has ended meanwhile
        if message.reason in (Reason.POLICY_PARTICIPANTS, Reason.POLICY_KEY):
            self._gathering.wants_more_than(name, len(round_.participants))
        else:
            self._agenda.sitting_out.add(name)
        if message.final:
            self._attendance.mark(name, Presence.RESTING)
        body = {"name": name, "round": message.round, "reason": message.reason, "final": message.final}
        return [Log("declined", body), *self._after(self._rounds.drop(name, "declined"))]

    def _accept(self, name: str, message: m.SessionAccept) -> list[Action]:
        configuration = self._configuration
        if message.configuration_hash != configuration.hash:
            raise UnexpectedMessage("accepted another configuration", peer=name)
        try:
            news = self._hear(self._witness.accept(name, message))
        except RolledBackLog as error:
            return [refusal(name, error), *self._out(name, Reason.OWN_LOG_BEHIND)]
        self._gathering.asks_anew(name)
        self._sums.has_applied(name, message.applied_round)
        group = self._grouping.parts_for(name)
        welcome = self._reception.welcome(name, message.applied_round, self._progress, group)
        if not configuration.needs_group:
            return [*news, *welcome, *self._ready(name)]
        self._attendance.mark(name, Presence.JOINING)
        return [*news, *welcome, *self._ask_for_group()]

    def _ask_for_group(self) -> list[Action]:
        """Ask for the group secret whoever is to make it now, if there is none."""
        return self._grouping.ask(self._attendance.which(Presence.JOINING))

    def _hear(self, news: News) -> list[Action]:
        """Act on what an institution brought about logs: ours, and those of others."""
        actions: list[Action] = [CheckLog(tuple(news.own))] if news.own else []
        actions += news.lines
        for name, heads in news.tell.items():
            if self._attendance.of(name).there:
                actions.append(send(name, m.HeldHead(held=heads)))
        for name, error in news.behind.items():
            actions += [refusal(name, error), *self._out(name, Reason.OWN_LOG_BEHIND)]
        return actions

    def _receive_group(self, name: str, offer: m.GroupOffer) -> list[Action]:
        """Take the group secret, sealed to the institutions, and give each that is there its part."""
        try:
            offered = self._grouping.receive(name, offer)
        except PeerError as error:
            return [refusal(name, error), *self._ask_for_group()]
        if offered is None:
            return []  # another's came before; this one's maker gets its part of it like everybody
        made = bodies.group_secret(self._configuration, offered)
        parts = self._grouping.parts_for(*self._attendance.which(Presence.JOINING))
        return [self._keep(group=offered), Log("group", made), *parts]

    def _ready(self, name: str) -> list[Action]:
        self._attendance.mark(name, Presence.READY)
        actions: list[Action] = [Log("ready", {"name": name})]
        if self._closing is not None:
            return [*actions, *self._session_end(name)]
        return actions + (self._maybe_start_round() if self._rounds.current is None else [])

    def _out(self, name: str, reason: str) -> list[Action]:
        """An institution does not take part for now; it may come back, and is not waited for."""
        self._attendance.out(name, reason)
        actions: list[Action] = [Log("left", {"name": name, "reason": str(reason)})]
        if self._rounds.current is not None:
            return actions + self._after(self._rounds.drop(name, "left"))
        return actions + (self._maybe_end() if self._state is State.CLOSING else self._maybe_start_round())

    def stop(self) -> list[Action]:
        """Let no further round begin, at the operator's wish, and close the session's record.

        Raises:
            UnexpectedMessage: If a round is under way, or the session is over.
        """
        if self._state is not State.GATHERING:
            raise UnexpectedMessage("a session is ended between its rounds")
        return [Log("cannot_continue", {"reason": "the coordinator's operator has ended it"}), *self._close()]

    def _maybe_start_round(self, *, late: bool = False) -> list[Action]:
        """Start the next round if its whole cohort is ready, or ``late`` with whoever is."""
        if self._state is not State.GATHERING:
            return []
        actions: list[Action] = []
        while not self._agenda.over:
            match self._gathering.decide(late=late):
                case Begin(participants):
                    return actions + self._start_round(participants)
                case Wait() if self._grouping.is_awaited:
                    return actions  # its time runs already
                case Wait() as wait:
                    return actions + self._gathering.wait(wait, self._progress.sealed_bytes)
                case Stop(reason):
                    actions.append(Log("cannot_continue", {"reason": reason}))
                    break
                case LeaveOut(reason):
                    self._book.progress, left_out = self._gathering.leave_out(self._progress, reason)
                    actions, late = actions + left_out, False
        return actions + self._close()

    def _start_round(self, participants: tuple[str, ...]) -> list[Action]:
        self._gathering.begun()
        self._state = State.ROUND
        return self._after(self._rounds.start(participants))

    def _after(self, actions: list[Action]) -> list[Action]:
        """Go on from a step of a round: if that has ended, with the next one or the session's end."""
        if self._state is not State.ROUND or self._rounds.current is not None:
            return actions
        self._state = State.GATHERING
        following = self._close() if self._agenda.over else self._maybe_start_round()
        return [*actions, *following]

    def _close(self) -> list[Action]:
        self._state = State.CLOSING
        self._closing = self._open_closing()
        sends = self._session_end(*self._attendance.which(Presence.READY, Presence.RESTING))
        return [
            self._keep(
                closing=True, **self._sums.kept
            ),  # what is about to be signed must not change any more
            Log("closing", bodies.closing(self._progress)),
            *sends,
            SetTimer(deadlines.phase_s(self._configuration, self._plan.round_timeout_s, sends, None)),
            *self._maybe_end(),
        ]

    def _session_end(self, *names: str) -> list[SendTo]:
        """Return what ends the session for some: the model where they are behind, and the keys.

        Who is behind while too few state the model is not told yet: it could not tell that end from a lie.
        """
        end = self._reception.session_end(self._progress)
        newest = self._sums.catch_up(self._progress, names)
        behind = {name for name in names if self._sums.is_behind(name)}
        self._held |= behind
        return [*newest, *(send(name, end) for name in names if name not in behind)]

    def _end_what_was_held(self) -> list[Action]:
        """End the session for those for whom one more statement was waited for, theirs or another's."""
        if self._closing is None:
            return []
        there = set(self._attendance.which(Presence.READY, Presence.RESTING))
        names = [name for name in self._configuration.roster.names if name in self._held & there]
        self._held.clear()
        news = self._progress.statements != self._sums.signatures  # who comes later may fetch the model
        return [*([self._keep(**self._sums.kept)] if news else []), *self._session_end(*names)]

    def _open_closing(self) -> Closing:
        return Closing(self._configuration, self._identity, self._witness, self._progress)

    def _done(self, closing: Closing, name: str, message: m.Done) -> list[Action]:
        line = Log("done", bodies.done(name, message))
        if self._state is State.ENDED:  # it was away: the record is closed without it
            closing.check(name, message)
            return [line, TakeHead(lambda head: [send(name, closing.message(head))])]
        signed = {**self._progress.signed, name: closing.receive(name, message)}
        return [self._keep(signed=signed), line, *self._maybe_end()]

    def _maybe_end(self) -> list[Action]:
        awaited = set(self._attendance.to_sign)
        return self._end() if self._closing is not None and awaited <= self._closing.signed else []

    def _end(self) -> list[Action]:
        """Close the record with whoever has signed it, and give it to everyone who is still there."""
        self._state = State.ENDED
        self._grouping.close()
        if self._closing is None:
            return []
        there = self._attendance.connected
        return [*self._closing.lines(), self._keep(ended=True), *self._closing.end(self._progress, there)]

"""The coordinator in one session, without I/O: events in, actions out.

Gather the institutions, run the planned rounds, then open all domain keys and hand out the model. A
round starts when everyone who has not left for good is ready, or after the gathering time with at least
the threshold; it is aborted cleanly when fewer remain, and the next one begins.
"""

from collections.abc import Collection, Iterable, Mapping

from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import PeerError, RolledBackLog, RoundAborted, UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_crypto.secagg.ckks.group import PublicGroup
from fedapt_crypto.secagg.ckks.setup import route_offer
from fedapt_secure.audit.heads import (
    RoundRecord,
    WitnessedHead,
    witnessed_body,
)
from fedapt_secure.audit.line import WITNESSED, LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector, initial_parameters
from fedapt_secure.protocol.session import SessionConfiguration, model_hash, next_model_id
from fedapt_server import bodies
from fedapt_server.actions import Action, CheckLog, End, Log, SendTo, SetTimer, TakeHead
from fedapt_server.closing import Closing
from fedapt_server.outcome import Outcome
from fedapt_server.round import CoordinatorRound, apply_mean
from fedapt_server.states import Presence, State
from fedapt_server.witness import SESSION_START, News, Witness


class CoordinatorSession:
    """The coordinator's side of the session protocol.

    Args:
        configuration: The session, with commitments to ``key_seeds``.
        key_seeds: One seed a domain.
        identity: The coordinator's signing key.
        witnessed: The highest heads of the institutions' logs that the coordinator's log holds.
    """

    def __init__(
        self,
        configuration: SessionConfiguration,
        key_seeds: tuple[bytes, ...],
        identity: Identity,
        witnessed: Iterable[WitnessedHead] = (),
    ) -> None:
        plan = configuration.plan
        self._configuration = configuration
        self._plan = plan
        self._key_seeds = key_seeds
        self._identity = identity
        self._presence = dict.fromkeys(configuration.roster.names, Presence.ABSENT)
        self._given_up_on: set[str] = set()
        self._state = State.GATHERING
        self._model: Vector = initial_parameters(plan.shape, plan.initial_seed)
        self._model_id = model_hash(m.model_to_bytes(self._model))
        self._group: PublicGroup | None = None
        self._group_parts: Mapping[str, bytes] = {}
        self._sealed_sums: list[m.MissedSum] = []
        self._number = 0
        self._completed = 0
        self._round: CoordinatorRound | None = None
        self._records: list[RoundRecord] = []
        self._closing: Closing | None = None
        self._waiting = False
        self._witness = Witness(configuration, identity, witnessed)

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def model(self) -> Vector:
        """The shared parameters after the rounds so far; the first ones where only institutions know more."""
        return self._model

    def start(self) -> list[Action]:
        """Begin to gather the institutions."""
        return [Log("session_started", bodies.session_started(self._configuration)), SetTimer(None)]

    def connected(self, name: str) -> list[Action]:
        """An institution has connected and said hello under its certificate's name."""
        lost = self.disconnected(name) if self._presence[name] is not Presence.ABSENT else []
        if self._presence[name] is not Presence.LEFT:
            self._presence[name] = Presence.CONNECTED
        return [*lost, Log("connected", {"name": name}), TakeHead(lambda head: [self._offer(name, head)])]

    def _offer(self, name: str, head: LogHead) -> SendTo:
        offer = m.SessionOffer(
            configuration=self._configuration.to_bytes(),
            signature=self._identity.sign("session offer", self._configuration.hash),
            head=self._witness.own(SESSION_START, head),
            held=self._witness.held(name),
        )
        return self._send(name, offer)

    def disconnected(self, name: str) -> list[Action]:
        """An institution's connection is gone."""
        if self._presence[name] is Presence.LEFT:
            return []
        self._presence[name] = Presence.ABSENT
        actions: list[Action] = [Log("disconnected", {"name": name})]
        if self._round is not None:
            self._round.drop(name, "disconnected")
            return actions + self._proceed()
        if self._state is State.CLOSING:
            return actions
        return actions + self._maybe_start_round()

    def receive(self, name: str, data: bytes) -> list[Action]:
        """Take a message. What does not hold is logged and refused; the sender keeps its connection."""
        try:
            message = decode_one_of(data, m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
            return self._dispatch(name, message, len(data))
        except PeerError as error:
            return [_refusal(name, error)]

    def timeout(self) -> list[Action]:
        """The timer has run out: go on with whoever is there."""
        match self._state:
            case State.ROUND if self._round is not None:
                late = self._round.drop_missing()
                return [Log("late", {"round": self._number, "names": list(late)}), *self._proceed()]
            case State.GATHERING:
                missing = [n for n, p in self._presence.items() if p not in (Presence.READY, Presence.LEFT)]
                self._given_up_on = set(missing)
                return [Log("not_waiting_for", {"names": missing}), *self._maybe_start_round(late=True)]
            case State.CLOSING:
                return self._end()
            case _:
                return []

    def _dispatch(self, name: str, message: TaggedMessage, size: int) -> list[Action]:
        match message:
            case m.SessionAccept() if self._presence[name] is Presence.CONNECTED:
                return self._accept(name, message)
            case m.GroupOffer() if self._configuration.blind and self._group is None:
                return self._receive_group(name, message)
            case m.GroupReady() if self._presence[name] is Presence.JOINING and self._group is not None:
                return self._ready(name)
            case m.SessionRefuse():
                news = self._witness.hear(message.witnessed, News())
                return [*self._hear(news), *self._leave(name, message.reason)]
            case m.RoundDecline() if self._round is not None and message.round == self._number:
                self._round.drop(name, "declined")
                if message.final:
                    return self._leave(name, message.reason)
                body = {"name": name, "round": message.round, "reason": message.reason}
                return [Log("declined", body), *self._proceed()]
            case m.Aggregation() if self._round is not None:
                self._round.traffic.bytes_up += size
                return self._receive_payload(self._round, name, message)
            case m.Done() if self._state is State.CLOSING and self._closing is not None:
                self._closing.receive(name, message)
                body = {"name": name, "bundle": message.bundle_hash.hex()}
                return [Log("done", body), *self._maybe_end()]
            case _:
                raise UnexpectedMessage(f"sent {message.kind!r} out of turn", peer=name)

    def _receive_payload(self, round_: CoordinatorRound, name: str, message: m.Aggregation) -> list[Action]:
        refused: list[Action] = []
        try:
            round_.receive(name, message)
        except RoundAborted as error:
            return self._finish_round(round_.aborted(error))
        except UnexpectedMessage:
            raise  # late or twice: what it sent before still counts
        except PeerError as error:
            # It will not send a better one: going on without it beats waiting for the deadline.
            round_.drop(name, "refused")
            refused = [_refusal(name, error)]
        return [*refused, *self._proceed()]

    def _accept(self, name: str, message: m.SessionAccept) -> list[Action]:
        configuration = self._configuration
        if message.configuration_hash != configuration.hash:
            raise UnexpectedMessage("accepted another configuration", peer=name)
        try:
            news = self._hear(self._witness.accept(name, message))
        except RolledBackLog as error:
            return [_refusal(name, error), *self._leave(name, str(error))]
        key = bodies.sealed_key(configuration, self._identity, self._key_seeds, name)
        if not configuration.blind:
            return [*news, self._send(name, key), *self._ready(name)]
        self._presence[name] = Presence.JOINING
        parts = [m.GroupPart(payload=self._group_parts[name])] if self._group is not None else []
        missed = [s for s in self._sealed_sums if s.round > message.applied_round]
        return [*news, *(self._send(name, each) for each in (key, *parts, *missed))]

    def _hear(self, news: News) -> list[Action]:
        """Act on what an institution brought about logs: ours, and those of others."""
        actions: list[Action] = [CheckLog(tuple(news.own))] if news.own else []
        actions += news.lines
        for name, heads in news.tell.items():
            if self._presence[name].there:
                actions.append(self._send(name, m.HeldHead(held=heads)))
        for name, error in news.behind.items():
            actions += [_refusal(name, error), *self._leave(name, str(error))]
        return actions

    def _receive_group(self, name: str, offer: m.GroupOffer) -> list[Action]:
        """Take the group key's public part; the rest is sealed to the institutions."""
        configuration = self._configuration
        self._group, self._group_parts = route_offer(
            offer.payload,
            configuration.session,
            configuration.roster,
            name,
            decryptions=configuration.decryptions,
        )
        joining = [other for other, p in self._presence.items() if p is Presence.JOINING]
        sends = [self._send(other, m.GroupPart(payload=self._group_parts[other])) for other in joining]
        return [Log("group_key", {"made_by": name}), *sends]

    def _ready(self, name: str) -> list[Action]:
        self._presence[name] = Presence.READY
        self._given_up_on.discard(name)
        actions: list[Action] = [Log("ready", {"name": name})]
        if self._state is State.CLOSING:
            return [*actions, self._send(name, self._session_end())]
        return actions + (self._maybe_start_round() if self._round is None else [])

    def _leave(self, name: str, reason: str) -> list[Action]:
        """An institution will not take part any more: its budget is spent, or it refuses the session."""
        if self._presence[name] is Presence.LEFT:
            return []
        if self._round is not None:
            self._round.drop(name, "left")
        self._presence[name] = Presence.LEFT
        actions: list[Action] = [Log("left", {"name": name, "reason": reason})]
        if self._round is not None:
            return actions + self._proceed()
        return actions + (self._maybe_end() if self._state is State.CLOSING else self._maybe_start_round())

    def _maybe_start_round(self, *, late: bool = False) -> list[Action]:
        """Start the next round if everyone is ready, or ``late`` with whoever is."""
        if self._state is not State.GATHERING:
            return []
        ready = tuple(name for name, p in self._presence.items() if p is Presence.READY)
        remaining = [name for name, p in self._presence.items() if p is not Presence.LEFT]
        if len(remaining) < self._configuration.threshold:
            reason = f"{len(remaining)} institutions remain, {self._configuration.threshold} are needed"
            return [Log("cannot_continue", {"reason": reason}), *self._close()]
        awaited = [name for name in remaining if name not in ready and name not in self._given_up_on]
        if awaited and not late:
            return self._wait()
        if len(ready) < self._configuration.threshold:
            self._waiting = False
            return self._wait()
        return self._start_round(ready)

    def _wait(self) -> list[Action]:
        """Set the gathering timer once, so that one who keeps coming and going cannot put it off."""
        if self._waiting:
            return []
        self._waiting = True
        # Before the first round institutions load models and encode images, as before training.
        first = self._number == 0
        return [SetTimer(self._plan.round_timeout_s if first else self._plan.gather_timeout_s)]

    def _start_round(self, participants: tuple[str, ...]) -> list[Action]:
        self._number += 1
        self._state = State.ROUND
        self._waiting = False
        model = b"" if self._configuration.blind else m.model_to_bytes(self._model)
        self._round = CoordinatorRound(
            self._configuration,
            self._number,
            1,
            model,
            self._model_id,
            participants,
            self._witness,
            group=self._group,
        )
        body = bodies.round_started(self._round)
        start = self._round.start_message()
        return [
            Log("round_started", body),
            *(self._send(name, start) for name in participants),
            SetTimer(self._plan.round_timeout_s),
        ]

    def _proceed(self) -> list[Action]:
        """Close the phase if nobody is waited for any more."""
        if self._round is None or not self._round.phase_complete:
            return []
        try:
            deliveries = self._round.close_phase()
        except RoundAborted as error:
            return self._finish_round(self._round.aborted(error))
        if self._round.phase is None:
            sends = [self._send(name, message) for name, message in deliveries.items()]
            return [*sends, *self._finish_round(self._round.completed(), given=deliveries.keys())]
        actions: list[Action] = [Log("phase", {"round": self._number, "phase": self._phase_name()})]
        actions += [self._send(name, message) for name, message in deliveries.items()]
        return [*actions, SetTimer(self._plan.phase_timeout_s), *self._proceed()]

    def _finish_round(self, outcome: Outcome, given: Collection[str] = ()) -> list[Action]:
        """End the round; ``given`` have got a sealed sum already, where there is one."""
        if self._round is None:
            return []
        ended, self._round = self._round, None
        sends: list[Action] = []
        if outcome.aggregate is not None:
            self._model = apply_mean(self._model, outcome.aggregate)
            self._model_id = model_hash(m.model_to_bytes(self._model))
        if outcome.sealed_sum:
            missed = m.MissedSum(round=self._number, attempt=1, payload=outcome.sealed_sum)
            self._sealed_sums.append(missed)
            self._model_id = next_model_id(self._model_id, self._number, outcome.sealed_sum)
            there = (Presence.READY, Presence.JOINING)
            late = [n for n, p in self._presence.items() if p in there and n not in given]
            sends += [self._send(name, missed) for name in late]
        self._completed += outcome.status == "completed"
        self._records.append(bodies.record_of(ended, outcome))
        self._state = State.GATHERING
        following = self._close() if self._number >= self._plan.rounds else self._maybe_start_round()
        heads = tuple(ended.heads[name] for name in outcome.participants if name in ended.heads)
        seen = witnessed_body(self._configuration.session, ended.number, heads)
        return [
            Log("round_ended", bodies.round_ended(ended, outcome, self._model_id)),
            *([Log(WITNESSED, seen)] if heads else []),
            TakeHead(lambda head: self._to_all(self._witness.round_end(ended.number, outcome, heads, head))),
            *sends,
            *following,
        ]

    def _to_all(self, message: TaggedMessage) -> list[Action]:
        """Send to everyone who is connected, also to those who take no part any more."""
        data = message.to_bytes()
        return [SendTo(name, data) for name, p in self._presence.items() if p is not Presence.ABSENT]

    def _close(self) -> list[Action]:
        self._state = State.CLOSING
        self._closing = Closing(
            self._configuration, self._identity, self._witness, self._model_id, self._records
        )
        end = self._session_end()
        sends = [self._send(name, end) for name, p in self._presence.items() if p is Presence.READY]
        return [
            Log("closing", {"completed_rounds": self._completed, "model": self._model_id.hex()}),
            *sends,
            SetTimer(self._plan.round_timeout_s),
            *self._maybe_end(),
        ]

    def _session_end(self) -> m.SessionEnd:
        model = b"" if self._configuration.blind else m.model_to_bytes(self._model)
        parts = (model, self._model_id, self._key_seeds, self._records)
        return bodies.session_end(self._configuration, self._identity, *parts)

    def _maybe_end(self) -> list[Action]:
        awaited = {name for name, p in self._presence.items() if p is not Presence.LEFT}
        return self._end() if self._closing is not None and awaited <= self._closing.signed else []

    def _end(self) -> list[Action]:
        """Close the record with whoever has signed it, and give it to everyone who is still there."""
        self._state = State.ENDED
        if self._group is not None:
            self._group.close()
        closing = self._closing
        if closing is None:
            return []
        body = {
            "session": self._configuration.session.hex(),
            "completed_rounds": self._completed,
            "rounds": self._number,
            "done": sorted(closing.signed),
        }
        return [
            *closing.lines(),
            TakeHead(lambda head: self._to_all(closing.message(head))),
            Log("session_ended", body),
            SetTimer(None),
            End(self._completed),
        ]

    def _phase_name(self) -> str | None:
        phase = self._round.phase if self._round is not None else None
        return phase.value if phase is not None else None

    def _send(self, name: str, message: TaggedMessage) -> SendTo:
        data = message.to_bytes()
        if self._round is not None:
            self._round.traffic.bytes_down += len(data)
        return SendTo(name, data)


def _refusal(name: str, error: PeerError) -> Log:
    return Log("refused", {"name": name, "error": type(error).__name__, "detail": str(error)})

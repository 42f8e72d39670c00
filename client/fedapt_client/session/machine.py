"""An institution in one session, without I/O: messages in, actions out.

The shell (`fedapt_client.conduct`) carries the actions out in order and reports back. Order matters: what is
durable (`Join`, `RecordRelease`) comes before what is sent, so a crash never un-does what others have seen.
Everything is verified against the institution's own roster and settings before any image is touched.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from fedapt_client.session.actions import (
    Action,
    Approve,
    CheckPolicy,
    Conclude,
    Join,
    Prepare,
    Quit,
    Refused,
    Rehearse,
    RoundOver,
    Send,
    Superseded,
    TakeHead,
    Train,
    Unfinished,
    Waiting,
)
from fedapt_client.session.closing import Closing
from fedapt_client.session.grouping import Grouping
from fedapt_client.session.missed import missed_sum
from fedapt_client.session.opening import (
    check_round,
    check_session_end,
    expand_keys,
    open_own_key,
    own_key,
    signed_configuration,
)
from fedapt_client.session.own_model import OwnModel, PastRounds
from fedapt_client.session.requirements import Requirements
from fedapt_client.session.round_part import RoundPart
from fedapt_client.session.states import Answer, State, answer_to
from fedapt_client.session.witness import Witness
from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    InvalidInput,
    PeerError,
    RolledBackLog,
    UnexpectedMessage,
    UnresolvedExecution,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.scheme import InstitutionGroup
from fedapt_secure.log.heads import RoundRecord, WitnessedHead
from fedapt_secure.log.line import LogHead
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import Vector, check_vector
from fedapt_secure.protocol.reasons import Reason, reason_of, told_as
from fedapt_secure.protocol.session import SessionConfiguration


class InstitutionSession:
    """The institution's side of the session protocol.

    Args:
        name: Its name on the roster.
        identity: Its signing key.
        sealing_key: Its key for sealed messages.
        roster: Its approved roster.
        requirements: What it insists on.
        witnessed: The highest heads of others' logs that its own log holds.
        ended: How it saw attempts at rounds end before it was started again, by session.
        over: Sessions that are not entered any more, whoever offers them again.
        past: What it has on record of a session's rounds.
    """

    def __init__(
        self,
        name: str,
        identity: Identity,
        sealing_key: SealingKey,
        roster: Roster,
        requirements: Requirements,
        witnessed: Iterable[WitnessedHead] = (),
        ended: Callable[[bytes], Iterable[RoundRecord]] = lambda session: (),
        over: Collection[bytes] = (),
        past: Callable[[SessionConfiguration], PastRounds] = lambda configuration: PastRounds(),
    ) -> None:
        self._name = name
        self._identity = identity
        self._sealing_key = sealing_key
        self._roster = roster
        roster.join(name)  # refuses a stranger, and keys that are not their owners'
        self.requirements = requirements
        """What it insists on from now on; the shell changes them when the policy changes."""
        self._ended = ended
        self._over = over
        self._past = past
        self._state = State.DISCONNECTED
        self._configuration: SessionConfiguration | None = None
        self._prepared = False
        self._seed: bytes | None = None
        self._grouping = Grouping(identity)
        self._own: OwnModel | None = None
        self._part: RoundPart | None = None
        self._offered: bytes | None = None
        self._witness = Witness(name, identity, roster, witnessed)
        self._closing = Closing()
        self._transitions: Mapping[type[TaggedMessage], Callable[[Any], list[Action]]] = {
            m.SessionOffer: self._offer,
            m.Standby: lambda standby: [Waiting(standby.finished)],
            m.Rehearse: lambda asked: [Rehearse(signed_configuration("rehearsal", asked, roster))],
            m.SealedKey: self._take_key,
            m.GroupRequest: lambda asked: self._grouping.asked(self.configuration),
            m.GroupPart: self._take_part,
            m.CatchUp: lambda newest: self._model.catch_up(newest),  # noqa: PLW0108 - there is none yet
            m.MissedSum: self._take_missed,
            m.RoundStart: self._start_round,
            m.Aggregation: self._aggregate,
            m.RoundEnd: self._end_round,
            m.SessionEnd: self._end_session,
            m.SessionClosed: self._close,
            m.HeldHead: lambda held: self._witness.check_held(held.held),
        }

    @property
    def state(self) -> State:
        """Where the institution stands."""
        return self._state

    @property
    def configuration(self) -> SessionConfiguration:
        """The session's configuration; raises `UnexpectedMessage` before there is one."""
        if self._configuration is None:
            raise UnexpectedMessage("the coordinator has not offered a session yet")
        return self._configuration

    @property
    def session_id(self) -> bytes | None:
        """The session that was offered last under the coordinator's signature, accepted or not."""
        return self._offered

    @property
    def joined(self) -> bytes | None:
        """The session in which we take part, once that is settled."""
        return self._configuration.session if self._prepared and self._configuration is not None else None

    @property
    def concluded_all(self) -> bool:
        """Whether only the closed record is still to come."""
        return self._closing.concluded

    def connected(self) -> list[Action]:
        """Start on a fresh connection. A round that was under way is lost, with all its secrets."""
        self.wait_for_offer()
        return [Send(m.Hello(name=self._name))]

    def wait_for_offer(self) -> None:
        """Start on a connection on which we have said hello already.

        Raises:
            UnexpectedMessage: If the session is over.
        """
        if self._state is State.ENDED:
            raise UnexpectedMessage("the session is over")
        if self._state is State.OUT:
            self._prepared = False  # whatever was wrong is looked at again
        self._part, self._state = None, State.WAITING_FOR_OFFER

    def receive(self, data: bytes) -> list[Action]:
        """Take one message of the coordinator.

        Raises:
            PeerError: If it does not decode or is not due; nothing has changed.
            InvalidInput, VerificationFailed: If the offered session is not one to take part in.
        """
        message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=self.requirements.max_message_bytes)
        match answer_to(self._state, message.kind):
            case Answer.IGNORED:
                return []
            case Answer.REFUSED:
                raise UnexpectedMessage(f"the coordinator sent {message.kind!r} out of turn")
        return self._transitions[type(message)](message)

    def refused(self, reason: Reason, witnessed: tuple[WitnessedHead, ...] = ()) -> list[Action]:
        """Report that this institution does not take part for now, and which kind of reason it has."""
        self._part = None
        self._state = State.OUT
        return [Send(m.SessionRefuse(reason=reason.value, witnessed=witnessed))]

    def prepared(self) -> list[Action]:
        """Report that `Prepare` is done."""
        self._prepared = True
        configuration = self.configuration
        self._state = State.JOINING if configuration.needs_group else State.READY
        self._own = self._own or OwnModel(configuration, self._identity, self._past(configuration))
        applied = self._own.kept.round
        accept = TakeHead(lambda head: [Send(self._witness.accept(configuration, applied, head))])
        return [accept, *self._own.restate()]

    def _take_key(self, message: m.SealedKey) -> list[Action]:
        self._seed = open_own_key(message, self.configuration, self._roster, self._name, self._sealing_key)
        return []

    def _take_part(self, part: m.GroupPart) -> list[Action]:
        if self._grouping.held is not None:
            self._state = State.READY
        try:
            return self._grouping.take(self.configuration, part)
        except ContextMismatch as error:
            return self.broken_off(error)

    def group_made(self, offer: bytes) -> list[Action]:
        """Report the group secret that this institution has made, and offer it to all."""
        return self._grouping.made(offer)

    def group_opened(self, group: InstitutionGroup) -> list[Action]:
        """Report that this institution holds the group secret, and that its commitment is on record."""
        self._state = State.READY
        return self._grouping.opened(self.configuration, group)

    def broken_off(self, error: PeerError) -> list[Action]:
        """Report that what we are bound to forbids to go on: the session is over for this institution."""
        return [Refused(error, 0), *self._quit(error)]

    def leave(self) -> None:
        """The session is over for us, without the record that closes it."""
        self._end()

    def trained(self, update: Vector) -> list[Action]:
        """Report a round's update and enter secure aggregation with it.

        Raises:
            UnexpectedMessage: If no round is under way.
        """
        if self._state is not State.TRAINING or self._part is None:
            raise UnexpectedMessage("no round is under way")
        machine = registry.institution_round(
            self.configuration.plan.secure_aggregation,
            self._part.context,
            self.configuration.round_roster(self._part.context.round),
            self._name,
            self._identity,
            update,
            minimum_participants=self.requirements.minimum_participants,
            group=self._grouping.held,
            confirmed=self._grouping.confirmed_by,
            admits=self._admit,
        )
        self._state = State.AGGREGATING
        return self._part.enter(machine)

    def _admit(self, survivors: tuple[str, ...]) -> None:
        self.requirements.check_survivors(self.configuration, self._name, survivors)
        self._model.admit(survivors)

    def declined(self, reason: Reason, *, final: bool) -> list[Action]:
        """Report that this institution sits the round out, and all that follow if ``final``.

        Raises:
            UnexpectedMessage: If no round is under way.
        """
        if self._part is None:
            raise UnexpectedMessage("no round is under way")
        context, self._part = self._part.context, None
        self._state = State.READY
        decline = m.RoundDecline(
            round=context.round, attempt=context.attempt, final=final, reason=reason.value
        )
        return [Send(decline)]

    def concluded(self, bundle_hash: bytes | None) -> list[Action]:
        """Report that the finished bundle is stored, or that there is none: what is left is to sign."""
        self._closing.concluded, self._closing.bundle_hash = True, bundle_hash
        self._state = State.CLOSING
        return [TakeHead(lambda head: [self._done(head, bundle_hash)])]

    def _done(self, head: LogHead, bundle_hash: bytes | None) -> Send:
        signed = self._witness.own(self.configuration.session, self._closing.last_round + 1, head)
        signature = self._closing.sign(self._identity)
        return Send(m.Done(bundle_hash=bundle_hash, head=signed, signature=signature))

    def _offer(self, offer: m.SessionOffer) -> list[Action]:
        configuration = signed_configuration("session offer", offer, self._roster)
        if self._configuration is not None and configuration.session != self._configuration.session:
            return [Superseded(configuration.session)]
        self._offered = configuration.session
        if configuration.session in self._over:
            return [Waiting(configuration.session)]
        if self._configuration is None:
            self._closing.rounds = {(r.round, r.attempt): r for r in self._ended(configuration.session)}
        elif configuration != self._configuration:
            raise ContextMismatch("the coordinator changed the session's configuration")
        if not self._prepared:
            self.requirements.check(configuration, self._roster, self._name)
        try:
            logs = self._witness.check_offer(configuration.session, offer)
        except RolledBackLog as error:
            return [Refused(error, 0), *self._quit(error, self._witness.of_coordinator)]
        self._configuration = configuration
        if self._prepared:
            return [*logs, *self.prepared()]
        self._state = State.PREPARING
        return [*logs, Approve(configuration), Prepare(configuration)]

    def _start_round(self, start: m.RoundStart) -> list[Action]:
        configuration = self.configuration
        participants = check_round(start, configuration, self._name)
        about = (start.round, start.attempt, start.model_id, self._grouping.commitment)
        context = configuration.round_context(*about)
        self._part = RoundPart(configuration, context, self._witness, self._model)
        try:
            self._model.begin(start)
            with told_as(Reason.MODEL_UNUSABLE):
                check_vector(configuration.plan.shape, self._model.kept.model)
            self._grouping.confirmed(configuration, start)
            self.requirements.check_participants(configuration, self._name, participants)
            key = own_key(configuration, self._name, self._seed, self._grouping.held)
        except UnresolvedExecution as error:
            return [Refused(error, start.round), *self._quit(error)]
        except (InvalidInput, PeerError) as error:
            return [Refused(error, start.round), *self.declined(reason_of(error), final=False)]
        self._state = State.TRAINING
        return [CheckPolicy(context), Join(context), Train(start.round, self._model.kept.model, key)]

    def _aggregate(self, message: m.Aggregation) -> list[Action]:
        if self._part is None:
            raise UnexpectedMessage("a secure-aggregation message came outside a round")
        match self._part.receive(message):
            case [Refused(error=error), *_] as actions if self._grouping.burned:
                return [*actions, *self._quit(error)]
            case actions:
                return actions

    def _take_missed(self, missed: m.MissedSum) -> list[Action]:
        """Take the sum of a round that was completed without us, or before it reached us."""
        try:
            return missed_sum(self._model, self._grouping.held, self._roster, missed)
        except PeerError as error:
            refused: list[Action] = [Refused(error, missed.round)]
            return [*refused, *self._quit(error)] if self._grouping.burned else refused

    @property
    def _model(self) -> OwnModel:
        if self._own is None:
            raise UnexpectedMessage("the session is not settled yet")
        return self._own

    def _end(self) -> None:
        self._state = State.ENDED
        self._grouping.close()

    def _quit(self, error: FedaptError, witnessed: tuple[WitnessedHead, ...] = ()) -> list[Action]:
        refusal = self.refused(reason_of(error), witnessed)
        self._end()
        return [*refusal, Quit(error)]

    def _end_round(self, message: m.RoundEnd) -> list[Action]:
        seen = self._witness.take(self.configuration.session, message)
        part = self._part
        if part is None or (message.round, message.attempt) != (part.context.round, part.context.attempt):
            return seen  # an attempt that this institution was not part of
        record = self._closing.note(part.context, message.status, part.transcript)
        self._part, self._state = None, State.READY
        over: list[Action] = [RoundOver(message, record), *self._model.note_lost(part.context), *seen]
        try:
            self._model.check_end(message)
        except ContextMismatch as error:
            return [*over, Refused(error, message.round), *self._quit(error)]
        return over

    def _end_session(self, end: m.SessionEnd) -> list[Action]:
        configuration = self.configuration
        model, model_id = self._model.kept.model, self._model.kept.model_id
        try:
            rounds = check_session_end(end, configuration, self._roster, model_id)
        except PeerError as error:  # nobody need wait for our signature; the closed record comes all the same
            return [Refused(error, 0), Send(m.SessionRefuse(reason=reason_of(error).value))]
        check_vector(configuration.plan.shape, model)
        try:
            self._closing.agree(configuration, model_id, rounds)
        except ContextMismatch as error:
            return [Refused(error, len(rounds)), *self._quit(error)]
        if self._closing.concluded:  # we had come this far before the connection broke
            return self.concluded(self._closing.bundle_hash)
        if not self._closing.completed_rounds:
            return [Unfinished(model_id, len(rounds))]
        self._state = State.CONCLUDING
        return [Conclude(model, model_id, expand_keys(configuration, end.key_seeds, self._grouping.held))]

    def _close(self, closed: m.SessionClosed) -> list[Action]:
        line = self._closing.check(self.configuration, self._roster, closed)
        self._end()
        return [*self._witness.take(self.configuration.session, closed), line]

"""Carries out what the session machine asks for: sends, records, asks, trains, stores.

One object a session; it outlives connections. What has to be durable is, before what relies on it is sent.
"""

import asyncio
import json
import logging
import time
from contextlib import suppress

from websockets.asyncio.client import ClientConnection

from fedapt_client.books.approval import NotApproved
from fedapt_client.books.bodies import Fields, ended_fields, refused_fields, round_fields
from fedapt_client.diary import Diary
from fedapt_client.endings import Outcome, Replaced, Vanished
from fedapt_client.group_work import make_group, open_group
from fedapt_client.institution import Institution
from fedapt_client.narration import said_of_lacking, said_of_rounds, said_of_unused, tell
from fedapt_client.rehearsal import answer_rehearsal
from fedapt_client.saying import said_from_a_thread, say, until_approved
from fedapt_client.session.actions import (
    Action,
    Adopt,
    Approve,
    CheckLog,
    CheckPolicy,
    Conclude,
    Join,
    Log,
    MakeGroup,
    OpenGroup,
    Prepare,
    Quit,
    RecordOpening,
    RecordRelease,
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
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.training.answer_time import AnswerTime
from fedapt_client.training.kept_models import KeptModels
from fedapt_client.training.learner import Learner, scores_to_fields
from fedapt_crypto.errors import (
    BudgetExhausted,
    FedaptError,
    InvalidInput,
    PeerError,
    PolicyRefused,
    RunFailed,
    UpdateUnusable,
)
from fedapt_crypto.secagg.cohorts import EVERYBODY
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.config.policy import MAX_UNUSED_RULE
from fedapt_secure.protocol.reasons import reason_of
from fedapt_secure.protocol.session import SessionConfiguration


class Conduct:
    """One session's shell.

    Args:
        institution: Whose.
        session: Its machine.
    """

    def __init__(self, institution: Institution, session: InstitutionSession) -> None:
        self.session = session
        self.outcome: Outcome | None = None
        self._institution = institution
        self._books = institution.books
        self._learner: Learner | None = None
        self._answer_time: AnswerTime | None = None
        self.diary = Diary(session, institution.activity)

    @property
    def session_field(self) -> Fields:
        """Which session, for a log line."""
        session = self.session.session_id
        return {"session": session.hex() if session is not None else None}

    def look_at_policy(self) -> None:
        """Let an offer be judged by the policy as it is now; one that cannot be used refuses at approval."""
        with suppress(InvalidInput):
            self._read_policy_again()

    async def refuse(self, connection: ClientConnection, error: FedaptError, round_number: int = 0) -> None:
        """Tell the log why this institution does not take part, and the coordinator which kind of reason.

        Args:
            connection: To the coordinator.
            error: What is the matter.
            round_number: In which round; 0 before the first.
        """
        self.note_refused(error, round_number)
        await self.carry_out(connection, self.session.refused(reason_of(error)))

    def note_refused(self, error: FedaptError, round_number: int) -> None:
        """Write down what was refused."""
        self._institution.write("refused", self.session_field | refused_fields(error, round_number))

    async def carry_out(self, connection: ClientConnection, actions: list[Action]) -> None:
        """Carry out actions in order.

        Raises:
            InvalidInput: If this institution does not take part; the coordinator knows which kind of reason.
            RunFailed: If the session cannot go on here.
            Replaced, Vanished: If it is to go on otherwise.
        """
        for action in actions:
            match action:
                case Send():
                    await self._send(connection, action)
                case TakeHead():
                    await self.carry_out(connection, action.then(self._institution.log.head()))
                case Log() | RoundOver() | Refused() | Waiting():
                    self._note(action)
                case CheckLog() | Approve():
                    await self._or_refuse(connection, action)
                case Prepare() | MakeGroup() | OpenGroup() | Train() | Conclude():
                    await self._work(connection, action)
                case Rehearse():
                    await self._rehearse(connection, action)
                case Unfinished():
                    await self.carry_out(connection, self._note_unfinished(action))
                case CheckPolicy() | Join():
                    if not await self._may_join(connection, action):
                        return
                case RecordRelease() | RecordOpening() | Adopt():
                    if not await self._record(connection, action):
                        return  # what follows relies on it
                case Superseded():
                    raise Replaced
                case Quit():
                    raise RunFailed(f"{self._institution.settings.name} ends the session: {action.error}")

    def _note(self, action: Log | RoundOver | Refused | Waiting) -> None:
        match action:
            case Log():
                self._institution.write(action.type, action.body)
                self.diary.logs(action.type)
            case RoundOver():
                self._institution.write("round_ended", self.session_field | ended_fields(action))
            case Refused():
                self.note_refused(action.error, action.round_number)
            case Waiting():
                self._wait(action)

    def _wait(self, action: Waiting) -> None:
        name = self._institution.settings.name
        if action.finished is not None and action.finished == self.session.joined:
            if not self.session.concluded_all:
                raise RunFailed(
                    f"{name}: the session ended while this institution was away: 'fedapt-secure client model'"
                    " fetches its model"
                )
            self._institution.write("not_closed", self.session_field)
            self.session.leave()
            return
        tell(name, "waiting", "no session is open for this institution: waiting for the next offer")

    async def _or_refuse(self, connection: ClientConnection, action: CheckLog | Approve) -> None:
        try:
            if isinstance(action, CheckLog):
                self._institution.log.check_holds(action.heads)
            else:
                self.diary.begins(action)
                self._institution.waits_for_people(action.configuration)
                await say(connection, "approval")
                elsewhere = self._institution.approvals.elsewhere
                await until_approved(connection, lambda: self._approve(action), elsewhere=elsewhere)
        except NotApproved as error:  # no refusal of ours, for the log: somebody may approve it tomorrow
            await self.carry_out(connection, self.session.refused(reason_of(error)))
            raise
        except InvalidInput as error:
            await self.refuse(connection, error)
            raise

    def _approve(self, action: Approve) -> None:
        self._read_policy_again()
        self._check_requirements(action.configuration)
        self._institution.approvals.check(action.configuration, unattended=self._books.policy.unattended)

    def _check_requirements(self, configuration: SessionConfiguration) -> None:
        name = self._institution.settings.name
        self.session.requirements.check(configuration, configuration.roster, name)

    def _read_policy_again(self) -> None:
        self._books.read_policy_again()
        self._institution.log_policy()
        self.session.requirements = self._books.requirements

    async def _work(
        self, connection: ClientConnection, action: Prepare | MakeGroup | OpenGroup | Train | Conclude
    ) -> None:
        """Do what takes a while, off the event loop, and go on with what follows."""
        self.diary.begins(action)
        if isinstance(action, Prepare):
            await say(connection, "preparing")
            self._institution.encoding.each_tenth = said_from_a_thread(connection)
        began = time.monotonic()
        try:
            following = await asyncio.to_thread(self._worked, action)
        except (InvalidInput, RunFailed) as error:
            # A round need not wait for who cannot go on; a session's end waits for who starts again soon.
            if isinstance(action, Train):
                await self.refuse(connection, error, action.round_number)
            elif isinstance(action, Prepare) and isinstance(error, InvalidInput):
                await self.refuse(connection, error)
            raise
        if isinstance(action, Train):
            await self._until_its_time(action.round_number, time.monotonic() - began)
        await self.carry_out(connection, following)

    async def _until_its_time(self, round_number: int, took_s: float) -> None:
        """Hold the update back until the time at which it always leaves."""
        if self._answer_time is None:
            return
        wait_s, stretched = self._answer_time.wait_s(took_s)
        if stretched:
            self._note_answer_time(self._answer_time, round_number)
        await asyncio.sleep(wait_s)

    def _note_answer_time(self, answer_time: AnswerTime, round_number: int) -> None:
        body: Fields = {"round": round_number, "seconds": round(answer_time.seconds, 3)}
        self._institution.write("answer_time", self.session_field | body)

    def _worked(self, action: Prepare | MakeGroup | OpenGroup | Train | Conclude) -> list[Action]:
        match action:
            case Prepare():
                return self._prepare(action)
            case Train():
                return self._train(action)
            case Conclude():
                return self._conclude(action)
            case _:
                return self._group(action)

    async def _may_join(self, connection: ClientConnection, action: CheckPolicy | Join) -> bool:
        """Whether policy and ledger let us into an attempt at a round; if not, it is declined."""
        context = action.context
        try:
            if isinstance(action, Join):
                self._books.ledger.join(context)
            else:
                self._read_policy_again()
                self._check_requirements(self.session.configuration)
                self._books.check_again(context.session)
        except (PeerError, InvalidInput) as error:
            self.note_refused(error, context.round)
            await self.carry_out(connection, self.session.declined(reason_of(error), final=False))
            return False
        if isinstance(action, Join):
            body = round_fields(context) | {"model": context.model_hash.hex()}
            self._institution.write("round_joined", body)
        return True

    def _record_release(self, action: RecordRelease) -> bool:
        """Record durably that an update leaves; returns whether it may."""
        try:
            self._books.ledger.release(action.context)
        except PeerError as error:
            self.note_refused(error, action.context.round)
            return False
        # Without noise the count of clipped values would follow from the data: not for a log.
        private = self.session.configuration.plan.differential_privacy
        counted: Fields = {"saturated": action.saturated} if private else {}
        self._institution.write("released", round_fields(action.context) | counted)
        return True

    async def _record(
        self, connection: ClientConnection, action: RecordRelease | RecordOpening | Adopt
    ) -> bool:
        """Make durable what follows relies on; returns whether it may follow."""
        if isinstance(action, RecordRelease):
            return self._record_release(action)
        if isinstance(action, RecordOpening):
            self._books.bindings.open(action.opening)
            return True
        try:
            await asyncio.to_thread(
                self._books.adopt, self.session.configuration.session, action.kept, action.stated
            )
        except PeerError as error:
            await self.carry_out(connection, self.session.broken_off(error))
            return False
        return True

    async def _send(self, connection: ClientConnection, send: Send) -> None:
        if send.phase is not None:
            self._vanish_if_due(connection, send.round_number, send.phase)
            self._institution.write("phase", {"round": send.round_number, "phase": send.phase.value})
        self.diary.sends(send.message)
        await connection.send(send.message.to_bytes())

    def _vanish_if_due(self, connection: ClientConnection, round_number: int, phase: Phase) -> None:
        if (round_number, phase) in self._institution.vanish_at:
            self._institution.vanish_at.discard((round_number, phase))
            connection.transport.abort()  # as a power cut looks to the coordinator: no goodbye
            raise Vanished

    def _prepare(self, action: Prepare) -> list[Action]:
        configuration = action.configuration
        self._learner = Learner(
            self._institution.settings,
            self._institution.folder.path,
            configuration,
            self._books.share(configuration.session),
            self._institution.encoding,
            self._books.ledger.patient_key,
        )
        self._institution.encoding.prepared(self._learner.duplicates)
        self._learner.usage.check(self._books.policy.max_unused, MAX_UNUSED_RULE)
        most_s = self._learner.check_possible()
        body = self._books.accept(
            configuration,
            self._learner.privacy_plan,
            self._learner.declared_records,
            self._learner.images,
            self._learner.subjects,
        )
        self._institution.write("session_accepted", body)
        if configuration.plan.differential_privacy and self._institution.settings.fixed_answer_time:
            self._answer_time = AnswerTime(most_s, configuration.plan.round_timeout_s)
            self._note_answer_time(self._answer_time, 0)
        name, lacking = self._institution.settings.name, len(self._learner.lacking)
        if self._learner.usage.warning is not None:
            tell(name, "unused_files", said_of_unused(self._learner.usage.share), level=logging.WARNING)
        if lacking:
            tell(name, "lacking_classes", said_of_lacking(lacking), level=logging.WARNING)
        if configuration.plan.participation != EVERYBODY:
            tell(name, "own_rounds", said_of_rounds(configuration, name))
        return self.session.prepared()

    async def _rehearse(self, connection: ClientConnection, action: Rehearse) -> None:
        self._institution.encoding.each_tenth = said_from_a_thread(connection)
        answer = await asyncio.to_thread(answer_rehearsal, self._institution, action.configuration)
        await connection.send(answer.to_bytes())

    def _group(self, action: MakeGroup | OpenGroup) -> list[Action]:
        try:
            if isinstance(action, MakeGroup):
                return self.session.group_made(make_group(self._institution, action))
            return self.session.group_opened(open_group(self._institution, action))
        except PeerError as error:
            return self.session.broken_off(error)

    def _train(self, action: Train) -> list[Action]:
        learner, configuration = self._ready(), self.session.configuration
        session, steps = configuration.session, configuration.plan.local_steps
        budget = learner.budget(self._books.ledger.steps_spent(session))
        try:
            if budget is not None and not self._books.ledger.is_reserved(session, action.round_number):
                budget.reserve(steps)
            reserved = self._books.reserve(session, action.round_number, steps)
        except (BudgetExhausted, PolicyRefused) as error:
            self.note_refused(error, action.round_number)
            return self.session.declined(reason_of(error), final=True)
        if budget is not None:
            spent = self._books.spend_body(session, action.round_number, reserved, budget)
            self._institution.write("spend", spent)
        try:
            update = learner.train(action.parameters, action.domain_key, action.round_number)
            return self.session.trained(update)
        except UpdateUnusable as error:  # before anything was made for it: nothing has left, nothing is kept
            self.note_refused(error, action.round_number)
            return self.session.declined(reason_of(error), final=False)

    def _conclude(self, action: Conclude) -> list[Action]:
        concluded = self._ready().conclude(action.model, action.domain_keys)
        scores = scores_to_fields(concluded.scores) | {"unlabelled_test_records": concluded.unlabelled}
        session = self.session.configuration.session.hex()
        models = KeptModels(self._institution.folder.path)
        models.keep_evaluation(session, (json.dumps(scores) + "\n").encode())
        body = {"model": action.model_hash.hex(), "bundle": concluded.bundle_hash.hex()}
        self._institution.write("session_ended", self.session_field | body)
        self.outcome = Outcome(session, concluded.path, scores)
        return self.session.concluded(concluded.bundle_hash)

    def _note_unfinished(self, action: Unfinished) -> list[Action]:
        """The session has no model: those of earlier sessions stay as they are."""
        body: Fields = {"model": action.model_hash.hex(), "bundle": None}
        self._institution.write("session_ended", self.session_field | body)
        self.outcome = Outcome(self.session.configuration.session.hex(), None, {})
        return self.session.concluded(None)

    def _ready(self) -> Learner:
        if self._learner is None:
            raise RunFailed("the session was not prepared")
        return self._learner

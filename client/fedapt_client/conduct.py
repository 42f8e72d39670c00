"""Carries out what the session machine asks for: sends, records, asks, trains, stores.

One object a session; it outlives connections. What has to be durable is, before what relies on it is sent.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection

from fedapt_client.books.approval import Approvals, NotApproved
from fedapt_client.books.bodies import Fields, ended_fields, refused_fields, round_fields
from fedapt_client.books.books import Books
from fedapt_client.books.group_journal import GroupJournal
from fedapt_client.narration import narrate, said_of_rounds, tell
from fedapt_client.session.actions import (
    Action,
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
    RecordRelease,
    Refused,
    RoundOver,
    Send,
    Superseded,
    TakeHead,
    Train,
    Waiting,
)
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.settings import ClientSettings, parse_vanish
from fedapt_client.training.encoding_watch import EncodingWatch
from fedapt_client.training.learner import Learner, scores_to_fields
from fedapt_crypto.errors import (
    BudgetExhausted,
    FedaptError,
    InvalidInput,
    PeerError,
    PolicyRefused,
    RollbackDetected,
    RunFailed,
)
from fedapt_crypto.private_files import write_atomically
from fedapt_crypto.secagg.ckks.setup import make_group, open_group
from fedapt_crypto.secagg.cohorts import EVERYBODY
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.log.writer import LogWriter

EVALUATION_FILE = "evaluation.json"


class Vanished(Exception):
    """The connection was cut on purpose."""


class Replaced(Exception):
    """Another session is offered than the one that this institution is in."""


@dataclass(frozen=True)
class Outcome:
    """What a finished session left here.

    Attributes:
        session: Which, hexadecimal. model: The bundle. scores: Counts on the images held out, see `Scores`.
    """

    session: str
    model: Path
    scores: dict[str, Any]


class Institution:
    """What sessions share: settings, folder, policy and ledger, log, approvals.

    Args:
        settings: The institution's settings. folder: Its folder. books: Its policy and ledger.
        log: Its signed log. approvals: What its people have agreed to.
        encoding: Told while images are encoded.
    """

    def __init__(
        self,
        settings: ClientSettings,
        folder: PartyFolder,
        books: Books,
        log: LogWriter,
        approvals: Approvals,
        encoding: EncodingWatch | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.books = books
        self.log = log
        self.approvals = approvals
        self.encoding = encoding or EncodingWatch(settings.name)
        self.vanish_at = {parse_vanish(entry) for entry in settings.vanish_at}

    def write(self, type: str, body: Mapping[str, Any]) -> None:
        """Write a line of the signed log, and tell the operators."""
        self.log.write(type, dict(body))
        narrate(self.settings.name, type, body)

    def log_policy(self) -> None:
        """Write the policy into the log, where it is not the one logged last."""
        policy = self.books.policy_body()
        if policy is not None:
            self.write("policy", policy)


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

    @property
    def session_field(self) -> Fields:
        """Which session, for a log line."""
        session = self.session.session_id
        return {"session": session.hex() if session is not None else None}

    async def refuse(self, connection: ClientConnection, error: InvalidInput) -> None:
        """Tell log and coordinator that this institution does not take part, and why."""
        self.note_refused(error, 0)
        await self.carry_out(connection, self.session.prepared(refusal=str(error)))

    def note_refused(self, error: FedaptError, round_number: int) -> None:
        """Write down what was refused."""
        self._institution.write("refused", self.session_field | refused_fields(error, round_number))

    async def carry_out(self, connection: ClientConnection, actions: list[Action]) -> None:
        """Carry out actions in order.

        Raises:
            InvalidInput: If this institution does not take part; the coordinator knows, unless it is
                `NotApproved`.
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
                case CheckPolicy() | Join():
                    if not await self._may_join(connection, action):
                        return
                case RecordRelease():
                    if not self._record_release(action):
                        return  # what follows would send an update a second time
                case Superseded():
                    raise Replaced
                case Quit():
                    raise RunFailed(f"{self._institution.settings.name} ends the session: {action.error}")

    def _note(self, action: Log | RoundOver | Refused | Waiting) -> None:
        match action:
            case Log():
                self._institution.write(action.type, action.body)
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
                await asyncio.to_thread(self._approve, action)
        except NotApproved:
            raise  # not a refusal: somebody may approve it tomorrow
        except (RollbackDetected, InvalidInput) as error:
            await self.refuse(connection, error)
            raise

    def _approve(self, action: Approve) -> None:
        self._read_policy_again()
        self.session.requirements.check(action.configuration, action.configuration.roster)
        self._institution.approvals.check(action.configuration, unattended=self._books.policy.unattended)

    def _read_policy_again(self) -> None:
        self._books.read_policy_again()
        self._institution.log_policy()
        self.session.requirements = self._books.requirements

    async def _work(
        self, connection: ClientConnection, action: Prepare | MakeGroup | OpenGroup | Train | Conclude
    ) -> None:
        """Do what takes a while, off the event loop, and go on with what follows."""
        try:
            following = await asyncio.to_thread(self._worked, action)
        except InvalidInput as error:
            if isinstance(action, Prepare):
                await self.refuse(connection, error)
            raise
        await self.carry_out(connection, following)

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
                configuration = self.session.configuration
                self.session.requirements.check(configuration, configuration.roster)
                self._books.check_again(context.session)
        except (PeerError, InvalidInput) as error:
            self.note_refused(error, context.round)
            await self.carry_out(connection, self.session.declined(str(error), final=False))
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

    async def _send(self, connection: ClientConnection, send: Send) -> None:
        if send.phase is not None:
            self._vanish_if_due(connection, send.round_number, send.phase)
            self._institution.write("phase", {"round": send.round_number, "phase": send.phase.value})
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
            self._books.policy.max_delta,
            self._institution.encoding,
        )
        body = self._books.accept(
            configuration,
            self._learner.privacy_plan,
            self._learner.declared_records,
            self._learner.image_digests,
            self._learner.subjects,
        )
        self._institution.write("session_accepted", body)
        if configuration.plan.participation != EVERYBODY:
            name = self._institution.settings.name
            tell(name, "own_rounds", said_of_rounds(configuration, name))
        return self.session.prepared()

    def _group(self, action: MakeGroup | OpenGroup) -> list[Action]:
        """Make or open the session's group key."""
        configuration, name = action.configuration, self._institution.settings.name
        session, roster = configuration.session, configuration.roster
        folder = self._institution.folder
        count, journal = configuration.decryptions, GroupJournal(folder.path, session)
        if isinstance(action, MakeGroup):
            identity = folder.identity()
            group, offer = make_group(session, roster, name, identity, decryptions=count, journal=journal)
            self._institution.write("group_key_made", {})
            return self.session.group_made(group, offer)
        opened = open_group(
            action.payload, session, roster, name, folder.sealing_key(), decryptions=count, journal=journal
        )
        self._institution.write("group_key_opened", {})
        return self.session.group_opened(opened)

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
            return self.session.declined(str(error), final=True)
        if budget is not None:
            spent = self._books.spend_body(session, action.round_number, reserved, budget)
            self._institution.write("spend", spent)
        return self.session.trained(learner.train(action.parameters, action.domain_key, action.round_number))

    def _conclude(self, action: Conclude) -> list[Action]:
        concluded = self._ready().conclude(action.model, action.domain_keys)
        scores = scores_to_fields(concluded.scores) | {"unlabelled_test_records": concluded.unlabelled}
        folder = self._institution.folder.path
        write_atomically(folder / EVALUATION_FILE, (json.dumps(scores) + "\n").encode())
        body = {"model": action.model_hash.hex(), "bundle": concluded.bundle_hash.hex()}
        self._institution.write("session_ended", self.session_field | body)
        self.outcome = Outcome(self.session.configuration.session.hex(), concluded.path, scores)
        return self.session.concluded(concluded.bundle_hash)

    def _ready(self) -> Learner:
        if self._learner is None:
            raise RunFailed("the session was not prepared")
        return self._learner

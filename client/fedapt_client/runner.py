"""The institution's I/O shell: one websocket, the ledger, the log, and a thread for training."""

import asyncio
import json
import random
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fedapt_client.actions import (
    Action,
    CheckLog,
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
    TakeHead,
    Train,
)
from fedapt_client.bodies import ended_fields, refused_fields, round_fields
from fedapt_client.books import Books
from fedapt_client.group_journal import GroupJournal
from fedapt_client.learner import Learner, scores_to_fields
from fedapt_client.session import InstitutionSession
from fedapt_client.settings import ClientSettings, parse_vanish
from fedapt_client.states import State
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
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.audit.line import LogHead
from fedapt_secure.audit.log import LogWriter
from fedapt_secure.audit.reader import segments
from fedapt_secure.audit.witness import highest_heads
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.accounting import epsilon_of
from fedapt_secure.learning.mechanism import MECHANISM_NAME
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, binary, client_context

FIRST_RETRY_S: Final = 0.1
MAX_RETRY_S: Final = 5.0
CLOSE_RETRY_S: Final = 10.0
"""How long to try to reach the coordinator when only the record with all signatures is missing."""


class _Vanished(Exception):
    """The connection was cut on purpose."""


class InstitutionRunner:
    """Runs one institution until its session ends.

    Args:
        folder: The party's folder.
        settings: Its settings.
        retry_for_s: How long to go on trying to reach the coordinator.
    """

    def __init__(self, folder: Path, settings: ClientSettings, *, retry_for_s: float = 60.0) -> None:
        self._folder = PartyFolder(folder)
        self._settings = settings
        self._retry_for_s = retry_for_s
        identity, lost = self._folder.identity(), settings.log_continues
        # Before the log is opened for writing: the ledger must know every session that it shows.
        self._books = Books(folder, settings, epsilon_of, MECHANISM_NAME)
        self._learner: Learner | None = None
        self._vanish_at = {parse_vanish(entry) for entry in settings.vanish_at}
        self._session = InstitutionSession(
            settings.name,
            identity,
            self._folder.sealing_key(),
            self._folder.roster(),
            self._books.requirements,
            highest_heads(segments(folder / settings.log)),
        )
        # Last: it is locked from here on, and `run` closes it.
        self._log = LogWriter(
            folder / settings.log,
            party=settings.name,
            role="institution",
            identity=identity,
            continues=LogHead.parse(lost) if lost is not None else None,
        )
        policy = self._books.policy_body()
        if policy is not None:
            self._log.write("policy", policy)

    async def run(self) -> None:
        """Take part until the session ends; reconnect when the connection breaks.

        Raises:
            RunFailed: If the coordinator cannot be reached any more or misbehaves.
            InvalidInput: If this institution refuses the session.
        """
        url = f"wss://{self._settings.host}:{self._settings.port}"
        failing_since: float | None = None
        pause_s = FIRST_RETRY_S
        try:
            tls = client_context(self._folder)
            self._log.write("certificate", self._folder.certificate_fields())
            while self._session.state is not State.ENDED:
                try:
                    async with connect(url, ssl=tls, proxy=None, **WEBSOCKET_OPTIONS) as connection:
                        failing_since, pause_s = None, FIRST_RETRY_S
                        await self._talk(connection)
                except _Vanished:
                    self._log.write("vanished", {})
                except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
                    now = asyncio.get_running_loop().time()
                    failing_since = failing_since or now
                    self._log.write("disconnected", {"reason": type(error).__name__})
                    if self._session.concluded_all and now - failing_since > CLOSE_RETRY_S:
                        # The work is done and signed; only the others' signatures were not seen.
                        self._log.write("not_closed", self._session_field)
                        return
                    if now - failing_since > self._retry_for_s:
                        raise RunFailed(
                            f"{self._settings.name}: the coordinator at {url} cannot be reached: {error}"
                        ) from None
                # Jitter keeps institutions from all coming back at the same instant.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                pause_s = min(2 * pause_s, MAX_RETRY_S)
        finally:
            self._log.close()

    async def _talk(self, connection: ClientConnection) -> None:
        await self._carry_out(connection, self._session.connected())
        while self._session.state is not State.ENDED:
            data = binary(await connection.recv())
            try:
                # Off the event loop: long vectors and ciphertexts take a while, and pings must be answered.
                actions = await asyncio.to_thread(self._session.receive, data)
            except PeerError as error:
                self._refused(error, 0)
                if self._session.state is State.WAITING_FOR_OFFER:
                    raise RunFailed(f"{self._settings.name} does not take part: {error}") from None
                continue
            except InvalidInput as error:
                await self._refuse_session(connection, error)
                raise
            await self._carry_out(connection, actions)

    async def _refuse_session(self, connection: ClientConnection, error: InvalidInput) -> None:
        self._refused(error, 0)
        await self._carry_out(connection, self._session.prepared(refusal=str(error)))

    async def _carry_out(self, connection: ClientConnection, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    await self._send(connection, action)
                case TakeHead():
                    await self._carry_out(connection, action.then(self._log.head()))
                case Log() | RoundOver() | Refused():
                    self._note(action)
                case CheckLog():
                    await self._check_log(connection, action)
                case Prepare():
                    await self._prepare_or_refuse(connection, action)
                case MakeGroup() | OpenGroup():
                    await self._carry_out(connection, await asyncio.to_thread(self._group, action))
                case Quit():
                    raise RunFailed(f"{self._settings.name} ends the session: {action.error}")
                case Join():
                    if not await self._join(connection, action):
                        return
                case Train():
                    await self._carry_out(connection, await asyncio.to_thread(self._train, action))
                case RecordRelease():
                    if not self._record_release(action):
                        return  # what follows would send an update a second time
                case Conclude():
                    await self._carry_out(connection, await asyncio.to_thread(self._conclude, action))

    def _note(self, action: Log | RoundOver | Refused) -> None:
        match action:
            case Log():
                self._log.write(action.type, action.body)
            case RoundOver():
                self._log.write("round_ended", self._session_field | ended_fields(action))
            case Refused():
                self._refused(action.error, action.round_number)

    async def _prepare_or_refuse(self, connection: ClientConnection, action: Prepare) -> None:
        try:
            prepared = await asyncio.to_thread(self._prepare, action)
        except InvalidInput as error:
            await self._refuse_session(connection, error)
            raise
        await self._carry_out(connection, prepared)

    async def _join(self, connection: ClientConnection, action: Join) -> bool:
        """Record durably that a round is joined; returns whether it may be."""
        try:
            self._books.ledger.join(action.context)
        except PeerError as error:
            self._refused(error, action.context.round)
            await self._carry_out(connection, self._session.declined(str(error), final=False))
            return False
        body = round_fields(action.context) | {"model": action.context.model_hash.hex()}
        self._log.write("round_joined", body)
        return True

    def _record_release(self, action: RecordRelease) -> bool:
        """Record durably that an update leaves; returns whether it may."""
        try:
            self._books.ledger.release(action.context)
        except PeerError as error:
            self._refused(error, action.context.round)
            return False
        self._log.write("released", round_fields(action.context) | self._release_body(action))
        return True

    async def _check_log(self, connection: ClientConnection, action: CheckLog) -> None:
        try:
            self._log.check_holds(action.heads)
        except RollbackDetected as error:
            await self._refuse_session(connection, error)
            raise

    async def _send(self, connection: ClientConnection, send: Send) -> None:
        if send.phase is not None:
            self._vanish_if_due(connection, send.round_number, send.phase)
            self._log.write("phase", {"round": send.round_number, "phase": send.phase.value})
        await connection.send(send.message.to_bytes())

    def _vanish_if_due(self, connection: ClientConnection, round_number: int, phase: Phase) -> None:
        if (round_number, phase) in self._vanish_at:
            self._vanish_at.discard((round_number, phase))
            connection.transport.abort()  # as a power cut looks to the coordinator: no goodbye
            raise _Vanished

    def _prepare(self, action: Prepare) -> list[Action]:
        configuration = action.configuration
        self._learner = Learner(
            self._settings, self._folder.path, configuration, self._books.policy.max_delta
        )
        body = self._books.accept(
            configuration,
            self._learner.privacy_plan,
            self._learner.declared_records,
            self._learner.image_digests,
        )
        self._log.write("session_accepted", body)
        return self._session.prepared()

    def _group(self, action: MakeGroup | OpenGroup) -> list[Action]:
        """Make or open the session's group key."""
        configuration, name = action.configuration, self._settings.name
        session, roster = configuration.session, configuration.roster
        count, journal = configuration.decryptions, GroupJournal(self._folder.path, session)
        if isinstance(action, MakeGroup):
            identity = self._folder.identity()
            group, offer = make_group(session, roster, name, identity, decryptions=count, journal=journal)
            self._log.write("group_key_made", {})
            return self._session.group_made(group, offer)
        sealing_key = self._folder.sealing_key()
        opened = open_group(
            action.payload, session, roster, name, sealing_key, decryptions=count, journal=journal
        )
        self._log.write("group_key_opened", {})
        return self._session.group_opened(opened)

    def _train(self, action: Train) -> list[Action]:
        learner, configuration = self._ready(), self._session.configuration
        session, steps = configuration.session, configuration.plan.local_steps
        budget = learner.budget(self._books.ledger.steps_spent(session))
        try:
            if budget is not None and not self._books.ledger.is_reserved(session, action.round_number):
                budget.reserve(steps)
            reserved = self._books.reserve(session, action.round_number, steps)
        except (BudgetExhausted, PolicyRefused) as error:
            self._refused(error, action.round_number)
            return self._session.declined(str(error), final=True)
        if budget is not None:
            self._log.write("spend", self._books.spend_body(session, action.round_number, reserved, budget))
        return self._session.trained(learner.train(action.parameters, action.domain_key, action.round_number))

    def _conclude(self, action: Conclude) -> list[Action]:
        concluded = self._ready().conclude(action.model, action.domain_keys)
        fields = scores_to_fields(concluded.scores)
        write_atomically(self._folder.path / "evaluation.json", (json.dumps(fields) + "\n").encode())
        self._log.write(
            "session_ended",
            self._session_field | {"model": action.model_hash.hex(), "bundle": concluded.bundle_hash.hex()},
        )
        return self._session.concluded(concluded.bundle_hash)

    def _ready(self) -> Learner:
        if self._learner is None:
            raise RunFailed("the session was not prepared")
        return self._learner

    def _release_body(self, action: RecordRelease) -> dict[str, object]:
        if not self._session.configuration.plan.differential_privacy:
            return {}  # without noise the count would follow from the data: not for a log
        return {"saturated": action.saturated}

    def _refused(self, error: FedaptError, round_number: int) -> None:
        self._log.write("refused", self._session_field | refused_fields(error, round_number))

    @property
    def _session_field(self) -> dict[str, object]:
        return {"session": self._session.session_id.hex() if self._session.session_id is not None else None}

"""The institution's I/O shell: stays in touch with the coordinator, session after session if asked to."""

import asyncio
import logging
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fedapt_client.activity import What
from fedapt_client.books.approval import Approvals, Declined, NotApproved
from fedapt_client.books.books import Books
from fedapt_client.conduct import Conduct
from fedapt_client.endings import ComeBack, Outcome, Replaced, Vanished
from fedapt_client.institution import Institution
from fedapt_client.membership.connecting import CONNECTION_ERRORS, Place, open_connection, why
from fedapt_client.membership.desk import diagnosis
from fedapt_client.membership.renewal import Renewal
from fedapt_client.narration import tell
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.session.states import State
from fedapt_client.settings import ClientSettings
from fedapt_client.training.encoding_watch import EncodingWatch, Progress
from fedapt_crypto.errors import FedaptError, InvalidInput, PeerError, PolicyRefused, RunFailed, Unavailable
from fedapt_crypto.protected_keys import Passphrase
from fedapt_secure.config.party_folder import PartyFolder
from fedapt_secure.learning.data.features.merging import Duplicates
from fedapt_secure.learning.privacy.accounting import epsilon_of
from fedapt_secure.learning.privacy.mechanism import MECHANISM_NAME
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.reader import segments
from fedapt_secure.log.witness import highest_heads
from fedapt_secure.log.writer import LogWriter
from fedapt_secure.notices.settings import Event
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import reason_of
from fedapt_secure.protocol.transport import WEBSOCKET_OPTIONS, binary, client_context

FIRST_RETRY_S: Final = 0.1
MAX_RETRY_S: Final = 5.0
CLOSE_RETRY_S: Final = 10.0
"""How long to try to reach the coordinator when only the record with all signatures is missing."""
FIRST_AGAIN_S: Final = 60.0
MAX_AGAIN_S: Final = 900.0
"""How long a service stays away from a session that it has refused, before it looks at it again."""
_TOO_BIG: Final = 1009
"""The close code with which a websocket ends that was sent more than it takes (RFC 6455, 7.4.1)."""


class InstitutionRunner:
    """Runs one institution until its session ends.

    Args:
        folder: The party's folder.
        settings: Its settings.
        retry_for_s: How long to go on trying to reach the coordinator; ``None`` for ever.
        close_retry_s: How long (default `CLOSE_RETRY_S`) when only the record with all signatures is missing.
        stay: After a session go on, and wait for the next.
        approvals: What its people agree to; by default what is on record in the folder.
        passphrase: What opens its keys; by default what the environment says.
        progress: Told while images are encoded, from another thread.
        on_duplicates: Told how many image files are no records of their own, likewise.
        on_end: Called from another thread once a session has ended here, with its name; what it refuses is a
            warning.

    Raises:
        InvalidInput: If the folder cannot be used, or another process uses it.
    """

    def __init__(
        self,
        folder: Path,
        settings: ClientSettings,
        *,
        retry_for_s: float | None = 60.0,
        close_retry_s: float | None = None,
        stay: bool = False,
        approvals: Approvals | None = None,
        passphrase: Passphrase | None = None,
        progress: Progress | None = None,
        on_duplicates: Callable[[Duplicates], None] | None = None,
        on_end: Callable[[str], object] | None = None,
    ) -> None:
        self._folder = PartyFolder(folder, passphrase)
        self._settings = settings
        self._place = Place(settings.host, settings.port, settings.proxy)
        self._retry_for_s = retry_for_s
        self._close_retry_s = CLOSE_RETRY_S if close_retry_s is None else close_retry_s
        self._stay = stay
        self._on_end = on_end
        identity, lost = self._folder.identity(), settings.log_continues
        # Before the log is opened for writing: the ledger must know every session that it shows.
        self._books = Books(folder, settings, epsilon_of, MECHANISM_NAME)
        past = self._books.own.sessions
        self._over = {bytes.fromhex(name) for name, session in past.items() if session.closed}
        first = self._machine()
        # Last: it is locked from here on, and `run` closes it.
        self._log = LogWriter(
            folder / settings.log,
            party=settings.name,
            role="institution",
            identity=identity,
            continues=LogHead.parse(lost) if lost is not None else None,
        )
        self._institution = Institution(
            settings,
            self._folder,
            self._books,
            self._log,
            approvals or Approvals(folder),
            EncodingWatch(settings.name, progress),
        )
        self._institution.encoding.on_duplicates = on_duplicates
        self._renewal = Renewal(
            self._folder, settings, self._institution.write, self._institution.notices.tell
        )
        self._conduct = Conduct(self._institution, first)
        self._outcome: Outcome | None = None
        self._away: str | None = None
        self._institution.log_policy()

    async def run(self) -> Outcome | None:
        """Take part until the session ends; reconnect when the connection breaks.

        Returns:
            What the last finished session left here, if one was finished.

        Raises:
            RunFailed: If the coordinator cannot be reached any more or misbehaves.
            InvalidInput: If this institution refuses the session, or nobody has approved it.
        """
        daily = None
        failing_since: float | None = None
        pause_s, again_s = FIRST_RETRY_S, FIRST_AGAIN_S
        try:
            client_context(self._folder)  # what is wrong with the keys shows at once
            self._institution.write("certificate", self._folder.certificate_fields())
            daily = asyncio.create_task(self._renewal.daily())
            while not self._finished:
                await self._renewal.if_due()
                try:
                    async with self._connect() as connection:
                        failing_since, pause_s = None, FIRST_RETRY_S
                        self._back()
                        await self._talk(connection)
                except Vanished:
                    self._log.write("vanished", {})
                except ComeBack:
                    self._say_when(again_s)
                    await asyncio.sleep(again_s * random.uniform(0.8, 1.0))  # noqa: S311
                    again_s = min(2 * again_s, MAX_AGAIN_S)
                    self._begin_another()
                    continue
                except CONNECTION_ERRORS as error:
                    self._check_size(error)
                    now = asyncio.get_running_loop().time()
                    failing_since = failing_since or now
                    await self._gone(error)
                    if not self._go_on(now - failing_since, error):
                        break
                # Jitter keeps institutions from all coming back at the same instant.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                pause_s = min(2 * pause_s, MAX_RETRY_S)
        except (FedaptError, MemoryError) as error:
            code = reason_of(error).value
            self._institution.activity.stopped_by(code)
            session = self._conduct.session.session_id
            self._institution.notices.tell(Event.FAILURE, session.hex() if session else None, code)
            raise
        finally:
            if daily is not None:
                daily.cancel()
            self._institution.encoding.stop()
            self._log.close()
            await asyncio.to_thread(self._institution.notices.close)
        return self._outcome

    @property
    def _finished(self) -> bool:
        return self._conduct.session.state is State.ENDED and not self._stay

    def _connect(self) -> connect:
        # Made anew each time: the certificate may have been renewed meanwhile.
        tls = client_context(self._folder)
        options = WEBSOCKET_OPTIONS | {
            "max_size": self._books.policy.max_message_bytes,
            "ping_timeout": self._settings.answer_within_s,
        }
        return open_connection(self._place, tls, **options)

    async def _talk(self, connection: ClientConnection) -> None:
        await self._conduct.carry_out(connection, self._conduct.session.connected())
        self._conduct.diary.between()
        while True:
            data = binary(await connection.recv())
            try:
                await self._take(connection, data)
            except Replaced:
                self._replace()
                await self._take(connection, data)
            self._conduct.diary.between()
            if self._conduct.session.state is State.OUT:
                raise ComeBack
            if self._conduct.session.state is not State.ENDED:
                continue
            self._remember()
            await self._say_ended()
            if not self._stay:
                return
            self._begin_another()
            self._conduct.diary.between()

    async def _take(self, connection: ClientConnection, data: bytes) -> None:
        """Let the session take a message, and do what follows."""
        try:
            await self._take_or_refuse(connection, data)
        except (Unavailable, MemoryError) as error:
            # Nothing can be written now, and nothing that was is lost. The others need not wait: they hear
            # which kind of reason it is, and we come back when the process is started again.
            with suppress(*CONNECTION_ERRORS):
                refusal = m.SessionRefuse(reason=reason_of(error).value)
                await connection.send(refusal.to_bytes())
            raise

    async def _take_or_refuse(self, connection: ClientConnection, data: bytes) -> None:
        conduct = self._conduct
        if conduct.session.state is State.WAITING_FOR_OFFER:
            conduct.look_at_policy()
        try:
            # Off the event loop: long vectors and ciphertexts take a while, and pings must be answered.
            actions = await asyncio.to_thread(conduct.session.receive, data)
        except PeerError as error:
            waiting = conduct.session.state is State.WAITING_FOR_OFFER
            if not waiting:
                conduct.note_refused(error, 0)
                return
            await conduct.refuse(connection, error)
            raise RunFailed(f"{self._settings.name} does not take part: {error}") from None
        except InvalidInput as error:
            await conduct.refuse(connection, error)
            self._unless_staying(error)
            return
        try:
            await conduct.carry_out(connection, actions)
        except InvalidInput as error:
            self._unless_staying(error)

    def _unless_staying(self, error: InvalidInput) -> None:
        """A session that was refused ends the run, unless it is to go on: then it is looked at again.

        Not where its people have not agreed: nobody is asked twice, and a service has nobody to ask.
        """
        # Unless they decide on a page: it is still there, for this session and for others.
        people = isinstance(error, NotApproved | Declined) and not self._institution.approvals.elsewhere
        if people or not self._stay or self._conduct.session.state is not State.OUT:
            raise error

    def _say_when(self, again_s: float) -> None:
        activity = self._institution.activity
        again = (datetime.now(UTC) + timedelta(seconds=again_s)).isoformat(timespec="seconds")
        activity.set(
            What.OUT, session=activity.activity.session, reason=activity.activity.reason, again=again
        )
        minutes = max(1, round(again_s / 60))
        tell(
            self._settings.name,
            "out",
            "does not take part for now: mend what the line above says; the session is looked at again in"
            f" {minutes} minute{'s' * (minutes > 1)}, or at once when this service is started again",
            level=logging.WARNING,
        )

    def _machine(self) -> InstitutionSession:
        past = self._books.own.sessions
        return InstitutionSession(
            self._settings.name,
            self._folder.identity(),
            self._folder.sealing_key(),
            self._folder.roster(),
            self._books.requirements,
            highest_heads(segments(self._folder.path / self._settings.log)),
            ended=lambda session: past[session.hex()].ended.values() if session.hex() in past else (),
            over=self._over,
            past=self._books.past,
        )

    def _remember(self) -> None:
        session = self._conduct.session.session_id
        if session is not None:
            self._over.add(session)
        self._outcome = self._conduct.outcome or self._outcome

    async def _say_ended(self) -> None:
        session = self._conduct.session.session_id
        if self._on_end is None or session is None:
            return
        try:
            await asyncio.to_thread(self._on_end, session.hex())
        except FedaptError as error:
            tell(self._settings.name, "no_report", f"no report was written: {error}", level=logging.WARNING)

    def _begin_another(self) -> None:
        """Be ready for another session, or for the same once more, with all settings as they are now."""
        self._conduct = Conduct(self._institution, self._machine())
        self._conduct.session.wait_for_offer()

    def _replace(self) -> None:
        """Leave a session that the coordinator has begun anew, if nothing of it can be lost by that."""
        session = self._conduct.session.joined
        if not self._stay and session is not None and self._books.ledger.has_joined(session):
            raise RunFailed(
                f"{self._settings.name}: the coordinator offers another session than"
                f" {session.hex()[:16]}, in which this institution has taken part and which never ended: ask"
                " its operator; to take part in the other one, run the command again"
            )
        tell(self._settings.name, "replaced", "the coordinator has begun another session")
        self._conduct.session.leave()
        self._begin_another()

    def _back(self) -> None:
        sentence = "connected to the coordinator" if self._away is None else "the coordinator is back"
        self._away = None
        self._institution.activity.set(What.WAITING)
        tell(self._settings.name, "connected", sentence, coordinator=str(self._place))

    async def _gone(self, error: Exception) -> None:
        """Say once, and not at every attempt, that the coordinator is away."""
        reason = why(error, self._place)
        self._institution.activity.set(What.AWAY)
        if self._away is None:
            self._log.write("disconnected", {"reason": type(error).__name__})
        if self._away != reason:
            enrolment = Place(self._place.host, self._settings.enrolment_port, self._place.proxy)
            said = await diagnosis(error, self._place, self._folder, enrolment)
            tell(self._settings.name, "away", f"the coordinator is away: {said}; trying again")
        self._away = reason

    def _go_on(self, failing_s: float, error: Exception) -> bool:
        """Whether to try again; raises `RunFailed` where there is no use in it any more."""
        if self._conduct.session.concluded_all and failing_s > self._close_retry_s:
            # The work is done and signed; only the others' signatures were not seen.
            self._institution.write("not_closed", self._conduct.session_field)
            self._conduct.session.leave()
            self._conduct.diary.between()
            self._remember()
            if not self._stay:
                return False
            self._conduct = Conduct(self._institution, self._machine())
        if self._retry_for_s is not None and failing_s > self._retry_for_s:
            reason = why(error, self._place)
            raise RunFailed(f"{self._settings.name}: the coordinator cannot be reached: {reason}") from None
        return True

    def _check_size(self, error: Exception) -> None:
        """A message that the policy does not take would be sent again after every reconnection."""
        sent = error.sent if isinstance(error, ConnectionClosed) else None
        if sent is not None and sent.code == _TOO_BIG:
            refused = PolicyRefused(
                f"the coordinator sent a message of more than {self._books.policy.max_message_bytes} bytes",
                rule="max_message_bytes",
            )
            self._conduct.note_refused(refused, 0)
            raise refused


def run_until_stopped(runner: InstitutionRunner) -> Outcome | None:
    """Run an institution; SIGTERM and SIGINT end the process with 128 plus their number, the log closed."""

    async def watched() -> Outcome | None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        stopped: list[int] = []

        def stop(number: int) -> None:
            stopped.append(number)
            if task is not None:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            return await runner.run()
        except asyncio.CancelledError:
            if not stopped:
                raise
            # A thread that trains or waits for an answer cannot be interrupted. Whatever must last is on
            # disk before anything relies on it, so ending here is no worse than a power cut.
            os._exit(128 + stopped[0])

    return asyncio.run(watched())

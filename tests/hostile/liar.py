"""The coordinator of the hostile suite: the real service, whose frames and decisions a `Lie` may change."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.identity import Identity
from fedapt_secure.protocol import messages as m
from fedapt_server.archive.store import StoredSession
from fedapt_server.ports.outbox import Outbox
from fedapt_server.service import CoordinatorService
from fedapt_server.session.actions import Action
from fedapt_server.session.machine import CoordinatorSession
from fedapt_server.session.progress import Progress

if TYPE_CHECKING:
    from tests.hostile.stage import Stage

Told = Iterable[TaggedMessage | bytes]


class Lie:
    """What a coordinator does otherwise; this one does nothing otherwise.

    Attributes:
        stage: The running federation, with the coordinator's keys and everybody's connections.
    """

    stage: "Stage"

    @property
    def identity(self) -> Identity:
        """The coordinator's own signing key: a lie may be signed."""
        return self.stage.service._identity

    @property
    def session(self) -> CoordinatorSession:
        """Its session machine."""
        session = self.stage.service._session
        assert session is not None
        return session

    def begins(self, session: CoordinatorSession) -> None:
        """The session's machine is made, or made again after a restart."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        """Return what an institution is sent in place of a message."""
        return [message]

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        """Return what the coordinator takes in place of an institution's message; ``None`` for nothing."""
        return message

    def keeps(self, progress: Progress, *, done: bool) -> None:
        """Progress is about to be made durable, or has been."""


class Crash(BaseException):
    """The coordinator's process ends here; nothing of its code may catch it and go on."""


class LyingCoordinator(CoordinatorService):
    """The service that `simulate` runs, with a lie, and without a clock of its own."""

    stage: "Stage"
    armed = False
    """Whether the session's timer is set."""
    crashed = False

    def _open(self, stored: StoredSession) -> CoordinatorSession:
        session = super()._open(stored)
        self.stage.service = self
        self.stage.lie.begins(session)
        return session

    async def _tell(self, event: Any, *arguments: Any) -> list[Action]:
        if event.__name__ not in ("receive", "connected"):
            return await self._or_crash(event, *arguments)
        meter, name = self.stage.meters[arguments[0]], arguments[0]
        try:
            if event.__name__ == "receive":
                message = decode_one_of(arguments[1], m.FROM_INSTITUTION, max_bytes=m.MAX_FRAME_BYTES)
                heard = self.stage.lie.hears(name, message)
                if heard is None:
                    return []
                arguments = (name, arguments[1] if heard is message else heard.to_bytes())
            return await self._or_crash(event, *arguments)
        finally:
            meter.heard += 1

    async def _or_crash(self, event: Any, *arguments: Any) -> list[Action]:
        if self.crashed:
            return []
        try:
            return await super()._tell(event, *arguments)
        except Crash:
            self.crashed = True
            return []

    def _keep(self, session: bytes, progress: Progress) -> None:
        self.stage.lie.keeps(progress, done=False)
        super()._keep(session, progress)
        self.stage.lie.keeps(progress, done=True)

    def _set_timer(self, seconds: float | None) -> None:
        self.armed = seconds is not None

    def ring(self) -> None:
        """Let the timer go off."""
        self.armed = False
        self._ring()

    @property
    def busy(self) -> bool:
        """Whether an event is being dealt with."""
        alarm = self._alarm
        return self._one_at_a_time.locked() or (alarm is not None and not alarm.done())


class LyingOutbox(Outbox):
    """Sends what the lie has made of each message."""

    stage: "Stage"

    def put(self, data: bytes) -> None:
        message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.MAX_FRAME_BYTES)
        for told in self.stage.lie.tells(self.connection.name, message):
            self.put_frame(told if isinstance(told, bytes) else told.to_bytes())

    def put_frame(self, data: bytes) -> None:
        """Send a frame as it is."""
        self.stage.meters[self.connection.name].given += 1
        super().put(data)

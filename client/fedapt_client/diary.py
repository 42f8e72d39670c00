"""What of a session's messages and work goes into the activity file, for ``client status``.

What is under way is noted where it begins; between two messages it follows from the machine's state.
"""

from collections.abc import Mapping
from typing import Any, Final

from fedapt_client.activity import ActivityFile, What
from fedapt_client.session.actions import Action, Approve, Conclude, Prepare, Train
from fedapt_client.session.machine import InstitutionSession
from fedapt_client.session.states import State
from fedapt_crypto.encoding import TaggedMessage
from fedapt_secure.log.line import WITNESSED
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason

_BETWEEN: Final[Mapping[State, What]] = {
    State.WAITING_FOR_OFFER: What.WAITING,
    State.JOINING: What.READY,
    State.READY: What.READY,
    State.AGGREGATING: What.AGGREGATING,
    State.CLOSING: What.CLOSING,
    State.ENDED: What.ENDED,
}
"""The other states are those of work, of no connection and of a refusal: noted where they begin."""


class Diary:
    """Follows one session.

    Args:
        session: Its machine. activity: Where it is written down.
    """

    def __init__(self, session: InstitutionSession, activity: ActivityFile) -> None:
        self._session = session
        self._activity = activity
        self._round: int | None = None

    def between(self) -> None:
        """A message has been dealt with."""
        match _BETWEEN.get(self._session.state):
            case None:
                return
            case What.WAITING:
                self._activity.set(What.WAITING)
            case What.AGGREGATING:
                self._activity.set(What.AGGREGATING, **self._about, round=self._round)
            case What.READY if self._activity.activity.what is What.SITS_OUT:
                return  # until that round is over
            case what:
                self._activity.set(what, **self._about)

    def begins(self, action: Action) -> None:
        """Something that takes a while begins."""
        match action:
            case Approve():
                asked = action.configuration.hash.hex()
                self._activity.set(What.APPROVAL, session=self._offered, configuration=asked)
            case Prepare():
                self._activity.set(What.PREPARING, session=self._offered)
            case Train():
                self._round = action.round_number
                self._activity.set(What.TRAINING, **self._about, round=self._round)
            case Conclude():
                self._activity.set(What.CONCLUDING, **self._about)

    def sends(self, message: TaggedMessage) -> None:
        """A message leaves."""
        match message:
            case m.RoundDecline(reason=code, round=number, final=final):
                self._activity.set(What.SITS_OUT, **self._about, round=number, reason=code, final=final)
            case m.SessionRefuse(reason=code):
                asked = self._activity.activity.what is What.APPROVAL and code == Reason.NOT_APPROVED
                if not asked:  # else it waits for its people still
                    self._activity.set(What.OUT, session=self._offered, reason=code)

    def logs(self, type: str) -> None:
        """A line of the log is written."""
        before = self._activity.activity
        if type == WITNESSED and before.what is What.SITS_OUT and not before.final:
            self._activity.set(What.READY, **self._about)

    @property
    def _offered(self) -> str | None:
        session = self._session.session_id
        return None if session is None else session.hex()

    @property
    def _about(self) -> dict[str, Any]:
        joined = self._session.joined is not None
        return {
            "session": self._offered,
            "rounds": self._session.configuration.plan.rounds if joined else None,
        }

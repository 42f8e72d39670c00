"""One conversation at the enrolment port, without sockets: a message in, one answer out.

| state   | message      | answer                  | next  |
|---------|--------------|-------------------------|-------|
| ASKED   | Enrol        | Challenge               | PROOF |
| PROOF   | Proof        | Certified               | ENDED |
| ASKED   | Renew        | Certified               | ENDED |
| ASKED   | RosterWanted | RosterSent              | ENDED |
| any     | anything else, or what is refused | NotAccepted | ENDED |

`Renew` and `RosterWanted` are for members: they need the name in a verified client certificate.
"""

import hmac
import secrets
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.private_files import read_private
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining.enrolment_refusals import EnrolmentRefusal as Told
from fedapt_server.membership.records import Invitation
from fedapt_server.membership.refused import Refused
from fedapt_server.membership.registrar import Registrar


class State(Enum):
    """What the desk waits for."""

    ASKED = auto()
    PROOF = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Answer:
    """What to send, and what to log: event, and details that hold no secret."""

    message: TaggedMessage
    event: str | None
    details: dict[str, Any]


class EnrolmentDesk:
    """Serves one connection.

    Args:
        registrar: Decides.
        member: The name in the client's verified certificate; ``None`` where it showed none.
    """

    def __init__(self, registrar: Registrar, member: str | None) -> None:
        self.state = State.ASKED
        self._registrar = registrar
        self._member = member
        self._nonce = secrets.token_bytes(e.CHALLENGE_BYTES)
        self._secret = b""
        self._admitted: tuple[Invitation, e.Request] | None = None

    def welcome(self) -> e.Welcome:
        """Return the first message of the conversation."""
        registrar = self._registrar
        return e.Welcome(authority=registrar.authority_der, time=registrar.now(), nonce=self._nonce)

    def receive(self, data: bytes) -> Answer:
        """Take a message and return the answer; after a refusal or the last answer the desk is closed."""
        before, self.state = self.state, State.ENDED  # whatever goes wrong below: no second try here
        try:
            message = decode_one_of(data, e.FROM_INSTITUTION, max_bytes=e.MAX_REQUEST_FRAME_BYTES)
            match before, message:
                case State.ASKED, e.Enrol():
                    return self._ask(message)
                case State.PROOF, e.Proof():
                    return self._enrol(message)
                case State.ASKED, e.Renew():
                    return self._renew(message)
                case State.ASKED, e.RosterWanted():
                    return self._roster()
                case _:
                    return _refusal(Refused(f"{message.kind!r} out of turn", told=Told.MESSAGE_UNKNOWN))
        except MalformedMessage as error:
            return _refusal(Refused(str(error), told=Told.MESSAGE_UNKNOWN))
        except Refused as refused:
            return _refusal(refused)

    def _ask(self, message: e.Enrol) -> Answer:
        self._admitted = self._registrar.admit(message.token, message.request)
        self._secret = secrets.token_bytes(e.CHALLENGE_BYTES)
        sealed = self._registrar.challenge(*self._admitted, self._secret)
        self.state = State.PROOF
        return Answer(e.Challenge(sealed=sealed), None, {})

    def _enrol(self, message: e.Proof) -> Answer:
        assert self._admitted is not None
        invitation, request = self._admitted
        if not hmac.compare_digest(message.opened, self._secret):
            raise Refused("the sealing key was not proven", told=Told.CHALLENGE_NOT_OPENED)
        certified = self._registrar.enrol(invitation, request)
        return Answer(certified, "enrolled", {"name": invitation.name})

    def _renew(self, message: e.Renew) -> Answer:
        name = self._authenticated()
        try:
            renewal = e.Renewal.from_bytes(message.renewal)
        except MalformedMessage as error:
            raise Refused(str(error), told=Told.REQUEST_UNSOUND, peer=name) from None
        if renewal.name != name:
            raise Refused("asks for a certificate in another name", told=Told.NAME_DIFFERS, peer=name)
        return Answer(self._registrar.renew(renewal, self._nonce), "renewed", {"name": name})

    def _roster(self) -> Answer:
        name = self._authenticated()
        member, roster = self._registrar.membership.member(name), self._registrar.roster_file()
        if member is not None and member.entry_signature is None:
            raise Refused("has not signed its entry of the roster yet", told=Told.ENTRY_UNSIGNED, peer=name)
        if member is None or roster is None:
            raise Refused("was revoked while it asked", told=Told.NOT_A_MEMBER, peer=name)
        revocations = read_private(self._registrar.folder.revocation_file)
        sent = e.RosterSent(roster=roster.to_bytes(), revocation_list=revocations)
        return Answer(sent, "roster_sent", {"name": name, "revision": roster.revision})

    def _authenticated(self) -> str:
        """Return the member who asks; its certificate was verified by TLS."""
        if self._member is None:
            raise Refused("asked without a certificate", told=Told.NO_CERTIFICATE)
        if self._registrar.membership.member(self._member) is None:
            raise Refused("is not a member", told=Told.NOT_A_MEMBER, peer=self._member)
        return self._member


def _refusal(refused: Refused) -> Answer:
    details = {"name": refused.peer, "reason": str(refused)}
    return Answer(e.NotAccepted(reason=refused.told), "not_accepted", details)

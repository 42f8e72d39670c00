"""Messages of enrolment, renewal and the signed roster, one frozen type each; and their form as files.

An institution that can reach the enrolment port sends them there. Where no connection is possible the same
requests and answers travel as text files. Order on a connection: the coordinator's `Welcome`; then either
`Enrol`, `Challenge`, `Proof`, `Certified`, or one `Renew` or `RosterWanted` and its answer; `NotAccepted`
in place of any answer.
"""

import base64
import binascii
import string
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from fedapt_crypto.certificates import MAX_REQUEST_BYTES
from fedapt_crypto.encoding import Hash, PartyName, Signature, TaggedMessage, kinds_of
from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import IdentityKey, Roster, SealingPublicKey
from fedapt_crypto.sharing import shared
from fedapt_secure.protocol.joining.enrolment_refusals import RefusalCode
from fedapt_secure.protocol.joining.join_string import TOKEN_ID_BYTES, Token, authenticate

PROTOCOL: Literal["fedapt-secure-enrolment/1"] = "fedapt-secure-enrolment/1"
MAX_REQUEST_FRAME_BYTES = 16 << 10
"""Largest frame an institution may send: a request has about 3 KiB."""
MAX_ANSWER_FRAME_BYTES = 16 << 20
"""Largest frame the coordinator may send: a roster of 4,096 members has 5 MiB."""
CHALLENGE_BYTES = 32

Challenged = Annotated[bytes, Field(min_length=CHALLENGE_BYTES, max_length=CHALLENGE_BYTES)]
CertificateRequest = Annotated[bytes, Field(min_length=1, max_length=MAX_REQUEST_BYTES)]
CertificateBytes = Annotated[bytes, Field(min_length=1, max_length=8192)]
PRINTABLE = r"^[^\p{C}\p{Zl}\p{Zp}]*$"
"""Names that people choose and others read: no control or format character, no line end among them."""
DomainName = Annotated[str, Field(min_length=1, max_length=256, pattern=PRINTABLE)]
FederationName = Annotated[str, Field(max_length=128, pattern=PRINTABLE)]
UnixTime = Annotated[int, Field(ge=0, lt=1 << 40)]


class Welcome(TaggedMessage):
    """Coordinator, first on a connection: its authority, its clock, and a nonce for `Renew`."""

    kind: Literal["welcome"] = "welcome"
    protocol: Literal["fedapt-secure-enrolment/1"] = PROTOCOL
    authority: CertificateBytes
    time: UnixTime
    nonce: Challenged


class Request(TaggedMessage):
    """An institution's request to be enrolled; also the file of the offline route.

    The identity key signs all of it: name, authority, sealing key and certificate request belong to
    whoever holds that key. ``entry_signature`` is on what the roster will show, see `roster.sign_entry`.
    ``invitation`` names the invitation, and ``authenticator`` proves that the
    sender knows its token, without showing the token to whoever sees the file.
    """

    kind: Literal["enrolment request"] = "enrolment request"
    max_bytes = MAX_REQUEST_FRAME_BYTES
    name: PartyName
    authority_fingerprint: Hash
    identity_key: IdentityKey
    sealing_key: SealingPublicKey
    certificate_request: CertificateRequest
    invitation: Annotated[bytes, Field(min_length=TOKEN_ID_BYTES, max_length=TOKEN_ID_BYTES)]
    entry_signature: Signature
    authenticator: Hash
    signature: Signature


class Enrol(TaggedMessage):
    """Institution: the token of its invitation, and its request."""

    kind: Literal["enrol"] = "enrol"
    max_bytes = MAX_REQUEST_FRAME_BYTES
    token: Token
    request: Annotated[bytes, Field(max_length=MAX_REQUEST_FRAME_BYTES)]


class Challenge(TaggedMessage):
    """Coordinator: a secret sealed to the key that is to be enrolled."""

    kind: Literal["challenge"] = "challenge"
    sealed: Annotated[bytes, Field(max_length=4096)]


class Proof(TaggedMessage):
    """Institution: the secret, opened."""

    kind: Literal["proof"] = "proof"
    opened: Challenged


class Renewal(TaggedMessage):
    """A member's request for a certificate on a new TLS key; also the file of the offline route.

    ``nonce`` is the one in `Welcome`, or all zero in a file. ``entry_signature`` is on its entry of the
    roster, as in `Request`: members from before entries were signed catch up with it.
    """

    kind: Literal["renewal request"] = "renewal request"
    max_bytes = MAX_REQUEST_FRAME_BYTES
    name: PartyName
    authority_fingerprint: Hash
    certificate_request: CertificateRequest
    nonce: Challenged
    entry_signature: Signature
    signature: Signature


class Renew(TaggedMessage):
    """Institution, with its current certificate: asks for the next one."""

    kind: Literal["renew"] = "renew"
    max_bytes = MAX_REQUEST_FRAME_BYTES
    renewal: Annotated[bytes, Field(max_length=MAX_REQUEST_FRAME_BYTES)]


class Certified(TaggedMessage):
    """Coordinator: the certificate, and who it is itself; also the answer file of the offline route.

    Signed by the coordinator's identity, over the hash of the request too: an answer fits one request.
    ``rounds_port`` is 0 where it is not known yet.
    """

    kind: Literal["certified"] = "certified"
    name: PartyName
    domain: DomainName
    federation: FederationName
    certificate: CertificateBytes
    authority: CertificateBytes
    coordinator_name: PartyName
    coordinator_key: IdentityKey
    rounds_port: Annotated[int, Field(ge=0, le=65535)]
    request_hash: Hash
    signature: Signature


class RosterWanted(TaggedMessage):
    """Institution, with its certificate: asks for the current roster."""

    kind: Literal["roster wanted"] = "roster wanted"


class RosterFile(TaggedMessage):
    """The roster of one revision, signed by the coordinator; travels as it is, also as a file.

    Attributes:
        federation: Name of the federation.
        revision: Counts the changes; a later one replaces an earlier one.
        changed: When it changed.
        domains: Names of the domains, in key order.
        roster: The encoded `Roster`.
    """

    kind: Literal["roster"] = "roster"
    same_for_all = True
    max_bytes = MAX_ANSWER_FRAME_BYTES
    federation: FederationName
    revision: Annotated[int, Field(ge=1, lt=1 << 40)]
    changed: UnixTime
    domains: Annotated[tuple[DomainName, ...], Field(min_length=1, max_length=4096)]
    roster: bytes
    signature: Signature

    @property
    def content(self) -> Roster:
        """The roster in it; raises `MalformedMessage` if it is none."""
        return Roster.from_bytes(self.roster, max_bytes=MAX_ANSWER_FRAME_BYTES)

    @property
    def changed_at(self) -> datetime:
        """When it changed."""
        return datetime.fromtimestamp(self.changed, UTC)

    def check(self, coordinator_key: bytes) -> Roster:
        """Check the signature, and every member's on its own entry; return the roster.

        Raises:
            VerificationFailed: If it is not signed by that coordinator, or names another one, or an entry is
                not its owner's.
            MalformedMessage: If what is signed is not a roster of these domains.
        """
        check_signature(self, coordinator_key, signer="coordinator")
        roster = self.content
        if roster.coordinator_key != coordinator_key:
            raise VerificationFailed("the roster names another coordinator than the one that signed it")
        if any(member.domain_index >= len(self.domains) for member in roster.members):
            raise MalformedMessage("the roster places a member in a domain that it does not have")
        try:
            roster.check_entries()
        except VerificationFailed as error:  # the coordinator signed it: nobody on it is to blame
            raise VerificationFailed(f"{error}; do not go on, and tell the other institutions") from None
        return roster


class RosterSent(TaggedMessage):
    """Coordinator: the current roster (`RosterFile`) and the list of revoked certificates (CRL, PEM)."""

    kind: Literal["roster sent"] = "roster sent"
    max_bytes = MAX_ANSWER_FRAME_BYTES
    roster: bytes
    revocation_list: bytes


class NotAccepted(TaggedMessage):
    """Coordinator: refuses, and which kind of reason it has, see `enrolment_refusals`."""

    kind: Literal["not accepted"] = "not accepted"
    reason: RefusalCode


FROM_INSTITUTION = kinds_of(Enrol, Proof, Renew, RosterWanted)
FROM_COORDINATOR = kinds_of(Welcome, Challenge, Certified, RosterSent, NotAccepted)
FILES = kinds_of(Request, Renewal, Certified, RosterFile)
_TITLES = {
    Request: "FEDAPT ENROLMENT REQUEST",
    Renewal: "FEDAPT RENEWAL REQUEST",
    Certified: "FEDAPT CERTIFICATE ANSWER",
    RosterFile: "FEDAPT ROSTER",
}
Filed = TypeVar("Filed", bound=TaggedMessage)
Signed = TypeVar("Signed", bound=TaggedMessage)
Asked = TypeVar("Asked", Request, Renewal)
_WHITE_SPACE = string.whitespace.encode()
UNSIGNED = bytes(64)
"""Stands where a signature will be."""


def signed(identity: Identity, message: Signed) -> Signed:
    """Return the message with the identity's signature in place of whatever it had."""
    return message.model_copy(update={"signature": identity.sign(message.tag(), _but(message, "signature"))})


def check_signature(message: TaggedMessage, key: bytes, *, signer: str) -> None:
    """Check the signature in a message; raises `VerificationFailed` where it is not by that key."""
    signature: bytes = message.signature  # type: ignore[attr-defined]
    verify(key, signature, message.tag(), _but(message, "signature"), signer=signer)


def authenticator(request: Request, key: bytes) -> bytes:
    """Return what proves, under a `paper_key`, that a request comes from whoever holds the join string."""
    return authenticate(key, _but(request, "authenticator", "signature"))


def request_hash(request: Request | Renewal) -> bytes:
    """Return the hash by which an answer names its request."""
    return digest("certificate request", request.to_bytes())


def challenge_info(hash_of_request: bytes) -> tuple[str | bytes, ...]:
    """Return what a challenge is bound to."""
    return ("enrolment challenge", hash_of_request)


def _but(message: TaggedMessage, *left_out: str) -> bytes:
    """Return the encoding of a message in which some fields are empty: what a signature covers."""
    return message.encode_fields({**message.__dict__, **dict.fromkeys(left_out, b"")})


def to_file(message: TaggedMessage) -> bytes:
    """Return a message as text between two lines that say what it is; survives mail."""
    title, data = _TITLES[type(message)], message.to_bytes()
    return shared(title, data, lambda: _text(title, data))


def _text(title: str, data: bytes) -> bytes:
    body = base64.b64encode(data).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {title}-----", *lines, f"-----END {title}-----", ""]).encode()


def from_file(data: bytes, kind: type[Filed], source: str) -> Filed:
    """Read what `to_file` wrote; text around it, as in a mail, does not matter.

    Raises:
        InvalidInput: If it holds nothing of this kind, or was damaged on the way.
    """
    title = _TITLES[kind]
    begin, end = f"-----BEGIN {title}-----".encode(), f"-----END {title}-----".encode()
    if len(data) > 2 * MAX_ANSWER_FRAME_BYTES or data.count(begin) != 1 or data.count(end) != 1:
        raise InvalidInput(f"{source}: expected one block '-----BEGIN {title}-----'")
    body = data.split(begin)[1].split(end)[0]
    try:
        return kind.from_bytes(base64.b64decode(body.translate(None, _WHITE_SPACE), validate=True))
    except (binascii.Error, ValueError, MalformedMessage):
        raise InvalidInput(f"{source} was damaged on the way: ask for it again") from None

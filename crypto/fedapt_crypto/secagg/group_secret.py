"""The group secret G: 32 bytes that a session's institutions share and the coordinator does not know.

1. One institution, whichever the coordinator asks first, draws G and sends an offer: a signed header that
   commits to G, and G sealed to every member of the roster, itself included (`make_offer`).
2. The coordinator checks and keeps the offer, and gives each institution its part of it (`route_offer`);
   nobody else passes G on.
3. Each institution checks the header against its own roster and opens its part (`open_part`).

The commitment is in every round's context, so that whoever holds another G can complete no round with us. A
maker that is malicious, or lets others choose G, is worth as much to an attacker as any colluder: it knows
G, and so can make up tags (`fedapt_crypto.sum_tag`). What a scheme needs besides travels as an attachment,
the same for all, whose hash is signed too. SPEC.md, section 9.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field

from fedapt_crypto import seal
from fedapt_crypto.encoding import MAX_CONTAINER_ITEMS, Hash, TaggedMessage
from fedapt_crypto.errors import ContextMismatch, InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import Part, derive, digest
from fedapt_crypto.merkle import NODE_BYTES, MerkleTree, check_proof, proof_length
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_crypto.secagg.signed import UNSIGNED, SignedMessage
from fedapt_crypto.sum_tag import SumCheck

SECRET_BYTES: Final = 32
BOX_BYTES: Final = SECRET_BYTES + seal.OVERHEAD_BYTES
"""G sealed to one member."""
MAX_ATTACHMENT_BYTES: Final = 1 << 17
_MAX_PROOF_BYTES: Final = NODE_BYTES * MAX_CONTAINER_ITEMS.bit_length()

_SEAL: Final = "group secret"


class GroupHeader(SignedMessage):
    """Set-up, maker: the commitment to G, and what stands for all that comes with it.

    ``boxes_root`` is the root of the Merkle tree over G sealed to each member, in roster order.
    """

    kind: Literal["group header"] = "group header"
    session: Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
    configuration_hash: Hash
    commitment: Hash
    boxes_root: Hash
    attachment_hash: Hash


class GroupSecretOffer(TaggedMessage):
    """Set-up, maker to coordinator: the header, G sealed to each member end to end, and the attachment."""

    kind: Literal["group secret offer"] = "group secret offer"
    max_bytes = MAX_CONTAINER_ITEMS * BOX_BYTES + 2 * MAX_ATTACHMENT_BYTES
    header: GroupHeader
    boxes: Annotated[bytes, Field(max_length=MAX_CONTAINER_ITEMS * BOX_BYTES)]
    attachment: Annotated[bytes, Field(max_length=MAX_ATTACHMENT_BYTES)]


class GroupSecretPart(TaggedMessage):
    """Set-up, coordinator to one institution: the header, G sealed to it with its proof, the attachment."""

    kind: Literal["group secret part"] = "group secret part"
    header: GroupHeader
    box: Annotated[bytes, Field(min_length=BOX_BYTES, max_length=BOX_BYTES)]
    proof: Annotated[bytes, Field(max_length=_MAX_PROOF_BYTES)]
    attachment: Annotated[bytes, Field(max_length=MAX_ATTACHMENT_BYTES)]


class GroupSecret:
    """G at an institution.

    Args:
        session: The session's identifier, 16 bytes.
        secret: G, 32 uniform bytes.

    Raises:
        InvalidInput: If one of them has another size.
    """

    discarded = False
    """A secret is not used up, unlike a key that opens ciphertexts."""

    def __init__(self, session: bytes, secret: bytes) -> None:
        if len(session) != SESSION_BYTES or len(secret) != SECRET_BYTES:
            raise InvalidInput(f"a group secret has {SECRET_BYTES} bytes and belongs to a session")
        self.session = session
        self.commitment = digest("group commitment", session, secret)
        self._secret = secret

    @classmethod
    def fresh(cls, session: bytes) -> "GroupSecret":
        """Draw G from the operating system's randomness."""
        return cls(session, secrets.token_bytes(SECRET_BYTES))

    def __repr__(self) -> str:
        return f"GroupSecret(session {self.session.hex()}, secret hidden)"

    def derive(self, label: str, *parts: Part) -> bytes:
        """Return 32 bytes for one purpose; raises `InvalidInput` once closed."""
        return derive(self._live(), label, *parts)

    def sum_check(self, execution: bytes, transcript: bytes, *, length: int) -> SumCheck:
        """Return what makes and checks the tags of one execution.

        Args:
            execution: Its identifier, 32 bytes.
            transcript: Its transcript, 32 bytes.
            length: Values of an update.

        Raises:
            InvalidInput: Once closed.
        """
        return SumCheck(self._live(), execution, transcript, length=length)

    def close(self) -> None:
        """Forget G: the session is over for this process."""
        self._secret = b""

    def offer(
        self,
        configuration_hash: bytes,
        roster: Roster,
        name: str,
        identity: Identity,
        attachment: bytes = b"",
    ) -> bytes:
        """Return what the maker sends to the coordinator.

        Args:
            configuration_hash: Hash of the session's whole configuration, 32 bytes.
            roster: The session's roster.
            name: The maker's name on it.
            identity: Its signing key.
            attachment: What the scheme needs besides, the same for all.

        Raises:
            InvalidInput: If the maker is not on the roster under this key, or G is closed.
            VerificationFailed: If a member's sealing key is none.
        """
        if roster.member(name).identity_key != identity.public_key:
            raise InvalidInput(f"this identity is not the one that the roster has for {name}")
        secret = self._live()
        boxes = [
            seal.seal(member.sealing_key, secret, *_info(self.session, configuration_hash, name, member.name))
            for member in roster.members
        ]
        unsigned = GroupHeader(
            sender=name,
            signature=UNSIGNED,
            session=self.session,
            configuration_hash=configuration_hash,
            commitment=self.commitment,
            boxes_root=MerkleTree(boxes).root,
            attachment_hash=_hash(attachment),
        )
        header = unsigned.signed_by(identity)
        return GroupSecretOffer(header=header, boxes=b"".join(boxes), attachment=attachment).to_bytes()

    def _live(self) -> bytes:
        if not self._secret:
            raise InvalidInput("the group secret was closed with its session")
        return self._secret


@dataclass(frozen=True)
class OpenedPart:
    """A part as an institution has opened it.

    Attributes:
        secret: G. maker: Who made it.
        attachment: What the scheme needs besides.
    """

    secret: GroupSecret
    maker: str
    attachment: bytes = field(repr=False)


@dataclass(frozen=True)
class RoutedOffer:
    """An offer as the coordinator has checked it.

    Attributes:
        maker: Who made it. commitment: What stands for its G.
        attachment: What the scheme needs besides.
        parts: Member to what is to be sent to it.
    """

    maker: str
    commitment: bytes
    attachment: bytes = field(repr=False)
    parts: Mapping[str, bytes] = field(repr=False)

    def close(self) -> None:
        """Do nothing: there is no process to end, as there is with a key."""


def route_offer(
    payload: bytes, session: bytes, configuration_hash: bytes, roster: Roster, sender: str
) -> RoutedOffer:
    """Check a maker's offer; for the coordinator, who cannot tell what is in the boxes.

    Args:
        payload: The offer.
        session: The session's identifier.
        configuration_hash: Hash of the session's whole configuration.
        roster: The session's roster.
        sender: Who sent it.

    Raises:
        PeerError: If it is not an offer of this sender for this session and roster.
    """
    offer = GroupSecretOffer.from_bytes(payload)
    header = offer.header
    if header.sender != sender:
        raise VerificationFailed("sent a group secret in another's name", peer=sender)
    _check_header(header, session, configuration_hash, roster)
    if len(offer.boxes) != BOX_BYTES * len(roster.members):
        raise MalformedMessage("did not seal the group secret once to each member", peer=sender)
    boxes = [offer.boxes[at : at + BOX_BYTES] for at in range(0, len(offer.boxes), BOX_BYTES)]
    tree = MerkleTree(boxes)
    if tree.root != header.boxes_root or _hash(offer.attachment) != header.attachment_hash:
        raise VerificationFailed("sent other boxes with a group secret than it signed for", peer=sender)
    parts = {
        name: GroupSecretPart(header=header, box=box, proof=proof, attachment=offer.attachment).to_bytes()
        for name, box, proof in zip(roster.names, boxes, tree.proofs(), strict=True)
    }
    return RoutedOffer(sender, header.commitment, offer.attachment, parts)


def open_part(
    payload: bytes,
    session: bytes,
    configuration_hash: bytes,
    roster: Roster,
    name: str,
    sealing_key: seal.SealingKey,
) -> OpenedPart:
    """Open our part of an offer; also the maker's, which keeps nothing of what it has drawn.

    Args:
        payload: What the coordinator sent.
        session: The session's identifier.
        configuration_hash: Hash of the session's whole configuration.
        roster: Our own approved roster.
        name: Our name on it.
        sealing_key: Our key for sealed messages.

    Raises:
        PeerError: If it is not a member's offer for this session, or not all that was signed for; names the
            maker where the fault is its own.
        InvalidInput: If we are not on the roster.
    """
    position = roster.index(name)
    part = GroupSecretPart.from_bytes(payload)
    header = part.header
    _check_header(header, session, configuration_hash, roster)
    count = len(roster.members)
    if len(part.proof) != NODE_BYTES * proof_length(position, count):
        raise MalformedMessage("a part of a group secret has a proof of the wrong length")
    nodes = [part.proof[at : at + NODE_BYTES] for at in range(0, len(part.proof), NODE_BYTES)]
    check_proof(header.boxes_root, part.box, position, count, nodes)
    if _hash(part.attachment) != header.attachment_hash:
        raise VerificationFailed("the attachment of a group secret is not the one that was signed for")
    try:
        secret = sealing_key.open(part.box, *_info(session, configuration_hash, header.sender, name))
    except VerificationFailed:
        raise VerificationFailed("sealed a group secret that does not open", peer=header.sender) from None
    group = GroupSecret(session, secret)
    if group.commitment != header.commitment:
        raise VerificationFailed("sealed another group secret than it committed to", peer=header.sender)
    return OpenedPart(group, header.sender, part.attachment)


def commitment_in(payload: bytes) -> bytes:
    """Return the commitment that a part names, before anything about it is checked.

    Raises:
        MalformedMessage: If it does not decode.
    """
    return GroupSecretPart.from_bytes(payload).header.commitment


def maker_in(payload: bytes) -> str:
    """Return who a part says has made the group secret, before anything about it is checked.

    Raises:
        MalformedMessage: If it does not decode.
    """
    return GroupSecretPart.from_bytes(payload).header.sender


def _check_header(header: GroupHeader, session: bytes, configuration_hash: bytes, roster: Roster) -> None:
    if header.sender not in roster.names:
        raise VerificationFailed("a group secret comes from a stranger to the roster")
    header.check_signature(roster)
    if (header.session, header.configuration_hash) != (session, configuration_hash):
        raise ContextMismatch("made a group secret for another session or configuration", peer=header.sender)


def _info(session: bytes, configuration_hash: bytes, sender: str, receiver: str) -> tuple[Part, ...]:
    return (_SEAL, session, configuration_hash, sender, receiver)


def _hash(attachment: bytes) -> bytes:
    return hashlib.sha256(attachment).digest()

"""Messages of the CKKS scheme, one frozen type each; signatures as in `secagg.signed`."""

from typing import Annotated, Final, Literal

from pydantic import Field

from fedapt_crypto import seal
from fedapt_crypto.encoding import Hash, Message, PartyName, TaggedMessage
from fedapt_crypto.secagg.ckks.flooding import MAX_DECRYPTIONS
from fedapt_crypto.secagg.ckks.parameters import MAX_INSTITUTIONS, MAX_PIECES, pieces_of
from fedapt_crypto.secagg.ckks.structure import MAX_PIECE_BYTES, MIN_PIECE_BYTES
from fedapt_crypto.secagg.scheme import SESSION_BYTES
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, SignedMessage

MAX_PUBLIC_CONTEXT_BYTES: Final = 256
"""Parameters take 86 bytes; a public or evaluation key of any kind would not fit."""
MAX_SECRET_CONTEXT_BYTES: Final = 70_000
"""62,440 bytes today, nearly all of it the secret key."""
GROUP_SECRET_BYTES: Final = 32

_MAX_SEALED_BYTES: Final = MAX_SECRET_CONTEXT_BYTES + MESSAGE_OVERHEAD_BYTES + seal.OVERHEAD_BYTES
_PIECE_HEADER_BYTES: Final = 5
_SIGNATURES_BYTES: Final = MAX_INSTITUTIONS * 8192
"""Room for a signature of every institution, each with all names."""

Session = Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
PublicContext = Annotated[bytes, Field(min_length=1, max_length=MAX_PUBLIC_CONTEXT_BYTES)]
SecretContext = Annotated[bytes, Field(min_length=1, max_length=MAX_SECRET_CONTEXT_BYTES)]
GroupSecret = Annotated[bytes, Field(min_length=GROUP_SECRET_BYTES, max_length=GROUP_SECRET_BYTES)]
Sealed = Annotated[bytes, Field(min_length=1, max_length=_MAX_SEALED_BYTES)]
Decryptions = Annotated[int, Field(ge=1, le=MAX_DECRYPTIONS)]
Piece = Annotated[bytes, Field(min_length=MIN_PIECE_BYTES, max_length=MAX_PIECE_BYTES)]
Pieces = Annotated[tuple[Piece, ...], Field(min_length=1, max_length=MAX_PIECES)]
Names = Annotated[tuple[PartyName, ...], Field(min_length=1, max_length=MAX_INSTITUTIONS)]


def max_update_bytes(vector_length: int) -> int:
    """Return the largest size of an update or a sum of that many values, without signatures of others."""
    return pieces_of(vector_length) * (MAX_PIECE_BYTES + _PIECE_HEADER_BYTES) + MESSAGE_OVERHEAD_BYTES


def max_delivery_bytes(vector_length: int) -> int:
    """Return the largest size of what the coordinator sends in a round."""
    return max_update_bytes(vector_length) + _SIGNATURES_BYTES


class SealedHash(Message):
    """SHA-256 of what is sealed to one receiver."""

    receiver: PartyName
    sealed_hash: Hash


class GroupHeader(SignedMessage):
    """Set-up, key maker: everything about the group that is not secret, and hashes of what is sealed.

    ``commitment`` is a hash of the secret part, so that all institutions know they opened the same.
    """

    kind: Literal["ckks group header"] = "ckks group header"
    session: Session
    roster_hash: Hash
    decryptions: Decryptions
    public_context: PublicContext
    commitment: Hash
    receivers: Annotated[tuple[SealedHash, ...], Field(min_length=1, max_length=MAX_INSTITUTIONS)]


class GroupOffer(TaggedMessage):
    """Set-up, key maker to coordinator: the header, and the secret part sealed to each in roster order."""

    kind: Literal["ckks group offer"] = "ckks group offer"
    max_bytes = MAX_INSTITUTIONS * (_MAX_SEALED_BYTES + MESSAGE_OVERHEAD_BYTES)
    header: GroupHeader
    sealed: Annotated[tuple[Sealed, ...], Field(min_length=1, max_length=MAX_INSTITUTIONS)]


class GroupDelivery(TaggedMessage):
    """Set-up, coordinator to one institution: the header and what is sealed to it."""

    kind: Literal["ckks group delivery"] = "ckks group delivery"
    header: GroupHeader
    sealed: Sealed


class GroupPlaintext(TaggedMessage):
    """Sealed to an institution: the context with the secret key, and g."""

    kind: Literal["ckks group secret"] = "ckks group secret"
    session: Session
    roster_hash: Hash
    sender: PartyName
    receiver: PartyName
    secret_context: SecretContext
    secret: GroupSecret


class CkksUpdate(SignedMessage):
    """Phase ``update``, institution: its vector's ciphertexts, serialized TenSEAL vectors."""

    kind: Literal["ckks update"] = "ckks update"
    execution: Hash
    pieces: Pieces


class ContributorAnnouncement(TaggedMessage):
    """Phase ``consistency``, coordinator: whose ciphertexts are in the sum, and the hash of the sum."""

    kind: Literal["ckks contributors"] = "ckks contributors"
    execution: Hash
    contributors: Names
    sum_hash: Hash


class ContributorSignature(SignedMessage):
    """Phase ``consistency``, institution: signs the one contributor set and sum that it will decrypt."""

    kind: Literal["ckks consistency"] = "ckks consistency"
    execution: Hash
    contributors: Names
    sum_hash: Hash


class SumDelivery(TaggedMessage):
    """After ``consistency``, coordinator: the sum and the signatures that allow opening it."""

    kind: Literal["ckks sum"] = "ckks sum"
    execution: Hash
    contributors: Names
    pieces: Pieces
    signatures: Annotated[tuple[ContributorSignature, ...], Field(min_length=1, max_length=MAX_INSTITUTIONS)]

"""Messages of the CKKS scheme, one frozen type each; signatures as in `secagg.signed`."""

from typing import Annotated, Final, Literal

from pydantic import Field

from fedapt_crypto.encoding import Hash, PartyName, TaggedMessage
from fedapt_crypto.secagg.ckks.flooding import MAX_DECRYPTIONS
from fedapt_crypto.secagg.ckks.parameters import MAX_INSTITUTIONS, MAX_PIECES, VALUES_PER_PIECE, pieces_of
from fedapt_crypto.secagg.ckks.structure import MAX_PIECE_BYTES, MIN_PIECE_BYTES
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, SignedMessage
from fedapt_crypto.secagg.tags import TagField

MAX_PUBLIC_CONTEXT_BYTES: Final = 256
"""Parameters take 86 bytes; a public or evaluation key of any kind would not fit."""
MAX_SECRET_CONTEXT_BYTES: Final = 70_000
"""62,440 bytes today, nearly all of it the secret key."""

_TAG_BYTES: Final = 16
_PIECE_HEADER_BYTES: Final = 5
_SIGNATURES_BYTES: Final = MAX_INSTITUTIONS * 8192
"""Room for a signature of every institution, each with all names."""

PublicContext = Annotated[bytes, Field(min_length=1, max_length=MAX_PUBLIC_CONTEXT_BYTES)]
SealedContext = Annotated[bytes, Field(min_length=1, max_length=MAX_SECRET_CONTEXT_BYTES + _TAG_BYTES)]
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


class GroupAttachment(TaggedMessage):
    """Set-up, maker: what comes with the group secret, the same for all institutions and the coordinator.

    ``sealed_context`` is the context with the secret key under ChaCha20-Poly1305 (RFC 8439), with a key that
    follows from the group secret and a nonce of zeros.
    """

    kind: Literal["ckks group"] = "ckks group"
    decryptions: Decryptions
    public_context: PublicContext
    sealed_context: SealedContext


class CkksUpdate(SignedMessage):
    """Phase ``update``, institution: its vector's ciphertexts, serialized TenSEAL vectors, and its tag."""

    kind: Literal["ckks update"] = "ckks update"
    max_bytes = max_update_bytes(MAX_PIECES * VALUES_PER_PIECE)
    execution: Hash
    pieces: Pieces
    update_tag: TagField


class ContributorAnnouncement(TaggedMessage):
    """Phase ``consistency``, coordinator: whose ciphertexts are in the sum, and the hash of sum and tag."""

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
    """After ``consistency``, coordinator: the sum, its tag and the signatures that allow opening it."""

    kind: Literal["ckks sum"] = "ckks sum"
    max_bytes = max_delivery_bytes(MAX_PIECES * VALUES_PER_PIECE)
    execution: Hash
    contributors: Names
    pieces: Pieces
    sum_tag: TagField
    signatures: Annotated[tuple[ContributorSignature, ...], Field(min_length=1, max_length=MAX_INSTITUTIONS)]

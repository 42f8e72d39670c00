"""Messages of the masking protocol, one frozen type each; how they are signed: `signed`."""

from typing import Annotated, Literal

from pydantic import Field

from fedapt_crypto.encoding import Hash, TaggedMessage
from fedapt_crypto.roster import SealingPublicKey
from fedapt_crypto.secagg.masking.parties import INDEX_BYTES, MAX_PARTIES
from fedapt_crypto.secagg.signed import SignedMessage
from fedapt_crypto.secagg.tags import TagField

Indices = Annotated[bytes, Field(max_length=INDEX_BYTES * MAX_PARTIES)]
"""Ascending roster indices, see `parties`."""
Digests = Annotated[bytes, Field(max_length=32 * MAX_PARTIES)]
"""SHA-256 values end to end."""

MAX_SHARE_MESSAGE_BYTES = 16 << 20
"""Enough for full graphs of 1,000 institutions and for neighbour graphs of 10,000."""


class Advertise(SignedMessage):
    """Phase 0, institution: two fresh public keys for this round and the neighbours it has drawn."""

    kind: Literal["advertise"] = "advertise"
    context: Hash
    seal_key: SealingPublicKey
    mask_key: SealingPublicKey
    neighbours: Indices


class AdvertiseList(TaggedMessage):
    """Phase 0, coordinator: who advertised, and the advertisements that concern the receiver.

    ``digests`` has a SHA-256 of each signed advertisement, in the order of ``participants``; so that all
    agree on the whole without being sent it.
    """

    kind: Literal["advertise list"] = "advertise list"
    max_bytes = MAX_SHARE_MESSAGE_BYTES
    participants: Indices
    digests: Digests
    advertises: Annotated[tuple[Advertise, ...], Field(min_length=1)]


class ShareHeader(SignedMessage):
    """Phase 1: a dealer's commitments to its secrets, and the Merkle root of its records.

    There is one record (see `records`) for each neighbour and for the dealer itself.
    """

    kind: Literal["share header"] = "share header"
    execution: Hash
    self_mask: Hash
    root: Hash
    records_root: Hash
    record_count: Annotated[int, Field(ge=1, le=MAX_PARTIES)]


class ShareMessage(TaggedMessage):
    """Phase 1, institution: the signed header, and its records end to end."""

    kind: Literal["share"] = "share"
    max_bytes = MAX_SHARE_MESSAGE_BYTES
    header: ShareHeader
    records: bytes


class ShareDelivery(TaggedMessage):
    """Phase 1, coordinator: who dealt, a digest of each signed header, and what is for the receiver.

    ``headers`` are those of the dealers around the receiver, ``parcels`` (see `records`) stand end to end
    in the same order.
    """

    kind: Literal["share delivery"] = "share delivery"
    max_bytes = MAX_SHARE_MESSAGE_BYTES
    dealers: Indices
    digests: Digests
    headers: tuple[ShareHeader, ...]
    parcels: bytes


class MaskedInput(SignedMessage):
    """Phase 2, institution: stands before the masked vector (see `masked_input`), whose hash it signs.

    ``masked_tag`` is the vector's tag (see `fedapt_crypto.sum_tag`), masked like the vector.
    """

    kind: Literal["masked input"] = "masked input"
    execution: Hash
    transcript: Hash
    masked_tag: TagField
    vector_hash: Hash


class SurvivorAnnouncement(TaggedMessage):
    """Phase 3, coordinator: whose masked inputs are in the sum."""

    kind: Literal["survivors"] = "survivors"
    execution: Hash
    transcript: Hash
    survivors: Indices


class ConsistencySignature(SignedMessage):
    """Phase 3, institution: signs the one survivor set it will help to unmask, by its hash."""

    kind: Literal["consistency"] = "consistency"
    execution: Hash
    transcript: Hash
    survivors_hash: Hash


class UnmaskRequest(TaggedMessage):
    """Phase 4, coordinator: which secret of whom to reveal, and the signatures that allow it.

    ``signatures`` has 64 bytes for each of ``signers``, over their `ConsistencySignature`.
    """

    kind: Literal["unmask request"] = "unmask request"
    execution: Hash
    survivors: Indices
    dropped: Indices
    signers: Indices
    signatures: Annotated[bytes, Field(max_length=64 * MAX_PARTIES)]


class UnmaskShares(SignedMessage):
    """Phase 4, institution: self-mask shares of survivors, root shares of those who dropped out.

    Shares stand in the order of their owners, 33 bytes each.
    """

    kind: Literal["unmask"] = "unmask"
    execution: Hash
    survivors: Indices
    self_mask_shares: bytes
    dropped: Indices
    root_shares: bytes

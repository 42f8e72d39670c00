"""The sum as the coordinator gives it to all, and how an institution knows that it is the sum.

One such pair (X, T) an execution: the coordinator signs it, so two different ones convict it. What is checked
is the tag (`fedapt_crypto.sum_tag`), the coordinator's signature says only whose fault it is.
"""

from typing import Final, Literal

import numpy as np

from fedapt_crypto.encoding import Hash, Signature, TaggedMessage
from fedapt_crypto.errors import ContextMismatch, MalformedMessage
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.masks import RANGE_VALUES
from fedapt_crypto.parallel import over_ranges
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.masking.masked_input import chunk_digest, vector_hash
from fedapt_crypto.secagg.scheme import MAX_VECTOR_LENGTH, EncodedSum, Opening, VerifiedSum
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES
from fedapt_crypto.secagg.tags import TagField, tag_from_bytes, tag_to_bytes

_SIGNED: Final = "secagg sum"


class SumAnnouncement(TaggedMessage):
    """After the last phase, coordinator: the sum of the survivors' inputs, and of their tags.

    ``total`` is X, little-endian uint32. ``signature`` is the coordinator's on execution, survivors, the hash
    of X and the tag.
    """

    kind: Literal["sum"] = "sum"
    max_bytes = 4 * MAX_VECTOR_LENGTH + MESSAGE_OVERHEAD_BYTES
    execution: Hash
    survivors_hash: Hash
    total: bytes
    sum_tag: TagField
    signature: Signature


def announce(
    identity: Identity, execution: bytes, survivors_hash: bytes, total: RingVector, tag: int
) -> bytes:
    """Return what the coordinator sends to all.

    Args:
        identity: The coordinator's signing key.
        execution: Identifier of the execution.
        survivors_hash: What the survivors have signed.
        total: X, (vector_length,) uint32.
        tag: T.
    """
    packed, whole = tag_to_bytes(tag), total.astype("<u4", copy=False)
    signature = identity.sign(_SIGNED, execution, survivors_hash, hash_of(whole), packed)
    return SumAnnouncement(
        execution=execution,
        survivors_hash=survivors_hash,
        total=whole.tobytes(),
        sum_tag=packed,
        signature=signature,
    ).to_bytes()


def check_sum(
    message: SumAnnouncement, opening: Opening, group: GroupSecret, coordinator: bytes
) -> VerifiedSum:
    """Check the announced sum of an execution in which we have revealed shares.

    Args:
        message: What the coordinator sent.
        opening: What we know of that execution.
        group: The session's group secret.
        coordinator: Its identity key, from our roster.

    Raises:
        PeerError: If it is another execution, not signed, or not that sum. In the last case a survivor may
            be at fault as well as the coordinator: nobody can tell.
    """
    about = (message.execution, message.survivors_hash)
    if about != (opening.execution, opening.survivors_hash):
        raise ContextMismatch("a sum belongs to another execution or survivor set", peer=COORDINATOR)
    context = opening.context
    if len(message.total) != 4 * context.vector_length:
        raise MalformedMessage("a sum has another length than the updates", peer=COORDINATOR)
    total: RingVector = np.frombuffer(message.total, "<u4").astype(np.uint32, copy=False)
    # Hash, tag and extremes in one pass: a range is in the processor's cache for all of them.
    check = group.sum_check(opening.execution, opening.transcript, length=context.vector_length)
    data, signed = total.data.cast("B"), total.view(np.int32)

    def look(start: int, stop: int) -> tuple[bytes, int, int, int]:
        part = signed[start:stop]
        chunk = chunk_digest(data[4 * start : 4 * stop])
        return chunk, check.part(total[start:stop], start), int(part.min()), int(part.max())

    chunks, parts, least, most = zip(*over_ranges(total.size, RANGE_VALUES, look), strict=True)
    hashed = vector_hash(len(data), list(chunks))
    verify(coordinator, message.signature, _SIGNED, *about, hashed, message.sum_tag, signer=COORDINATOR)
    fixed = context.fixed_point
    tag = tag_from_bytes(message.sum_tag, COORDINATOR)
    extremes = (min(least), max(most))
    check.verify_parts(parts, extremes, tag, opening.survivors, limit=fixed.limit)
    aggregate = EncodedSum(total, fixed, opening.survivors)
    return VerifiedSum(aggregate, opening.survivors_hash, hashed, message.sum_tag)


def hash_of(total: RingVector) -> bytes:
    """Return the hash by which a sum is signed: a tree over its chunks, as over a masked vector."""
    data = total.data.cast("B")
    chunks: list[bytes] = over_ranges(
        total.size, RANGE_VALUES, lambda start, stop: chunk_digest(data[4 * start : 4 * stop])
    )
    return vector_hash(len(data), chunks)

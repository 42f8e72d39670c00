"""Open the sum of a round that an institution was not there for at the end.

It has vanished or was late, and is back with the group key but without the round's machine. The sum is as
good as if it had been there: a threshold of its contributors signed the ciphertext and its tag, and the tag
proves that it is the sum of exactly those contributors' updates.
"""

from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    MalformedMessage,
    PeerError,
    TooFewParticipants,
)
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.secagg.ckks.group import GroupKey, execution_id, sum_hash, transcript_id
from fedapt_crypto.secagg.ckks.messages import SumDelivery, max_delivery_bytes
from fedapt_crypto.secagg.scheme import Opening, RealSum, RoundContext, VerifiedSum


def open_missed_sum(
    context: RoundContext, roster: Roster, group: GroupKey, payload: bytes, signed: Opening | None = None
) -> VerifiedSum:
    """Check and open a delivered sum; counts as the execution's one decryption.

    Args:
        context: The round as this institution would have known it.
        roster: Its own approved roster.
        group: The session's key; discarded if the sum does not hold.
        payload: The coordinator's `SumDelivery`.
        signed: What it has itself signed in that execution, if it has.

    Raises:
        PeerError: If anything does not hold.
    """
    delivery = SumDelivery.from_bytes(payload, max_bytes=max_delivery_bytes(context.vector_length))
    try:
        check_delivery(delivery, execution_id(context), context.threshold, roster)
        hashed = hash_of(delivery)
        transcript = transcript_id(delivery.execution, delivery.contributors, hashed)
        if signed is not None and transcript != signed.transcript:
            raise ContextMismatch("a sum is not the one that we signed for", peer=COORDINATOR)
        total = group.decrypt(context, delivery.contributors, delivery.pieces, delivery.sum_tag)
    except FedaptError:
        group.discard()
        raise
    return VerifiedSum(RealSum(total, delivery.contributors), transcript, hashed, delivery.sum_tag)


def hash_of(delivery: SumDelivery) -> bytes:
    """Return the hash by which a delivered sum was signed."""
    return sum_hash(delivery.execution, delivery.pieces, delivery.sum_tag)


def check_delivery(delivery: SumDelivery, execution: bytes, threshold: int, roster: Roster) -> None:
    """Check that a threshold of contributors signed this very sum of this very set.

    Raises:
        PeerError: If not.
    """
    contributors = delivery.contributors
    if delivery.execution != execution:
        raise ContextMismatch("a sum belongs to another round, model, configuration or roster")
    if contributors != tuple(name for name in roster.names if name in set(contributors)):
        raise MalformedMessage("a contributor set names strangers, repeats a party or is out of roster order")
    signers = [signature.sender for signature in delivery.signatures]
    if len(set(signers)) != len(signers) or not set(signers) <= set(contributors):
        raise PeerError("the signatures repeat a signer or come from one who is no contributor")
    if min(len(signers), len(contributors)) < threshold:
        raise TooFewParticipants(f"{len(signers)} parties signed the sum where {threshold} must")
    signed = (execution, contributors, hash_of(delivery))
    for signature in delivery.signatures:
        signature.check_signature(roster)
        if (signature.execution, signature.contributors, signature.sum_hash) != signed:
            raise ContextMismatch("signed another contributor set or sum", peer=signature.sender)

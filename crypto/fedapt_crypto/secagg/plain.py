"""No protection: the coordinator sees every update. For experiments and comparisons only.

The same interface as masking, so that nothing else has to know; one phase, ``update``. The sum is what the
coordinator says it is: there is nothing to check it by.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedapt_crypto.encoding import (
    MAX_CONTAINER_ITEMS,
    Hash,
    PartyName,
    Signature,
    TaggedMessage,
    decode_one_of,
    kinds_of,
)
from fedapt_crypto.errors import (
    ContextMismatch,
    MalformedMessage,
    RoundAborted,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import COORDINATOR, Roster
from fedapt_crypto.secagg.scheme import (
    MAX_VECTOR_LENGTH,
    Aggregate,
    Outgoing,
    Phase,
    RealSum,
    RoundContext,
    VerifiedSum,
    check_update,
)
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, UNSIGNED, SignedMessage


class PlainUpdate(SignedMessage):
    """An update in the clear, little-endian float32."""

    kind: Literal["update"] = "update"
    max_bytes = 4 * MAX_VECTOR_LENGTH + MESSAGE_OVERHEAD_BYTES
    context: Hash
    values: bytes


_KINDS = kinds_of(PlainUpdate)


class PlainSum(TaggedMessage):
    """The sum of the contributors' updates as the coordinator states it, little-endian float64, signed."""

    kind: Literal["plain sum"] = "plain sum"
    max_bytes = 8 * MAX_VECTOR_LENGTH + MESSAGE_OVERHEAD_BYTES
    context: Hash
    contributors: Annotated[tuple[PartyName, ...], Field(min_length=1, max_length=MAX_CONTAINER_ITEMS)]
    total: bytes
    signature: Signature

    @property
    def hash(self) -> bytes:
        """What stands for it: SHA-256 of all but the signature."""
        return digest("plain sum", self.context, self.contributors, self.total)


class PlainInstitution:
    """One institution that sends its update in the clear."""

    def __init__(
        self,
        context: RoundContext,
        roster: Roster,
        name: str,
        identity: Identity,
        update: NDArray[np.floating],
    ) -> None:
        check_update(update, context.vector_length)
        self._context = context
        self._roster = roster
        self._verified: VerifiedSum | None = None
        self._name = name
        self._identity = identity
        self._update: NDArray[np.floating] | None = update

    @property
    def finished(self) -> bool:
        """Whether the sum has come."""
        return self._verified is not None

    @property
    def saturated(self) -> int:
        """Nothing is clipped here."""
        return 0

    @property
    def aggregate(self) -> Aggregate | None:
        """What the coordinator says is the sum."""
        return None if self._verified is None else self._verified.aggregate

    @property
    def verified(self) -> VerifiedSum | None:
        """The same with what stands for it: it is signed, and nothing else about it is known."""
        return self._verified

    @property
    def transcript(self) -> bytes | None:
        """The context's hash: nothing else is agreed on here."""
        return self._context.hash

    def start(self) -> Outgoing:
        """Return the signed update; a second call raises `UnexpectedMessage`."""
        if self._update is None:
            raise UnexpectedMessage("this round has already been started")
        values, self._update = self._update.astype("<f4").tobytes(), None
        unsigned = PlainUpdate(
            sender=self._name, signature=UNSIGNED, context=self._context.hash, values=values
        )
        return Outgoing(Phase.UPDATE, unsigned.signed_by(self._identity).to_bytes(), releases=True)

    def receive(self, payload: bytes) -> None:
        """Take what the coordinator says is the sum.

        Raises:
            PeerError: If it did not sign it for this round, or it is none.
        """
        if self._update is not None or self._verified is not None:
            raise UnexpectedMessage(f"a payload of {len(payload)} bytes came where none was due")
        message = PlainSum.from_bytes(payload, max_bytes=plain_sum_bytes(self._context, self._roster))
        self._verified = take_sum(message, self._context, self._roster)

    def abort_payload(self) -> bytes | None:
        """Return nothing: there is no protocol to abort."""
        return None


def plain_sum_bytes(context: RoundContext, roster: Roster) -> int:
    """Return the most that a `PlainSum` of a round takes."""
    return 8 * context.vector_length + 68 * len(roster.members) + MESSAGE_OVERHEAD_BYTES


def take_sum(message: PlainSum, context: RoundContext, roster: Roster) -> VerifiedSum:
    """Return the sum that a coordinator states, of whose truth nothing is known.

    Args:
        message: What it sent.
        context: The round.
        roster: Our own approved roster.

    Raises:
        PeerError: If it did not sign it for this round, or it is none.
    """
    verify(roster.coordinator_key, message.signature, "plain sum", message.hash, signer=COORDINATOR)
    if message.context != context.hash:
        raise ContextMismatch("a sum belongs to another round", peer=COORDINATOR)
    named = set(message.contributors)
    if message.contributors != tuple(name for name in roster.names if name in named):
        raise MalformedMessage("a contributor set names strangers, repeats a party or is out of roster order")
    total = np.frombuffer(message.total, "<f8") if len(message.total) == 8 * context.vector_length else None
    if total is None or not np.isfinite(total).all():
        raise MalformedMessage("a sum is none of finite values for this model", peer=COORDINATOR)
    aggregate = RealSum(total.astype(np.float64), message.contributors)
    return VerifiedSum(aggregate, context.hash, message.hash, b"")


class PlainCoordinator:
    """A coordinator that adds up updates in the clear.

    Args:
        context: The round that all parties must agree on.
        roster: The session's roster.
        identity: The coordinator's signing key.
    """

    def __init__(self, context: RoundContext, roster: Roster, identity: Identity) -> None:
        self._context = context
        self._identity = identity
        self._roster = roster
        self._gone: set[str] = set()
        self._arrived: set[str] = set()
        self._sum = np.zeros(context.vector_length)
        self._aggregate: Aggregate | None = None
        self._over = False

    @property
    def phase(self) -> Phase | None:
        """`Phase.UPDATE` until the round is over."""
        return None if self._over else Phase.UPDATE

    @property
    def waiting_for(self) -> frozenset[str]:
        """Names that may still send."""
        return frozenset(self._roster.names) - self._gone - self._arrived

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, once the round is over."""
        return self._aggregate

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose update is in the sum, once the round is over."""
        return self._aggregate.contributors if self._aggregate is not None else ()

    @property
    def revealing(self) -> tuple[str, ...]:
        """Nobody: there are no shares in this scheme."""
        return ()

    @property
    def false_senders(self) -> tuple[str, ...]:
        """Nobody: this scheme has nothing that proves it."""
        return ()

    @property
    def transcript(self) -> bytes | None:
        """The context's hash: nothing else is agreed on here."""
        return self._context.hash

    def drop(self, name: str) -> None:
        """Count ``name`` as gone."""
        self._gone.add(name)

    def receive(self, sender: str, payload: bytes) -> None:
        """Take an update; see `scheme.CoordinatorRound.receive`."""
        limit = 4 * self._context.vector_length + MESSAGE_OVERHEAD_BYTES
        message = decode_one_of(payload, _KINDS, max_bytes=limit)
        if self._over or sender not in self.waiting_for:
            raise UnexpectedMessage("sent an update late or twice", peer=sender)
        if message.sender != sender:
            raise VerificationFailed("sent a message in another's name", peer=sender)
        message.check_signature(self._roster)
        if message.context != self._context.hash:
            raise ContextMismatch("takes part in another round, model, configuration or roster", peer=sender)
        if len(message.values) != 4 * self._context.vector_length:
            raise MalformedMessage("sent an update of the wrong length", peer=sender)
        values = np.frombuffer(message.values, "<f4")
        if not np.isfinite(values).all():
            raise MalformedMessage("sent an update with values that are not finite", peer=sender)
        self._arrived.add(sender)
        self._sum += values

    def close_phase(self) -> dict[str, bytes]:
        """Finish with whoever sent; raises `RoundAborted` below the threshold."""
        self._over = True
        if len(self._arrived) < self._context.threshold:
            raise RoundAborted(
                f"{len(self._arrived)} of {self._context.participants} institutions sent an update,"
                f" {self._context.threshold} are needed"
            )
        contributors = tuple(name for name in self._roster.names if name in self._arrived)
        self._aggregate = RealSum(self._sum, contributors)
        unsigned = PlainSum(
            context=self._context.hash,
            contributors=contributors,
            total=self._sum.astype("<f8", copy=False).tobytes(),
            signature=UNSIGNED,
        )
        signature = self._identity.sign("plain sum", unsigned.hash)
        stated = unsigned.model_copy(update={"signature": signature}).to_bytes()
        return dict.fromkeys(contributors, stated)

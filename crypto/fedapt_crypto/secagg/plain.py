"""No protection: the coordinator sees every update. For experiments and comparisons only.

The same interface as masking, so that nothing else has to know; one phase, ``update``.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.encoding import Hash, decode_one_of, kinds_of
from fedapt_crypto.errors import (
    ContextMismatch,
    MalformedMessage,
    RoundAborted,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.scheme import Aggregate, Outgoing, Phase, RoundContext
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, UNSIGNED, SignedMessage


class PlainUpdate(SignedMessage):
    """An update in the clear, little-endian float32."""

    kind: Literal["update"] = "update"
    context: Hash
    values: bytes


_KINDS = kinds_of(PlainUpdate)


class PlainInstitution:
    """One institution that sends its update in the clear."""

    def __init__(
        self, context: RoundContext, name: str, identity: Identity, update: NDArray[np.floating]
    ) -> None:
        self._context = context
        self._name = name
        self._identity = identity
        self._update: NDArray[np.floating] | None = update

    @property
    def finished(self) -> bool:
        """Whether the update has been handed out."""
        return self._update is None

    @property
    def saturated(self) -> int:
        """Nothing is clipped here."""
        return 0

    @property
    def aggregate(self) -> Aggregate | None:
        """Nothing: in this scheme the sum is the coordinator's."""
        return None

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

    def receive(self, payload: bytes) -> Outgoing:
        """Refuse: the coordinator has nothing to say in this scheme.

        Raises:
            UnexpectedMessage: Always.
        """
        raise UnexpectedMessage(f"a payload of {len(payload)} bytes came where none was due")

    def abort_payload(self) -> bytes | None:
        """Return nothing: there is no protocol to abort."""
        return None


class PlainCoordinator:
    """A coordinator that adds up updates in the clear."""

    def __init__(self, context: RoundContext, roster: Roster) -> None:
        self._context = context
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
        self._aggregate = Aggregate(self._sum, contributors)
        return {}

"""The institution's side of CKKS aggregation, without I/O but for its worker process.

What must hold, in order:

* everything is verified against our own roster and our own context, never against what we are told;
* one update is encrypted once; one contributor set and sum is signed; one sum is decrypted;
* what we decrypt is what at least ``threshold`` institutions signed;
* a sum is taken only if it is one of integers and its tag holds: then it is the sum of what the contributors
  we signed have tagged;
* a sum that does not hold burns the key: a coordinator gets one try, not an oracle.

Whoever vanishes after ``update`` is in the sum; there is nothing to recover.
"""

from collections.abc import Collection
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    MalformedMessage,
    TooFewParticipants,
    UnexpectedMessage,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.ckks.catch_up import check_delivery, hash_of
from fedapt_crypto.secagg.ckks.group import GroupKey, execution_id, transcript_id
from fedapt_crypto.secagg.ckks.messages import (
    CkksUpdate,
    ContributorAnnouncement,
    ContributorSignature,
    SumDelivery,
    max_delivery_bytes,
)
from fedapt_crypto.secagg.institution_machine import InstitutionMachine, Transitions
from fedapt_crypto.secagg.scheme import (
    Admission,
    Opening,
    Outgoing,
    Phase,
    RealSum,
    RoundContext,
    VerifiedSum,
    admit_all,
)
from fedapt_crypto.secagg.signed import UNSIGNED


class State(Enum):
    """What the institution waits for."""

    NEW = auto()
    UPDATED = auto()
    SIGNED = auto()
    FINISHED = auto()
    ABORTED = auto()


class CkksInstitution(InstitutionMachine):
    """One institution in one round of CKKS aggregation; `InstitutionMachine` has what schemes share.

    Args:
        context: The round as this institution knows it.
        roster: Its own approved roster.
        name: Its name on the roster.
        identity: Its signing key.
        update: The vector to contribute, shape (vector_length,).
        group: The session's key; used, and burned by a sum that does not hold.
        minimum_participants: Its own floor for the number of contributors; the threshold holds anyway.
        confirmed: Who has signed that it holds the same group secret; ``None`` for everybody.
        admits: Says whether it may sign a contributor set besides.

    Raises:
        InvalidInput: If the parameters cannot hold the round or the key cannot serve it.
    """

    _states = State

    def __init__(
        self,
        context: RoundContext,
        roster: Roster,
        name: str,
        identity: Identity,
        update: NDArray[np.floating],
        group: GroupKey,
        *,
        minimum_participants: int = 2,
        confirmed: Collection[str] | None = None,
        admits: Admission = admit_all,
    ) -> None:
        super().__init__(context, roster, name, identity, update, minimum_participants=minimum_participants)
        group.check_usable(context)
        self._group = group
        self._update: NDArray[np.floating] | None = update
        self._execution = execution_id(context)
        self._admits = admits
        self._confirmed = frozenset(roster.names if confirmed is None else confirmed)
        self._contributors: tuple[str, ...] = ()
        self._sum_hash = b""

    @property
    def _transitions(self) -> Transitions:
        return _TRANSITIONS

    @property
    def _max_bytes(self) -> int:
        return max_delivery_bytes(self._context.vector_length)

    def _forget(self) -> None:
        self._update = None

    @property
    def transcript(self) -> bytes | None:
        """What this institution has signed about contributors and sum; ``None`` before that."""
        if not self._contributors:
            return None
        return transcript_id(self._execution, self._contributors, self._sum_hash)

    def start(self) -> Outgoing:
        """Phase ``update``: encode, tag, encrypt and sign the update.

        Raises:
            UnexpectedMessage: If called twice.
            ValueError: If the update holds values that are not finite.
        """
        if self._state is not State.NEW or self._update is None:
            raise UnexpectedMessage("this round has already been started")
        words, self._saturated = self._context.fixed_point.encode(self._update)
        pieces, tag = self._group.encrypt(self._context, self._name, words)
        unsigned = CkksUpdate(
            sender=self._name, signature=UNSIGNED, execution=self._execution, pieces=pieces, update_tag=tag
        )
        self._update = None
        self._state = State.UPDATED
        return Outgoing(Phase.UPDATE, unsigned.signed_by(self._identity).to_bytes(), releases=True)

    def _sign(self, message: ContributorAnnouncement) -> Outgoing:
        self._check_execution(message.execution)
        self._check_contributors(message.contributors)
        self._admits(message.contributors)
        self._contributors, self._sum_hash = message.contributors, message.sum_hash
        unsigned = ContributorSignature(
            sender=self._name,
            signature=UNSIGNED,
            execution=self._execution,
            contributors=self._contributors,
            sum_hash=self._sum_hash,
        )
        self._state = State.SIGNED
        payload = unsigned.signed_by(self._identity).to_bytes()
        return Outgoing(Phase.CONSISTENCY, payload, opening=self._opening())

    def _opening(self) -> Opening:
        """What our signature opens, with enough others: the sum, to every institution that is given it."""
        transcript = transcript_id(self._execution, self._contributors, self._sum_hash)
        return Opening(
            context=self._context,
            execution=self._execution,
            transcript=transcript,
            survivors=self._contributors,
            survivors_hash=transcript,
        )

    def _open(self, message: SumDelivery) -> None:
        try:
            self._check_sum(message)
            total = self._group.decrypt(self._context, self._contributors, message.pieces, message.sum_tag)
        except FedaptError:
            self._group.discard()
            raise
        transcript = transcript_id(self._execution, self._contributors, self._sum_hash)
        aggregate = RealSum(total, self._contributors)
        self._verified = VerifiedSum(aggregate, transcript, self._sum_hash, message.sum_tag)
        self._state = State.FINISHED

    def _check_sum(self, message: SumDelivery) -> None:
        self._check_execution(message.execution)
        if message.contributors != self._contributors:
            raise ContextMismatch("the sum is of other contributors than the ones we signed for")
        if hash_of(message) != self._sum_hash:
            raise ContextMismatch("the sum is not the one we signed for")
        check_delivery(message, self._execution, self._context.threshold, self._roster)

    def _check_execution(self, execution: bytes) -> None:
        if execution != self._execution:
            raise ContextMismatch("a message belongs to another round, model, configuration or roster")

    def _check_contributors(self, names: tuple[str, ...]) -> None:
        """Check order, uniqueness, membership, our own presence, and the threshold."""
        in_order = tuple(name for name in self._roster.names if name in set(names))
        if names != in_order:
            raise MalformedMessage(
                "the contributor set names strangers, repeats a party or is out of roster order"
            )
        if self._name not in names:
            raise ContextMismatch("the contributor set leaves us out")
        if not self._confirmed.issuperset(names):
            raise ContextMismatch("the contributor set has parties that have not confirmed the group secret")
        if len(names) < self._minimum:
            raise TooFewParticipants(
                f"the contributor set has {len(names)} parties where at least {self._minimum} must be"
            )


_TRANSITIONS: Final[Transitions] = MappingProxyType(
    {
        State.UPDATED: (ContributorAnnouncement, CkksInstitution._sign),
        State.SIGNED: (SumDelivery, CkksInstitution._open),
    }
)
"""In each state one kind of message moves the machine one state on; any error in it ends in ABORTED."""

"""What the institution's machines of all interactive schemes have in common: one table, one way to give up.

A message that is not due changes nothing. A due message whose content does not hold ends the machine: it
forgets its secrets and signs a statement of why. No state is ever left twice.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.encoding import TaggedMessage, decode_one_of, kinds_of
from fedapt_crypto.errors import FedaptError, PeerError, RunFailed, UnexpectedMessage
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.scheme import Aggregate, Outgoing, RoundContext, VerifiedSum, check_update
from fedapt_crypto.secagg.signed import UNSIGNED, Abort, abort_reason

Transitions = Mapping[Any, tuple[type[TaggedMessage], Callable[..., Outgoing | None]]]
"""State to the one kind of message that is due in it, and the method that answers it."""


def kinds_due(transitions: Transitions) -> Mapping[str, type[TaggedMessage]]:
    """Return what a machine with these transitions decodes at all, by kind."""
    return kinds_of(*(due for due, _ in transitions.values()))


class InstitutionMachine(ABC):
    """One institution in one round, single use; `scheme.InstitutionRound` says what callers may expect.

    A scheme says which states there are, what is due in each, and what must be forgotten.

    Args:
        context: The round as this institution knows it.
        roster: Its own approved roster.
        name: Its name on the roster.
        identity: Its signing key.
        update: The vector to contribute, shape (vector_length,).
        minimum_participants: Its own floor for the number of contributors; the threshold holds anyway.

    Raises:
        UpdateUnusable: If the update holds values that are not finite; no secret has been drawn yet.
    """

    _states: type[Enum]
    """The scheme's states; NEW, FINISHED and ABORTED must be among them."""

    def __init__(
        self,
        context: RoundContext,
        roster: Roster,
        name: str,
        identity: Identity,
        update: NDArray[np.floating],
        *,
        minimum_participants: int,
    ) -> None:
        check_update(update, context.vector_length)
        if roster.member(name).identity_key != identity.public_key:
            raise ValueError("this identity is not the one the roster has under that name")
        self._context = context
        self._roster = roster
        self._name = name
        self._identity = identity
        self._minimum = max(minimum_participants, context.threshold)
        self._state = self._states["NEW"]
        self._abort: bytes | None = None
        self._saturated = 0
        self._verified: VerifiedSum | None = None

    @property
    def state(self) -> Enum:
        """Where the machine stands."""
        return self._state

    @property
    def finished(self) -> bool:
        """Whether nothing more will be sent."""
        return self._state.name in ("FINISHED", "ABORTED")

    @property
    def saturated(self) -> int:
        """How many values were clipped by the encoding; stays inside the institution."""
        return self._saturated

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, once it has come and holds."""
        return None if self._verified is None else self._verified.aggregate

    @property
    def verified(self) -> VerifiedSum | None:
        """The same with what stands for it."""
        return self._verified

    @property
    @abstractmethod
    def _transitions(self) -> Transitions:
        """What is due in which state."""

    @property
    @abstractmethod
    def _max_bytes(self) -> int:
        """Size above which no message is looked at."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop every secret of the round."""

    def receive(self, payload: bytes) -> Outgoing | None:
        """Take the coordinator's next message and answer it; see `scheme.InstitutionRound.receive`."""
        if self._state not in self._transitions:
            raise UnexpectedMessage("this round is over or was not started")
        expected, answer = self._transitions[self._state]
        message = decode_one_of(payload, kinds_due(self._transitions), max_bytes=self._max_bytes)
        if type(message) is not expected:
            raise UnexpectedMessage(f"{message.kind!r} came where {expected.tag()!r} was due")
        try:
            return answer(self, message)
        except FedaptError as error:
            self._give_up(error)
            raise
        except Exception:  # ours, then: whatever it is, the secrets go with the round
            self._give_up(RunFailed("the round could not be gone on with"))
            raise

    def abort_payload(self) -> bytes | None:
        """Return the signed statement of why this institution aborted, if it did."""
        return self._abort

    def _give_up(self, error: FedaptError) -> None:
        self._forget()
        self._state = self._states["ABORTED"]
        accused = error.peer if isinstance(error, PeerError) and error.peer in self._roster.names else None
        unsigned = Abort(
            sender=self._name,
            signature=UNSIGNED,
            context=self._context.hash,
            reason=abort_reason(error),
            accused=accused,
        )
        self._abort = unsigned.signed_by(self._identity).to_bytes()

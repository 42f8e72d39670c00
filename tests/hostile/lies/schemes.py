"""Lies under the other schemes: ciphertexts that the coordinator adds, and sums that nobody can check."""

from collections.abc import Callable, Collection

import numpy as np

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.ckks.messages import ContributorAnnouncement, SumDelivery
from fedapt_crypto.secagg.plain import PlainSum
from fedapt_secure.protocol import messages as m
from tests.hostile.behaviour import FOUR
from tests.hostile.liar import Lie, Told


class ForgedConfirmations(Lie):
    """Says that everybody has confirmed the group's key, with signatures that are none."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart):
            return [message]
        forged = tuple(one.model_copy(update={"signature": bytes(64)}) for one in message.confirmations)
        return [message.model_copy(update={"confirmations": forged})]


class TooFewConfirmations(Lie):
    """Begins rounds with fewer confirmations of the group's key than a round needs."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart):
            return [message]
        return [message.model_copy(update={"confirmations": message.confirmations[:2]})]


class ChangedSumOfCiphertexts(Lie):
    """Delivers another sum than the one that was signed.

    Args:
        to: To whom.
    """

    def __init__(self, to: Collection[str] = FOUR) -> None:
        self._to = to
        self._first: SumDelivery | None = None

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.Aggregation) or name not in self._to:
            return [message]
        try:
            delivery = SumDelivery.from_bytes(message.payload, max_bytes=m.MAX_FRAME_BYTES)
        except MalformedMessage:
            return [message]
        if message.round == 1:
            self._first = delivery
            return [message]
        assert self._first is not None
        changed = delivery.model_copy(update={"pieces": self._first.pieces})
        return [message.model_copy(update={"payload": changed.to_bytes()})]


class TwoContributorSets(Lie):
    """Announces other contributors to half of the institutions."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.Aggregation) or name in FOUR[:2]:
            return [message]
        try:
            announced = ContributorAnnouncement.from_bytes(message.payload)
        except MalformedMessage:
            return [message]
        changed = announced.model_copy(update={"contributors": announced.contributors[1:]})
        return [message.model_copy(update={"payload": changed.to_bytes()})]


class ChangedPlainSum(Lie):
    """States another sum in the clear, under its signature.

    Args:
        change: Makes it.
        to: Who is told so.
    """

    def __init__(self, change: Callable[[np.ndarray], np.ndarray], to: Collection[str]) -> None:
        self._change = change
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.Aggregation) or name not in self._to:
            return [message]
        try:
            stated = PlainSum.from_bytes(message.payload)
        except MalformedMessage:
            return [message]
        total = self._change(np.frombuffer(stated.total, "<f8")).astype("<f8").tobytes()
        changed = stated.model_copy(update={"total": total})
        signature = self.identity.sign("plain sum", changed.hash)
        payload = changed.model_copy(update={"signature": signature}).to_bytes()
        return [message.model_copy(update={"payload": payload})]


def doubled(total: np.ndarray) -> np.ndarray:
    return total * 2

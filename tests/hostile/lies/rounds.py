"""Lies within a round, and about rounds: with which keys and whom, what begins, and how it ends."""

from collections.abc import Callable, Collection
from typing import Any

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.messages import (
    AdvertiseList,
    ShareDelivery,
    SurvivorAnnouncement,
    UnmaskRequest,
)
from fedapt_secure.protocol import messages as m
from fedapt_server.session.progress import Progress
from tests.hostile.behaviour import FOUR, VICTIM
from tests.hostile.liar import Lie, Told


class ChangedPayload(Lie):
    """Changes one kind of message of secure aggregation.

    Args:
        kind: Which.
        change: Makes what is sent in its place.
        to: Who is sent that.
        rounds: In which rounds.
    """

    def __init__(
        self,
        kind: type[TaggedMessage],
        change: Callable[[Any], TaggedMessage],
        to: Collection[str] = FOUR,
        rounds: Collection[int] = (1, 2),
    ) -> None:
        self._kind = kind
        self._change = change
        self._to = to
        self._rounds = rounds

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if (
            not isinstance(message, m.Aggregation)
            or name not in self._to
            or message.round not in self._rounds
        ):
            return [message]
        try:
            payload = self._kind.from_bytes(message.payload)
        except MalformedMessage:
            return [message]
        return [message.model_copy(update={"payload": self._change(payload).to_bytes()})]


def swapped_mask_key(message: AdvertiseList) -> AdvertiseList:
    """Put a key of the coordinator's in the place of the first institution's."""
    first, *others = message.advertises
    mine = first.model_copy(update={"mask_key": SealingKey.fresh().public_key})
    return message.model_copy(update={"advertises": (mine, *others)})


def altered_parcels(message: ShareDelivery) -> ShareDelivery:
    return message.model_copy(update={"parcels": bytes(len(message.parcels))})


def without_one(message: SurvivorAnnouncement) -> SurvivorAnnouncement:
    return message.model_copy(update={"survivors": parties.pack([0, 1, 3])})


def too_few_survivors(message: SurvivorAnnouncement) -> SurvivorAnnouncement:
    return message.model_copy(update={"survivors": parties.pack([0, 3])})


def both_secrets(message: UnmaskRequest) -> UnmaskRequest:
    return message.model_copy(update={"dropped": parties.pack([0])})


def forged_signatures(message: UnmaskRequest) -> UnmaskRequest:
    return message.model_copy(update={"signatures": bytes(len(message.signatures))})


def other_survivors(message: UnmaskRequest) -> UnmaskRequest:
    return message.model_copy(update={"survivors": parties.pack([0, 1, 3]), "dropped": parties.pack([2])})


class AsksAgain(Lie):
    """Asks once more for shares in the same execution, for other survivors, once it has the first ones."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.Aggregation):
            return [message]
        try:
            asked = UnmaskRequest.from_bytes(message.payload)
        except MalformedMessage:
            return [message]
        return [message, message.model_copy(update={"payload": other_survivors(asked).to_bytes()})]


class ChangedStart(Lie):
    """Begins rounds otherwise.

    Args:
        change: Makes the fields of the message that begins a round.
        to: Who is sent it.
        rounds: In which rounds.
    """

    def __init__(
        self,
        change: Callable[[m.RoundStart, Lie], dict[str, object]],
        to: Collection[str] = (VICTIM,),
        rounds: Collection[int] = (1, 2),
    ) -> None:
        self._change = change
        self._to = to
        self._rounds = rounds

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart) or name not in self._to or message.round not in self._rounds:
            return [message]
        return [message.model_copy(update=self._change(message, self))]


def first_model(start: m.RoundStart, lie: Lie) -> dict[str, object]:
    """Begin from the session's first model, whatever was verified since."""
    return {"model_id": Progress.initial(lie.session._configuration).model_id}


def no_model(start: m.RoundStart, lie: Lie) -> dict[str, object]:
    return {"model_id": bytes(32)}


def numbered(number: int) -> Callable[[m.RoundStart, Lie], dict[str, object]]:
    return lambda start, lie: {"round": number}


def alone(start: m.RoundStart, lie: Lie) -> dict[str, object]:
    return {"participants": parties.pack([FOUR.index(VICTIM)])}


def others(start: m.RoundStart, lie: Lie) -> dict[str, object]:
    return {"participants": parties.pack(range(FOUR.index(VICTIM)))}


class RewindsTheModel(ChangedStart):
    """Begins round 2 from the session's first model again."""

    def __init__(self) -> None:
        super().__init__(first_model, to=FOUR, rounds=(2,))


class BeginsAgain(Lie):
    """Begins a round once more that the institution has verified, before the next one."""

    def __init__(self) -> None:
        self._first: m.RoundStart | None = None

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart):
            return [message]
        if message.round == 1:
            self._first = message
            return [message]
        if self._first is None:
            return [message]
        again = self._first.model_copy(update={"attempt": 2})
        return [again, message] if name == VICTIM else [message]


class Repeats(Lie):
    """Sends each message of some kinds of round 1 again in round 2, just before its like.

    Args:
        kinds: Which.
    """

    def __init__(self, *kinds: type[TaggedMessage]) -> None:
        self._kinds = kinds
        self._before: dict[tuple[str, type, object], TaggedMessage] = {}

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, self._kinds):
            return [message]
        about = (name, type(message), getattr(message, "phase", None))
        earlier = self._before.get(about)
        self._before[about] = message
        return [message] if earlier is None else [earlier, message]


class NotCanonical(Lie):
    """Spells the number of each round that begins with two bytes where one is enough."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundStart) or name != VICTIM:
            return [message]
        short = b"\xa5round" + bytes([message.round])
        data = message.to_bytes()
        assert short in data
        return [data.replace(short, b"\xa5round\xcc" + bytes([message.round]))]


class ChangedEnd(Lie):
    """Says otherwise how a round ended.

    Args:
        change: Makes the fields.
        to: Who is told so.
        rounds: Of which rounds.
    """

    def __init__(
        self,
        change: Callable[[m.RoundEnd], dict[str, object]],
        to: Collection[str] = (VICTIM,),
        rounds: Collection[int] = (1, 2),
    ) -> None:
        self._change = change
        self._to = to
        self._rounds = rounds

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.RoundEnd) or name not in self._to or message.round not in self._rounds:
            return [message]
        return [message.model_copy(update=self._change(message))]


def aborted(end: m.RoundEnd) -> dict[str, object]:
    return {"status": "aborted", "contributors": ()}


def other_contributors(end: m.RoundEnd) -> dict[str, object]:
    return {"contributors": FOUR[1:]}


def not_countersigned(end: m.RoundEnd) -> dict[str, object]:
    return {"countersignature": bytes(64)}


def other_head(end: m.RoundEnd) -> dict[str, object]:
    first, *others = end.heads
    return {"heads": (first.model_copy(update={"hash": bytes(32)}), *others)}

"""Lies about sums: what a coordinator may announce in place of the sum of the updates, and to whom."""

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.errors import PeerError, RoundAborted
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, announce
from fedapt_crypto.secagg.scheme import Phase
from fedapt_crypto.secagg.tags import tag_from_bytes
from fedapt_crypto.sum_tag import PRIME
from fedapt_secure.protocol import messages as m
from fedapt_server.session.machine import CoordinatorSession
from tests.hostile.behaviour import FOUR, VICTIM
from tests.hostile.liar import Lie, Told

Words = np.ndarray
"""X: (d,) uint32."""


def announced(message: TaggedMessage) -> SumAnnouncement | None:
    """Return the sum in a message of the coordinator, if it is one."""
    if not isinstance(message, m.Aggregation) or message.phase != Phase.UNMASK:
        return None
    try:
        return SumAnnouncement.from_bytes(message.payload)
    except PeerError:
        return None


class ChangedSum(Lie):
    """Announces something else, under the coordinator's signature.

    Args:
        change: Makes X and T of the true ones.
        to: Who is told it.
    """

    def __init__(self, change: Callable[[Words, int], tuple[Words, int]], to: Collection[str] = FOUR) -> None:
        self._change = change
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        found = announced(message)
        if found is None or name not in self._to:
            return [message]
        words = np.frombuffer(found.total, "<u4").astype(np.uint32)
        total, tag = self._change(words, tag_from_bytes(found.sum_tag, "coordinator"))
        about = (found.execution, found.survivors_hash)
        return [message.model_copy(update={"payload": announce(self.identity, *about, total, tag)})]


def one_more(words: Words, tag: int) -> tuple[Words, int]:
    changed = words.copy()
    changed[7] += np.uint32(1)
    return changed, tag


def scaled(words: Words, tag: int) -> tuple[Words, int]:
    return words * np.uint32(2), 2 * tag % PRIME


def negated(words: Words, tag: int) -> tuple[Words, int]:
    return (-words.astype(np.int64)).astype(np.uint32), -tag % PRIME


def nothing(words: Words, tag: int) -> tuple[Words, int]:
    return np.zeros_like(words), 0


def other_tag(words: Words, tag: int) -> tuple[Words, int]:
    return words, (tag + 1) % PRIME


def too_large(words: Words, tag: int) -> tuple[Words, int]:
    changed = words.copy()
    changed[0] = np.uint32(1 << 31)  # -2**31, beyond |U|·B for any U
    return changed, tag


def longer(words: Words, tag: int) -> tuple[Words, int]:
    return np.append(words, np.uint32(0)), tag


class OtherFields(Lie):
    """Changes fields of the announcement, which its signature then may not fit.

    Args:
        fields: Makes them of the announcement.
    """

    def __init__(self, fields: Callable[[SumAnnouncement], dict[str, object]]) -> None:
        self._fields = fields

    def tells(self, name: str, message: TaggedMessage) -> Told:
        found = announced(message)
        if found is None:
            return [message]
        changed = found.model_copy(update=self._fields(found))
        return [message.model_copy(update={"payload": changed.to_bytes()})]


class OtherSurvivors(Lie):
    """Announces the sum as that of another survivor set, signed."""

    def tells(self, name: str, message: TaggedMessage) -> Told:
        found = announced(message)
        if found is None:
            return [message]
        words = np.frombuffer(found.total, "<u4").astype(np.uint32)
        tag = tag_from_bytes(found.sum_tag, "coordinator")
        payload = announce(self.identity, found.execution, bytes(32), words, tag)
        return [message.model_copy(update={"payload": payload})]


class OfAnotherRound(Lie):
    """Gives in round 2 what was given in round 1, bound to round 2 by a fresh signature.

    Args:
        whole: X and T of round 1; else T alone.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._first: SumAnnouncement | None = None

    def tells(self, name: str, message: TaggedMessage) -> Told:
        found = announced(message)
        if found is None:
            return [message]
        if message.round == 1:
            self._first = found
            return [message]
        if self._first is None:
            return [message]
        words = np.frombuffer((self._first if self._whole else found).total, "<u4").astype(np.uint32)
        tag = tag_from_bytes(self._first.sum_tag, "coordinator")
        payload = announce(self.identity, found.execution, found.survivors_hash, words, tag)
        return [message.model_copy(update={"payload": payload})]


class TwoSums(ChangedSum):
    """Gives the true sum and, in the same execution, another one under its signature to the victim."""

    def __init__(self) -> None:
        super().__init__(one_more, to=(VICTIM,))

    def tells(self, name: str, message: TaggedMessage) -> Told:
        false = super().tells(name, message)
        return [*false, message] if announced(message) is not None and name == VICTIM else false


class Withheld(Lie):
    """Gives the sum to all but some.

    Args:
        to: Who does not get it.
    """

    def __init__(self, to: Collection[str]) -> None:
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        return [] if announced(message) is not None and name in self._to else [message]


class Hidden(Lie):
    """Takes a sum, gives it to nobody, and calls the round aborted, in its own log as well.

    Args:
        rounds: In which rounds.
        left_out: Whose update it does not take in the rounds that follow: the difference would be this one's.
    """

    def __init__(self, rounds: Collection[int] = (1, 2), left_out: str | None = None) -> None:
        self._rounds = rounds
        self._left_out = left_out
        self._hidden = 0

    def begins(self, session: CoordinatorSession) -> None:
        rounds = session._rounds
        judged = rounds._judged

        def calls_it_aborted(round_):
            if round_.number not in self._rounds:
                return judged(round_)
            rounds._sums.forget(rounds._book.progress.stated, rounds._book.progress.statements)
            rounds._book.progress = replace(rounds._book.progress, bound=())  # it is free to try another set
            self._hidden += 1
            return round_.aborted(RoundAborted("too few institutions answered"))

        rounds._judged = calls_it_aborted

    def tells(self, name: str, message: TaggedMessage) -> Told:
        hidden = announced(message) is not None and message.round in self._rounds
        return [] if hidden else [message]

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        update = isinstance(message, m.Aggregation) and MaskedPayload.begins(message.payload)
        return None if update and self._hidden and name == self._left_out else message


class IgnoresAnUpdate(Lie):
    """Counts the victim as gone after its update has come."""

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        update = isinstance(message, m.Aggregation) and MaskedPayload.begins(message.payload)
        return None if update and name == VICTIM and message.round == 1 else message


class IgnoresAStatement(Lie):
    """Takes no notice of what the victim states."""

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        return None if isinstance(message, m.SumVerified) and name == VICTIM else message

"""Lies about where a session stands: the newest model of one who was away, and the end."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from fedapt_crypto.encoding import TaggedMessage
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_secure.log.heads import pack_rounds, transcript_digest, unpack_rounds
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import model_hash
from fedapt_secure.protocol.stated import Confirmation, SumStatement
from tests.hostile.behaviour import OTHERS, VICTIM
from tests.hostile.liar import Lie, Told


class CatchesUpWrong(Lie):
    """Leaves the victim out of round 1, and then hands it something else than the model that was stated.

    Args:
        change: Makes the fields.
    """

    def __init__(self, change: Callable[[m.CatchUp, Lie], dict[str, object] | None]) -> None:
        self._change = change

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        update = isinstance(message, m.Aggregation) and MaskedPayload.begins(message.payload)
        return None if update and name == VICTIM and message.round == 1 else message

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.CatchUp):
            return [message]
        fields = self._change(message, self)
        return [] if fields is None else [message.model_copy(update=fields)]


def honestly(message: m.CatchUp, lie: Lie) -> dict[str, object]:
    return {}


def never(message: m.CatchUp, lie: Lie) -> None:
    return None


def too_few_statements(message: m.CatchUp, lie: Lie) -> dict[str, object]:
    needed = lie.session._configuration.statements_needed
    return {"signatures": message.signatures[: needed - 1]}


def one_twice(message: m.CatchUp, lie: Lie) -> dict[str, object]:
    return {"signatures": (message.signatures[0],) * 3}


def other_model(message: m.CatchUp, lie: Lie) -> dict[str, object]:
    return {"model": np.zeros(len(message.model) // 4, "<f4").tobytes()}


def forged_statement(message: m.CatchUp, lie: Lie) -> dict[str, object]:
    model = np.zeros(len(message.model) // 4, "<f4").tobytes()
    statement = SumStatement(**(dict(message.statement) | {"model_after": model_hash(model)}))
    forged = tuple(
        Confirmation(party=one.party, signature=lie.identity.sign("verified sum", statement.to_bytes()))
        for one in message.signatures
    )
    return {"model": model, "statement": statement, "signatures": forged}


class StaleModel(CatchesUpWrong):
    """Before the session's end hands out the model of round 1, to one that was left out of both rounds."""

    def __init__(self) -> None:
        super().__init__(honestly)
        self._first: m.CatchUp | None = None

    def hears(self, name: str, message: TaggedMessage) -> TaggedMessage | None:
        update = isinstance(message, m.Aggregation) and MaskedPayload.begins(message.payload)
        return None if update and name == VICTIM else message

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if isinstance(message, m.CatchUp):
            self._first = self._first or message
            return [self._first]
        return [message]


class ChangedSessionEnd(Lie):
    """Ends the session otherwise, under its signature.

    Args:
        change: Makes the model's identifier, the seeds and the rounds' records of the true ones.
        to: Who is told so.
    """

    def __init__(self, change: Callable[[Any, Any, Any], tuple[Any, Any, Any]], to: Collection[str]) -> None:
        self._change = change
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.SessionEnd) or name not in self._to:
            return [message]
        configuration, progress = self.session._configuration, self.session.progress
        model_id, seeds, rounds = self._change(
            progress.model_id, message.key_seeds, unpack_rounds(message.rounds)
        )
        parts = (configuration.hash, model_id, seeds, transcript_digest(rounds))
        signature = self.identity.sign("session end", *parts)
        return [m.SessionEnd(key_seeds=seeds, rounds=pack_rounds(rounds), signature=signature)]


def junk_model(model_id: bytes, seeds: Any, rounds: Any) -> tuple[Any, Any, Any]:
    return model_hash(b"junk"), seeds, rounds


def other_keys(model_id: bytes, seeds: Any, rounds: Any) -> tuple[Any, Any, Any]:
    return model_id, (bytes(32), *seeds[1:]), rounds


def one_round_less(model_id: bytes, seeds: Any, rounds: Any) -> tuple[Any, Any, Any]:
    return model_id, seeds, rounds[:-1]


class OtherRecord(Lie):
    """Closes the session with a record that is not what was signed.

    Args:
        fields: What it changes in the record.
        to: Who is sent it.
    """

    def __init__(self, fields: Callable[[m.SessionClosed], dict[str, object]], to: Collection[str]) -> None:
        self._fields = fields
        self._to = to

    def tells(self, name: str, message: TaggedMessage) -> Told:
        if not isinstance(message, m.SessionClosed) or name not in self._to:
            return [message]
        return [message.model_copy(update=self._fields(message))]


def junk_record(closed: m.SessionClosed) -> dict[str, object]:
    return {"statement": closed.statement.model_copy(update={"model": bytes(32)})}


def without_signature(closed: m.SessionClosed) -> dict[str, object]:
    return {"signatures": tuple(one for one in closed.signatures if one.party != OTHERS[0])}

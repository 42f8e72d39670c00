"""The reference's verified rounds, from SPEC.md, section 10: statements, catching up, what is kept.

A session's configuration is known here by its hash; what else of it matters, members' domains and who takes
part, is given. Number i, from 0, is clinic-(i + 1); its private key is SHA-256("identity of clinic-…").
"""

import hashlib
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    InvalidInput,
    MalformedMessage,
    TooFewParticipants,
    UnexpectedMessage,
    UnresolvedExecution,
    VerificationFailed,
)
from tests.crypto.vectors import recorded, reference_graph
from tests.crypto.vectors import reference as ref
from tests.crypto.vectors.reference_round import vector_hash

COORDINATOR = hashlib.sha256(b"the coordinator of the vectors").digest()
HASHES = ("configuration_hash", "transcript", "sum_hash", "model_before", "model_after")


def members_of(domains: Sequence[int]) -> list[tuple[str, bytes, int]]:
    """Return name, public identity key and domain of each."""
    names = [f"clinic-{i + 1}" for i in range(len(domains))]
    keys = [ref.identity_key(hashlib.sha256(f"identity of {name}".encode()).digest()) for name in names]
    return list(zip(names, keys, domains, strict=True))


def about(*arguments: object) -> bytes:
    return hashlib.sha256(ref.encode(list(arguments))).digest()


def verify(key: bytes, signature: bytes, label: str, parts: list[Any]) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, ref.labelled(label, parts))
    except InvalidSignature:
        raise VerificationFailed("a signature") from None


# Statements.


def statement_signed(identity: bytes, fields: dict[str, Any]) -> dict[str, bytes]:
    check_statement(fields)
    encoded = ref.encode(fields)
    return {"statement": encoded, "signature": ref.sign(identity, "verified sum", [encoded])}


def check_statement(fields: Any) -> None:
    names = {*HASHES, "session", "round", "attempt", "sum_tag"}
    if not isinstance(fields, dict) or fields.keys() != names:
        raise MalformedMessage("a statement of other fields")
    sizes = {"session": (16,), "sum_tag": range(9)} | dict.fromkeys(HASHES, (32,))
    if any(not isinstance(fields[name], bytes) or len(fields[name]) not in sizes[name] for name in sizes):
        raise MalformedMessage("a field of another size")
    for name in ("round", "attempt"):
        if type(fields[name]) is not int or not 1 <= fields[name] <= 2**31:
            raise MalformedMessage("a number out of range")


def statement_of_round(name: str) -> dict[str, bytes]:
    round_ = recorded.load("round.json")
    assert name in round_["contributors"]
    derived, context = round_["derived"], round_["context"]
    words = b"".join(word.to_bytes(4, "little") for word in round_["sum_words"])
    fields = {key: context[key] for key in ("session", "configuration_hash", "round", "attempt")}
    fields |= {
        "transcript": derived["survivors"],
        "sum_hash": vector_hash(words),
        "sum_tag": round_["sum_tag"],
        "model_before": ref.digest("model", [round_["model"]]),
        "model_after": ref.digest("model", [round_["next_model"]]),
    }
    identity = next(party["identity"] for party in round_["parties"] if party["name"] == name)
    return statement_signed(identity, fields)


def statements_needed(sizes: Sequence[int]) -> list[list[int]]:
    return [[n, needed(n)] for n in sizes]


def needed(n: int) -> int:
    """v: on a neighbour graph, which there is above 64, one more than a tenth; else 2t - n."""
    if n > 64 and reference_graph.graph_sizes(n)["k"] < n - 1:
        return n // 10 + 1
    return max(1, 2 * (2 * n // 3 + 1) - n)


# Catching up.


def cohort(
    configuration_hash: bytes, domains: Sequence[int], participation: str, number: int
) -> dict[str, bytes]:
    """Return the identity keys of those who take part in a round, by name, in roster order."""
    members = members_of(domains)
    of_all = {name: key for name, key, _ in members}
    if participation == "all":
        return of_all
    assert participation == "one-per-domain"
    taken = set()
    for domain in set(domains):
        names = [name for name, _, theirs in members if theirs == domain]
        drawn = int.from_bytes(ref.digest("cohort", [configuration_hash, number, domain]))
        taken.add(names[drawn % len(names)])
    return {name: key for name, key in of_all.items() if name in taken}


def catch_up(
    session: bytes,
    configuration_hash: bytes,
    domains: Sequence[int],
    participation: str,
    scheme: str,
    values: int,
    kept_round: int,
    payload: bytes,
) -> dict[str, Any]:
    message: Any = ref.decode(payload)
    fields = {"kind", "model", "signatures", "statement"}
    if not isinstance(message, dict) or message.keys() != fields or message["kind"] != "catch up":
        raise MalformedMessage("not what catches up")
    statement, given = message["statement"], message["signatures"]
    check_statement(statement)
    result = {
        "taken": False,
        "model": b"",
        "further": 0,
        "about": about(
            session, configuration_hash, domains, participation, scheme, values, kept_round, payload
        ),
    }
    if scheme == "ckks":
        raise UnexpectedMessage("a model that the coordinator cannot know")
    if statement["round"] <= kept_round:
        return result
    there = cohort(configuration_hash, domains, participation, statement["round"])
    check_stated(statement, given, there, (session, configuration_hash))
    if ref.digest("model", [message["model"]]) != statement["model_after"]:
        raise ContextMismatch("another model than they state")
    if len(message["model"]) != 4 * values:
        raise MalformedMessage("a model of another length")
    return {**result, "taken": True, "model": message["model"], "further": statement["round"] - kept_round}


def check_stated(
    statement: dict[str, Any], given: list[Any], there: dict[str, bytes], session: tuple[bytes, bytes]
) -> None:
    for one in given:
        if one.keys() != {"party", "signature"} or len(one["signature"]) != 64:
            raise MalformedMessage("a signature of other fields")
    if len({one["party"] for one in given}) < needed(len(there)):
        raise TooFewParticipants("too few state it")
    if (statement["session"], statement["configuration_hash"]) != session:
        raise ContextMismatch("another session")
    for one in given:
        if one["party"] not in there:
            raise InvalidInput("not on the round's roster")
        verify(there[one["party"]], one["signature"], "verified sum", [ref.encode(statement)])


def confirmations(
    session: bytes,
    configuration_hash: bytes,
    domains: Sequence[int],
    commitment: bytes,
    confirmed: Sequence[tuple[str, bytes]],
) -> dict[str, Any]:
    keys = {name: key for name, key, _ in members_of(domains)}
    for party, signature in confirmed:
        if party not in keys:
            raise InvalidInput("not on the roster")
        verify(keys[party], signature, "group confirmed", [session, configuration_hash, commitment])
    names = sorted({party for party, _ in confirmed})
    if len(names) < 2 * len(domains) // 3 + 1:
        raise TooFewParticipants("too few have confirmed")
    return {"names": names, "about": about(session, configuration_hash, domains)}


# Sums, as they are announced, and what they make of a model.


def announced_sum(
    identity: bytes, execution: bytes, survivors_hash: bytes, words: Sequence[int], tag: bytes
) -> dict[str, bytes]:
    total = b"".join(word.to_bytes(4, "little") for word in words)
    hashed = vector_hash(total)
    message = {
        "kind": "sum",
        "execution": execution,
        "survivors_hash": survivors_hash,
        "total": total,
        "sum_tag": tag,
        "signature": ref.sign(identity, "secagg sum", [execution, survivors_hash, hashed, tag]),
    }
    return {"payload": ref.encode(message), "hash": hashed}


def plain_sum(
    identity: bytes, context: bytes, contributors: Sequence[str], total: Sequence[float]
) -> dict[str, bytes]:
    data = struct.pack(f"<{len(total)}d", *total)
    hashed = ref.digest("plain sum", [context, contributors, data])
    message = {
        "kind": "plain sum",
        "context": context,
        "contributors": contributors,
        "total": data,
        "signature": ref.sign(identity, "plain sum", [hashed]),
    }
    return {"payload": ref.encode(message), "hash": hashed}


def plain_sum_taken(
    session: bytes,
    configuration_hash: bytes,
    domains: Sequence[int],
    place: tuple[int, int],
    model_id: bytes,
    context: bytes,
    model: bytes,
    payload: bytes,
) -> dict[str, Any]:
    message: Any = ref.decode(payload)
    if message.keys() != {"kind", "context", "contributors", "total", "signature"}:
        raise MalformedMessage("a message of other fields")
    data, contributors = message["total"], message["contributors"]
    hashed = ref.digest("plain sum", [message["context"], contributors, data])
    verify(ref.identity_key(COORDINATOR), message["signature"], "plain sum", [hashed])
    if message["context"] != context:
        raise ContextMismatch("another round")
    if contributors != [name for name, _, _ in members_of(domains) if name in contributors]:
        raise MalformedMessage("out of roster order")
    if len(data) != 2 * len(model):
        raise MalformedMessage("another length")
    sums = [value for (value,) in struct.iter_unpack("<d", data)]
    if any(value != value or value in (float("inf"), float("-inf")) for value in sums):
        raise MalformedMessage("not finite")
    before = [Fraction(value) for (value,) in struct.iter_unpack("<f", model)]
    after = []
    for start, value in zip(before, sums, strict=True):
        mean = ref._rounded(Fraction(value) / len(contributors), 53, -1074)
        after.append(float(ref._rounded(ref._rounded(start + mean, 53, -1074), 24, -149)))
    return {
        "model": struct.pack(f"<{len(after)}f", *after),
        "hash": hashed,
        "about": about(session, configuration_hash, domains, place, model_id),
    }


def model_ids(model: bytes, previous: bytes, round_number: int, payload: bytes) -> dict[str, bytes]:
    return {
        "open": ref.digest("model", [model]),
        "blind": ref.digest("blind model", [previous, round_number, payload]),
    }


# The end.


def account(packed: bytes) -> dict[str, Any]:
    """Read the coordinator's account of a session's attempts: 74 bytes each, in order."""
    if len(packed) % 74:
        raise MalformedMessage("no whole records")
    transcript, completed, before = bytes(32), 0, (0, 0, True)
    for at in range(0, len(packed), 74):
        record = packed[at : at + 74]
        number, attempt = int.from_bytes(record[:4]), int.from_bytes(record[4:8])
        done, known = record[8], record[9]
        if done > 1 or known > 1 or not number or not attempt or (not known and any(record[42:])):
            raise MalformedMessage("a record in another spelling")
        status = "completed" if done else "aborted"
        parts = [transcript, number, attempt, status, record[10:42], record[42:] if known else b""]
        transcript = ref.digest("session transcript", parts)
        following = (number, attempt) == (before[0] + 1, 1)
        again = (number, attempt) == (before[0], before[1] + 1) and not before[2]
        if not (following or again):
            raise ContextMismatch("not in order")
        completed, before = completed + done, (number, attempt, bool(done))
    return {"rounds": len(packed) // 74, "completed": completed, "transcript": transcript}


def closed(identity: bytes, fields: dict[str, Any]) -> bytes:
    names = ("session", "configuration", "model", "completed_rounds", "transcript")
    assert fields.keys() == set(names)
    return ref.sign(identity, "session closed", [fields[name] for name in names])


# What an institution keeps.


def trace(events: Sequence[str]) -> dict[str, Any]:
    kept, said = Kept(), []
    for event in events:
        word, *rest = event.split()
        try:
            said.append(getattr(kept, word)(*rest) or "ok")
        except FedaptError as error:
            said.append(type(error).__name__)
    return {"said": said, "about": about(list(events))}


def place_of(text: str) -> tuple[int, int]:
    number, attempt = text.split(".")
    return int(number), int(attempt)


class Kept:
    """The rules of sections 10.2, 10.4 and 10.5 for one institution; P0, P1, … are its models."""

    def __init__(self) -> None:
        self.model, self.verified, self.newest = 0, (0, 0), (0, 0)
        self.opened: list[tuple[tuple[int, int], int, str]] = []
        self.failed: list[tuple[tuple[int, int], int]] = []

    def unresolved(self) -> list[tuple[tuple[int, int], int, str]]:
        return [each for each in self.opened if each[1] == self.model]

    def begin(self, place: str, model: str) -> None:
        if place_of(place)[0] <= self.verified[0]:
            raise UnexpectedMessage("at or below the newest verified round")
        if len(self.unresolved()) >= 2:
            raise UnresolvedExecution("two on this model")
        if int(model[1:]) != self.model:
            raise ContextMismatch("another start")
        self.newest = place_of(place)

    def admit(self, survivors: str) -> None:
        if any(each[2] != survivors for each in self.unresolved()):
            raise UnresolvedExecution("another set on this model")

    def reveal(self, place: str, model: str, survivors: str) -> None:
        self.opened.append((place_of(place), int(model[1:]), survivors))

    def fail(self, place: str, model: str) -> None:
        self.failed.append((place_of(place), int(model[1:])))

    def late(self, place: str) -> str:
        where = place_of(place)
        own = (where, self.model) in [each[:2] for each in self.unresolved()]
        newer = where[0] > self.verified[0] and where == self.newest
        return "looked at" if own and newer and (where, self.model) not in self.failed else "passed over"

    def sum(self, place: str, model: str, survivors: str) -> None:
        if int(model[1:]) != self.model or place_of(place)[0] <= self.verified[0]:
            raise UnexpectedMessage("a sum for another model")
        assert survivors
        self.model, self.verified = self.model + 1, place_of(place)

    def catch(self, place: str) -> str:
        if place_of(place)[0] <= self.verified[0]:
            return "nothing"
        self.model, self.verified = self.model + 1, place_of(place)
        return "ok"

    def end(self, place: str, status: str) -> None:
        if status == "aborted" and place_of(place) == self.verified:
            raise ContextMismatch("called aborted what is verified")

    def restart(self) -> None:
        """All but what failed is on record."""
        self.failed = []

"""The package behind the function names of the reference of verified rounds."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedapt_client.session.actions import Refused, Send
from fedapt_client.session.closing import in_order
from fedapt_client.session.kept_model import KeptModel
from fedapt_client.session.own_model import OwnModel, PastRounds
from fedapt_crypto.encoding import encode
from fedapt_crypto.errors import ContextMismatch, FedaptError
from fedapt_crypto.identity import Identity
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.sums import announce, hash_of
from fedapt_crypto.secagg.plain import PlainSum, take_sum
from fedapt_crypto.secagg.scheme import Opening, RealSum, RoundContext, VerifiedSum
from fedapt_crypto.secagg.signed import UNSIGNED
from fedapt_crypto.sum_tag import moved
from fedapt_secure.log.heads import CloseStatement, transcript_digest, unpack_rounds
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol import session as sessions
from fedapt_secure.protocol import statements
from fedapt_secure.protocol.initial_context import InitialContext
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters
from fedapt_secure.protocol.stated import Confirmation, SumStatement
from tests.crypto.vectors import recorded
from tests.protocol.federation import make_plan
from tests.support.rosters import roster_of

COORDINATOR = hashlib.sha256(b"the coordinator of the vectors").digest()


def name_of(position: int) -> str:
    return f"clinic-{position + 1}"


def identity_of(name: str) -> bytes:
    """Return an institution's private identity key."""
    return hashlib.sha256(f"identity of {name}".encode()).digest()


def configuration(
    session: bytes, placed: Sequence[int], participation: str, scheme: str
) -> sessions.SessionConfiguration:
    """Return a session of institutions with these domains; all else about it is fixed."""
    domains = tuple(f"domain {i}" for i in range(1 + max(placed)))
    plan = make_plan(
        domains=domains,
        text_width=1,
        feature_size=1,
        context_tokens=1,
        rounds=9,
        participation=participation,
        secure_aggregation=scheme,
    )
    entries = []
    for position, domain in enumerate(placed):
        key = identity_of(name_of(position))
        sealing = SealingKey(hashlib.sha256(key).digest()).public_key
        entries.append((name_of(position), Identity.from_private_bytes(key), sealing, domain))
    return sessions.SessionConfiguration(
        session=session,
        plan=plan,
        roster=roster_of(Identity.from_private_bytes(COORDINATOR).public_key, entries),
        key_commitments=(bytes(32),) * len(domains),
    )


def checked(
    session: bytes, configuration_hash: bytes, domains: Sequence[int], participation: str, scheme: str
) -> sessions.SessionConfiguration:
    found = configuration(session, domains, participation, scheme)
    assert found.hash == configuration_hash
    return found


def about(*arguments: object) -> bytes:
    """Return a hash of arguments that need not change what comes out."""
    return hashlib.sha256(encode(list(arguments))).digest()


def statement_signed(identity: bytes, fields: dict[str, Any]) -> dict[str, bytes]:
    statement = SumStatement(**fields)
    signature = statements.sign_sum(Identity.from_private_bytes(identity), statement)
    return {"statement": statement.to_bytes(), "signature": signature}


def statement_of_round(name: str) -> dict[str, bytes]:
    """What one of the recorded round's survivors states of it."""
    round_ = recorded.load("round.json")
    party = recorded.institution_after(round_, name, "unmask")
    verified, context = party.machine.verified, recorded.context_of(round_)
    assert verified is not None
    after = verified.aggregate.next_model(np.frombuffer(round_["model"], "<f4"))
    identity = next(each["identity"] for each in round_["parties"] if each["name"] == name)
    fields = {
        "session": context.session,
        "configuration_hash": context.configuration_hash,
        "round": context.round,
        "attempt": context.attempt,
        "transcript": verified.transcript,
        "sum_hash": verified.sum_hash,
        "sum_tag": verified.tag,
        "model_before": context.model_hash,
        "model_after": sessions.model_hash(m.model_to_bytes(after)),
    }
    return statement_signed(identity, fields)


def statements_needed(sizes: Sequence[int]) -> list[list[int]]:
    """Return n and v of rounds of so many institutions."""

    class Sized(sessions.SessionConfiguration):
        @property
        def cohort_size(self) -> int:
            return int(self.session)

    return [[n, Sized.model_construct(session=n).statements_needed] for n in sizes]


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
    found = checked(session, configuration_hash, domains, participation, scheme)
    assert found.plan.shape.size == values
    kept = KeptModel(found.plan.initial_model(), bytes(32), kept_round, min(1, kept_round))
    own = OwnModel(found, Identity.from_private_bytes(identity_of("clinic-1")), PastRounds(kept=kept))
    match own.catch_up(m.CatchUp.from_bytes(payload)):
        case [Refused(error=error)]:
            raise error
        case []:
            taken = False
        case _:
            taken = own.restate() == []
    return {
        "taken": taken,
        "model": m.model_to_bytes(own.kept.model) if taken else b"",
        "further": own.kept.round - kept_round,
        "about": about(
            session, configuration_hash, domains, participation, scheme, values, kept_round, payload
        ),
    }


def confirmations(
    session: bytes,
    configuration_hash: bytes,
    domains: Sequence[int],
    commitment: bytes,
    confirmed: Sequence[tuple[str, bytes]],
) -> dict[str, Any]:
    found = checked(session, configuration_hash, domains, "all", registry.MASKING)
    given = [Confirmation(party=party, signature=signature) for party, signature in confirmed]
    names = statements.confirmed_by(found, commitment, given)
    return {"names": sorted(names), "about": about(session, configuration_hash, domains)}


def announced_sum(
    identity: bytes, execution: bytes, survivors_hash: bytes, words: Sequence[int], tag: bytes
) -> dict[str, bytes]:
    vector = np.array(words, np.uint32)
    signer = Identity.from_private_bytes(identity)
    payload = announce(signer, execution, survivors_hash, vector, int.from_bytes(tag))
    return {"payload": payload, "hash": hash_of(vector)}


def plain_sum(
    identity: bytes, context: bytes, contributors: Sequence[str], total: Sequence[float]
) -> dict[str, bytes]:
    data = np.array(total, "<f8").tobytes()
    unsigned = PlainSum(context=context, contributors=tuple(contributors), total=data, signature=UNSIGNED)
    signature = Identity.from_private_bytes(identity).sign("plain sum", unsigned.hash)
    return {
        "payload": unsigned.model_copy(update={"signature": signature}).to_bytes(),
        "hash": unsigned.hash,
    }


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
    found = checked(session, configuration_hash, domains, "all", registry.NONE)
    about_round = found.round_context(*place, model_id, None)
    assert about_round.hash == context
    taken = take_sum(PlainSum.from_bytes(payload), about_round, found.roster)
    after = moved(
        np.frombuffer(model, "<f4"), taken.aggregate.total, survivors=len(taken.aggregate.contributors)
    )
    return {
        "model": after.astype("<f4").tobytes(),
        "hash": taken.sum_hash,
        "about": about(session, configuration_hash, domains, place, model_id),
    }


def model_ids(model: bytes, previous: bytes, round_number: int, payload: bytes) -> dict[str, bytes]:
    return {
        "open": sessions.model_hash(model),
        "blind": sessions.next_model_id(previous, round_number, payload),
    }


def account(packed: bytes) -> dict[str, Any]:
    """What the coordinator's account of a session's rounds amounts to."""
    records = unpack_rounds(packed)
    if not in_order(records):
        raise ContextMismatch("not in order")
    return {
        "rounds": len(records),
        "completed": sum(record.status == "completed" for record in records),
        "transcript": transcript_digest(records),
    }


def closed(identity: bytes, fields: dict[str, Any]) -> bytes:
    return CloseStatement(**fields).sign(Identity.from_private_bytes(identity))


def first_model(
    method: str,
    *,
    classes: int = 2,
    context_tokens: int = 1,
    text_width: int = 1,
    feature_size: int = 1,
    keys: int = 1,
    class_specific: bool = True,
    tower_values: int = 0,
    seed: int = 0,
    words: str | None = None,
) -> dict[str, Any]:
    shape = ParameterShape(
        classes, context_tokens, text_width, feature_size, keys, class_specific, method, tower_values
    )
    start = None if words is None else InitialContext(words="words", values=words).embeddings(text_width)
    data = m.model_to_bytes(initial_parameters(shape, seed, start))
    return {"values": shape.size, "begins": data[:32], "ends": data[-8:], "id": sessions.model_hash(data)}


def trace(events: Sequence[str]) -> dict[str, Any]:
    """What one of four institutions, which keeps the model itself, says to each event."""
    found = configuration(bytes(16), (0, 0, 1, 1), "all", registry.MASKING)
    kept = Kept(found, [Identity.from_private_bytes(identity_of(name)) for name in found.roster.names])
    said = []
    for event in events:
        word, *rest = event.split()
        try:
            said.append(getattr(kept, word)(*rest) or "ok")
        except FedaptError as error:
            said.append(type(error).__name__)
    return {"said": said, "about": about(list(events))}


class Kept:
    """A real `OwnModel`, by a story's words: executions are ROUND.ATTEMPT, models P0, P1, … as they come."""

    def __init__(self, found: sessions.SessionConfiguration, identities: Sequence[Identity]) -> None:
        self.configuration, self.identities = found, identities
        self.own = OwnModel(found, identities[0])
        self.ids = [self.own.kept.model_id]
        self.openings: list[Opening] = []
        self.newest = (0, 0)

    def context(self, place: str, model: str) -> RoundContext:
        number, attempt = map(int, place.split("."))
        return self.configuration.round_context(number, attempt, self.ids[int(model[1:])], bytes(32))

    def names(self, digits: str) -> tuple[str, ...]:
        return tuple(self.configuration.roster.names[int(digit) - 1] for digit in digits)

    def begin(self, place: str, model: str) -> None:
        context = self.context(place, model)
        self.own.begin(
            m.RoundStart(
                round=context.round,
                attempt=context.attempt,
                model_id=context.model_hash,
                participants=parties.pack(range(5)),
            )
        )
        self.newest = (context.round, context.attempt)

    def admit(self, digits: str) -> None:
        self.own.admit(self.names(digits))

    def reveal(self, place: str, model: str, digits: str) -> None:
        opening = Opening(self.context(place, model), bytes(32), bytes(32), self.names(digits), bytes(32))
        self.openings.append(opening)
        self.own.reveal(opening)

    def fail(self, place: str, model: str) -> None:
        self.own.failed(self.context(place, model))

    def late(self, place: str) -> str:
        number, attempt = map(int, place.split("."))
        missed = m.MissedSum(round=number, attempt=attempt, payload=b"")
        open_ = number > self.own.kept.round and self.own.opening_of(missed) is not None
        return "looked at" if open_ else "passed over"

    def sum(self, place: str, model: str, digits: str) -> None:
        total = np.ones(self.configuration.plan.shape.size)
        verified = VerifiedSum(RealSum(total, self.names(digits)), bytes(32), bytes(32), bytes(8))
        self.own.take(self.context(place, model), verified, b"")
        self.ids.append(self.own.kept.model_id)

    def catch(self, place: str) -> str:
        number, attempt = map(int, place.split("."))
        model = np.full(self.configuration.plan.shape.size, number, "<f4").tobytes()
        statement = SumStatement(
            session=self.configuration.session,
            configuration_hash=self.configuration.hash,
            round=number,
            attempt=attempt,
            transcript=bytes(32),
            sum_hash=bytes(32),
            sum_tag=bytes(8),
            model_before=bytes(32),
            model_after=sessions.model_hash(model),
        )
        pairs = zip(self.configuration.roster.names, self.identities, strict=True)
        signed = tuple(
            Confirmation(party=name, signature=statements.sign_sum(identity, statement))
            for name, identity in pairs
        )
        if not self.own.catch_up(m.CatchUp(statement=statement, signatures=signed, model=model)):
            return "nothing"
        self.ids.append(self.own.kept.model_id)
        return "ok"

    def end(self, place: str, status: Any) -> None:
        number, attempt = map(int, place.split("."))
        self.own.check_end(
            m.RoundEnd(
                round=number,
                attempt=attempt,
                status=status,
                contributors=self.own._contributors or (),
                dropped=(),
                heads=(),
                countersignature=UNSIGNED,
            )
        )

    def restart(self) -> None:
        said = (action for action in self.own.restate() if isinstance(action, Send))
        stated = next((one.message for one in said), None)
        past = PastRounds(self.own.kept, stated, tuple(self.openings), self.newest)
        self.own = OwnModel(self.configuration, self.identities[0], past)

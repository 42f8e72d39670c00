"""What parties sign about each other's logs: heads, what the coordinator saw of them, the end of a session.

A head that another party holds cannot be taken back: a log that lacks it afterwards was cut, rolled back or
rewritten. These are messages of the session protocol and, in hexadecimal, bodies of log lines.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol, overload

from pydantic import Field, ValidationError

from fedapt_crypto.encoding import Hash, Message, PartyName, Signature
from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg.scheme import MAX_ROUND, SESSION_BYTES
from fedapt_secure.log.line import LOG_ID_BYTES, MAX_SEQ, JsonBody, LogHead, head_statement

Session = Annotated[bytes, Field(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
RoundOrStart = Annotated[int, Field(ge=0, le=MAX_ROUND)]
"""A round's number; 0 at the start of a session, one more than its last round at its end."""

_ROUND = struct.Struct(">II??32s32s")
_ROUND_AS_SENT = struct.Struct(">IIBB32s32s")
_CLOSE_LABEL: Final = "session closed"
_WITNESS_LABEL: Final = "witnessed heads"
_TRANSCRIPT_LABEL: Final = "session transcript"


class Keys(Protocol):
    """Whose signatures count: a roster, or what an auditor has in its place."""

    @property
    def coordinator_key(self) -> bytes:
        """The coordinator's identity key."""

    def identity_key(self, party: str) -> bytes:
        """Return a party's identity key; raises `InvalidInput` for a name without one."""


class SignedHead(Message):
    """The head of a party's log, signed by it for one round of one session.

    Attributes:
        party: Its name on the roster, or the coordinator's.
        log, seq, hash: The head, see `LogHead`.
        signature: By the party over session, round and all of these.
    """

    party: PartyName
    log: Annotated[bytes, Field(min_length=LOG_ID_BYTES, max_length=LOG_ID_BYTES)]
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    hash: Hash
    signature: Signature

    @property
    def head(self) -> LogHead:
        """The head without who signed it."""
        return LogHead(self.log, self.seq, self.hash)

    def check(self, roster: Keys, session: bytes, round_number: int) -> None:
        """Check the signature under the roster.

        Raises:
            VerificationFailed: If it does not verify, or nobody of that name is on the roster.
        """
        statement = head_statement(session, round_number, self.party, self.head)
        verify(_key(roster, self.party), self.signature, *statement, signer=self.party)


class WitnessedHead(Message):
    """A signed head with the session and round that its signature is for, to be shown later."""

    session: Session
    round: RoundOrStart
    signed: SignedHead

    def check(self, roster: Keys) -> None:
        """Check the signature; raises `VerificationFailed` as `SignedHead.check` does."""
        self.signed.check(roster, self.session, self.round)


class RoundRecord(Message):
    """How one round ended: what all who were in it must have in their logs.

    Attributes:
        round, attempt: Which. status: Whether there is a sum.
        context: Hash of what its parties agreed on. transcript: What the aggregation's parties agreed on in
            the end; ``None`` if they did not get that far.
    """

    round: Annotated[int, Field(ge=1, le=MAX_ROUND)]
    attempt: Annotated[int, Field(ge=1, le=MAX_ROUND)]
    status: Literal["completed", "aborted"]
    context: Hash
    transcript: Hash | None


class CloseStatement(Message):
    """What all parties sign at the end of a session.

    Attributes:
        session, configuration: Which session: its identifier and the hash of its configuration.
        model: What the finished model is known by. completed_rounds: How many rounds gave a sum.
        transcript: Digest of all rounds, see `transcript_digest`.
    """

    session: Session
    configuration: Hash
    model: Hash
    completed_rounds: RoundOrStart
    transcript: Hash

    def sign(self, identity: Identity) -> bytes:
        """Return a party's signature."""
        return identity.sign(_CLOSE_LABEL, *self._parts)

    def check(self, roster: Keys, party: str, signature: bytes) -> None:
        """Check a party's signature; raises `VerificationFailed` as `SignedHead.check` does."""
        verify(_key(roster, party), signature, _CLOSE_LABEL, *self._parts, signer=party)

    @property
    def _parts(self) -> tuple[bytes, bytes, bytes, int, bytes]:
        return (self.session, self.configuration, self.model, self.completed_rounds, self.transcript)


class CloseSignature(Message):
    """One party's signature on a session's `CloseStatement`."""

    party: PartyName
    signature: Signature


def sign_head(identity: Identity, party: str, session: bytes, round_number: int, head: LogHead) -> SignedHead:
    """Sign the head of our own log for a round of a session."""
    signature = identity.sign(*head_statement(session, round_number, party, head))
    return SignedHead(party=party, log=head.log, seq=head.seq, hash=head.hash, signature=signature)


def countersign(identity: Identity, session: bytes, round_number: int, heads: Sequence[SignedHead]) -> bytes:
    """Return the coordinator's signature on all heads that it has seen in a round."""
    return identity.sign(_WITNESS_LABEL, session, round_number, _heads_part(heads))


def check_countersigned(
    roster: Keys, session: bytes, round_number: int, heads: Sequence[SignedHead], countersignature: bytes
) -> None:
    """Check every head of a round and the coordinator's signature on all of them.

    Args:
        roster: The parties' identity keys.
        session: Identifier, 16 bytes.
        round_number: From 0, the session's start.
        heads: What was signed.
        countersignature: The coordinator's.

    Raises:
        VerificationFailed: If one does not verify, or a party has two.
    """
    check_countersignature(roster, session, round_number, heads, countersignature)
    for head in heads:
        head.check(roster, session, round_number)


def check_countersignature(
    roster: Keys, session: bytes, round_number: int, heads: Sequence[SignedHead], countersignature: bytes
) -> None:
    """Check the coordinator's signature on the heads of a round, and not those of the heads.

    Raises:
        VerificationFailed: If it does not verify, or a party has two heads.
    """
    parties = [head.party for head in heads]
    if len(set(parties)) != len(parties):
        raise VerificationFailed("the round's heads name a party twice", peer=COORDINATOR)
    parts = (session, round_number, _heads_part(heads))
    verify(roster.coordinator_key, countersignature, _WITNESS_LABEL, *parts, signer=COORDINATOR)


def transcript_digest(rounds: Iterable[RoundRecord], before: bytes = bytes(32)) -> bytes:
    """Return the SHA-256 chain over all rounds of a session, in order; 32 zero bytes where there is none.

    ``before`` is the digest of the rounds that came before these, if some did.
    """
    value = before
    for record in rounds:
        value = digest(
            _TRANSCRIPT_LABEL,
            value,
            record.round,
            record.attempt,
            record.status,
            record.context,
            record.transcript or b"",
        )
    return value


def pack_rounds(rounds: Iterable[RoundRecord]) -> bytes:
    """Return records as they travel, 74 bytes each: a session may have more rounds than a message items."""
    return b"".join(
        _ROUND.pack(
            record.round,
            record.attempt,
            record.status == "completed",
            record.transcript is not None,
            record.context,
            record.transcript or bytes(32),
        )
        for record in rounds
    )


class PackedRounds(Sequence[RoundRecord]):
    """Records as they travel, read one by one: a long account takes no more memory than it has bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // _ROUND.size

    @overload
    def __getitem__(self, index: int) -> RoundRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RoundRecord]: ...

    def __getitem__(self, index: int | slice) -> RoundRecord | Sequence[RoundRecord]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        number, attempt, completed, known, context, transcript = _ROUND.unpack_from(
            self._data, at * _ROUND.size
        )
        return RoundRecord(
            round=number,
            attempt=attempt,
            status="completed" if completed else "aborted",
            context=context,
            transcript=transcript if known else None,
        )


def unpack_rounds(data: bytes) -> PackedRounds:
    """Read what `pack_rounds` wrote.

    Raises:
        MalformedMessage: If these are not exactly such records.
    """
    if len(data) % _ROUND.size:
        raise MalformedMessage("the account of the rounds has another length than whole records")
    none = bytes(32)
    for number, attempt, completed, known, _, transcript in _ROUND_AS_SENT.iter_unpack(data):
        if not (1 <= number <= MAX_ROUND and 1 <= attempt <= MAX_ROUND):
            raise MalformedMessage("the account of the rounds holds numbers that no round has")
        if completed > 1 or known > 1 or not (known or transcript == none):
            raise MalformedMessage("the account of the rounds is not in its one spelling")
    return PackedRounds(data)


def witnessed_body(
    session: bytes, round_number: int, heads: Iterable[SignedHead], countersignature: bytes | None = None
) -> dict[str, Any]:
    """Return the body of a ``witnessed`` line.

    Args:
        session: Identifier, 16 bytes.
        round_number: From 0, the session's start.
        heads: What was signed.
        countersignature: The coordinator's; ``None`` where there is none.
    """
    body: dict[str, Any] = {
        "session": session.hex(),
        "round": round_number,
        "heads": [
            {
                "party": head.party,
                "log": head.log.hex(),
                "seq": head.seq,
                "hash": head.hash.hex(),
                "signature": head.signature.hex(),
            }
            for head in heads
        ],
    }
    if countersignature is not None:
        body["countersignature"] = countersignature.hex()
    return body


def read_witnessed(body: JsonBody) -> tuple[tuple[WitnessedHead, ...], bytes | None]:
    """Return the heads in a ``witnessed`` line and the countersignature, if it has one; nothing is verified.

    Raises:
        InvalidInput: If it is not such a body.
    """
    try:
        session, round_number = bytes.fromhex(body["session"]), body["round"]
        heads = tuple(
            WitnessedHead(
                session=session,
                round=round_number,
                signed=SignedHead(
                    party=head["party"],
                    log=bytes.fromhex(head["log"]),
                    seq=head["seq"],
                    hash=bytes.fromhex(head["hash"]),
                    signature=bytes.fromhex(head["signature"]),
                ),
            )
            for head in body["heads"]
        )
        mark = body.get("countersignature")
        countersignature = None if mark is None else bytes.fromhex(mark)
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("not the body of a 'witnessed' line") from None
    if body != witnessed_body(session, round_number, (head.signed for head in heads), countersignature):
        raise InvalidInput("not the body of a 'witnessed' line")
    return heads, countersignature


def closed_body(
    statement: CloseStatement, signatures: Iterable[CloseSignature], missing: Iterable[str]
) -> dict[str, Any]:
    """Return the body of a ``session_closed`` line.

    Args:
        statement: What was signed.
        signatures: By whom, and how.
        missing: Who did not sign.
    """
    return {
        "session": statement.session.hex(),
        "configuration": statement.configuration.hex(),
        "model": statement.model.hex(),
        "completed_rounds": statement.completed_rounds,
        "transcript": statement.transcript.hex(),
        "signatures": {entry.party: entry.signature.hex() for entry in signatures},
        "missing": list(missing),
    }


def read_closed(body: JsonBody) -> tuple[CloseStatement, tuple[CloseSignature, ...], tuple[str, ...]]:
    """Return statement, signatures and missing parties of a ``session_closed`` line; nothing is verified.

    Raises:
        InvalidInput: If it is not such a body.
    """
    try:
        statement = CloseStatement(
            session=bytes.fromhex(body["session"]),
            configuration=bytes.fromhex(body["configuration"]),
            model=bytes.fromhex(body["model"]),
            completed_rounds=body["completed_rounds"],
            transcript=bytes.fromhex(body["transcript"]),
        )
        entries: Mapping[str, str] = body["signatures"]
        signatures = tuple(
            CloseSignature(party=party, signature=bytes.fromhex(signature))
            for party, signature in entries.items()
        )
        missing = tuple(str(name) for name in body["missing"])
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("not the body of a 'session_closed' line") from None
    if body != closed_body(statement, signatures, missing):
        raise InvalidInput("not the body of a 'session_closed' line")
    return statement, signatures, missing


def _heads_part(heads: Iterable[SignedHead]) -> tuple[tuple[str, bytes, int, bytes, bytes], ...]:
    return tuple((head.party, head.log, head.seq, head.hash, head.signature) for head in heads)


def _key(roster: Keys, party: str) -> bytes:
    try:
        return roster.identity_key(party)
    except InvalidInput as error:
        raise VerificationFailed(str(error)) from None

"""Make the seed corpus: the messages of one real session and one real round, a file each.

    python -m tests.fuzz.make_corpus

Each decoder gets every message it accepts, at most a few of a kind.
"""

import shutil
from collections import defaultdict

from pydantic import BaseModel

from fedapt_crypto.encoding import Message, decode_one_of
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.messages import ShareDelivery, ShareMessage
from fedapt_crypto.secagg.masking.records import (
    pair_seed_plaintext,
    shares_plaintext,
    split_parcels,
    split_records,
)
from fedapt_crypto.secagg.plain import PlainUpdate
from fedapt_crypto.secagg.signed import UNSIGNED, Abort
from fedapt_secure.log import heads
from fedapt_secure.log.heads import RoundRecord, pack_rounds
from fedapt_secure.protocol.messages import (
    FROM_COORDINATOR,
    FROM_INSTITUTION,
    MAX_FRAME_BYTES,
    Activity,
    FinishedModel,
    Hello,
    ModelRequest,
    NoModel,
    RoundDecline,
    SessionRefuse,
    Standby,
)
from tests.fuzz.decoders import DECODERS, MASKED_VALUES, ROSTER_SIZE
from tests.fuzz.enrolments import enrolment_messages
from tests.fuzz.fuzz_decoders import CORPUS
from tests.fuzz.live import play
from tests.protocol.federation import Federation

OF_A_KIND = 2


def real_messages() -> list[bytes]:
    """Return what travels in a session of three institutions, and in a round of four."""
    federation, sent = Federation(3, rounds=1), []
    for session in (bytes(16), bytes(range(16))):  # in the second one there are heads to be shown again
        federation = federation.next_session(session)
        federation.tamper = lambda name, data: sent.append(data) or data
        federation.run()
    found = [Hello(name="clinic-1").to_bytes(), federation.configuration.to_bytes(), *sent]
    found += [data for _, data in federation.received_by_coordinator]
    for data in list(found):
        found += signed_parts(data)
    found += [line for log in federation.logs.values() for line in log.lines]
    for stage in play().values():
        found.append(stage.message)
        found += parts(stage.message)
    return found


def signed_parts(data: bytes) -> list[bytes]:
    """Return what parties sign about logs inside a session message."""
    found: list[bytes] = []

    def look(value: object) -> None:
        if isinstance(value, Message) and type(value).__module__ == heads.__name__:
            found.append(value.to_bytes())
        if isinstance(value, BaseModel):
            for field in vars(value).values():
                look(field)
        if isinstance(value, tuple):
            for item in value[:3]:
                look(item)

    for kinds in (FROM_COORDINATOR, FROM_INSTITUTION):
        try:
            look(decode_one_of(data, kinds, max_bytes=MAX_FRAME_BYTES))
        except FedaptError:
            continue
    return found


def parts(data: bytes) -> list[bytes]:
    """Return the messages and tables inside a message of phase 1, and the header of a masked input."""
    found: list[bytes] = []
    try:
        found.append(MaskedPayload.from_bytes(data, MASKED_VALUES, "").header.to_bytes())
    except FedaptError:
        pass
    try:
        message = ShareMessage.from_bytes(data)
        found += [message.header.to_bytes(), message.records, split_records(message.records)[0]]
    except FedaptError:
        pass
    try:
        message = ShareDelivery.from_bytes(data)
        counts = bytes(header.record_count for header in message.headers)
        found += [counts + message.parcels, split_parcels(message.parcels, counts)[0].record]
    except FedaptError:
        pass
    return found


def rare() -> list[bytes]:
    """Return messages that an honest session does not show: aborts, clear updates, requests."""
    ended = RoundRecord(round=1, attempt=1, status="aborted", context=bytes(32), transcript=None)
    common = {"sender": "clinic-1", "signature": UNSIGNED, "context": bytes(32)}
    named = {"round": 1, "attempt": 2}
    made = [
        RoundDecline(**named, final=False, reason="already_released"),
        ModelRequest(name="clinic-1", session=bytes(16)),
        Standby(finished=bytes(16)),
        NoModel(reason="no_such_session"),
        SessionRefuse(reason="classes_differ"),
        Activity(doing="encoding", percent=40),
        FinishedModel(
            configuration=bytes(9), signature=UNSIGNED, end=bytes(9), model=bytes(9), group=bytes(9)
        ),
        Abort(**common, reason="ContextMismatch", accused="clinic-2"),
        PlainUpdate(**common, values=bytes(36)),
        ended,
    ]
    return [message.to_bytes() for message in made]


def tables() -> list[bytes]:
    """Return inputs of the decoders that take no message: proofs, opened plaintexts, lists of parties."""
    tree = MerkleTree([bytes((i,)) for i in range(5)])
    proofs = [tree.root + bytes((i, 5)) + b"".join(tree.proof(i)) + bytes((i,)) for i in range(5)]
    plain = [
        shares_plaintext(bytes(32), 1, 2, bytes(33), bytes(33)),
        pair_seed_plaintext(bytes(32), 1, 2, bytes(32)),
    ]
    one = RoundRecord(round=1, attempt=1, status="completed", context=bytes(32), transcript=bytes(32))
    aborted = one.model_copy(update={"round": 2, "status": "aborted", "transcript": None})
    indices = parties.pack(range(ROSTER_SIZE))
    return [pack_rounds([one, aborted]), *proofs, *plain, indices, parties.pack(range(4)) + bytes(4 * 32)]


def main() -> None:
    """Write the corpus anew."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    inputs = [*real_messages(), *rare(), *tables(), *enrolment_messages()]
    for name, decode in DECODERS.items():
        kinds: dict[str, list[bytes]] = defaultdict(list)
        for data in inputs:
            try:
                result = decode(data)
            except FedaptError:
                continue
            same = kinds[type(result).__name__]
            if len(same) < OF_A_KIND and data not in same:
                same.append(data)
        folder = CORPUS / name
        for number, data in enumerate(data for same in kinds.values() for data in same):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:02}.bin").write_bytes(data)


if __name__ == "__main__":
    main()

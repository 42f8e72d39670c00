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
from fedapt_crypto.secagg import parties
from fedapt_crypto.secagg.messages import (
    UNSIGNED,
    Abort,
    PairSeedPlaintext,
    ShareDelivery,
    ShareMessage,
    SharesPlaintext,
)
from fedapt_crypto.secagg.plain import PlainUpdate
from fedapt_secure.audit import heads
from fedapt_secure.audit.heads import RoundRecord, pack_rounds
from fedapt_secure.protocol.messages import FROM_COORDINATOR, FROM_INSTITUTION, MAX_FRAME_BYTES, Hello
from tests.fuzz.decoders import DECODERS, ROSTER_SIZE
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
    """Return the messages and tables inside a message of phase 1."""
    found: list[bytes] = []
    try:
        message = ShareMessage.from_bytes(data)
        found += [message.header.to_bytes(), message.records, message.sealed[0].to_bytes()]
    except FedaptError:
        pass
    try:
        parcel = ShareDelivery.from_bytes(data).parcels[0]
        found += [parcel.to_bytes(), parcel.record]
    except FedaptError:
        pass
    return found


def rare() -> list[bytes]:
    """Return messages that an honest session does not show: aborts, sealed plaintexts, clear updates."""
    ends = {"execution": bytes(32), "sender": "clinic-1", "receiver": "clinic-2"}
    ended = RoundRecord(round=1, attempt=1, status="aborted", context=bytes(32), transcript=None)
    common = {"sender": "clinic-1", "signature": UNSIGNED, "context": bytes(32)}
    made = [
        SharesPlaintext(**ends, self_mask_share=bytes(33), root_share=bytes(33)),
        PairSeedPlaintext(**ends, seed=bytes(32)),
        Abort(**common, reason="ContextMismatch", accused="clinic-2", detail="no"),
        PlainUpdate(**common, values=bytes(36)),
        ended,
    ]
    return [message.to_bytes() for message in made]


def tables() -> list[bytes]:
    """Return inputs of the decoders that take no message."""
    tree = MerkleTree([bytes((i,)) for i in range(5)])
    proofs = [tree.root + bytes((i, 5)) + b"".join(tree.proof(i)) + bytes((i,)) for i in range(5)]
    one = RoundRecord(round=1, attempt=1, status="completed", context=bytes(32), transcript=bytes(32))
    aborted = one.model_copy(update={"round": 2, "status": "aborted", "transcript": None})
    return [
        pack_rounds([one, aborted]),
        *proofs,
        parties.pack(range(ROSTER_SIZE)),
        parties.pack(range(4)) + bytes(4 * 32),
    ]


def main() -> None:
    """Write the corpus anew."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    inputs = [*real_messages(), *rare(), *tables()]
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

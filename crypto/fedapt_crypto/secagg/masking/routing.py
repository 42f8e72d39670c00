"""Phase 1 at the coordinator: check what a dealer sent, keep it, and hand each receiver its part."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedapt_crypto.encoding import Encoded
from fedapt_crypto.errors import ContextMismatch, MalformedMessage, VerificationFailed
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.masking.dealing import expected_flags
from fedapt_crypto.secagg.masking.messages import ShareDelivery, ShareHeader, ShareMessage
from fedapt_crypto.secagg.masking.records import RECORD_BYTES, parcel_pieces, record_heads


@dataclass(frozen=True)
class Dealt:
    """What one dealer dealt, checked: its header, and the encoded record of each receiver, ascending."""

    header: ShareHeader
    holders: frozenset[int]
    records: Mapping[int, bytes]
    tree: MerkleTree


def check_dealt(
    message: ShareMessage,
    dealer: int,
    holders: frozenset[int],
    receivers: Sequence[int],
    execution: bytes,
    roster: Roster,
) -> Dealt:
    """Check a dealer's message: signature, execution, and for each receiver a record with what is due.

    Which records are due says how long each is, so the table is cut up without looking into it.

    Args:
        message: What it sent.
        dealer: Its roster index.
        holders: Who is due shares of its secrets, itself among them.
        receivers: Itself and all its neighbours, ascending.
        execution: The execution identifier.
        roster: The session's roster.

    Raises:
        PeerError: Naming the dealer.
    """
    header, table, name = message.header, message.records, message.header.sender
    header.check_signature(roster)
    if header.execution != execution:
        raise ContextMismatch("dealt shares in another execution of the protocol", peer=name)
    flags = [expected_flags(dealer, receiver, holders) for receiver in receivers]
    sizes = [RECORD_BYTES[each] for each in flags]
    if header.record_count != len(receivers) or len(table) != sum(sizes):
        raise MalformedMessage("dealt something else than what is due, or to others", peer=name)
    records, at = [], 0
    for size in sizes:
        records.append(table[at : at + size])
        at += size
    tree = MerkleTree(records)
    if tree.root != header.records_root:
        raise VerificationFailed("sent other records than it signed", peer=name)
    if not all(map(bytes.startswith, records, record_heads(receivers, flags))):
        raise MalformedMessage("dealt something else than what is due", peer=name)
    return Dealt(header, holders, dict(zip(receivers, records, strict=True)), tree)


def deliveries(dealt: Mapping[int, Dealt], dealers: bytes, digests: bytes) -> dict[int, bytes]:
    """Return what each of the dealers receives from its neighbours among them."""
    headers: dict[int, list[bytes]] = {index: [] for index in dealt}
    parcels: dict[int, list[bytes]] = {index: [] for index in dealt}
    for dealer, part in dealt.items():  # ascending, as receivers expect
        header = part.header.to_bytes()
        entries = zip(part.records.items(), part.tree.proofs(), strict=True)
        for position, ((receiver, record), proof) in enumerate(entries):
            if receiver != dealer and receiver in parcels:
                headers[receiver].append(header)
                parcels[receiver] += parcel_pieces(position, proof, record)
    common = {"kind": ShareDelivery.tag(), "dealers": dealers, "digests": digests}
    return {
        index: ShareDelivery.encode_fields(
            {
                **common,
                "headers": Encoded.array(headers.pop(index)),
                "parcels": b"".join(parcels.pop(index)),
            }
        )
        for index in dealt
    }


def enough_signatures(signed: Collection[int], holder_sets: Sequence[Iterable[int]], needed: int) -> set[int]:
    """Return a small set of signers with ``needed`` in each holder set, as far as there are so many.

    Greedy: each institution verifies what it is sent, so sending all of them would cost everyone time.
    """
    missing = [needed] * len(holder_sets)
    speaks_for: dict[int, list[int]] = {signer: [] for signer in signed}
    for position, holders in enumerate(holder_sets):
        for holder in holders:
            if holder in speaks_for:
                speaks_for[holder].append(position)
    chosen: set[int] = set()
    for signer in sorted(signed, key=lambda s: -len(speaks_for[s])):
        if any(missing[position] > 0 for position in speaks_for[signer]):
            chosen.add(signer)
            for position in speaks_for[signer]:
                missing[position] -= 1
    return chosen

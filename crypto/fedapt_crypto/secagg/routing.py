"""Phase 1 at the coordinator: check what a dealer sent, keep it, and hand each receiver its part."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedapt_crypto.encoding import Encoded
from fedapt_crypto.errors import ContextMismatch, MalformedMessage, VerificationFailed
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.dealing import expected_flags
from fedapt_crypto.secagg.messages import Parcel, SealedSecrets, ShareDelivery, ShareHeader, ShareMessage
from fedapt_crypto.secagg.records import HOLDER, PAIR, Record, split_table


@dataclass(frozen=True)
class Dealt:
    """What one dealer dealt, checked: its header, and record, ciphertexts and proof by receiver."""

    header: ShareHeader
    holders: frozenset[int]
    records: Mapping[int, Record]
    sealed: Mapping[int, SealedSecrets]
    tree: MerkleTree


def check_dealt(
    message: ShareMessage,
    dealer: int,
    drawn: Mapping[int, frozenset[int]],
    participants: frozenset[int],
    execution: bytes,
    roster: Roster,
) -> Dealt:
    """Check a dealer's message: signature, execution, one record and the right ciphertexts a receiver.

    Args:
        message: What it sent.
        dealer: Its roster index.
        drawn: Who drew whom.
        participants: Who advertised.
        execution: The execution identifier.
        roster: The session's roster.

    Raises:
        PeerError: Naming the dealer.
    """
    header, name = message.header, message.header.sender
    header.check_signature(roster)
    if header.execution != execution:
        raise ContextMismatch("dealt shares in another execution of the protocol", peer=name)
    holders = (drawn[dealer] & participants) | {dealer}
    incoming = {other for other in participants if dealer in drawn[other]}
    receivers = sorted(holders | incoming)
    table = list(split_table(message.records))
    if not len(table) == len(message.sealed) == header.record_count == len(receivers):
        raise MalformedMessage("dealt to another number of parties than its neighbours", peer=name)
    tree = MerkleTree(table)
    if tree.root != header.records_root:
        raise VerificationFailed("sent other records than it signed", peer=name)
    records: dict[int, Record] = {}
    for receiver, data, sealed in zip(receivers, table, message.sealed, strict=True):
        record = Record.from_bytes(data)
        flags = expected_flags(dealer, receiver, holders)
        due = (bool(flags & HOLDER) and receiver != dealer, bool(flags & PAIR))
        found = (sealed.shares is not None, sealed.pair_seed is not None)
        if (record.receiver, record.flags) != (receiver, flags) or found != due:
            raise MalformedMessage("dealt something else than what is due", peer=name)
        record.check_sealed(sealed, name)
        records[receiver] = record
    return Dealt(header, frozenset(holders), records, dict(zip(receivers, message.sealed, strict=True)), tree)


def deliveries(dealt: Mapping[int, Dealt], dealers: bytes, digests: bytes) -> dict[int, bytes]:
    """Return what each of the dealers receives from its neighbours among them."""
    parcels: dict[int, list[Encoded]] = {index: [] for index in dealt}
    for dealer, part in dealt.items():  # ascending, as receivers expect
        proofs = part.tree.proofs()
        for position, (receiver, record) in enumerate(part.records.items()):
            if receiver != dealer and receiver in parcels:
                parcel = {
                    "header": part.header,
                    "record": record.to_bytes(),
                    "position": position,
                    "proof": proofs[position],
                    "sealed": part.sealed[receiver],
                }
                parcels[receiver].append(Encoded(Parcel.encode_fields(parcel)))
    common = {"kind": ShareDelivery.tag(), "dealers": dealers, "digests": digests}
    return {index: ShareDelivery.encode_fields(common | {"parcels": parcels.pop(index)}) for index in dealt}


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

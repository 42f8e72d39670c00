"""Phase 1 of the masking protocol: deal shares and pair seeds, and check what others dealt.

Sealed plaintexts repeat execution, sender, receiver and kind, and the signed header covers (through the
records' Merkle root) every ciphertext, because HPKE itself does not say who sealed: without
both, an institution in league with the coordinator could pass another's sealed shares off as its own
and have them revealed.
"""

import secrets as operating_system
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from fedapt_crypto import shamir
from fedapt_crypto.errors import MalformedMessage, PeerError, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.merkle import MerkleTree, check_proof
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg.masking import keys
from fedapt_crypto.secagg.masking.messages import Advertise, ShareHeader, ShareMessage
from fedapt_crypto.secagg.masking.records import (
    ABSENT,
    HOLDER,
    OWN,
    PAIR,
    Parcel,
    Record,
    pair_seed_plaintext,
    read_pair_seed,
    read_shares,
    shares_plaintext,
)
from fedapt_crypto.secagg.signed import UNSIGNED


@dataclass(frozen=True, repr=False)
class OpenedSecrets:
    """What one dealer gave us; ``None`` where it was not due."""

    self_mask_share: bytes | None
    root_share: bytes | None
    pair_seed: bytes | None


class Dealer:
    """An institution's two secrets of a round and how they are dealt; single use.

    Args:
        name: The dealer's name on the roster.
        context: Hash of the round's context, 32 bytes.
        self_mask: b, seed of its own mask, 32 bytes; secret.
        root: r, from which its mask key and pair seeds follow, 32 bytes; secret.
    """

    def __init__(self, name: str, context: bytes, self_mask: bytes, root: bytes) -> None:
        self.name = name
        self.self_mask = self_mask
        self.root = root
        self.mask_key = keys.mask_key(root, context)
        self.header: ShareHeader | None = None
        self.own_shares = OpenedSecrets(None, None, None)

    @classmethod
    def fresh(cls, name: str, context: bytes) -> "Dealer":
        """Draw both secrets from the operating system."""
        return cls(
            name,
            context,
            operating_system.token_bytes(shamir.SECRET_BYTES),
            operating_system.token_bytes(shamir.SECRET_BYTES),
        )

    def deal(
        self,
        execution: bytes,
        neighbours: Mapping[int, Advertise],
        holders: Collection[int],
        roster: Roster,
        threshold: int,
        identity: Identity,
    ) -> ShareMessage:
        """Share both secrets among the holders and seal a pair seed to every neighbour after us.

        Args:
            execution: The execution identifier.
            neighbours: Roster index to advertisement of all that take part and share an edge with us.
            holders: Roster indices, ours among them, that get shares.
            roster: The approved roster.
            threshold: How many shares give a secret back.
            identity: What signs the header.

        Raises:
            VerificationFailed: If a neighbour advertised a key that is not valid; names it.
        """
        own = roster.index(self.name)
        points = [index + 1 for index in sorted(holders)]
        mask_shares = shamir.split(self.self_mask, threshold, points)
        root_shares = shamir.split(self.root, threshold, points)
        records: list[bytes] = []
        for index in sorted({*neighbours, own}):
            shares = OpenedSecrets(mask_shares.get(index + 1), root_shares.get(index + 1), None)
            if index == own:
                self.own_shares = shares
            elif index > own:
                seed = keys.pair_seed(self.root, execution, self.name, roster.names[index])
                shares = replace(shares, pair_seed=seed)
            records.append(self._record(execution, own, index, roster.names[index], shares, neighbours))
        unsigned = ShareHeader(
            sender=self.name,
            signature=UNSIGNED,
            execution=execution,
            self_mask=keys.commit("self mask", execution, self.name, self.self_mask),
            root=keys.commit("root", execution, self.name, self.root),
            records_root=MerkleTree(records).root,
            record_count=len(records),
        )
        self.header = unsigned.signed_by(identity)
        return ShareMessage(header=self.header, records=b"".join(records))

    def _record(
        self,
        execution: bytes,
        own: int,
        index: int,
        receiver: str,
        given: OpenedSecrets,
        neighbours: Mapping[int, Advertise],
    ) -> bytes:
        """Return the record of what a receiver, or we ourselves, are given."""
        ends = (execution, self.name, receiver)
        mask_share, root_share, seed = given.self_mask_share, given.root_share, given.pair_seed
        flags = OWN if index == own else 0
        sealed_shares = sealed_seed = b""
        try:
            if mask_share is not None and root_share is not None:
                flags |= HOLDER
                if index != own:
                    plaintext = shares_plaintext(execution, own, index, mask_share, root_share)
                    sealed_shares = seal(neighbours[index].seal_key, plaintext, "secagg shares", *ends)
            if seed is not None:
                flags |= PAIR
                plaintext = pair_seed_plaintext(execution, own, index, seed)
                sealed_seed = seal(neighbours[index].mask_key, plaintext, "secagg pair seed", *ends)
        except VerificationFailed as error:
            raise VerificationFailed(str(error), peer=receiver) from None
        return Record(
            receiver=index,
            flags=flags,
            self_mask_share=share_commitment("self mask", *ends, mask_share) if mask_share else ABSENT,
            root_share=share_commitment("root", *ends, root_share) if root_share else ABSENT,
            pair_seed=seed_commitment(*ends, seed) if seed else ABSENT,
            sealed_shares=sealed_shares,
            sealed_pair_seed=sealed_seed,
        ).to_bytes()


def share_commitment(secret: str, execution: bytes, owner: str, holder: str, share: bytes) -> bytes:
    """Return the commitment to the share of ``owner``'s secret that ``holder`` got."""
    return keys.commit(f"{secret} share", execution, owner, holder, share)


def seed_commitment(execution: bytes, dealer: str, receiver: str, seed: bytes) -> bytes:
    """Return the commitment to a pair seed."""
    return keys.commit("pair seed", execution, dealer, receiver, seed)


def expected_flags(dealer: int, receiver: int, holders: Collection[int]) -> int:
    """Return what is due from a dealer to one of its neighbours or to itself."""
    if receiver == dealer:
        return HOLDER | OWN
    return (HOLDER if receiver in holders else 0) | (PAIR if receiver > dealer else 0)


def check_parcel(header: ShareHeader, parcel: Parcel, own_index: int, flags: int) -> Record:
    """Check that a parcel is covered by its header's signature and holds what is due to us.

    The header's signature has been checked before.

    Raises:
        PeerError: If not; names the dealer.
    """
    try:
        check_proof(header.records_root, parcel.record, parcel.position, header.record_count, parcel.proof)
        record = Record.from_bytes(parcel.record)
    except PeerError as error:
        raise type(error)(str(error), peer=header.sender) from None
    if (record.receiver, record.flags) != (own_index, flags):
        raise MalformedMessage("dealt us something else than what is due", peer=header.sender)
    return record


def open_record(
    header: ShareHeader, record: Record, roster: Roster, seal_key: SealingKey, mask_key: SealingKey
) -> OpenedSecrets:
    """Open what a checked record holds for us and compare it with the dealer's commitments.

    Raises:
        PeerError: If it does not open or is not what was committed to; names the dealer.
    """
    execution, dealer, receiver = header.execution, header.sender, roster.names[record.receiver]
    ends = (execution, dealer, receiver)
    mask_share = root_share = seed = None
    try:
        if record.sealed_shares:
            opened = seal_key.open(record.sealed_shares, "secagg shares", *ends)
            mask_share, root_share = read_shares(opened, execution, roster.index(dealer), record.receiver)
            if (
                share_commitment("self mask", *ends, mask_share),
                share_commitment("root", *ends, root_share),
            ) != (record.self_mask_share, record.root_share):
                raise VerificationFailed("our shares are not the ones committed to")
        if record.sealed_pair_seed:
            seed = open_pair_seed(header, record, roster, mask_key)
    except PeerError as error:
        if error.peer is not None:
            raise
        raise type(error)(str(error), peer=dealer) from None
    return OpenedSecrets(mask_share, root_share, seed)


def open_pair_seed(header: ShareHeader, record: Record, roster: Roster, mask_key: SealingKey) -> bytes:
    """Open the pair seed in a record and check it against the dealer's commitment.

    Raises:
        PeerError: If it does not open or is not the one committed to.
    """
    ends = (header.execution, header.sender, roster.names[record.receiver])
    plaintext = mask_key.open(record.sealed_pair_seed, "secagg pair seed", *ends)
    seed = read_pair_seed(plaintext, header.execution, roster.index(header.sender), record.receiver)
    if seed_commitment(*ends, seed) != record.pair_seed:
        raise VerificationFailed("a pair seed is not the one committed to", peer=header.sender)
    return seed

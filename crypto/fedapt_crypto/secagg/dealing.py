"""Phase 1 of the masking protocol: deal shares and pair seeds, and check what others dealt.

Sealed plaintexts repeat execution, sender, receiver and kind, and the signed header covers (through the
records' Merkle root) the hash of every ciphertext, because HPKE itself does not say who sealed: without
both, an institution in league with the coordinator could pass another's sealed shares off as its own
and have them revealed.
"""

import secrets as operating_system
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fedapt_crypto import shamir
from fedapt_crypto.errors import MalformedMessage, PeerError, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.merkle import MerkleTree, check_proof
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import masking_keys as keys
from fedapt_crypto.secagg.messages import (
    UNSIGNED,
    Advertise,
    PairSeedPlaintext,
    Parcel,
    SealedSecrets,
    ShareHeader,
    ShareMessage,
    SharesPlaintext,
)
from fedapt_crypto.secagg.records import ABSENT, HOLDER, PAIR, Record, sealed_hash

Plaintext = TypeVar("Plaintext", SharesPlaintext, PairSeedPlaintext)


@dataclass(frozen=True, repr=False)
class OpenedSecrets:
    """What one dealer gave us; ``None`` where it was not due."""

    self_mask_share: bytes | None
    root_share: bytes | None
    pair_seed: bytes | None


class Dealer:
    """An institution's two secrets of a round and how they are dealt; single use."""

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
        sealed: list[SealedSecrets] = []
        for index in sorted({*neighbours, own}):
            shares = OpenedSecrets(mask_shares.get(index + 1), root_shares.get(index + 1), None)
            ciphertexts = SealedSecrets(shares=None, pair_seed=None)
            seed = None
            if index == own:
                self.own_shares = shares
            else:
                if index > own:
                    seed = keys.pair_seed(self.root, execution, self.name, roster.names[index])
                ciphertexts = self._seal(execution, neighbours[index], shares, seed)
            records.append(self._record(execution, index, roster.names[index], shares, seed, ciphertexts))
            sealed.append(ciphertexts)
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
        return ShareMessage(header=self.header, records=b"".join(records), sealed=tuple(sealed))

    def _seal(
        self, execution: bytes, receiver: Advertise, shares: OpenedSecrets, seed: bytes | None
    ) -> SealedSecrets:
        ends = (execution, self.name, receiver.sender)
        sealed_shares = sealed_seed = None
        try:
            if shares.self_mask_share is not None and shares.root_share is not None:
                plaintext = SharesPlaintext(
                    execution=execution,
                    sender=self.name,
                    receiver=receiver.sender,
                    self_mask_share=shares.self_mask_share,
                    root_share=shares.root_share,
                )
                sealed_shares = seal(receiver.seal_key, plaintext.to_bytes(), "secagg shares", *ends)
            if seed is not None:
                pair = PairSeedPlaintext(
                    execution=execution, sender=self.name, receiver=receiver.sender, seed=seed
                )
                sealed_seed = seal(receiver.mask_key, pair.to_bytes(), "secagg pair seed", *ends)
        except VerificationFailed as error:
            raise VerificationFailed(str(error), peer=receiver.sender) from None
        return SealedSecrets(shares=sealed_shares, pair_seed=sealed_seed)

    def _record(
        self,
        execution: bytes,
        index: int,
        receiver: str,
        shares: OpenedSecrets,
        seed: bytes | None,
        sealed: SealedSecrets,
    ) -> bytes:
        ends = (execution, self.name, receiver)
        mask_share, root_share = shares.self_mask_share, shares.root_share
        return Record(
            receiver=index,
            flags=(HOLDER if mask_share is not None else 0) | (PAIR if seed is not None else 0),
            self_mask_share=share_commitment("self mask", *ends, mask_share) if mask_share else ABSENT,
            root_share=share_commitment("root", *ends, root_share) if root_share else ABSENT,
            pair_seed=seed_commitment(*ends, seed) if seed else ABSENT,
            sealed_shares=sealed_hash(sealed.shares),
            sealed_pair_seed=sealed_hash(sealed.pair_seed),
        ).to_bytes()


def share_commitment(secret: str, execution: bytes, owner: str, holder: str, share: bytes) -> bytes:
    """Return the commitment to the share of ``owner``'s secret that ``holder`` got."""
    return keys.commit(f"{secret} share", execution, owner, holder, share)


def seed_commitment(execution: bytes, dealer: str, receiver: str, seed: bytes) -> bytes:
    """Return the commitment to a pair seed."""
    return keys.commit("pair seed", execution, dealer, receiver, seed)


def expected_flags(dealer: int, receiver: int, holders: Collection[int]) -> int:
    """Return what is due from a dealer to one of its neighbours or to itself."""
    return (HOLDER if receiver in holders else 0) | (PAIR if receiver > dealer else 0)


def check_parcel(parcel: Parcel, own_index: int, flags: int) -> Record:
    """Check that a parcel is covered by its header's signature and holds what is due to us.

    The header's signature has been checked before.

    Raises:
        PeerError: If not; names the dealer.
    """
    dealer = parcel.header.sender
    try:
        check_proof(
            parcel.header.records_root,
            parcel.record,
            parcel.position,
            parcel.header.record_count,
            parcel.proof,
        )
        record = Record.from_bytes(parcel.record)
    except PeerError as error:
        raise type(error)(str(error), peer=dealer) from None
    due = (bool(flags & HOLDER), bool(flags & PAIR))
    if (record.receiver, record.flags) != (own_index, flags) or due != (
        parcel.sealed.shares is not None,
        parcel.sealed.pair_seed is not None,
    ):
        raise MalformedMessage("dealt us something else than what is due", peer=dealer)
    record.check_sealed(parcel.sealed, dealer)
    return record


def open_parcel(
    parcel: Parcel, record: Record, receiver: str, seal_key: SealingKey, mask_key: SealingKey
) -> OpenedSecrets:
    """Open what a checked parcel holds and compare it with the dealer's commitments.

    Raises:
        PeerError: If it does not open or is not what was committed to; names the dealer.
    """
    header, sealed = parcel.header, parcel.sealed
    execution, dealer = header.execution, header.sender
    mask_share = root_share = seed = None
    try:
        if sealed.shares is not None:
            opened = seal_key.open(sealed.shares, "secagg shares", execution, dealer, receiver)
            shares = SharesPlaintext.from_bytes(opened)
            _check_ends(shares, header, receiver)
            mask_share, root_share = shares.self_mask_share, shares.root_share
            if (
                share_commitment("self mask", execution, dealer, receiver, mask_share),
                share_commitment("root", execution, dealer, receiver, root_share),
            ) != (record.self_mask_share, record.root_share):
                raise VerificationFailed("our shares are not the ones committed to")
        if sealed.pair_seed is not None:
            seed = open_pair_seed(header, sealed.pair_seed, record, receiver, mask_key)
    except PeerError as error:
        if error.peer is not None:
            raise
        raise type(error)(str(error), peer=dealer) from None
    return OpenedSecrets(mask_share, root_share, seed)


def open_pair_seed(
    header: ShareHeader, sealed_seed: bytes, record: Record, receiver: str, mask_key: SealingKey
) -> bytes:
    """Open a pair seed and check it against the dealer's commitment.

    Raises:
        PeerError: If it does not open or is not the one committed to.
    """
    execution, dealer = header.execution, header.sender
    plaintext = mask_key.open(sealed_seed, "secagg pair seed", execution, dealer, receiver)
    pair = PairSeedPlaintext.from_bytes(plaintext)
    _check_ends(pair, header, receiver)
    if seed_commitment(execution, dealer, receiver, pair.seed) != record.pair_seed:
        raise VerificationFailed("a pair seed is not the one committed to", peer=dealer)
    return pair.seed


def _check_ends(plaintext: Plaintext, header: ShareHeader, receiver: str) -> None:
    ends = (plaintext.execution, plaintext.sender, plaintext.receiver)
    if ends != (header.execution, header.sender, receiver):
        raise VerificationFailed("a sealed message is about other parties", peer=header.sender)

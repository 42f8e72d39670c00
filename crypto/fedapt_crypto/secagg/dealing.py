"""Phase 1 of the masking protocol: deal shares and pair seeds, and check what others dealt.

Sealed plaintexts repeat execution, sender, receiver and kind, and the signed header covers the hash of
every ciphertext, because HPKE itself does not say who sealed: without both, an institution in league
with the coordinator could pass another's sealed shares off as its own and have them revealed.
"""

import secrets as operating_system
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedapt_crypto import shamir
from fedapt_crypto.errors import ContextMismatch, MalformedMessage, PeerError, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import masking_keys as keys
from fedapt_crypto.secagg.messages import (
    UNSIGNED,
    Advertise,
    Commitments,
    PairSeedPlaintext,
    SealedSecrets,
    ShareDelivery,
    ShareHeader,
    ShareMessage,
    SharesPlaintext,
)

Plaintext = TypeVar("Plaintext", SharesPlaintext, PairSeedPlaintext)


@dataclass(frozen=True, repr=False)
class OpenedSecrets:
    """What one dealer gave us; ``pair_seed`` is ``None`` where we come first in the roster."""

    self_mask_share: bytes
    root_share: bytes
    pair_seed: bytes | None


def sealed_hash(sealed: bytes) -> bytes:
    """Return the hash by which a header covers a ciphertext."""
    return digest("secagg sealed", sealed)


class Dealer:
    """An institution's two secrets of a round and how they are dealt; single use."""

    def __init__(self, name: str, context: bytes, self_mask: bytes, root: bytes) -> None:
        self.name = name
        self.self_mask = self_mask
        self.root = root
        self.mask_key = keys.mask_key(root, context)
        self.header: ShareHeader | None = None
        self.own_shares: OpenedSecrets | None = None

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
        participants: Sequence[Advertise],
        roster: Roster,
        threshold: int,
        identity: Identity,
    ) -> ShareMessage:
        """Share both secrets among ``participants`` and seal a pair seed to everyone after us.

        Raises:
            VerificationFailed: If a participant advertised a key that is not valid; names it.
        """
        index_of = {advertise.sender: roster.index(advertise.sender) + 1 for advertise in participants}
        mask_shares = shamir.split(self.self_mask, threshold, list(index_of.values()))
        root_shares = shamir.split(self.root, threshold, list(index_of.values()))
        entries: list[Commitments] = []
        sealed: list[SealedSecrets] = []
        for advertise in participants:
            receiver, index = advertise.sender, index_of[advertise.sender]
            shares = OpenedSecrets(mask_shares[index], root_shares[index], None)
            ciphertexts = None
            if receiver != self.name:
                later = index > index_of[self.name]
                ciphertexts = self._seal(execution, advertise, shares, with_pair_seed=later)
                sealed.append(ciphertexts)
            else:
                self.own_shares = shares
            entries.append(self._commit(execution, receiver, shares, ciphertexts))
        unsigned = ShareHeader(
            sender=self.name,
            signature=UNSIGNED,
            execution=execution,
            self_mask=keys.commit("self mask", execution, self.name, self.self_mask),
            root=keys.commit("root", execution, self.name, self.root),
            receivers=tuple(entries),
        )
        self.header = unsigned.signed_by(identity)
        return ShareMessage(header=self.header, sealed=tuple(sealed))

    def _seal(
        self, execution: bytes, receiver: Advertise, shares: OpenedSecrets, *, with_pair_seed: bool
    ) -> SealedSecrets:
        plaintext = SharesPlaintext(
            execution=execution,
            sender=self.name,
            receiver=receiver.sender,
            self_mask_share=shares.self_mask_share,
            root_share=shares.root_share,
        )
        info = (execution, self.name, receiver.sender)
        try:
            sealed_shares = seal(receiver.seal_key, plaintext.to_bytes(), "secagg shares", *info)
            sealed_seed = None
            if with_pair_seed:
                seed = keys.pair_seed(self.root, execution, self.name, receiver.sender)
                pair = PairSeedPlaintext(
                    execution=execution, sender=self.name, receiver=receiver.sender, seed=seed
                )
                sealed_seed = seal(receiver.mask_key, pair.to_bytes(), "secagg pair seed", *info)
        except VerificationFailed as error:
            raise VerificationFailed(str(error), peer=receiver.sender) from None
        return SealedSecrets(party=receiver.sender, shares=sealed_shares, pair_seed=sealed_seed)

    def _commit(
        self, execution: bytes, receiver: str, shares: OpenedSecrets, sealed: SealedSecrets | None
    ) -> Commitments:
        seed_hash = seed_commitment = None
        if sealed is not None and sealed.pair_seed is not None:
            seed = keys.pair_seed(self.root, execution, self.name, receiver)
            seed_commitment = keys.commit("pair seed", execution, self.name, receiver, seed)
            seed_hash = sealed_hash(sealed.pair_seed)
        ends = (execution, self.name, receiver)
        return Commitments(
            receiver=receiver,
            self_mask_share=share_commitment("self mask", *ends, shares.self_mask_share),
            root_share=share_commitment("root", *ends, shares.root_share),
            pair_seed=seed_commitment,
            sealed_shares=None if sealed is None else sealed_hash(sealed.shares),
            sealed_pair_seed=seed_hash,
        )


def share_commitment(secret: str, execution: bytes, owner: str, holder: str, share: bytes) -> bytes:
    """Return the commitment to the share of ``owner``'s secret that ``holder`` got."""
    return keys.commit(f"{secret} share", execution, owner, holder, share)


def check_headers(
    headers: Sequence[ShareHeader], participants: Sequence[Advertise], execution: bytes, roster: Roster
) -> None:
    """Check that each header is signed, of this execution, and has one fitting entry a participant.

    Raises:
        PeerError: Naming the dealer.
    """
    names = tuple(advertise.sender for advertise in participants)
    for header in headers:
        dealer = header.sender
        if dealer not in names:
            raise ContextMismatch("dealt shares without having advertised keys", peer=dealer)
        header.check_signature(roster)
        if header.execution != execution:
            raise ContextMismatch("dealt shares in another execution of the protocol", peer=dealer)
        if tuple(entry.receiver for entry in header.receivers) != names:
            raise MalformedMessage("dealt shares to other parties than the participants", peer=dealer)
        for entry in header.receivers:
            later = roster.index(entry.receiver) > roster.index(dealer)
            fits = (
                (entry.sealed_shares is not None) == (entry.receiver != dealer)
                and (entry.pair_seed is not None) == later
                and (entry.sealed_pair_seed is not None) == later
            )
            if not fits:
                raise MalformedMessage(f"has a malformed entry for {entry.receiver}", peer=dealer)


def check_ciphertexts(sealed: SealedSecrets, entry: Commitments, dealer: str) -> None:
    """Check that ciphertexts are the ones the dealer signed.

    Raises:
        VerificationFailed: Naming the dealer.
    """
    seed_hash = None if sealed.pair_seed is None else sealed_hash(sealed.pair_seed)
    if sealed_hash(sealed.shares) != entry.sealed_shares or seed_hash != entry.sealed_pair_seed:
        raise VerificationFailed("a sealed message is not the one that its dealer signed", peer=dealer)


def open_secrets(
    delivery: ShareDelivery, name: str, seal_key: SealingKey, mask_key: SealingKey
) -> dict[str, OpenedSecrets]:
    """Open and check everything that was sealed to ``name``; headers have been checked before.

    Returns:
        Dealer to what it gave us, without our own shares.

    Raises:
        PeerError: If a ciphertext is missing or foreign, does not open, or does not match the dealer's
            commitments; names the dealer.
    """
    dealers = [header for header in delivery.headers if header.sender != name]
    if [sealed.party for sealed in delivery.sealed] != [header.sender for header in dealers]:
        raise MalformedMessage("the share delivery does not hold one ciphertext for each dealer")
    opened: dict[str, OpenedSecrets] = {}
    for header, sealed in zip(dealers, delivery.sealed, strict=True):
        entry = header.commitments_for(name)
        if entry is None:
            raise MalformedMessage("dealt us no shares", peer=header.sender)
        check_ciphertexts(sealed, entry, header.sender)
        try:
            opened[header.sender] = _open_one(header, sealed, entry, name, seal_key, mask_key)
        except PeerError as error:
            if error.peer is not None:
                raise
            raise type(error)(str(error), peer=header.sender) from None
    return opened


def _open_one(
    header: ShareHeader,
    sealed: SealedSecrets,
    entry: Commitments,
    name: str,
    seal_key: SealingKey,
    mask_key: SealingKey,
) -> OpenedSecrets:
    execution, dealer = header.execution, header.sender
    info = (execution, dealer, name)
    shares = SharesPlaintext.from_bytes(seal_key.open(sealed.shares, "secagg shares", *info))
    _check_ends(shares, header, name)
    committed = (
        share_commitment("self mask", execution, dealer, name, shares.self_mask_share),
        share_commitment("root", execution, dealer, name, shares.root_share),
    )
    if committed != (entry.self_mask_share, entry.root_share):
        raise VerificationFailed("our shares are not the ones committed to", peer=dealer)
    seed = None
    if sealed.pair_seed is not None:
        seed = open_pair_seed(header, sealed.pair_seed, entry, name, mask_key)
    return OpenedSecrets(shares.self_mask_share, shares.root_share, seed)


def open_pair_seed(
    header: ShareHeader, sealed_seed: bytes, entry: Commitments, receiver: str, mask_key: SealingKey
) -> bytes:
    """Open a pair seed and check it against the dealer's commitment.

    Raises:
        PeerError: If it does not open or is not the one committed to.
    """
    execution, dealer = header.execution, header.sender
    plaintext = mask_key.open(sealed_seed, "secagg pair seed", execution, dealer, receiver)
    pair = PairSeedPlaintext.from_bytes(plaintext)
    _check_ends(pair, header, receiver)
    if keys.commit("pair seed", execution, dealer, receiver, pair.seed) != entry.pair_seed:
        raise VerificationFailed("a pair seed is not the one committed to", peer=dealer)
    return pair.seed


def _check_ends(plaintext: Plaintext, header: ShareHeader, receiver: str) -> None:
    ends = (plaintext.execution, plaintext.sender, plaintext.receiver)
    if ends != (header.execution, header.sender, receiver):
        raise VerificationFailed("a sealed message is about other parties", peer=header.sender)

"""Phase 4 at the coordinator: from revealed shares to secrets to cancelled masks.

A revealed share counts only if it matches its dealer's commitment, so a false one is ignored while a
threshold of good ones remains. A secret that does not match its dealer's commitment, or a pair seed
that does not follow from its dealer's root, shows an inconsistent dealer and ends the round by name.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from fedapt_crypto import shamir
from fedapt_crypto.errors import MalformedMessage, PeerError, RoundAborted, VerificationFailed
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.masks import SignedKey, apply_masks
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import masking_keys as keys
from fedapt_crypto.secagg.dealing import open_pair_seed, share_commitment
from fedapt_crypto.secagg.messages import Advertise, ShareMessage, UnmaskShares
from fedapt_crypto.secagg.scheme import RoundContext


def check_shares(message: UnmaskShares, survivors: tuple[str, ...], dropped: tuple[str, ...]) -> None:
    """Check that an institution revealed one share for each secret that was asked for.

    Raises:
        MalformedMessage: If it did not.
    """
    owners = (
        tuple(entry.owner for entry in message.self_mask_shares),
        tuple(entry.owner for entry in message.root_shares),
    )
    if owners != (survivors, dropped):
        raise MalformedMessage("revealed other shares than were asked for", peer=message.sender)


@dataclass(frozen=True, repr=False)
class Unmasking:
    """All that is needed to remove the masks of one execution."""

    context: RoundContext
    roster: Roster
    execution: bytes
    transcript: bytes
    advertises: Mapping[str, Advertise]
    dealt: Mapping[str, ShareMessage]
    survivors: tuple[str, ...]
    revealed: tuple[UnmaskShares, ...]

    def remove_masks(self, total: RingVector) -> None:
        """Cancel all masks in the sum of masked inputs, in place.

        Raises:
            RoundAborted: If a secret has fewer good shares than the threshold.
            PeerError: If a dealer is inconsistent; names it.
        """
        self_masks, roots = self._good_shares()
        cancel: list[SignedKey] = []
        for name in self.survivors:
            seed = self._combine("self mask", name, self_masks[name])
            cancel.append((keys.self_mask_key(seed, self.execution, self.transcript, name), -1))
        for name in self.dealt:
            if name not in self.survivors:
                cancel.extend(self._pair_masks(name, self._combine("root", name, roots[name])))
        apply_masks(total, cancel)

    def _good_shares(self) -> tuple[dict[str, dict[int, bytes]], dict[str, dict[int, bytes]]]:
        """Return, for each kind of secret, owner to holder's index to share that matches its commitment."""
        self_masks: dict[str, dict[int, bytes]] = defaultdict(dict)
        roots: dict[str, dict[int, bytes]] = defaultdict(dict)
        for message in self.revealed:
            holder = message.sender
            index = self.roster.index(holder) + 1
            for kind, entries, good in (
                ("self mask", message.self_mask_shares, self_masks),
                ("root", message.root_shares, roots),
            ):
                for entry in entries:
                    committed = self.dealt[entry.owner].header.commitments_for(holder)
                    found = share_commitment(kind, self.execution, entry.owner, holder, entry.share)
                    if committed is None:
                        continue
                    expected = committed.self_mask_share if kind == "self mask" else committed.root_share
                    if found == expected:
                        good[entry.owner][index] = entry.share
        return self_masks, roots

    def _combine(self, kind: str, owner: str, shares: Mapping[int, bytes]) -> bytes:
        if len(shares) < self.context.threshold:
            raise RoundAborted(
                f"{len(shares)} good shares of {owner}'s {kind} secret arrived,"
                f" {self.context.threshold} are needed"
            )
        holders = tuple(sorted(shares))[: self.context.threshold]
        header = self.dealt[owner].header
        try:
            secret = shamir.combine({i: shares[i] for i in holders}, _weights(holders))
        except ValueError:
            raise VerificationFailed("dealt shares that do not fit together", peer=owner) from None
        expected = header.self_mask if kind == "self mask" else header.root
        if keys.commit(kind, self.execution, owner, secret) != expected:
            raise VerificationFailed(f"dealt shares of another {kind} secret than committed to", peer=owner)
        return secret

    def _pair_masks(self, dropped: str, root: bytes) -> list[SignedKey]:
        """Return what cancels the masks that survivors share with one that dropped out."""
        mask_key = keys.mask_key(root, self.context.hash)
        if mask_key.public_key != self.advertises[dropped].mask_key:
            raise VerificationFailed("advertised a mask key that its root does not give", peer=dropped)
        cancel = []
        for survivor in self.survivors:
            if self.roster.index(dropped) < self.roster.index(survivor):
                seed = self._own_seed(dropped, survivor, root)
                ends, sign = (dropped, survivor), 1  # the survivor subtracted this mask
            else:
                seed = self._received_seed(survivor, dropped, mask_key)
                ends, sign = (survivor, dropped), -1
            cancel.append((keys.pair_mask_key(seed, self.execution, self.transcript, *ends), sign))
        return cancel

    def _own_seed(self, dealer: str, receiver: str, root: bytes) -> bytes:
        seed = keys.pair_seed(root, self.execution, dealer, receiver)
        entry = self.dealt[dealer].header.commitments_for(receiver)
        if (
            entry is None
            or keys.commit("pair seed", self.execution, dealer, receiver, seed) != entry.pair_seed
        ):
            raise VerificationFailed(f"gave {receiver} a pair seed that its root does not give", peer=dealer)
        return seed

    def _received_seed(self, dealer: str, receiver: str, mask_key: SealingKey) -> bytes:
        message = self.dealt[dealer]
        entry = message.header.commitments_for(receiver)
        sealed = next((s.pair_seed for s in message.sealed if s.party == receiver), None)
        if entry is None or sealed is None:
            raise MalformedMessage(f"dealt {receiver} no pair seed", peer=dealer)
        try:
            return open_pair_seed(message.header, sealed, entry, receiver, mask_key)
        except PeerError:
            raise VerificationFailed(f"sealed a false pair seed to {receiver}", peer=dealer) from None


@lru_cache(maxsize=64)
def _weights(indices: tuple[int, ...]) -> tuple[int, ...]:
    return shamir.weights_at_zero(indices)

"""Phase 4 at the coordinator: from revealed shares to secrets to cancelled masks.

A revealed share counts only if it matches its dealer's commitment, so a false one is ignored while a
threshold of good ones remains. A secret that does not match its dealer's commitment, or a pair seed
that does not follow from its dealer's root, shows an inconsistent dealer and ends the round by name.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fedapt_crypto import shamir
from fedapt_crypto.errors import MalformedMessage, PeerError, RoundAborted, VerificationFailed
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.masks import SignedKey, apply_masks
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import masking_keys as keys
from fedapt_crypto.secagg import parties
from fedapt_crypto.secagg.dealing import open_pair_seed, seed_commitment, share_commitment
from fedapt_crypto.secagg.messages import Advertise, UnmaskShares
from fedapt_crypto.secagg.routing import Dealt
from fedapt_crypto.secagg.scheme import RoundContext

Shares = dict[int, dict[int, bytes]]
"""Owner's roster index to holder's evaluation point to share."""


@dataclass(frozen=True, repr=False)
class Unmasking:
    """All that is needed to remove the masks of one execution; parties are roster indices."""

    context: RoundContext
    roster: Roster
    execution: bytes
    transcript: bytes
    advertises: Mapping[int, Advertise]
    dealt: Mapping[int, Dealt]
    survivors: frozenset[int]
    revealed: Mapping[int, UnmaskShares]

    def remove_masks(self, total: RingVector) -> None:
        """Cancel all masks in the sum of masked inputs, in place.

        Raises:
            RoundAborted: If a secret has fewer good shares than the threshold.
            PeerError: If a dealer is inconsistent; names it.
        """
        self_masks, roots = self._good_shares()
        cancel: list[SignedKey] = []
        for index in sorted(self.survivors):
            name = self._name(index)
            seed = self._combine("self mask", index, self_masks[index])
            cancel.append((keys.self_mask_key(seed, self.execution, self.transcript, name), -1))
        for index in self.dealt:
            if index not in self.survivors:
                cancel.extend(self._pair_masks(index, self._combine("root", index, roots[index])))
        apply_masks(total, cancel)

    def _name(self, index: int) -> str:
        return self.roster.names[index]

    def _good_shares(self) -> tuple[Shares, Shares]:
        """Return the revealed shares that match their commitments, for each kind of secret."""
        self_masks: Shares = defaultdict(dict)
        roots: Shares = defaultdict(dict)
        needed = self.context.holders_needed
        for holder, message in sorted(self.revealed.items()):
            for owner, share in _owned(message.survivors, message.self_mask_shares, self.roster):
                if len(self_masks[owner]) < needed:  # more would not be used, see `_combine`
                    committed = self.dealt[owner].records[holder].self_mask_share
                    if self._commitment("self mask", owner, holder, share) == committed:
                        self_masks[owner][holder + 1] = share
            for owner, share in _owned(message.dropped, message.root_shares, self.roster):
                if len(roots[owner]) < needed:
                    committed = self.dealt[owner].records[holder].root_share
                    if self._commitment("root", owner, holder, share) == committed:
                        roots[owner][holder + 1] = share
        return self_masks, roots

    def _commitment(self, kind: str, owner: int, holder: int, share: bytes) -> bytes:
        return share_commitment(kind, self.execution, self._name(owner), self._name(holder), share)

    def _combine(self, kind: str, owner: int, shares: Mapping[int, bytes]) -> bytes:
        name, needed = self._name(owner), self.context.holders_needed
        if len(shares) < needed:
            raise RoundAborted(
                f"{len(shares)} good shares of {name}'s {kind} secret arrived, {needed} are needed"
            )
        points = tuple(sorted(shares))[:needed]
        header = self.dealt[owner].header
        try:
            secret = shamir.combine({point: shares[point] for point in points}, _weights(points))
        except ValueError:
            raise VerificationFailed("dealt shares that do not fit together", peer=name) from None
        expected = header.self_mask if kind == "self mask" else header.root
        if keys.commit(kind, self.execution, name, secret) != expected:
            raise VerificationFailed(f"dealt shares of another {kind} secret than committed to", peer=name)
        return secret

    def _pair_masks(self, dropped: int, root: bytes) -> list[SignedKey]:
        """Return what cancels the masks that survivors share with one that dropped out."""
        name = self._name(dropped)
        mask_key = keys.mask_key(root, self.context.hash)
        if mask_key.public_key != self.advertises[dropped].mask_key:
            raise VerificationFailed("advertised a mask key that its root does not give", peer=name)
        cancel = []
        for survivor in sorted(self.survivors & self.dealt[dropped].records.keys()):
            if dropped < survivor:
                seed = self._own_seed(dropped, survivor, root)
                ends, sign = (name, self._name(survivor)), 1  # the survivor subtracted this mask
            else:
                seed = self._received_seed(survivor, dropped, mask_key)
                ends, sign = (self._name(survivor), name), -1
            cancel.append((keys.pair_mask_key(seed, self.execution, self.transcript, *ends), sign))
        return cancel

    def _own_seed(self, dealer: int, receiver: int, root: bytes) -> bytes:
        ends = (self._name(dealer), self._name(receiver))
        seed = keys.pair_seed(root, self.execution, *ends)
        if seed_commitment(self.execution, *ends, seed) != self.dealt[dealer].records[receiver].pair_seed:
            raise VerificationFailed(f"gave {ends[1]} a pair seed that its root does not give", peer=ends[0])
        return seed

    def _received_seed(self, dealer: int, receiver: int, mask_key: SealingKey) -> bytes:
        dealt, name = self.dealt[dealer], self._name(receiver)
        sealed = dealt.sealed[receiver].pair_seed
        if sealed is None:
            raise MalformedMessage(f"dealt {name} no pair seed", peer=self._name(dealer))
        try:
            return open_pair_seed(dealt.header, sealed, dealt.records[receiver], name, mask_key)
        except PeerError:
            raise VerificationFailed(f"sealed a false pair seed to {name}", peer=self._name(dealer)) from None


def _owned(owners: bytes, shares: bytes, roster: Roster) -> Iterator[tuple[int, bytes]]:
    """Yield owner and share; a table of another length yields nothing, as if all shares were false."""
    indices = parties.unpack(owners, len(roster.members))
    if len(shares) == shamir.SHARE_BYTES * len(indices):
        for position, owner in enumerate(indices):
            yield owner, shares[shamir.SHARE_BYTES * position : shamir.SHARE_BYTES * (position + 1)]


@lru_cache(maxsize=64)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    return shamir.weights_at_zero(points)

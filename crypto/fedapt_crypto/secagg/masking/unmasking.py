"""Phase 4 at the coordinator: from revealed shares to secrets to the masks that are to be cancelled.

A revealed share counts only if it matches its dealer's commitment, so a false one is ignored while a
threshold of good ones remains. Its sender is named: before it sent a masked input it has checked that the
share it was dealt matches. A secret that does not match its dealer's commitment, or a pair seed that does not
follow from its dealer's root, shows an inconsistent dealer and ends the round by name.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from fedapt_crypto import shamir
from fedapt_crypto.encoding import encode_plain
from fedapt_crypto.errors import PeerError, RoundAborted, VerificationFailed
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.masking import keys, parties
from fedapt_crypto.secagg.masking.dealing import open_pair_seed, seed_commitment
from fedapt_crypto.secagg.masking.messages import Advertise, UnmaskShares
from fedapt_crypto.secagg.masking.records import Record, root_commitment, self_mask_commitment
from fedapt_crypto.secagg.masking.routing import Dealt
from fedapt_crypto.secagg.scheme import RoundContext

Shares = dict[int, dict[int, bytes]]
"""Owner's roster index to holder's evaluation point to share."""


@dataclass(frozen=True, repr=False)
class Unmasking:
    """All that is needed to know the masks of one execution; parties are roster indices.

    Attributes:
        false_senders: Who revealed shares that are not those it was dealt, once `masks` was called.
    """

    context: RoundContext
    roster: Roster
    execution: bytes
    transcript: bytes
    advertises: Mapping[int, Advertise]
    dealt: Mapping[int, Dealt]
    survivors: frozenset[int]
    revealed: Mapping[int, UnmaskShares]
    false_senders: set[int] = field(default_factory=set)

    def masks(self) -> list[keys.Mask]:
        """Return what cancels all masks in the sums of masked inputs and of their tags.

        Raises:
            RoundAborted: If a secret has fewer good shares than the threshold.
            PeerError: If a dealer is inconsistent; names it.
        """
        self_masks, roots = self._good_shares()
        cancel: list[keys.Mask] = []
        for index in sorted(self.survivors):
            name = self._name(index)
            seed = self._combine("self mask", index, self_masks[index])
            about = (seed, self.execution, self.transcript, name)
            cancel.append(keys.Mask(keys.self_mask_key(*about), keys.self_tag_mask(*about), -1))
        for index in self.dealt:
            if index not in self.survivors:
                cancel.extend(self._pair_masks(index, self._combine("root", index, roots[index])))
        return cancel

    def _name(self, index: int) -> str:
        return self.roster.names[index]

    def _good_shares(self) -> tuple[Shares, Shares]:
        """Return the revealed shares that match their commitments, for each kind of secret."""
        self_masks: Shares = defaultdict(dict)
        roots: Shares = defaultdict(dict)
        kinds = (("self mask", self_masks, self_mask_commitment), ("root", roots, root_commitment))
        commitments = {
            (kind, owner): keys.ShareCommitments(kind, self.execution, self._name(owner))
            for kind, _, _ in kinds
            for owner in self.dealt
        }
        needed = self.context.holders_needed
        for holder, message in sorted(self.revealed.items()):
            name = encode_plain(self._name(holder))
            tables = (
                (message.survivors, message.self_mask_shares),
                (message.dropped, message.root_shares),
            )
            for (kind, found, committed), table in zip(kinds, tables, strict=True):
                if not _is_whole(*table):
                    self.false_senders.add(holder)
                    continue
                for owner, share in _owned(*table, self.roster):
                    record = self.dealt[owner].records[holder]
                    if commitments[kind, owner].to(name, share) != committed(record):
                        self.false_senders.add(holder)
                    elif len(found[owner]) < needed:  # more would not be used, see `_combine`
                        found[owner][holder + 1] = share
        return self_masks, roots

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

    def _pair_masks(self, dropped: int, root: bytes) -> list[keys.Mask]:
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
            about = (seed, self.execution, self.transcript, *ends)
            cancel.append(keys.Mask(keys.pair_mask_key(*about), keys.pair_tag_mask(*about), sign))
        return cancel

    def _own_seed(self, dealer: int, receiver: int, root: bytes) -> bytes:
        ends = (self._name(dealer), self._name(receiver))
        seed = keys.pair_seed(root, self.execution, *ends)
        record = Record.from_bytes(self.dealt[dealer].records[receiver])
        if seed_commitment(self.execution, *ends, seed) != record.pair_seed:
            raise VerificationFailed(f"gave {ends[1]} a pair seed that its root does not give", peer=ends[0])
        return seed

    def _received_seed(self, dealer: int, receiver: int, mask_key: SealingKey) -> bytes:
        dealt = self.dealt[dealer]
        record = Record.from_bytes(dealt.records[receiver])
        try:
            return open_pair_seed(dealt.header, record, self.roster, mask_key)
        except PeerError:
            raise VerificationFailed(
                f"sealed a false pair seed to {self._name(receiver)}", peer=self._name(dealer)
            ) from None


def _is_whole(owners: bytes, shares: bytes) -> bool:
    """Whether a table has a share of each owner; in one of another length all of them are false."""
    return len(shares) * parties.INDEX_BYTES == shamir.SHARE_BYTES * len(owners)


def _owned(owners: bytes, shares: bytes, roster: Roster) -> Iterator[tuple[int, bytes]]:
    """Yield owner and share of a whole table."""
    for position, owner in enumerate(parties.unpack(owners, len(roster.members))):
        yield owner, shares[shamir.SHARE_BYTES * position : shamir.SHARE_BYTES * (position + 1)]


@lru_cache(maxsize=64)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    return shamir.weights_at_zero(points)

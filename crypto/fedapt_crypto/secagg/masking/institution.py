"""The institution's side of pairwise masking with dropout recovery, without I/O.

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning"), Figure 4,
in its actively secure form, with HPKE in place of Diffie-Hellman; on a neighbour graph (Bell et al. 2020)
for large rosters. What must hold, in order:

* everything is verified against our own roster and our own context, never against what we are told;
* all received shares are opened and checked before the masked input leaves;
* one update enters one masked input; one survivor set is signed; one unmask request is answered;
* of any one institution we reveal a share of its self-mask seed or of its root, never both, and only
  against signatures of a threshold of its own holders on the survivor set that we signed;
* a sum is taken only if its tag holds: then it is the sum of what the survivors we signed have tagged;
* secrets live in memory only and are forgotten when the machine has revealed its shares, or aborts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    MalformedMessage,
    OverlappingUnmaskLists,
    TooFewParticipants,
    UnexpectedMessage,
)
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.identity import Identity
from fedapt_crypto.masks import mask_range
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.group_secret import GroupSecret
from fedapt_crypto.secagg.institution_machine import InstitutionMachine, Transitions
from fedapt_crypto.secagg.masking import graph, keys, parties
from fedapt_crypto.secagg.masking.dealing import (
    Dealer,
    OpenedSecrets,
    check_parcel,
    expected_flags,
    open_record,
)
from fedapt_crypto.secagg.masking.masked_input import assemble
from fedapt_crypto.secagg.masking.messages import (
    MAX_SHARE_MESSAGE_BYTES,
    Advertise,
    AdvertiseList,
    ConsistencySignature,
    MaskedInput,
    ShareDelivery,
    SurvivorAnnouncement,
    UnmaskRequest,
    UnmaskShares,
)
from fedapt_crypto.secagg.masking.neighbourhood import Neighbourhood, check_members, settle, split_digests
from fedapt_crypto.secagg.masking.records import split_parcels
from fedapt_crypto.secagg.masking.sums import SumAnnouncement, check_sum
from fedapt_crypto.secagg.scheme import Admission, Opening, Outgoing, Phase, RoundContext, admit_all
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES, UNSIGNED, check_signatures
from fedapt_crypto.secagg.tags import TAG_BYTES, tag_to_bytes
from fedapt_crypto.sum_tag import PRIME


class State(Enum):
    """What the institution waits for."""

    NEW = auto()
    ADVERTISED = auto()
    SHARED = auto()
    MASKED = auto()
    SIGNED = auto()
    REVEALED = auto()
    FINISHED = auto()
    ABORTED = auto()


@dataclass
class _Secrets:
    """All that must be forgotten at the end."""

    dealer: Dealer
    seal_key: SealingKey
    mask_key: SealingKey
    update: NDArray[np.floating]
    opened: dict[int, OpenedSecrets] = field(default_factory=dict)


class MaskingInstitution(InstitutionMachine):
    """One institution in one round of the masking protocol.

    Args:
        context: The round as this institution knows it.
        roster: Its own approved roster.
        name: Its name on the roster.
        identity: Its signing key.
        update: The vector to contribute, shape (vector_length,).
        group: The session's group secret.
        minimum_participants: Its own floor for the number of survivors; the threshold holds anyway.
        admits: Says whether it may sign a survivor set besides.

    Raises:
        InvalidInput: If the group secret is another session's.
    """

    _states = State

    def __init__(
        self,
        context: RoundContext,
        roster: Roster,
        name: str,
        identity: Identity,
        update: NDArray[np.floating],
        *,
        group: GroupSecret,
        minimum_participants: int = 2,
        admits: Admission = admit_all,
    ) -> None:
        super().__init__(context, roster, name, identity, update, minimum_participants=minimum_participants)
        if context.group != group.commitment:
            raise InvalidInput("the group secret is for another session")
        self._group = group
        self._admits = admits
        self._index = roster.index(name)
        dealer = Dealer.fresh(name, context.hash)
        self._secrets: _Secrets | None = _Secrets(dealer, SealingKey.fresh(), dealer.mask_key, update)
        self._advertise: Advertise | None = None
        self._neighbourhood: Neighbourhood | None = None
        self._transcript = b""
        self._dealers: tuple[int, ...] = ()
        self._survivors: tuple[int, ...] = ()

    @property
    def _transitions(self) -> Transitions:
        return _TRANSITIONS

    @property
    def _max_bytes(self) -> int:
        return max(MAX_SHARE_MESSAGE_BYTES, 4 * self._context.vector_length + MESSAGE_OVERHEAD_BYTES)

    def _forget(self) -> None:
        self._secrets = None

    @property
    def transcript(self) -> bytes | None:
        """What this institution has signed about the survivor set; ``None`` before that."""
        return self._statement().survivors_hash if self._survivors else None

    def start(self) -> Outgoing:
        """Phase 0: advertise two fresh public keys; a second call raises `UnexpectedMessage`."""
        if self._state is not State.NEW:
            raise UnexpectedMessage("this round has already been started")
        secrets = self._live()
        unsigned = Advertise(
            sender=self._name,
            signature=UNSIGNED,
            context=self._context.hash,
            seal_key=secrets.seal_key.public_key,
            mask_key=secrets.mask_key.public_key,
            neighbours=parties.pack(
                graph.draw_neighbours(self._index, self._context.participants, self._context.drawn_neighbours)
            ),
        )
        self._advertise = unsigned.signed_by(self._identity)
        self._state = State.ADVERTISED
        return Outgoing(Phase.ADVERTISE, self._advertise.to_bytes())

    def _share(self, message: AdvertiseList) -> Outgoing:
        if self._advertise is None:
            raise UnexpectedMessage("this round was not started")
        around = settle(message, self._advertise, self._context, self._roster)
        if len(around.holders) < self._context.holders_needed:
            raise TooFewParticipants("too few of the neighbours that we drew take part")
        dealt = self._live().dealer.deal(
            around.execution,
            around.advertises,
            around.holders,
            self._roster,
            self._context.holders_needed,
            self._identity,
        )
        self._neighbourhood = around
        self._state = State.SHARED
        return Outgoing(Phase.SHARE, dealt.to_bytes())

    def _mask(self, message: ShareDelivery) -> Outgoing:
        secrets, around = self._live(), self._around()
        dealers = parties.unpack(message.dealers, len(self._roster.members))
        check_members(dealers, self._index, self._context.threshold, "share delivery")
        if not set(dealers) <= set(around.participants):
            raise ContextMismatch("the share delivery names parties that did not advertise")
        digests = split_digests(message.digests, dealers)
        own_header = secrets.dealer.header
        if own_header is None or digests[self._index] != own_header.digest:
            raise ContextMismatch("the share delivery changes or omits our own header")
        neighbours = [index for index in dealers if index in around.advertises]
        headers = message.headers
        if [header.sender for header in headers] != self._names(neighbours):
            raise MalformedMessage("the share delivery does not hold one parcel for each dealer around us")
        parcels = split_parcels(message.parcels, [header.record_count for header in headers])
        check_signatures(headers, self._roster)
        for index, header, parcel in zip(neighbours, headers, parcels, strict=True):
            if header.digest != digests[index] or header.execution != around.execution:
                raise ContextMismatch("dealt shares in another execution of the protocol", peer=header.sender)
            flags = expected_flags(index, self._index, around.holders_of(index))
            record = check_parcel(header, parcel, self._index, flags)
            secrets.opened[index] = open_record(
                header, record, self._roster, secrets.seal_key, secrets.mask_key
            )
        secrets.opened[self._index] = secrets.dealer.own_shares
        self._dealers = dealers
        self._transcript = keys.transcript_id(around.execution, message.dealers, message.digests)
        masks = self._masks(secrets, around, neighbours)
        keystreams = [(mask.key, mask.sign) for mask in masks]
        update, fixed_point = secrets.update, self._context.fixed_point
        check = self._group.sum_check(around.execution, self._transcript, length=update.size)

        def fill(part: RingVector, first: int) -> tuple[int, int]:
            clipped = fixed_point.encode_into(update[first : first + part.size], part)
            hashed = check.part(part, first)
            mask_range(part, keystreams, first)
            return clipped, hashed

        def finish(filled: list[tuple[int, int]]) -> bytes:
            tag = check.tag_of_parts(self._name, (hashed for _, hashed in filled))
            return tag_to_bytes((tag + sum(mask.sign * mask.tag for mask in masks)) % PRIME)

        unsigned = MaskedInput(
            sender=self._name,
            signature=UNSIGNED,
            execution=around.execution,
            transcript=self._transcript,
            masked_tag=bytes(TAG_BYTES),
            vector_hash=bytes(32),
        )
        payload, filled = assemble(unsigned, self._identity, update.size, fill, finish)
        self._saturated = sum(clipped for clipped, _ in filled)
        self._state = State.MASKED
        return Outgoing(Phase.MASKED_INPUT, payload, releases=True)

    def _masks(self, secrets: _Secrets, around: Neighbourhood, neighbours: list[int]) -> list[keys.Mask]:
        bound = (around.execution, self._transcript)
        own = (secrets.dealer.self_mask, *bound, self._name)
        masks = [keys.Mask(keys.self_mask_key(*own), keys.self_tag_mask(*own), 1)]
        for index in neighbours:
            other = self._roster.names[index]
            if index > self._index:
                seed = keys.pair_seed(secrets.dealer.root, around.execution, self._name, other)
                pair, sign = (seed, *bound, self._name, other), 1
            else:
                received = secrets.opened[index].pair_seed
                if received is None:
                    raise MalformedMessage("sent no pair seed", peer=other)
                pair, sign = (received, *bound, other, self._name), -1
            masks.append(keys.Mask(keys.pair_mask_key(*pair), keys.pair_tag_mask(*pair), sign))
        return masks

    def _sign_survivors(self, message: SurvivorAnnouncement) -> Outgoing:
        self._check_bound(message.execution, message.transcript)
        survivors = parties.unpack(message.survivors, len(self._roster.members))
        check_members(survivors, self._index, self._minimum, "survivor set")
        if not set(survivors) <= set(self._dealers):
            raise ContextMismatch("the survivor set names parties that dealt no shares")
        self._admits(tuple(self._names(survivors)))
        self._survivors = survivors
        self._state = State.SIGNED
        signed = self._statement().signed_by(self._identity)
        return Outgoing(Phase.CONSISTENCY, signed.to_bytes())

    def _statement(self) -> ConsistencySignature:
        """What every survivor signs about our survivor set; ours, before it is signed."""
        execution = self._around().execution
        return ConsistencySignature(
            sender=self._name,
            signature=UNSIGNED,
            execution=execution,
            transcript=self._transcript,
            survivors_hash=keys.survivors_id(execution, self._transcript, parties.pack(self._survivors)),
        )

    def _unmask(self, message: UnmaskRequest) -> Outgoing:
        survivors = parties.unpack(message.survivors, len(self._roster.members))
        dropped = parties.unpack(message.dropped, len(self._roster.members))
        if overlap := set(survivors) & set(dropped):
            both = ", ".join(self._names(sorted(overlap)))
            raise OverlappingUnmaskLists(f"the coordinator asked for both secrets of {both}: refused")
        self._check_bound(message.execution, self._transcript)
        if survivors != self._survivors or {*survivors, *dropped} != set(self._dealers):
            raise ContextMismatch("the unmask request is not about the survivor set that we signed")
        around = self._around()
        held = [index for index in around.held if index in self._dealers]
        self._check_signatures(message, held)
        secrets = self._live()
        alive, gone = set(survivors) & set(held), set(dropped) & set(held)
        unsigned = UnmaskShares(
            sender=self._name,
            signature=UNSIGNED,
            execution=around.execution,
            survivors=parties.pack(alive),
            self_mask_shares=b"".join(secrets.opened[i].self_mask_share or b"" for i in sorted(alive)),
            dropped=parties.pack(gone),
            root_shares=b"".join(secrets.opened[i].root_share or b"" for i in sorted(gone)),
        )
        self._state = State.REVEALED
        self._secrets = None
        payload = unsigned.signed_by(self._identity).to_bytes()
        return Outgoing(Phase.UNMASK, payload, opening=self._opening())

    def _opening(self) -> Opening:
        return Opening(
            context=self._context,
            execution=self._around().execution,
            transcript=self._transcript,
            survivors=tuple(self._names(self._survivors)),
            survivors_hash=self._statement().survivors_hash,
        )

    def _take_sum(self, message: SumAnnouncement) -> None:
        self._verified = check_sum(message, self._opening(), self._group, self._roster.coordinator_key)
        self._state = State.FINISHED

    def _check_signatures(self, message: UnmaskRequest, held: list[int]) -> None:
        """Check that of each whose shares we hold, a threshold of its own holders signed our set."""
        signers = parties.unpack(message.signers, len(self._roster.members))
        if len(message.signatures) != 64 * len(signers) or not set(signers) <= set(self._survivors):
            raise MalformedMessage("the survivor signatures do not fit their signers, or come from others")
        around, statement = self._around(), self._statement()
        missing = dict.fromkeys(held, self._context.holders_needed)
        speaks_for: dict[int, list[int]] = {}
        for owner in held:
            for holder in around.holders_of(owner):
                speaks_for.setdefault(holder, []).append(owner)
        needed = []
        for position, signer in enumerate(signers):
            counted = [owner for owner in speaks_for.get(signer, ()) if missing[owner] > 0]
            if counted:  # a signature that decides nothing any more is not worth its cost
                signature = message.signatures[64 * position : 64 * (position + 1)]
                signed = {"sender": self._roster.names[signer], "signature": signature}
                needed.append(statement.model_copy(update=signed))
                for owner in counted:
                    missing[owner] -= 1
        check_signatures(needed, self._roster)
        if short := [owner for owner, count in missing.items() if count > 0]:
            raise TooFewParticipants(
                f"fewer than {self._context.holders_needed} of those who hold shares of"
                f" {self._roster.names[short[0]]} signed the survivor set"
            )

    def _check_bound(self, execution: bytes, transcript: bytes) -> None:
        if (execution, transcript) != (self._around().execution, self._transcript):
            raise ContextMismatch("a message belongs to another execution of the protocol")

    def _names(self, indices: Iterable[int]) -> list[str]:
        return [self._roster.names[index] for index in indices]

    def _around(self) -> Neighbourhood:
        if self._neighbourhood is None:
            raise UnexpectedMessage("the neighbourhood is not settled yet")
        return self._neighbourhood

    def _live(self) -> _Secrets:
        if self._secrets is None:
            raise UnexpectedMessage("this round is over")
        return self._secrets


_TRANSITIONS: Final[Transitions] = MappingProxyType(
    {
        State.ADVERTISED: (AdvertiseList, MaskingInstitution._share),
        State.SHARED: (ShareDelivery, MaskingInstitution._mask),
        State.MASKED: (SurvivorAnnouncement, MaskingInstitution._sign_survivors),
        State.SIGNED: (UnmaskRequest, MaskingInstitution._unmask),
        State.REVEALED: (SumAnnouncement, MaskingInstitution._take_sum),
    }
)
"""In each state one kind of message moves the machine one state on; any error in it ends in ABORTED."""

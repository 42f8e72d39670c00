"""The coordinator's side of pairwise masking with dropout recovery, without I/O.

It routes what institutions seal to each other, keeps one running sum of masked inputs, and removes the
masks with shares that the institutions reveal. It checks every message against the roster, every
revealed share and secret against its dealer's commitments, and never sees an unmasked update.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, cast

import numpy as np

from fedapt_crypto.encoding import Encoded, TaggedMessage, decode_one_of, kinds_of
from fedapt_crypto.errors import (
    ContextMismatch,
    MalformedMessage,
    PeerError,
    RoundAborted,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.masks import RANGE_VALUES, mask_range
from fedapt_crypto.parallel import over_ranges
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.masking import keys, parties
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload
from fedapt_crypto.secagg.masking.messages import (
    MAX_SHARE_MESSAGE_BYTES,
    Advertise,
    AdvertiseList,
    ConsistencySignature,
    ShareMessage,
    SurvivorAnnouncement,
    UnmaskRequest,
    UnmaskShares,
)
from fedapt_crypto.secagg.masking.neighbourhood import check_context, check_keys, draws_of
from fedapt_crypto.secagg.masking.routing import Dealt, check_dealt, deliveries, enough_signatures
from fedapt_crypto.secagg.masking.sums import announce
from fedapt_crypto.secagg.masking.unmasking import Unmasking
from fedapt_crypto.secagg.scheme import Aggregate, EncodedSum, Phase, RoundContext
from fedapt_crypto.secagg.signed import Abort, SignedMessage
from fedapt_crypto.secagg.tags import tag_from_bytes
from fedapt_crypto.sum_tag import PRIME


class MaskingCoordinator:
    """The coordinator in one round of the masking protocol.

    Args:
        context: The round that all parties must agree on.
        roster: The session's roster.
        identity: The coordinator's signing key.
    """

    def __init__(self, context: RoundContext, roster: Roster, identity: Identity) -> None:
        self._context = context
        self._identity = identity
        self._roster = roster
        self._phase: Phase | None = Phase.ADVERTISE
        self._gone: set[str] = set()
        self._expected = frozenset(roster.names)
        self._index = {name: index for index, name in enumerate(roster.names)}
        self._advertises: dict[str, Advertise] = {}
        self._drawn: dict[int, frozenset[int]] = {}
        self._around: dict[int, list[int]] = {}
        self._shares: dict[str, Dealt] = {}
        self._held_by: dict[int, list[int]] = {}
        self._survivors: tuple[str, ...] = ()
        self._alive: frozenset[int] = frozenset()
        self._dropped: frozenset[int] = frozenset()
        self._survivors_hash = b""
        self._signatures: dict[str, ConsistencySignature] = {}
        self._revealed: dict[str, UnmaskShares] = {}
        self._masked: set[str] = set()
        self._asked = False
        self._false_senders: tuple[str, ...] = ()
        self._sum = np.zeros(context.vector_length, np.uint32)
        self._tag = 0
        self._execution = b""
        self._transcript = b""
        self._aggregate: Aggregate | None = None

    @property
    def phase(self) -> Phase | None:
        """The phase being collected; ``None`` when the round is over."""
        return self._phase

    @property
    def waiting_for(self) -> frozenset[str]:
        """Names that may still send in this phase."""
        return self._expected - self._gone - set(self._arrived)

    @property
    def aggregate(self) -> Aggregate | None:
        """The sum, once the round is over."""
        return self._aggregate

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose update is in the sum, once the round is over."""
        return self._aggregate.contributors if self._aggregate is not None else ()

    @property
    def revealing(self) -> tuple[str, ...]:
        """The survivors, once they were asked for shares."""
        return self._survivors if self._asked else ()

    @property
    def false_senders(self) -> tuple[str, ...]:
        """Who has revealed shares that are not those it was dealt, in roster order."""
        return self._false_senders

    @property
    def transcript(self) -> bytes | None:
        """What survivors sign; ``None`` until the survivor set is fixed."""
        if not self._survivors:
            return None
        return keys.survivors_id(self._execution, self._transcript, self._pack(self._survivors))

    @property
    def _arrived(self) -> Collection[str]:
        arrived: Mapping[Phase, Collection[str]] = {
            Phase.ADVERTISE: self._advertises,
            Phase.SHARE: self._shares,
            Phase.MASKED_INPUT: self._masked,
            Phase.CONSISTENCY: self._signatures,
            Phase.UNMASK: self._revealed,
        }
        return arrived[self._phase] if self._phase is not None else ()

    def _is_due(self, sender: str) -> bool:
        """Whether ``sender`` is among `waiting_for`, without making that set for every message."""
        return sender in self._expected and sender not in self._gone and sender not in self._arrived

    def drop(self, name: str) -> None:
        """Count ``name`` as gone for the rest of the round; what it has sent stays."""
        self._gone.add(name)

    def receive(self, sender: str, payload: bytes) -> None:
        """Take an institution's payload; see `scheme.CoordinatorRound.receive`.

        An abort is taken after the round's end too: whose sum does not hold says so.
        """
        message: TaggedMessage | MaskedPayload
        if MaskedPayload.begins(payload):
            message = MaskedPayload.from_bytes(payload, self._context.vector_length, sender)
        else:
            message = decode_one_of(payload, _KINDS, max_bytes=MAX_SHARE_MESSAGE_BYTES)
        signed = message.header if isinstance(message, (ShareMessage, MaskedPayload)) else message
        if not isinstance(signed, SignedMessage) or signed.sender != sender:
            raise VerificationFailed("sent a message in another's name", peer=sender)
        if isinstance(message, Abort):
            self._receive_abort(message)
        if self._phase is None:
            raise UnexpectedMessage("sent something after the round was over", peer=sender)
        expected, take = _COLLECTING[self._phase]
        if type(message) is not expected or not self._is_due(sender):
            raise UnexpectedMessage(f"sent {message.kind!r} in the wrong phase, late or twice", peer=sender)
        take(self, sender, message)

    def close_phase(self) -> Mapping[str, bytes]:
        """End the phase with whoever sent; see `scheme.CoordinatorRound.close_phase`."""
        if self._phase is None:
            raise RoundAborted("the round is over")
        sent = self._arrived
        arrived = tuple(name for name in self._roster.names if name in sent)
        if len(arrived) < self._context.threshold:
            phase, self._phase = self._phase, None
            raise RoundAborted(
                f"{len(arrived)} of {self._context.participants} institutions completed {phase.value!r},"
                f" {self._context.threshold} are needed"
            )
        try:
            return _CLOSING[self._phase](self, arrived)
        except RoundAborted:
            self._phase = None
            raise

    def _receive_abort(self, message: Abort) -> None:
        message.check_signature(self._roster)
        check_context(message, self._context)
        self._phase = None
        accused = f" and accuses {message.accused}" if message.accused else ""
        raise RoundAborted(f"{message.sender} aborted ({message.reason}){accused}")

    def _take_advertise(self, sender: str, message: Advertise) -> None:
        message.check_signature(self._roster)
        check_context(message, self._context)
        check_keys(message)
        index = self._index[sender]
        self._drawn[index] = draws_of(message, self._context, index)
        self._advertises[sender] = message

    def _take_share(self, sender: str, message: ShareMessage) -> None:
        index = self._index[sender]
        holders = self._drawn[index].intersection(self._around) | {index}
        self._shares[sender] = check_dealt(
            message, index, holders, self._around[index], self._execution, self._roster
        )

    def _take_masked(self, sender: str, message: MaskedPayload) -> None:
        self._check_bound(sender, message.header.execution, message.header.transcript)
        message.check(self._roster)
        tag = tag_from_bytes(message.header.masked_tag, sender)
        self._masked.add(sender)
        self._tag = (self._tag + tag) % PRIME
        total, words = self._sum, message.words

        def add(start: int, stop: int) -> None:
            np.add(total[start:stop], words[start:stop], out=total[start:stop])

        over_ranges(total.size, RANGE_VALUES, add)

    def _take_signature(self, sender: str, message: ConsistencySignature) -> None:
        self._check_bound(sender, message.execution, message.transcript)
        if message.survivors_hash != self._survivors_hash:
            raise ContextMismatch("signed another survivor set", peer=sender)
        message.check_signature(self._roster)
        self._signatures[sender] = message

    def _take_unmask(self, sender: str, message: UnmaskShares) -> None:
        self._check_bound(sender, message.execution, self._transcript)
        message.check_signature(self._roster)
        held = self._held_by[self._index[sender]]
        asked = [parties.pack(set(held) & indices) for indices in (self._alive, self._dropped)]
        if [message.survivors, message.dropped] != asked:
            raise MalformedMessage("revealed other shares than were asked for", peer=sender)
        self._revealed[sender] = message

    def _check_bound(self, sender: str, execution: bytes, transcript: bytes) -> None:
        if (execution, transcript) != (self._execution, self._transcript):
            raise ContextMismatch("sent a message of another execution", peer=sender)

    def _pack(self, names: Iterable[str]) -> bytes:
        return parties.pack(self._index[name] for name in names)

    def _close_advertise(self, arrived: tuple[str, ...]) -> Mapping[str, bytes]:
        self._phase, self._expected = Phase.SHARE, frozenset(arrived)
        participants = self._pack(arrived)
        digests = b"".join(self._advertises[name].digest for name in arrived)
        self._execution = keys.execution_id(self._context.hash, participants, digests)
        edges: dict[int, set[int]] = {self._index[name]: {self._index[name]} for name in arrived}
        for own, around in edges.items():
            for other in self._drawn[own] & edges.keys():
                around.add(other)
                edges[other].add(own)
        self._around = {own: sorted(around) for own, around in edges.items()}
        listed = {i: self._advertises[self._roster.names[i]].to_bytes() for i in edges}
        common = {"kind": AdvertiseList.tag(), "participants": participants, "digests": digests}
        return {
            self._roster.names[own]: AdvertiseList.encode_fields(
                {**common, "advertises": Encoded.array([listed[i] for i in around])}
            )
            for own, around in self._around.items()
        }

    def _close_share(self, arrived: tuple[str, ...]) -> Mapping[str, bytes]:
        self._phase, self._expected = Phase.MASKED_INPUT, frozenset(arrived)
        packed = self._pack(arrived)
        digests = b"".join(self._shares[name].header.digest for name in arrived)
        self._transcript = keys.transcript_id(self._execution, packed, digests)
        dealt = {self._index[name]: self._shares[name] for name in arrived}
        for name in arrived:
            for holder in self._shares[name].holders:
                self._held_by.setdefault(holder, []).append(self._index[name])
        return {
            self._roster.names[index]: delivery
            for index, delivery in deliveries(dealt, packed, digests).items()
        }

    def _close_masked(self, arrived: tuple[str, ...]) -> Mapping[str, bytes]:
        self._survivors = arrived
        self._alive = frozenset(self._index[name] for name in arrived)
        self._dropped = frozenset(self._index[name] for name in self._shares) - self._alive
        packed = parties.pack(self._alive)
        self._survivors_hash = keys.survivors_id(self._execution, self._transcript, packed)
        announcement = SurvivorAnnouncement(
            execution=self._execution, transcript=self._transcript, survivors=packed
        )
        return self._next(Phase.CONSISTENCY, arrived, announcement)

    def _close_consistency(self, arrived: tuple[str, ...]) -> Mapping[str, bytes]:
        signed = {self._index[name] for name in arrived}
        holders = [self._shares[name].holders for name in self._shares]
        signers = enough_signatures(signed, holders, self._context.holders_needed)
        request = UnmaskRequest(
            execution=self._execution,
            survivors=parties.pack(self._alive),
            dropped=parties.pack(self._dropped),
            signers=parties.pack(signers),
            signatures=b"".join(self._signatures[self._roster.names[i]].signature for i in sorted(signers)),
        )
        self._asked = True
        return self._next(Phase.UNMASK, arrived, request)

    def _close_unmask(self, arrived: tuple[str, ...]) -> Mapping[str, bytes]:
        unmasking = Unmasking(
            context=self._context,
            roster=self._roster,
            execution=self._execution,
            transcript=self._transcript,
            advertises={self._index[name]: self._advertises[name] for name in self._shares},
            dealt={self._index[name]: self._shares[name] for name in self._shares},
            survivors=self._alive,
            revealed={self._index[name]: self._revealed[name] for name in arrived},
        )
        try:
            masks = unmasking.masks()
        except PeerError as error:
            raise RoundAborted(f"the masks could not be removed: {error}") from error
        finally:
            self._false_senders = tuple(self._roster.names[i] for i in sorted(unmasking.false_senders))
        tag = (self._tag + sum(mask.sign * mask.tag for mask in masks)) % PRIME
        keystreams = [(mask.key, mask.sign) for mask in masks]
        words = self._sum

        def unmask(start: int, stop: int) -> None:
            mask_range(words[start:stop], keystreams, start)

        over_ranges(words.size, RANGE_VALUES, unmask)
        self._aggregate = EncodedSum(words, self._context.fixed_point, self._survivors)
        self._phase = None
        announced = announce(self._identity, self._execution, self._survivors_hash, words, tag)
        return dict.fromkeys(self._survivors, announced)

    def _next(self, phase: Phase, to: tuple[str, ...], message: TaggedMessage) -> Mapping[str, bytes]:
        self._phase, self._expected = phase, frozenset(to)
        return dict.fromkeys(to, message.to_bytes())


_Take = Callable[[MaskingCoordinator, str, TaggedMessage | MaskedPayload], None]
_COLLECTING: Final[Mapping[Phase, tuple[type[TaggedMessage | MaskedPayload], _Take]]] = MappingProxyType(
    {
        Phase.ADVERTISE: (Advertise, cast("_Take", MaskingCoordinator._take_advertise)),
        Phase.SHARE: (ShareMessage, cast("_Take", MaskingCoordinator._take_share)),
        Phase.MASKED_INPUT: (MaskedPayload, cast("_Take", MaskingCoordinator._take_masked)),
        Phase.CONSISTENCY: (ConsistencySignature, cast("_Take", MaskingCoordinator._take_signature)),
        Phase.UNMASK: (UnmaskShares, cast("_Take", MaskingCoordinator._take_unmask)),
    }
)
"""What is collected in each phase."""

_CLOSING: Final[Mapping[Phase, Callable[[MaskingCoordinator, tuple[str, ...]], Mapping[str, bytes]]]] = (
    MappingProxyType(
        {
            Phase.ADVERTISE: MaskingCoordinator._close_advertise,
            Phase.SHARE: MaskingCoordinator._close_share,
            Phase.MASKED_INPUT: MaskingCoordinator._close_masked,
            Phase.CONSISTENCY: MaskingCoordinator._close_consistency,
            Phase.UNMASK: MaskingCoordinator._close_unmask,
        }
    )
)
"""What closing a phase sends; any phase may instead end the round in `RoundAborted`."""

_KINDS: Final = kinds_of(Abort, Advertise, ShareMessage, ConsistencySignature, UnmaskShares)
"""What is decoded as a message; a masked input has its own layout, see `masked_input`."""

"""The institution's side of pairwise masking with dropout recovery, without I/O.

Bonawitz et al. 2017 ("Practical Secure Aggregation for Privacy-Preserving Machine Learning"), Figure 4,
in its actively secure form, with HPKE in place of Diffie-Hellman. What must hold, in order:

* everything is verified against our own roster and our own context, never against what we are told;
* all received shares are opened and checked before the masked input leaves;
* one update enters one masked input; one survivor set is signed; one unmask request is answered;
* of any one institution we reveal a share of its self-mask seed or of its root, never both;
* secrets live in memory only and are forgotten when the machine finishes or aborts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedapt_crypto.encoding import TaggedMessage, decode_one_of, kinds_of
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    MalformedMessage,
    OverlappingUnmaskLists,
    PeerError,
    TooFewParticipants,
    UnexpectedMessage,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.masks import apply_masks
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import masking_keys as keys
from fedapt_crypto.secagg.dealing import Dealer, OpenedSecrets, check_headers, open_secrets
from fedapt_crypto.secagg.messages import (
    MAX_SHARE_MESSAGE_BYTES,
    UNSIGNED,
    Abort,
    Advertise,
    AdvertiseList,
    ConsistencySignature,
    MaskedInput,
    OwnedShare,
    ShareDelivery,
    SurvivorAnnouncement,
    UnmaskRequest,
    UnmaskShares,
)
from fedapt_crypto.secagg.scheme import Aggregate, Outgoing, Phase, RoundContext


class State(Enum):
    """What the institution waits for."""

    NEW = auto()
    ADVERTISED = auto()
    SHARED = auto()
    MASKED = auto()
    SIGNED = auto()
    FINISHED = auto()
    ABORTED = auto()


@dataclass
class _Secrets:
    """All that must be forgotten at the end."""

    dealer: Dealer
    seal_key: SealingKey
    mask_key: SealingKey
    update: NDArray[np.floating]
    opened: dict[str, OpenedSecrets] = field(default_factory=dict)


class MaskingInstitution:
    """One institution in one round of the masking protocol.

    Args:
        context: The round as this institution knows it.
        roster: Its own approved roster.
        name: Its name on the roster.
        identity: Its signing key.
        update: The vector to contribute, shape (vector_length,).
        minimum_participants: Its own floor for the number of survivors; the threshold holds anyway.
    """

    def __init__(
        self,
        context: RoundContext,
        roster: Roster,
        name: str,
        identity: Identity,
        update: NDArray[np.floating],
        *,
        minimum_participants: int = 2,
    ) -> None:
        if update.shape != (context.vector_length,):
            raise ValueError("the update's length does not fit the round")
        if roster.member(name).identity_key != identity.public_key:
            raise ValueError("this identity is not the one the roster has under that name")
        self._context = context
        self._roster = roster
        self._name = name
        self._identity = identity
        self._minimum = max(minimum_participants, context.threshold)
        dealer = Dealer.fresh(name, context.hash)
        self._secrets: _Secrets | None = _Secrets(dealer, SealingKey.fresh(), dealer.mask_key, update)
        self._state = State.NEW
        self._advertise: Advertise | None = None
        self._participants: tuple[Advertise, ...] = ()
        self._execution = b""
        self._transcript = b""
        self._sharers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()
        self._abort: bytes | None = None
        self._saturated = 0

    @property
    def state(self) -> State:
        """Where the machine stands."""
        return self._state

    @property
    def finished(self) -> bool:
        """Whether nothing more will be sent."""
        return self._state in (State.FINISHED, State.ABORTED)

    @property
    def saturated(self) -> int:
        """How many values were clipped by the fixed-point encoding; stays inside the institution."""
        return self._saturated

    @property
    def aggregate(self) -> Aggregate | None:
        """Nothing: in this scheme the sum is the coordinator's."""
        return None

    def start(self) -> Outgoing:
        """Phase 0: advertise two fresh public keys.

        Raises:
            UnexpectedMessage: If called twice.
        """
        if self._state is not State.NEW:
            raise UnexpectedMessage("this round has already been started")
        secrets = self._live()
        unsigned = Advertise(
            sender=self._name,
            signature=UNSIGNED,
            context=self._context.hash,
            seal_key=secrets.seal_key.public_key,
            mask_key=secrets.mask_key.public_key,
        )
        self._advertise = unsigned.signed_by(self._identity)
        self._state = State.ADVERTISED
        return Outgoing(Phase.ADVERTISE, self._advertise.to_bytes())

    def receive(self, payload: bytes) -> Outgoing:
        """Take the coordinator's next message and answer it; see `scheme.InstitutionRound.receive`."""
        if self._state not in _TRANSITIONS:
            raise UnexpectedMessage("this round is over or was not started")
        expected, answer = _TRANSITIONS[self._state]
        message = decode_one_of(payload, _KINDS, max_bytes=MAX_SHARE_MESSAGE_BYTES)
        if type(message) is not expected:
            raise UnexpectedMessage(f"{message.kind!r} came where {expected.tag()!r} was due")
        try:
            return answer(self, message)
        except FedaptError as error:
            self._give_up(error)
            raise

    def abort_payload(self) -> bytes | None:
        """Return the signed statement of why this institution aborted, if it did."""
        return self._abort

    def _share(self, message: AdvertiseList) -> Outgoing:
        senders = [advertise.sender for advertise in message.advertises]
        self._check_party_list(senders, "advertise list")
        for advertise in message.advertises:
            advertise.check_signature(self._roster)
            if advertise.context != self._context.hash:
                raise ContextMismatch(
                    "takes part in another round, model, configuration or roster", peer=advertise.sender
                )
        if self._advertise not in message.advertises:
            raise ContextMismatch("the advertise list changes or omits our own keys")
        self._participants = message.advertises
        self._execution = keys.execution_id(
            self._context.hash, tuple(advertise.to_bytes() for advertise in message.advertises)
        )
        dealt = self._live().dealer.deal(
            self._execution, self._participants, self._roster, self._context.threshold, self._identity
        )
        self._state = State.SHARED
        return Outgoing(Phase.SHARE, dealt.to_bytes())

    def _mask(self, message: ShareDelivery) -> Outgoing:
        secrets = self._live()
        senders = [header.sender for header in message.headers]
        self._check_party_list(senders, "share delivery")
        check_headers(message.headers, self._participants, self._execution, self._roster)
        own_shares = secrets.dealer.own_shares
        if secrets.dealer.header not in message.headers or own_shares is None:
            raise ContextMismatch("the share delivery changes or omits our own header")
        secrets.opened = open_secrets(message, self._name, secrets.seal_key, secrets.mask_key)
        secrets.opened[self._name] = own_shares
        self._sharers = tuple(senders)
        self._transcript = keys.transcript_id(
            self._execution, tuple(header.to_bytes() for header in message.headers)
        )
        vector, self._saturated = self._context.fixed_point.encode(secrets.update)
        apply_masks(vector, self._masks(secrets))
        unsigned = MaskedInput(
            sender=self._name,
            signature=UNSIGNED,
            execution=self._execution,
            transcript=self._transcript,
            masked=vector.astype("<u4", copy=False).tobytes(),
        )
        self._state = State.MASKED
        return Outgoing(Phase.MASKED_INPUT, unsigned.signed_by(self._identity).to_bytes(), releases=True)

    def _masks(self, secrets: _Secrets) -> list[tuple[bytes, int]]:
        bound = (self._execution, self._transcript)
        masks = [(keys.self_mask_key(secrets.dealer.self_mask, *bound, self._name), 1)]
        for other in self._sharers:
            if other == self._name:
                continue
            if self._roster.index(other) > self._roster.index(self._name):
                seed = keys.pair_seed(secrets.dealer.root, self._execution, self._name, other)
                masks.append((keys.pair_mask_key(seed, *bound, self._name, other), 1))
            else:
                received = secrets.opened[other].pair_seed
                if received is None:
                    raise MalformedMessage("sent no pair seed", peer=other)
                masks.append((keys.pair_mask_key(received, *bound, other, self._name), -1))
        return masks

    def _sign_survivors(self, message: SurvivorAnnouncement) -> Outgoing:
        self._check_bound(message.execution, message.transcript)
        self._check_party_list(message.survivors, "survivor set", minimum=self._minimum)
        if not set(message.survivors) <= set(self._sharers):
            raise ContextMismatch("the survivor set names parties that dealt no shares")
        self._survivors = message.survivors
        unsigned = ConsistencySignature(
            sender=self._name,
            signature=UNSIGNED,
            execution=self._execution,
            transcript=self._transcript,
            survivors=self._survivors,
        )
        self._state = State.SIGNED
        return Outgoing(Phase.CONSISTENCY, unsigned.signed_by(self._identity).to_bytes())

    def _unmask(self, message: UnmaskRequest) -> Outgoing:
        if overlap := set(message.survivors) & set(message.dropped):
            raise OverlappingUnmaskLists(
                f"the coordinator asked for both secrets of {', '.join(sorted(overlap))}: refused"
            )
        self._check_bound(message.execution, self._transcript)
        dropped = tuple(name for name in self._sharers if name not in self._survivors)
        if message.survivors != self._survivors or message.dropped != dropped:
            raise ContextMismatch("the unmask request is not about the survivor set that we signed")
        self._check_signatures(message.signatures)
        secrets = self._live()
        unsigned = UnmaskShares(
            sender=self._name,
            signature=UNSIGNED,
            execution=self._execution,
            self_mask_shares=tuple(
                OwnedShare(owner=name, share=secrets.opened[name].self_mask_share) for name in self._survivors
            ),
            root_shares=tuple(
                OwnedShare(owner=name, share=secrets.opened[name].root_share) for name in dropped
            ),
        )
        self._state = State.FINISHED
        self._secrets = None
        return Outgoing(Phase.UNMASK, unsigned.signed_by(self._identity).to_bytes())

    def _check_signatures(self, signatures: tuple[ConsistencySignature, ...]) -> None:
        signers = [signature.sender for signature in signatures]
        if len(set(signers)) != len(signers) or not set(signers) <= set(self._survivors):
            raise PeerError("the survivor signatures repeat a signer or come from one who is no survivor")
        if len(signers) < self._context.threshold:
            raise TooFewParticipants(
                f"{len(signers)} parties signed the survivor set where {self._context.threshold} must"
            )
        for signature in signatures:
            signature.check_signature(self._roster)
            self._check_bound(signature.execution, signature.transcript)
            if signature.survivors != self._survivors:
                raise ContextMismatch("signed another survivor set than we did", peer=signature.sender)

    def _check_bound(self, execution: bytes, transcript: bytes) -> None:
        if (execution, transcript) != (self._execution, self._transcript):
            raise ContextMismatch("a message belongs to another execution of the protocol")

    def _check_party_list(self, names: list[str] | tuple[str, ...], what: str, minimum: int = 0) -> None:
        """Check order, uniqueness, membership, our own presence, and the threshold."""
        in_order = tuple(name for name in self._roster.names if name in set(names))
        if tuple(names) != in_order:
            raise MalformedMessage(f"the {what} names strangers, repeats a party or is out of roster order")
        if self._name not in names:
            raise ContextMismatch(f"the {what} leaves us out")
        needed = max(minimum, self._context.threshold)
        if len(names) < needed:
            raise TooFewParticipants(f"the {what} has {len(names)} parties where at least {needed} must be")

    def _live(self) -> _Secrets:
        if self._secrets is None:
            raise UnexpectedMessage("this round is over")
        return self._secrets

    def _give_up(self, error: FedaptError) -> None:
        self._secrets = None
        self._state = State.ABORTED
        accused = error.peer if isinstance(error, PeerError) and error.peer in self._roster.names else None
        unsigned = Abort(
            sender=self._name,
            signature=UNSIGNED,
            context=self._context.hash,
            reason=type(error).__name__,
            accused=accused,
            detail=str(error)[:400],
        )
        self._abort = unsigned.signed_by(self._identity).to_bytes()


_TRANSITIONS: Final[Mapping[State, tuple[type[TaggedMessage], Callable[..., Outgoing]]]] = MappingProxyType(
    {
        State.ADVERTISED: (AdvertiseList, MaskingInstitution._share),
        State.SHARED: (ShareDelivery, MaskingInstitution._mask),
        State.MASKED: (SurvivorAnnouncement, MaskingInstitution._sign_survivors),
        State.SIGNED: (UnmaskRequest, MaskingInstitution._unmask),
    }
)
"""In each state one kind of message moves the machine one state on; any error in it ends in ABORTED."""

_KINDS: Final = kinds_of(*(expected for expected, _ in _TRANSITIONS.values()))

"""Messages of the masking protocol, one frozen type each.

What a signature covers is the message without its ``signature`` field, under the label that `signed`
gives it.
"""

from typing import Annotated, Literal, Self

from pydantic import Field

from fedapt_crypto.encoding import Hash, Message, PartyName, Signature, TaggedMessage, encode
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.roster import Roster, SealingPublicKey
from fedapt_crypto.shamir import SECRET_BYTES, SHARE_BYTES

Share = Annotated[bytes, Field(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Secret = Annotated[bytes, Field(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
Sealed = Annotated[bytes, Field(min_length=1, max_length=4096)]

MAX_SHARE_MESSAGE_BYTES = 16 << 20
"""Enough for 64 institutions on a full graph (headers grow with n²)."""
MESSAGE_OVERHEAD_BYTES = 4096
"""Room for everything but the vector in a masked input."""


class SignedMessage(TaggedMessage):
    """A message with a sender and the sender's signature over everything else in it."""

    sender: PartyName
    signature: Signature

    def _signed_bytes(self) -> bytes:
        return encode(self.model_dump(mode="python", exclude={"signature"}))

    def check_signature(self, roster: Roster) -> None:
        """Verify against the identity that our own roster gives the sender.

        Raises:
            VerificationFailed: If it does not verify.
            InvalidInput: If the sender is not on the roster.
        """
        key = roster.member(self.sender).identity_key
        verify(key, self.signature, f"secagg {self.kind}", self._signed_bytes(), signer=self.sender)

    def signed_by(self, identity: Identity) -> Self:
        """Return a copy that carries ``identity``'s signature."""
        signature = identity.sign(f"secagg {self.kind}", self._signed_bytes())
        return self.model_copy(update={"signature": signature})


UNSIGNED = bytes(64)
"""Stands in the signature field until `SignedMessage.signed_by`."""


class Advertise(SignedMessage):
    """Phase 0, institution: two fresh public keys for this round."""

    kind: Literal["advertise"] = "advertise"
    context: Hash
    seal_key: SealingPublicKey
    mask_key: SealingPublicKey


class AdvertiseList(TaggedMessage):
    """Phase 0, coordinator: everybody's advertisement, in roster order."""

    kind: Literal["advertise list"] = "advertise list"
    advertises: Annotated[tuple[Advertise, ...], Field(min_length=1)]


class Commitments(Message):
    """What a dealer commits to for one receiver.

    ``pair_seed`` and ``sealed_pair_seed`` are present where the receiver comes after the dealer in the
    roster; the sealed hashes are absent in the dealer's entry for itself.
    """

    receiver: PartyName
    self_mask_share: Hash
    root_share: Hash
    pair_seed: Hash | None
    sealed_shares: Hash | None
    sealed_pair_seed: Hash | None


class ShareHeader(SignedMessage):
    """Phase 1: a dealer's commitments to its secrets, its shares and its ciphertexts."""

    kind: Literal["share header"] = "share header"
    execution: Hash
    self_mask: Hash
    root: Hash
    receivers: Annotated[tuple[Commitments, ...], Field(min_length=1)]

    def commitments_for(self, receiver: str) -> Commitments | None:
        """Return the entry of one receiver."""
        return next((entry for entry in self.receivers if entry.receiver == receiver), None)


class SealedSecrets(Message):
    """The ciphertexts from one dealer to one receiver; ``party`` is the one at the other end."""

    party: PartyName
    shares: Sealed
    pair_seed: Sealed | None


class ShareMessage(TaggedMessage):
    """Phase 1, institution: the signed header and a ciphertext for everyone else."""

    kind: Literal["share"] = "share"
    max_bytes = MAX_SHARE_MESSAGE_BYTES
    header: ShareHeader
    sealed: tuple[SealedSecrets, ...]


class ShareDelivery(TaggedMessage):
    """Phase 1, coordinator: all headers, and the ciphertexts for this receiver."""

    kind: Literal["share delivery"] = "share delivery"
    max_bytes = MAX_SHARE_MESSAGE_BYTES
    headers: Annotated[tuple[ShareHeader, ...], Field(min_length=1)]
    sealed: tuple[SealedSecrets, ...]


class SharesPlaintext(TaggedMessage):
    """Sealed to a receiver's ``seal`` key: its shares of the dealer's two secrets."""

    kind: Literal["shares"] = "shares"
    execution: Hash
    sender: PartyName
    receiver: PartyName
    self_mask_share: Share
    root_share: Share


class PairSeedPlaintext(TaggedMessage):
    """Sealed to a receiver's ``mask`` key: the seed of the mask that the two have in common."""

    kind: Literal["pair seed"] = "pair seed"
    execution: Hash
    sender: PartyName
    receiver: PartyName
    seed: Secret


class MaskedInput(SignedMessage):
    """Phase 2, institution: the masked update as little-endian uint32, bound to the phase 1 transcript."""

    kind: Literal["masked input"] = "masked input"
    execution: Hash
    transcript: Hash
    masked: bytes


class SurvivorAnnouncement(TaggedMessage):
    """Phase 3, coordinator: whose masked inputs are in the sum."""

    kind: Literal["survivors"] = "survivors"
    execution: Hash
    transcript: Hash
    survivors: Annotated[tuple[PartyName, ...], Field(min_length=1)]


class ConsistencySignature(SignedMessage):
    """Phase 3, institution: signs the one survivor set it will help to unmask."""

    kind: Literal["consistency"] = "consistency"
    execution: Hash
    transcript: Hash
    survivors: Annotated[tuple[PartyName, ...], Field(min_length=1)]


class UnmaskRequest(TaggedMessage):
    """Phase 4, coordinator: which secret of whom to reveal, and the signatures that allow it."""

    kind: Literal["unmask request"] = "unmask request"
    execution: Hash
    survivors: Annotated[tuple[PartyName, ...], Field(min_length=1)]
    dropped: tuple[PartyName, ...]
    signatures: tuple[ConsistencySignature, ...]


class OwnedShare(Message):
    """A share and whose secret it is a share of."""

    owner: PartyName
    share: Share


class UnmaskShares(SignedMessage):
    """Phase 4, institution: self-mask shares of survivors, root shares of those who dropped out."""

    kind: Literal["unmask"] = "unmask"
    execution: Hash
    self_mask_shares: tuple[OwnedShare, ...]
    root_shares: tuple[OwnedShare, ...]


class Abort(SignedMessage):
    """Any phase, institution: will not go on, and why."""

    kind: Literal["abort"] = "abort"
    context: Hash
    reason: Annotated[str, Field(max_length=64)]
    accused: PartyName | None
    detail: Annotated[str, Field(max_length=400)]

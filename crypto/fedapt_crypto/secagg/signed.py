"""What messages of all schemes have in common: a sender, a signature, and the word that one gives up.

What a signature covers is the message without its ``signature`` field, under the label that `SignedMessage`
gives it.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from fedapt_crypto.encoding import Hash, PartyName, Signature, TaggedMessage
from fedapt_crypto.errors import FedaptError
from fedapt_crypto.identity import Identity, verify
from fedapt_crypto.parallel import over_ranges
from fedapt_crypto.roster import Roster

SIGNATURES_AT_ONCE = 8
"""Few enough to share them out evenly, enough to make a thread's start worth its while."""
MESSAGE_OVERHEAD_BYTES = 4096
"""Room for everything but the vector in a message with a vector."""


class SignedMessage(TaggedMessage):
    """A message with a sender and the sender's signature over everything else in it."""

    sender: PartyName
    signature: Signature

    @property
    def digest(self) -> bytes:
        """SHA-256 of the message with its signature."""
        return hashlib.sha256(self.to_bytes()).digest()

    def _signed_bytes(self) -> bytes:
        return self.encode_fields(self.__dict__, without="signature")

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


def check_signatures(messages: Sequence[SignedMessage], roster: Roster) -> None:
    """Check the signatures of all messages, in several threads; raises what `check_signature` raises."""

    def check(start: int, stop: int) -> None:
        for message in messages[start:stop]:
            message.check_signature(roster)

    over_ranges(len(messages), SIGNATURES_AT_ONCE, check)


UNSIGNED = bytes(64)
"""Stands in the signature field until `SignedMessage.signed_by`."""


ABORT_REASONS: Final = (
    "CertificateRefused",
    "ContextMismatch",
    "MalformedMessage",
    "OverlappingUnmaskLists",
    "PeerError",
    "ReplayedExecution",
    "RolledBackLog",
    "RunFailed",
    "SumCheckFailed",
    "TooFewParticipants",
    "UnexpectedMessage",
    "UnresolvedExecution",
    "VerificationFailed",
)
"""Why an institution may abort: kinds of errors, see `errors`. ``RunFailed`` is its own fault."""


def abort_reason(error: FedaptError) -> str:
    """Return the kind of an error as others may know it; nothing of its text."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((name for name in names if name in ABORT_REASONS), "RunFailed")


class Abort(SignedMessage):
    """Any phase, institution: will not go on, and which kind of reason it has."""

    kind: Literal["abort"] = "abort"
    context: Hash
    reason: Annotated[str, Field(pattern="^(" + "|".join(ABORT_REASONS) + ")$")]
    accused: PartyName | None

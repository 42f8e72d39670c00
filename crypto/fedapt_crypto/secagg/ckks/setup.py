"""What CKKS adds to a session's group secret: the key of all institutions, once before the first round.

1. The maker of the group secret makes a context and attaches it to its offer: the parameters in clear, and
   the context with the secret key under a key that follows from the group secret (`make_attachment`).
2. The coordinator lets a worker process check the parameters, with which it adds (`public_group`).
3. Each institution opens the context and lets a worker process check it (`open_group`). This is the only
   context that anybody ever takes from a peer.

The attachment is the same for all and its hash is signed with the offer, so all open the same key.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedapt_crypto.errors import ContextMismatch, InvalidInput, VerificationFailed
from fedapt_crypto.secagg.ckks.flooding import DEFAULT_DECRYPTIONS, MAX_DECRYPTIONS
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup
from fedapt_crypto.secagg.ckks.journal import Journal
from fedapt_crypto.secagg.ckks.messages import GroupAttachment
from fedapt_crypto.secagg.ckks.parameters import require_tenseal
from fedapt_crypto.secagg.ckks.process import Worker
from fedapt_crypto.secagg.group_secret import GroupSecret, OpenedPart, RoutedOffer

_PRIVATE: Final = b"\x01"
_PUBLIC: Final = b"\x00"
_NONCE: Final = bytes(12)
"""The key serves once: the maker of a group secret makes one context for it."""


def make_attachment(secret: GroupSecret, *, decryptions: int = DEFAULT_DECRYPTIONS) -> bytes:
    """Make the key of a session's institutions, for the maker of its group secret.

    Args:
        secret: The group secret.
        decryptions: How many pieces the session may decrypt in all: rounds times `parameters.pieces_of` the
            vector. All sides must agree; the noise grows with its square root.

    Returns:
        What to attach to the offer.

    Raises:
        InvalidInput: If the number does not fit, or TenSEAL is not installed.
        RunFailed: If TenSEAL fails.
    """
    _check_number(decryptions)
    maker = Worker()
    secret_context, public_context = maker.call(Operation.NEW)
    maker.close()
    return GroupAttachment(
        decryptions=decryptions,
        public_context=public_context,
        sealed_context=_aead(secret).encrypt(_NONCE, secret_context, None),
    ).to_bytes()


def public_group(offer: RoutedOffer, *, decryptions: int = DEFAULT_DECRYPTIONS) -> PublicGroup:
    """Return the coordinator's part of the group.

    Args:
        offer: The offer, checked.
        decryptions: As the session has it.

    Raises:
        MalformedMessage, ContextMismatch, VerificationFailed: If the attachment is none for this session.
        InvalidInput: If the number does not fit, or TenSEAL is not installed.
    """
    attachment = _attached(offer.attachment, decryptions, offer.maker)
    worker = Worker(attachment.public_context)
    _check_context(worker, attachment.public_context, _PUBLIC, offer.maker)
    return PublicGroup(
        commitment=offer.commitment,
        decryptions=decryptions,
        public_context=attachment.public_context,
        worker=worker,
    )


def open_group(
    part: OpenedPart, *, decryptions: int = DEFAULT_DECRYPTIONS, journal: Journal | None = None
) -> GroupKey:
    """Return an institution's part of the group, the maker's too.

    Args:
        part: The group secret and what came with it.
        decryptions: As the session has it.
        journal: Where the key's use is recorded; by default in memory only.

    Raises:
        MalformedMessage, ContextMismatch, VerificationFailed: If the attachment is none for this session.
        InvalidInput: If the number does not fit, TenSEAL is not installed, or the journal says that the key
            is burned.
    """
    attachment = _attached(part.attachment, decryptions, part.maker)
    try:
        secret_context = _aead(part.secret).decrypt(_NONCE, attachment.sealed_context, None)
    except InvalidTag:
        raise VerificationFailed(
            "sealed a key that the group secret does not open", peer=part.maker
        ) from None
    # Parameters are all there is in the public part, so both belong together if both are the agreed ones.
    worker = Worker(secret_context)
    for context, expected in ((attachment.public_context, _PUBLIC), (secret_context, _PRIVATE)):
        _check_context(worker, context, expected, part.maker)
    return GroupKey(
        secret=part.secret,
        decryptions=decryptions,
        public_context=attachment.public_context,
        secret_context=secret_context,
        worker=worker,
        journal=journal,
    )


def _attached(data: bytes, decryptions: int, maker: str) -> GroupAttachment:
    _check_number(decryptions)
    attachment = GroupAttachment.from_bytes(data)
    if attachment.decryptions != decryptions:
        raise ContextMismatch("made a group key for another plan", peer=maker)
    return attachment


def _aead(secret: GroupSecret) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(secret.derive("ckks context"))


def _check_context(worker: Worker, context: bytes, expected: bytes, maker: str) -> None:
    """Let the worker check the parameters; the last context checked is the one it works with."""
    if worker.call(Operation.OPEN, context, blame=maker) != (expected,):
        worker.close()
        raise VerificationFailed(
            "made a context with a secret key where none, or none where one, must be", peer=maker
        )


def _check_number(decryptions: int) -> None:
    require_tenseal()
    if not 1 <= decryptions <= MAX_DECRYPTIONS:
        raise InvalidInput(
            f"a ckks session decrypts at most {MAX_DECRYPTIONS} pieces: plan fewer or smaller rounds"
        )

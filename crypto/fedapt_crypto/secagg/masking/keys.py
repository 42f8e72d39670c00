"""Which key comes from which secret in the masking protocol: one place for both sides.

An institution's root determines its private mask key and its pair seeds, so revealing the root of one
that dropped out is enough to cancel every mask it shares with others, and nothing else.
"""

from hashlib import sha256
from typing import NamedTuple

from fedapt_crypto.encoding import encode_plain
from fedapt_crypto.kdf import derive, digest, labelled_start
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg.tags import tag_mask
from fedapt_crypto.shamir import SHARE_BYTES


class Mask(NamedTuple):
    """A mask in a vector and in its tag.

    Attributes:
        key: Keystream key of the vector's.
        tag: The tag's, an element of the field.
        sign: +1 to add both, -1 to subtract them.
    """

    key: bytes
    tag: int
    sign: int


def mask_key(root: bytes, context: bytes) -> SealingKey:
    """Return the key pair to which others seal pair seeds; needed before the execution has its name."""
    return SealingKey(derive(root, "secagg mask key", context))


def pair_seed(root: bytes, execution: bytes, dealer: str, receiver: str) -> bytes:
    """Return the seed that the dealer (earlier in the roster) shares with the receiver."""
    return derive(root, "secagg pair seed", execution, dealer, receiver)


def pair_mask_key(seed: bytes, execution: bytes, transcript: bytes, dealer: str, receiver: str) -> bytes:
    """Return the keystream key of a pair's mask; single use, bound to who completed phase 1.

    Args:
        seed: The pair's seed, 32 bytes; secret.
        execution: Identifier of the execution, 32 bytes.
        transcript: Of phase 1, see `transcript_id`.
        dealer: Who dealt the seed.
        receiver: To whom.
    """
    return derive(seed, "secagg pair mask", execution, transcript, dealer, receiver)


def self_mask_key(seed: bytes, execution: bytes, transcript: bytes, owner: str) -> bytes:
    """Return the keystream key of an institution's own mask; single use.

    Args:
        seed: b, 32 bytes; secret.
        execution: Identifier of the execution, 32 bytes.
        transcript: Of phase 1, see `transcript_id`.
        owner: Whose mask.
    """
    return derive(seed, "secagg self mask", execution, transcript, owner)


def pair_tag_mask(seed: bytes, execution: bytes, transcript: bytes, dealer: str, receiver: str) -> int:
    """Return the mask of a pair in their tags; single use, see `pair_mask_key`.

    Args:
        seed: The pair's seed, 32 bytes; secret.
        execution: Identifier of the execution, 32 bytes.
        transcript: Of phase 1, see `transcript_id`.
        dealer: Who dealt the seed.
        receiver: To whom.
    """
    return tag_mask(seed, "secagg pair tag mask", execution, transcript, dealer, receiver)


def self_tag_mask(seed: bytes, execution: bytes, transcript: bytes, owner: str) -> int:
    """Return the mask of an institution's own in its tag; single use, see `self_mask_key`.

    Args:
        seed: b, 32 bytes; secret.
        execution: Identifier of the execution, 32 bytes.
        transcript: Of phase 1, see `transcript_id`.
        owner: Whose mask.
    """
    return tag_mask(seed, "secagg self tag mask", execution, transcript, owner)


def execution_id(context: bytes, participants: bytes, digests: bytes) -> bytes:
    """Return the execution identifier: the context and every signed advertisement, in roster order."""
    return digest("secagg execution", context, participants, digests)


def transcript_id(execution: bytes, dealers: bytes, digests: bytes) -> bytes:
    """Return the phase 1 transcript: every signed share header, in roster order.

    Args:
        execution: Identifier of the execution, 32 bytes.
        dealers: Packed indices of who completed phase 1.
        digests: Hashes of their share headers, one after the other.
    """
    return digest("secagg transcript", execution, dealers, digests)


def survivors_id(execution: bytes, transcript: bytes, survivors: bytes) -> bytes:
    """Return what stands for a survivor set in a consistency signature.

    Args:
        execution: Identifier of the execution, 32 bytes.
        transcript: Of phase 1, see `transcript_id`.
        survivors: Packed indices of the survivors.
    """
    return digest("secagg survivors", execution, transcript, survivors)


def commit(kind: str, execution: bytes, owner: str, *value: bytes | str) -> bytes:
    """Return the commitment to a secret or share of ``owner``."""
    return digest(f"secagg commit {kind}", execution, owner, *value)


class ShareCommitments:
    """Commitments to the shares of one owner's secret, for many holders.

    The same as `commit` of the same parts, several times faster: what comes before the holder is encoded
    once.
    """

    def __init__(self, kind: str, execution: bytes, owner: str) -> None:
        self._start = labelled_start(2, f"secagg commit {kind} share", execution, owner)

    def to(self, holder: bytes, share: bytes) -> bytes:
        """Return the commitment to a share of 33 bytes; ``holder`` is the encoded name."""
        return sha256(self._start + holder + _SHARE_HEAD + share).digest()


_SHARE_HEAD = encode_plain(bytes(SHARE_BYTES))[:-SHARE_BYTES]

"""A Merkle tree over a short list: one hash stands for all leaves, a proof shows one of them.

Leaves and inner nodes are hashed under different labels, as in RFC 9162, so a node never passes for a
leaf. Used so that the receiver of one record can check it against its dealer's signature without being
sent everybody else's.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from fedapt_crypto.errors import VerificationFailed

NODE_BYTES: Final = 32

_LEAF: Final = b"fedapt-secure/1 merkle leaf\x00"
_NODE: Final = b"fedapt-secure/1 merkle node\x01"
_EMPTY: Final = sha256(b"fedapt-secure/1 merkle empty").digest()


class MerkleTree:
    """The tree over ``leaves`` in their order; an odd node at the end moves up unchanged."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = [sha256(_LEAF + leaf).digest() for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            above = [
                sha256(_NODE + left + right).digest()
                for left, right in zip(level[::2], level[1::2], strict=False)
            ]
            level = above + level[len(level) - len(level) % 2 :]
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The hash that stands for all leaves, their order and their number."""
        return self._levels[-1][0] if self._levels[-1] else _EMPTY

    def proof(self, position: int) -> tuple[bytes, ...]:
        """Return the siblings on the way from one leaf to the root."""
        path = []
        for level in self._levels[:-1]:
            sibling = position ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            position //= 2
        return tuple(path)

    def proofs(self) -> list[bytes]:
        """Return the proof of every leaf, in their order, each end to end; cheaper than one at a time."""
        paths = [b""] * len(self._levels[-1])
        for level in reversed(self._levels[:-1]):
            below: list[bytes] = []
            for left, right, path in zip(level[::2], level[1::2], paths, strict=False):
                below += (right + path, left + path)
            paths = below + paths[len(level) // 2 :]  # an odd node has no sibling
        return paths


def proof_length(position: int, count: int) -> int:
    """Return how many siblings the proof of one of ``count`` leaves has."""
    length = 0
    while count > 1:
        length += position ^ 1 < count
        position //= 2
        count = (count + 1) // 2
    return length


def check_proof(root: bytes, leaf: bytes, position: int, count: int, proof: Sequence[bytes]) -> None:
    """Check that ``leaf`` stands at ``position`` of ``count`` leaves under ``root``.

    Raises:
        VerificationFailed: If it does not.
    """
    if not 0 <= position < count:
        raise VerificationFailed("a record's position does not exist in its dealer's list")
    if len(proof) != proof_length(position, count):
        raise VerificationFailed("a record's proof has another length than its place demands")
    found, path, width = sha256(_LEAF + leaf).digest(), iter(proof), count
    while width > 1:
        if position ^ 1 < width:
            sibling = next(path)
            pair = sibling + found if position & 1 else found + sibling
            found = sha256(_NODE + pair).digest()
        position //= 2
        width = (width + 1) // 2
    if found != root:
        raise VerificationFailed("a record is not the one that its dealer signed")

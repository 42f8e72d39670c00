"""A Merkle tree over a short list: one hash stands for all leaves, a proof shows one of them.

Leaves and inner nodes are hashed under different labels, as in RFC 9162, so a node never passes for a
leaf. Used so that the receiver of one record can check it against its dealer's signature without being
sent everybody else's.
"""

import hashlib
from collections.abc import Sequence

from fedapt_crypto.errors import VerificationFailed

_LEAF = b"fedapt-secure/1 merkle leaf\x00"
_NODE = b"fedapt-secure/1 merkle node\x01"
_EMPTY = hashlib.sha256(b"fedapt-secure/1 merkle empty").digest()


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(_LEAF + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


class MerkleTree:
    """The tree over ``leaves`` in their order; an odd node at the end moves up unchanged."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [[_leaf(leaf) for leaf in leaves]]
        while len(self._levels[-1]) > 1:
            level = self._levels[-1]
            above = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            self._levels.append(above + level[len(level) - len(level) % 2 :])

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

    def proofs(self) -> list[tuple[bytes, ...]]:
        """Return the proof of every leaf, in their order; cheaper than one at a time."""
        paths: list[tuple[bytes, ...]] = [()] * len(self._levels[-1])
        for level in reversed(self._levels[:-1]):
            siblings = [level[i ^ 1 : (i ^ 1) + 1] for i in range(len(level))]  # an odd node has none
            paths = [(*sibling, *paths[i // 2]) for i, sibling in enumerate(siblings)]
        return paths


def check_proof(root: bytes, leaf: bytes, position: int, count: int, proof: Sequence[bytes]) -> None:
    """Check that ``leaf`` stands at ``position`` of ``count`` leaves under ``root``.

    Raises:
        VerificationFailed: If it does not.
    """
    if not 0 <= position < count:
        raise VerificationFailed("a record's position does not exist in its dealer's list")
    found, path = _leaf(leaf), iter(proof)
    width = count
    while width > 1:
        if position ^ 1 < width:
            sibling = next(path, None)
            if sibling is None:
                raise VerificationFailed("a record's proof is too short")
            found = _node(sibling, found) if position & 1 else _node(found, sibling)
        position //= 2
        width = (width + 1) // 2
    if next(path, None) is not None or found != root:
        raise VerificationFailed("a record is not the one that its dealer signed")

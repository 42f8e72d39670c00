"""What a dealer has for one receiver, in fixed layouts: a record, the sealed plaintexts in it, a parcel.

A record: receiver's roster index (2 bytes, big-endian), flags (1), commitments to the self-mask share, to
the root share and to the pair seed (32 each, zero where not due), then the sealed shares and the sealed
pair seed, where the flags say so. It is one leaf of the dealer's Merkle tree, so the signed root covers
the ciphertexts too. All lengths follow from the flags: a record, and a row of them, has one spelling.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.merkle import NODE_BYTES, proof_length
from fedapt_crypto.seal import OVERHEAD_BYTES
from fedapt_crypto.shamir import SECRET_BYTES, SHARE_BYTES

HOLDER: Final = 1
"""Flag: the receiver holds shares of the dealer's secrets."""
PAIR: Final = 2
"""Flag: the dealer, earlier in the roster, gives the receiver the seed of their common mask."""
OWN: Final = 4
"""Flag: the dealer's record for itself, in which nothing is sealed."""
ABSENT: Final = bytes(32)

_HEAD: Final = struct.Struct(">HB")
_FIXED: Final = struct.Struct(">HB32s32s32s")
_POSITION: Final = struct.Struct(">H")
_ENDS: Final = struct.Struct(">B32sHH")
_SHARES, _PAIR_SEED = 1, 2
"""The kinds of plaintext."""

SEALED_SHARES_BYTES: Final = OVERHEAD_BYTES + _ENDS.size + 2 * SHARE_BYTES
SEALED_PAIR_SEED_BYTES: Final = OVERHEAD_BYTES + _ENDS.size + SECRET_BYTES
RECORD_BYTES: Final = {
    0: _FIXED.size,
    HOLDER: _FIXED.size + SEALED_SHARES_BYTES,
    PAIR: _FIXED.size + SEALED_PAIR_SEED_BYTES,
    HOLDER | PAIR: _FIXED.size + SEALED_SHARES_BYTES + SEALED_PAIR_SEED_BYTES,
    HOLDER | OWN: _FIXED.size,
}
"""Flags to length; no other flags occur."""


@dataclass(frozen=True, repr=False)
class Record:
    """One decoded record; ciphertexts are empty where the flags do not announce them."""

    receiver: int
    flags: int
    self_mask_share: bytes
    root_share: bytes
    pair_seed: bytes
    sealed_shares: bytes
    sealed_pair_seed: bytes

    def to_bytes(self) -> bytes:
        """Return the encoding."""
        commitments = (self.self_mask_share, self.root_share, self.pair_seed)
        fixed = _FIXED.pack(self.receiver, self.flags, *commitments)
        return fixed + self.sealed_shares + self.sealed_pair_seed

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Decode; raises `MalformedMessage` for unknown flags or a length that does not fit them."""
        if record_size(data, 0) != len(data):
            raise MalformedMessage("a record has another length than its flags say")
        receiver, flags, self_mask_share, root_share, pair_seed = _FIXED.unpack_from(data)
        at = _FIXED.size + (SEALED_SHARES_BYTES if flags & (HOLDER | OWN) == HOLDER else 0)
        sealed = (data[_FIXED.size : at], data[at:])
        return cls(receiver, flags, self_mask_share, root_share, pair_seed, *sealed)


def record_heads(receivers: Iterable[int], flags: Iterable[int]) -> Iterable[bytes]:
    """Return the first bytes of records: for whom each is and what is in it."""
    return map(_HEAD.pack, receivers, flags)


def record_size(data: bytes, start: int) -> int:
    """Return how long the record is that begins at ``start``; raises `MalformedMessage` if it cannot be."""
    size = RECORD_BYTES.get(data[start + 2]) if len(data) - start >= _FIXED.size else None
    if size is None or start + size > len(data):
        raise MalformedMessage("a record is malformed")
    return size


def split_records(data: bytes) -> list[bytes]:
    """Return the records that stand end to end; raises `MalformedMessage` for anything else."""
    found, at = [], 0
    while at < len(data):
        size = record_size(data, at)
        found.append(data[at : at + size])
        at += size
    return found


# Commitments in an encoded record, where the rest of it is not needed.


def self_mask_commitment(record: bytes) -> bytes:
    """Return the commitment to the self-mask share."""
    return record[3:35]


def root_commitment(record: bytes) -> bytes:
    """Return the commitment to the root share."""
    return record[35:67]


# Sealed plaintexts: kind (1 byte), execution, dealer's and receiver's roster index (2 bytes each), content.


def shares_plaintext(execution: bytes, dealer: int, receiver: int, self_mask: bytes, root: bytes) -> bytes:
    """Return what is sealed to a receiver's ``seal`` key: its shares of the dealer's two secrets."""
    return _ENDS.pack(_SHARES, execution, dealer, receiver) + self_mask + root


def pair_seed_plaintext(execution: bytes, dealer: int, receiver: int, seed: bytes) -> bytes:
    """Return what is sealed to a receiver's ``mask`` key: the seed of the mask the two have in common."""
    return _ENDS.pack(_PAIR_SEED, execution, dealer, receiver) + seed


def read_shares(plaintext: bytes, execution: bytes, dealer: int, receiver: int) -> tuple[bytes, bytes]:
    """Return self-mask share and root share; see `_content` for what is raised.

    Args:
        plaintext: What a record held, opened.
        execution: Identifier of the execution, 32 bytes.
        dealer: Place of who dealt on the roster.
        receiver: Our place.
    """
    content = _content(plaintext, _SHARES, execution, dealer, receiver, 2 * SHARE_BYTES)
    return content[:SHARE_BYTES], content[SHARE_BYTES:]


def read_pair_seed(plaintext: bytes, execution: bytes, dealer: int, receiver: int) -> bytes:
    """Return the seed; see `_content` for what is raised.

    Args:
        plaintext: What a record held, opened.
        execution: Identifier of the execution, 32 bytes.
        dealer: Place of who dealt on the roster.
        receiver: Our place.
    """
    return _content(plaintext, _PAIR_SEED, execution, dealer, receiver, SECRET_BYTES)


def _content(plaintext: bytes, kind: int, execution: bytes, dealer: int, receiver: int, size: int) -> bytes:
    """Check length and ends of an opened plaintext and return the rest.

    Raises:
        MalformedMessage: If it has another length.
        VerificationFailed: If it is about another execution or other parties, or of another kind.
    """
    if len(plaintext) != _ENDS.size + size:
        raise MalformedMessage("a sealed message has another length than its kind")
    if plaintext[: _ENDS.size] != _ENDS.pack(kind, execution, dealer, receiver):
        raise VerificationFailed("a sealed message is about other parties")
    return plaintext[_ENDS.size :]


# Parcels: a record's position in its dealer's list (2 bytes), its Merkle proof, the record.


@dataclass(frozen=True, repr=False)
class Parcel:
    """What one dealer has for one receiver, with the proof that its header covers it."""

    position: int
    proof: tuple[bytes, ...]
    record: bytes

    def to_bytes(self) -> bytes:
        """Return the encoding."""
        return b"".join(parcel_pieces(self.position, b"".join(self.proof), self.record))


def parcel_pieces(position: int, proof: bytes, record: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what makes up an encoded parcel.

    Args:
        position: Of the record in the dealer's tree.
        proof: Its Merkle proof.
        record: The record itself.
    """
    return _POSITION.pack(position), proof, record


def split_parcels(data: bytes, record_counts: Iterable[int]) -> Sequence[Parcel]:
    """Return the parcels that stand end to end, one for each of the lengths of their dealers' lists.

    Raises:
        MalformedMessage: If a byte is missing or over, or a position does not exist.
    """
    found, at = [], 0
    for count in record_counts:
        position = int.from_bytes(data[at : at + _POSITION.size], "big")
        if position >= count:
            raise MalformedMessage("a parcel's position does not exist in its dealer's list")
        start = at + _POSITION.size
        end = start + NODE_BYTES * proof_length(position, count)
        at = end + record_size(data, end)
        proof = tuple(data[node : node + NODE_BYTES] for node in range(start, end, NODE_BYTES))
        found.append(Parcel(position, proof, data[end:at]))
    if at != len(data):
        raise MalformedMessage("there are more bytes than parcels")
    return found

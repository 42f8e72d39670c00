"""The record a dealer keeps for each receiver: fixed size, so that a table of them is one byte string.

Layout, 163 bytes: receiver's roster index (2, big-endian), flags (1), then SHA-256 values: commitment to
the self-mask share, to the root share, to the pair seed, hash of the sealed shares, of the sealed pair
seed. What is not due is zero.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields

from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.secagg.messages import SealedSecrets

HOLDER = 1
"""Flag: the receiver holds shares of the dealer's secrets."""
PAIR = 2
"""Flag: the dealer, earlier in the roster, gives the receiver the seed of their common mask."""
RECORD_BYTES = 2 + 1 + 5 * 32
ABSENT = bytes(32)


_LAYOUT = struct.Struct(">HB32s32s32s32s32s")


@dataclass(frozen=True)
class Record:
    """One decoded record."""

    receiver: int
    flags: int
    self_mask_share: bytes
    root_share: bytes
    pair_seed: bytes
    sealed_shares: bytes
    sealed_pair_seed: bytes

    def to_bytes(self) -> bytes:
        """Return the 163 bytes."""
        return _LAYOUT.pack(*self.__dict__.values())  # they stand in the order of the layout

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Decode; raises `MalformedMessage` for another length or unknown flags."""
        if len(data) != RECORD_BYTES or data[2] & ~(HOLDER | PAIR):
            raise MalformedMessage("a record is malformed")
        record = object.__new__(cls)  # a frozen dataclass's own way costs three times as much
        record.__dict__.update(zip(_FIELDS, _LAYOUT.unpack(data), strict=True))
        return record

    def check_sealed(self, sealed: SealedSecrets, dealer: str) -> None:
        """Check that ciphertexts are the ones the dealer signed; raises `VerificationFailed`."""
        found = (sealed_hash(sealed.shares), sealed_hash(sealed.pair_seed))
        if found != (self.sealed_shares, self.sealed_pair_seed):
            raise VerificationFailed("a sealed message is not the one that its dealer signed", peer=dealer)


_FIELDS = tuple(field.name for field in fields(Record))


def sealed_hash(sealed: bytes | None) -> bytes:
    """Return the hash by which a record covers a ciphertext; zero for none."""
    if sealed is None:
        return ABSENT
    return hashlib.sha256(b"fedapt-secure/1 sealed\x00" + sealed).digest()


def split_table(table: bytes) -> Iterator[bytes]:
    """Yield the records of a table; raises `MalformedMessage` for half a record."""
    if len(table) % RECORD_BYTES:
        raise MalformedMessage("a table of records has half an entry")
    for start in range(0, len(table), RECORD_BYTES):
        yield table[start : start + RECORD_BYTES]

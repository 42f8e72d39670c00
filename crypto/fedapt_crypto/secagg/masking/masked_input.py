"""A masked input as it travels: a signed header, and then the raw vector that the header's hash covers.

Layout: length of the header (4 bytes, big-endian) ‖ header ‖ zero bytes up to a multiple of 16 ‖ vector, as
little-endian uint32. The vector is in no message, so nobody copies it to sign it, or to check it: it is
made where it is sent from, and read where it arrived. Its hash is a tree of two levels, so that several
threads can work on it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Final, TypeVar

import numpy as np

from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.fixed_point import RingVector
from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.masks import RANGE_VALUES
from fedapt_crypto.parallel import over_ranges, ranges, run_all
from fedapt_crypto.roster import Roster
from fedapt_crypto.secagg.masking.messages import MaskedInput
from fedapt_crypto.secagg.signed import MESSAGE_OVERHEAD_BYTES

LENGTH_BYTES: Final = 4
ALIGNMENT_BYTES: Final = 16
ALONGSIDE_BYTES: Final = 1 << 18
"""From here on a second thread is worth waking to check the signature meanwhile."""

_CHUNK: Final = b"fedapt-secure/1 vector chunk\x00"

Result = TypeVar("Result")


def chunk_digest(chunk: memoryview) -> bytes:
    """Return the leaf of a vector's hash over `RANGE_VALUES` of it; the last chunk may be shorter."""
    hashed = hashlib.sha256(_CHUNK)
    hashed.update(chunk)
    return hashed.digest()


def vector_hash(size: int, chunks: list[bytes]) -> bytes:
    """Return the hash of a vector of ``size`` bytes from the digests of its chunks, in order."""
    return digest("secagg vector", size, b"".join(chunks))


@dataclass(frozen=True)
class MaskedPayload:
    """A masked input that arrived; only its lengths and its header's encoding have been checked."""

    header: MaskedInput
    vector: memoryview = field(repr=False)

    @property
    def kind(self) -> str:
        """That of the header."""
        return self.header.kind

    @staticmethod
    def begins(payload: bytes) -> bool:
        """Whether a payload can be a masked input: no message in msgpack begins like a short length."""
        return payload[:2] == bytes(2)

    @classmethod
    def from_bytes(cls, payload: bytes, values: int, sender: str) -> "MaskedPayload":
        """Split a payload for a vector of so many ``values``; no byte of it is copied but the header's.

        Raises:
            MalformedMessage: If a byte is missing or over; names ``sender``.
        """
        view = memoryview(payload)
        header_bytes = int.from_bytes(view[:LENGTH_BYTES], "big")
        start = _vector_start(header_bytes)
        if header_bytes > MESSAGE_OVERHEAD_BYTES or len(view) != start + 4 * values:
            raise MalformedMessage("sent a masked input of the wrong length", peer=sender)
        padding = view[LENGTH_BYTES + header_bytes : start]
        if padding != bytes(len(padding)):
            raise MalformedMessage("sent a masked input with other padding than zeros", peer=sender)
        header = MaskedInput.from_bytes(bytes(view[LENGTH_BYTES : LENGTH_BYTES + header_bytes]))
        return cls(header, view[start:])

    @property
    def words(self) -> RingVector:
        """The vector, read where it arrived."""
        return np.frombuffer(self.vector, "<u4")

    def check(self, roster: Roster) -> None:
        """Check the signature, and that the vector is the one it covers.

        Raises:
            VerificationFailed: If not; names the sender.
        """

        def verify() -> bytes:
            self.header.check_signature(roster)
            return b""

        calls: list[Callable[[], bytes]] = [
            partial(chunk_digest, self.vector[4 * start : 4 * stop])
            for start, stop in ranges(len(self.vector) // 4, RANGE_VALUES)
        ]
        if len(self.vector) < ALONGSIDE_BYTES:
            *digests, _ = [call() for call in (*calls, verify)]
        else:
            *digests, _ = run_all([*calls, verify])
        if vector_hash(len(self.vector), digests) != self.header.vector_hash:
            raise VerificationFailed("sent another vector than it signed", peer=self.header.sender)


def assemble(
    unsigned: MaskedInput,
    identity: Identity,
    values: int,
    fill: Callable[[RingVector, int], Result],
    finish: Callable[[list[Result]], bytes],
) -> tuple[bytes, list[Result]]:
    """Make a payload whose vector ``fill`` writes, range by range, in several threads.

    Args:
        unsigned: The header, without signature, hash and tag.
        identity: What signs it.
        values: Length of the vector.
        fill: Called with a range to fill and the position of its first value.
        finish: Called with what ``fill`` returned, in order; returns the masked tag.

    Returns:
        The payload, and what the calls of ``fill`` returned, in order.
    """
    start = _vector_start(len(unsigned.to_bytes()))  # what is missing is as long as they will be
    # The one way to write to memory that is handed on as bytes without a copy.
    buffer = BytesIO(bytes(start + 4 * values))
    results = _write(buffer.getbuffer(), start, unsigned, identity, fill, finish)
    return buffer.getvalue(), results


def _write(
    view: memoryview,
    start: int,
    unsigned: MaskedInput,
    identity: Identity,
    fill: Callable[[RingVector, int], Result],
    finish: Callable[[list[Result]], bytes],
) -> list[Result]:
    words = np.frombuffer(view[start:], "<u4")

    def write(first: int, stop: int) -> tuple[bytes, Result]:
        part = words[first:stop]
        result = fill(part, first)
        return chunk_digest(part.data.cast("B")), result  # while it is in the cache

    written = over_ranges(words.size, RANGE_VALUES, write)
    hashed = vector_hash(4 * words.size, [chunk for chunk, _ in written])
    results = [result for _, result in written]
    complete = unsigned.model_copy(update={"vector_hash": hashed, "masked_tag": finish(results)})
    header = complete.signed_by(identity).to_bytes()
    view[:LENGTH_BYTES] = len(header).to_bytes(LENGTH_BYTES, "big")
    view[LENGTH_BYTES : LENGTH_BYTES + len(header)] = header
    return results


def _vector_start(header_bytes: int) -> int:
    used = LENGTH_BYTES + header_bytes
    return used + -used % ALIGNMENT_BYTES

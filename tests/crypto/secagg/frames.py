"""What travels in a layout of its own, taken apart and put together the obvious way."""

import hashlib
from collections.abc import Sequence

from fedapt_crypto.identity import Identity
from fedapt_crypto.kdf import digest
from fedapt_crypto.secagg.masking.messages import MaskedInput, ShareDelivery, ShareHeader
from fedapt_crypto.secagg.masking.records import Parcel, split_parcels

CHUNK_BYTES = 1 << 20


def split_masked(payload: bytes) -> tuple[MaskedInput, bytes]:
    """Return header and vector of a masked input."""
    size = int.from_bytes(payload[:4])
    end = 4 + size
    while end % 16:
        assert payload[end] == 0
        end += 1
    return MaskedInput.from_bytes(payload[4 : 4 + size]), payload[end:]


def join_masked(header: MaskedInput, vector: bytes) -> bytes:
    """Return the masked input with this header and this vector, whether they fit or not."""
    encoded = header.to_bytes()
    start = len(encoded).to_bytes(4) + encoded
    return start + bytes(-len(start) % 16) + vector


def hash_of(vector: bytes) -> bytes:
    """Return the hash that a header must have."""
    chunks = [vector[i : i + CHUNK_BYTES] for i in range(0, len(vector), CHUNK_BYTES)]
    label = b"fedapt-secure/1 vector chunk\x00"
    leaves = b"".join(hashlib.sha256(label + chunk).digest() for chunk in chunks)
    return digest("secagg vector", len(vector), leaves)


def masked(header: MaskedInput, vector: bytes, identity: Identity) -> bytes:
    """Return a masked input of this vector, hashed and signed as it must be."""
    fields = {"vector_hash": hash_of(vector)}
    return join_masked(header.model_copy(update=fields).signed_by(identity), vector)


def parcels_of(message: ShareDelivery) -> list[tuple[ShareHeader, Parcel]]:
    """Return what each dealer around the receiver has for it, beside its header."""
    counts = [header.record_count for header in message.headers]
    return list(zip(message.headers, split_parcels(message.parcels, counts), strict=True))


def with_parcels(
    message: ShareDelivery, parcels: Sequence[tuple[ShareHeader, Parcel]], **fields: object
) -> ShareDelivery:
    """Return a delivery with other parcels, and other fields where given."""
    headers, packed = tuple(h for h, _ in parcels), b"".join(p.to_bytes() for _, p in parcels)
    return message.model_copy(update={"headers": headers, "parcels": packed, **fields})

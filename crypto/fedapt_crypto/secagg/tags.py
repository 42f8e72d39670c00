"""Tags as they travel, and what masks them where inputs are masked."""

from typing import Annotated, Final

from pydantic import Field

from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.kdf import derive
from fedapt_crypto.sum_tag import PRIME

TAG_BYTES: Final = 8
_MASK_BYTES: Final = 16

TagField = Annotated[bytes, Field(min_length=TAG_BYTES, max_length=TAG_BYTES)]
"""An element of the field of the tags, big-endian, below `PRIME`."""


def tag_to_bytes(tag: int) -> bytes:
    """Return a tag as it travels."""
    return tag.to_bytes(TAG_BYTES)


def tag_from_bytes(data: bytes, sender: str) -> int:
    """Return a tag that was sent.

    Raises:
        MalformedMessage: If it is none; names the sender.
    """
    tag = int.from_bytes(data)
    if tag >= PRIME:
        raise MalformedMessage("sent a tag beyond the field", peer=sender)
    return tag


def tag_mask(seed: bytes, label: str, *about: bytes | str) -> int:
    """Return the mask of a tag: 128 bits modulo p, less than 2**-66 from uniform.

    Args:
        seed: Of the self mask or the pair, 32 bytes; secret.
        label: Which of them.
        about: The execution, its transcript and whose mask it is.
    """
    return int.from_bytes(derive(seed, label, *about, length=_MASK_BYTES)) % PRIME

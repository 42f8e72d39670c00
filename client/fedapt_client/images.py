"""The images behind feature rows, for methods that train the image tower: no stored feature serves them."""

import hashlib
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from fedapt_crypto.errors import RunFailed
from fedapt_secure.learning.backbone import Backbone
from fedapt_secure.learning.data.images import UnusableImage, open_rgb
from fedapt_secure.learning.data.records import Record
from fedapt_secure.learning.methods.base import Classifier, Pixels

_IMAGES_AT_ONCE: Final = 64
_CHANGED: Final = (
    "an image was changed or removed: leave the images alone while a session runs, and run again"
)


class StoredImages:
    """Gives the preprocessed images of some files by row number.

    Args:
        records: All of the institution's images.
        digests: SHA-256 of each row's file.
        backbone: Whose preprocessing.
    """

    def __init__(self, records: Sequence[Record], digests: Sequence[bytes], backbone: Backbone) -> None:
        self._records = records
        self._digests = digests
        self._backbone = backbone
        self._found: dict[bytes, Record] | None = None

    def __call__(self, numbers: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W) of row numbers (B,), B at least 1.

        Raises:
            RunFailed: If an image is not the one any more whose feature was computed.
        """
        return torch.stack([self._one(self._digests[number]) for number in numbers.tolist()])

    def _one(self, digest: bytes) -> Tensor:
        if self._found is None:  # by content: rows and records need not be in one order
            self._found = {hashlib.sha256(_read(record)).digest(): record for record in self._records}
        content = _read(self._found[digest]) if digest in self._found else b""
        if hashlib.sha256(content).digest() != digest:
            raise RunFailed(_CHANGED)
        try:
            return self._backbone.preprocess(open_rgb(content))
        except UnusableImage:  # it was usable when its feature was computed
            raise RunFailed(_CHANGED) from None


def encoded_by(model: Classifier, images: Pixels | None, count: int) -> Tensor | None:
    """Return the features (count, D) of a model's own image tower; ``None`` where it has none of its own.

    Args:
        model: The tuned model.
        images: Gives the pixels of row numbers below ``count``.
        count: Number of images.
    """
    if images is None or not model.changes_image_tower:
        return None
    parts = [model.encode_images(images(numbers)).cpu() for numbers in _batches(count)]
    return torch.cat(parts) if parts else torch.zeros(0, model.backbone.feature_size)


def _batches(count: int) -> Sequence[Tensor]:
    return torch.split(torch.arange(count), _IMAGES_AT_ONCE) if count else ()


def _read(record: Record) -> bytes:
    try:
        return record.path.read_bytes()
    except OSError:
        return b""

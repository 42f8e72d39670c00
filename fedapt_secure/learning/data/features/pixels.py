"""Preprocessed images on demand, for methods that train the image tower itself: no feature serves them."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from fedapt_crypto.errors import RunFailed
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.features.image_features import FeatureSet
from fedapt_secure.learning.data.features.marks import ImageFile
from fedapt_secure.learning.data.reading.decoding import Decoder, in_order
from fedapt_secure.learning.data.reading.records import Record
from fedapt_secure.protocol.reasons import Reason

KEEP_BYTES: Final = 256 << 20
"""Preprocessed values up to here stay in memory: 447 images of 224 x 224 pixels."""


class ImageSource:
    """Gives the pixels of a list of images by their numbers.

    Nothing is written to disk. The first images asked for stay in memory, up to a bound; the others are
    decoded each time, in several threads.

    Args:
        files: The images, with what their files' SHA-256 must be.
        backbone: Whose preprocessing.
        keep_bytes: How much preprocessed data may stay in memory.
        reading: How DICOM and NIfTI files are read.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        backbone: Backbone,
        keep_bytes: int = KEEP_BYTES,
        reading: ReadingOptions = AS_THEY_ARE,
    ) -> None:
        self._files = tuple(files)
        self._decoder = Decoder(backbone, reading=reading)
        self._room_bytes = keep_bytes
        self._kept: dict[int, Tensor] = {}
        self._shape: torch.Size | None = None

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, numbers: Tensor) -> Tensor:
        """Return the preprocessed images (B, 3, H, W), float32, on the CPU, of record numbers (B,).

        Raises:
            IndexError: For a number that is not among the images.
            RunFailed: If an image is gone or is not the one any more whose features were computed.
        """
        wanted: list[int] = numbers.tolist()
        if not all(0 <= number < len(self._files) for number in wanted):
            raise IndexError("there is no image of that number")
        missing = sorted(set(wanted) - self._kept.keys())
        fresh = dict(zip(missing, in_order(self._decode, missing), strict=True))
        if not wanted:
            return torch.zeros((0, *self._shape_of_one()))
        pixels = torch.stack([self._kept[n] if n in self._kept else fresh[n] for n in wanted])
        self._keep(fresh)
        return pixels

    def _shape_of_one(self) -> torch.Size:
        if self._shape is None:
            self._shape = self._decode(0).shape
        return self._shape

    def _decode(self, number: int) -> Tensor:
        file = self._files[number]
        decoded = self._decoder.decode(file.path, file.content, file.frame)
        if decoded.pixels is None:
            gone = RunFailed(
                f"an image cannot be used any more ({decoded.remark}): leave the images alone while a session"
                " runs, and run the command again"
            )
            gone.code = Reason.DATA_CHANGED.value
            raise gone
        return decoded.pixels

    def _keep(self, fresh: dict[int, Tensor]) -> None:
        for number, pixels in fresh.items():
            size_bytes = pixels.numel() * pixels.element_size()
            if size_bytes <= self._room_bytes:
                self._room_bytes -= size_bytes
                self._kept[number] = pixels


def training_images(
    records: Sequence[Record],
    features: FeatureSet,
    backbone: Backbone,
    reading: ReadingOptions = AS_THEY_ARE,
) -> ImageSource:
    """Return the images of a feature set's training records, numbered as the rows of ``features.train``.

    Args:
        records: The list that the features were loaded for.
        features: What `load_features` gave for it.
        backbone: Whose preprocessing.
        reading: How DICOM and NIfTI files are read, as for the features.
    """
    return _images(records, features, backbone, reading, test=False)


def test_images(
    records: Sequence[Record],
    features: FeatureSet,
    backbone: Backbone,
    reading: ReadingOptions = AS_THEY_ARE,  # noqa: PT028 - no test of pytest's
) -> ImageSource:
    """Return the images of a feature set's test records, numbered as the rows of ``features.test``."""
    return _images(records, features, backbone, reading, test=True)


def _images(
    records: Sequence[Record],
    features: FeatureSet,
    backbone: Backbone,
    reading: ReadingOptions,
    *,
    test: bool,
) -> ImageSource:
    if features.record_numbers is None:
        raise ValueError("these features do not say which records they belong to")
    rows = zip(features.record_numbers.tolist(), features.contents, features.is_test.tolist(), strict=True)
    files = [
        ImageFile(records[number].path, content, records[number].frame)
        for number, content, is_test in rows
        if is_test == test
    ]
    return ImageSource(files, backbone, reading=reading)

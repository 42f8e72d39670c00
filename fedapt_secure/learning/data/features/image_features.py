"""Image features, computed once: the image tower never changes, so training needs no image again.

A cache of features is as sensitive as the images: it lies in a folder of its own that only its owner can
read, see `store`. Labels, names and splits are never taken from it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.features.encoding import Encoding, Progress
from fedapt_secure.learning.data.features.marks import ImageFile, MarkedFiles
from fedapt_secure.learning.data.features.merging import Duplicates, Merged, Picture, Shown, merge
from fedapt_secure.learning.data.reading.copies import file_digest
from fedapt_secure.learning.data.reading.decoding import Transform, in_order
from fedapt_secure.learning.data.reading.likeness import alike
from fedapt_secure.learning.data.reading.records import Record, is_test_record

log = logging.getLogger(__name__)

PLAIN: Final = "plain"
"""The view of images as they are."""
PixelDigests = npt.NDArray[np.uint8]
_MAX_WARNINGS: Final = 5


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FeatureSet:
    """What training and evaluation need of an institution's images.

    Rows are in the order of the records, but all for training come before all for tests: so `train` and
    `test` are parts of the same memory, which may be a mapped file.

    Attributes:
        features: (N, D), float32, not normalised, on the CPU; may be a memory map larger than memory.
        labels: Class indices, int64, (N,).
        is_test: Which records are for tests, bool, (N,).
        skipped: Images that could not be used.
        digests: By what each record's image is kept; as sensitive as the images.
        contents: SHA-256 of each record's file, which frames of one file share; as sensitive.
        subjects: Whose image each record is, where the data says so; as sensitive as the images.
        record_numbers: Index of each row's record in the list that was given, int64, (N,).
        pictures: Each row's picture, with all files that show it; empty for other views than the plain one.
        duplicates: How many files are no records of their own.
    """

    features: Tensor
    labels: Tensor
    is_test: Tensor
    skipped: tuple[Skipped, ...] = ()
    digests: tuple[bytes, ...] = field(default=(), repr=False)
    contents: tuple[bytes, ...] = field(default=(), repr=False)
    subjects: tuple[str, ...] | None = field(default=None, repr=False)
    record_numbers: Tensor | None = None
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    duplicates: Duplicates = field(default_factory=Duplicates)

    @property
    def train_pictures(self) -> tuple[Picture, ...]:
        """The picture of each training record."""
        return tuple(one for one, test in zip(self.pictures, self.is_test.tolist(), strict=True) if not test)

    def digests_of(self, *, test: bool) -> tuple[bytes, ...]:
        """Return by what each image held out, or each one for training, is kept."""
        return tuple(
            one for one, held in zip(self.digests, self.is_test.tolist(), strict=True) if held == test
        )

    @property
    def train_subjects(self) -> tuple[str, ...] | None:
        """Whose image each training record is, where the data says so."""
        if self.subjects is None:
            return None
        return tuple(one for one, test in zip(self.subjects, self.is_test.tolist(), strict=True) if not test)

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the training records."""
        return self._part(self.features, test=False), self._part(self.labels, test=False)

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the test records."""
        return self._part(self.features, test=True), self._part(self.labels, test=True)

    def _part(self, values: Tensor, *, test: bool) -> Tensor:
        training = int((~self.is_test).sum())
        if bool(self.is_test[:training].any()):  # another order than `load_features` gives: a copy
            return values[self.is_test == test]
        return values[training:] if test else values[:training]


@dataclass(frozen=True)
class _File:
    """A record that can be read, with its place in the list that was given."""

    record: Record
    image: ImageFile
    number: int
    is_test: bool


def load_features(
    records: Sequence[Record],
    backbone: Backbone,
    cache_folder: Path | None,
    progress: Progress | None = None,
    *,
    view: str = PLAIN,
    transform: Transform | None = None,
    reading: ReadingOptions = AS_THEY_ARE,
) -> FeatureSet:
    """Return the features of labelled images; only those that the cache does not know are encoded.

    Broken images are skipped, with a warning.

    Args:
        records: The images.
        backbone: The frozen CLIP.
        cache_folder: Where features are kept, readable by its owner only; ``None`` keeps none, and holds
            all of them in memory.
        progress: Told after each batch.
        view: Name of what ``transform`` does, under which its features are kept. A transform that is
            changed needs another name.
        transform: Applied to each RGB image before preprocessing. What it draws follows from the image
            file and the view alone.
        reading: How DICOM and NIfTI files are read; features are found again under the same options alone.

    Raises:
        InvalidInput: If no image can be used, or the cache cannot.
    """
    if (view == PLAIN) != (transform is None):
        raise ValueError("a view other than plain has a transform, and the plain one has none")
    files, unreadable = _files(records)
    if not files:
        _warn(unreadable)
        raise InvalidInput(f"none of the {len(records)} images can be read; see the warnings above")
    digests = [file.image.digest for file in files]
    # Other views are made of records that are pictures of their own already.
    marked = MarkedFiles(digests, cache_folder, reading) if view == PLAIN else None
    images = [file.image for file in files]
    encoding = Encoding(images, backbone, cache_folder, view, transform, marked, reading)
    encoding.carry_out(progress)
    encoding.mark_the_others()
    merged = _merged(files, encoding.usable_rows, digests if marked is None else marked.pixels)
    skipped = [
        *unreadable,
        *(Skipped(files[row].record.name, why) for row, why in encoding.unusable),
        *(Skipped(files[row].record.name, why) for row, why in merged.contradictory),
    ]
    _warn(skipped)
    rows = [picture.row for picture in merged.pictures]
    kept = [files[row] for row in rows]
    if not kept:
        raise InvalidInput(f"none of the {len(records)} images can be used; see the warnings above")
    near = 0 if marked is None else int(alike(marked.looks[rows]).sum())
    return FeatureSet(
        features=encoding.features(rows),
        labels=torch.tensor([picture.label for picture in merged.pictures], dtype=torch.int64),
        is_test=torch.tensor([file.is_test for file in kept]),
        # Copies are no images that are lost, and how many there are is nothing for a journal.
        skipped=(*skipped, *(Skipped(files[row].record.name, why) for row, why in merged.copies)),
        digests=tuple(file.image.digest for file in kept),
        contents=tuple(file.image.content for file in kept),
        subjects=_subjects([file.record for file in kept]),
        record_numbers=torch.tensor([file.number for file in kept], dtype=torch.int64),
        pictures=() if marked is None else merged.pictures,
        duplicates=Duplicates(len(merged.copies), len(merged.contradictory), near),
    )


def _merged(files: Sequence[_File], rows: Sequence[int], pixels: Sequence[bytes] | PixelDigests) -> Merged:
    """Return the pictures of the usable files."""
    shown = {
        row: Shown(files[row].record, files[row].image.content, bytes(pixels[row]), files[row].is_test)
        for row in rows
    }
    return merge(shown)


def _files(records: Sequence[Record]) -> tuple[list[_File], list[Skipped]]:
    """Return what can be read, training before tests, and what cannot."""
    files: list[_File] = []
    unreadable: list[Skipped] = []
    # Records of one file, its frames, follow each other: it is read once.
    paths = dict.fromkeys(record.path for record in records)
    found = dict(zip(paths, in_order(file_digest, paths), strict=True))
    digests = [found[record.path] for record in records]
    for number, (record, digest) in enumerate(zip(records, digests, strict=True)):
        if isinstance(digest, str):
            unreadable.append(Skipped(record.name, digest))
        else:
            files.append(
                _File(
                    record,
                    ImageFile(record.path, digest, record.frame),
                    number,
                    is_test_record(record, digest),
                )
            )
    return sorted(files, key=lambda file: file.is_test), unreadable


def _subjects(records: Sequence[Record]) -> tuple[str, ...] | None:
    """Return each record's subject; ``None`` unless all have one."""
    named = [record.subject for record in records if record.subject is not None]
    return tuple(named) if len(named) == len(records) else None


def _warn(skipped: Sequence[Skipped]) -> None:
    for one in skipped[:_MAX_WARNINGS]:
        log.warning("skipped %s: %s", one.name, one.reason)
    if len(skipped) > _MAX_WARNINGS:
        log.warning("skipped %d images in all", len(skipped))

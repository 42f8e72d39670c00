"""Image features, computed once: the image tower never changes, so training needs no image again.

A cache of features is as sensitive as the images: it lies in a folder of its own that only its owner
can read.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.backbone import Backbone
from fedapt_secure.learning.data.images import UnusableImage, open_rgb
from fedapt_secure.learning.data.records import Record, is_test_record

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

_BATCH: Final = 64
_CACHE_VERSION: Final = 1
_MAX_WARNINGS: Final = 5


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class FeatureSet:
    """What training and evaluation need of an institution's images.

    Attributes:
        features: (N, D), float32, not normalised, on the CPU.
        labels: Class indices, int64, (N,).
        is_test: Which records are for tests, bool, (N,).
        skipped: Images that could not be used.
        digests: SHA-256 of each record's file; as sensitive as the images.
        subjects: Whose image each record is, where the data says so; as sensitive as the images.
    """

    features: Tensor
    labels: Tensor
    is_test: Tensor
    skipped: tuple[Skipped, ...] = ()
    digests: tuple[bytes, ...] = field(default=(), repr=False)
    subjects: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def train_digests(self) -> tuple[bytes, ...]:
        """SHA-256 of each training record's file."""
        return tuple(one for one, test in zip(self.digests, self.is_test.tolist(), strict=True) if not test)

    @property
    def test_digests(self) -> tuple[bytes, ...]:
        """SHA-256 of each test record's file."""
        return tuple(one for one, test in zip(self.digests, self.is_test.tolist(), strict=True) if test)

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the training records."""
        return self.features[~self.is_test], self.labels[~self.is_test]

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Features and labels of the test records."""
        return self.features[self.is_test], self.labels[self.is_test]


@dataclass(frozen=True)
class _Read:
    record: Record
    digest: bytes


def load_features(
    records: Sequence[Record],
    backbone: Backbone,
    cache_folder: Path | None,
    progress: Progress | None = None,
) -> FeatureSet:
    """Return the features of labelled images, from the cache where they are there.

    Broken images are skipped, with a warning.

    Args:
        records: The images.
        backbone: The frozen CLIP.
        cache_folder: Where features are kept, readable by its owner only; ``None`` keeps none.
        progress: Told after each batch.

    Raises:
        InvalidInput: If no image can be used, or the cache cannot be written.
    """
    readable, skipped = _digests(records)
    cache = None if cache_folder is None else cache_folder / f"{_cache_key(readable, backbone)}.safetensors"
    stored = None if cache is None else _read_cache(cache, len(readable), backbone.feature_size)
    if stored is None:
        stored = _encode(readable, backbone, progress)
        if cache is not None:
            _write_cache(cache, stored)
    elif progress is not None:
        progress(len(readable), len(readable))
    features, usable = stored
    broken = [entry.record for entry, works in zip(readable, usable.tolist(), strict=True) if not works]
    skipped += [Skipped(record.name, _why_unusable(record)) for record in broken]
    _warn(skipped)
    kept = [entry for entry, works in zip(readable, usable.tolist(), strict=True) if works]
    if not kept:
        raise InvalidInput(f"none of the {len(records)} images can be used; see the warnings above")
    return FeatureSet(
        features=features[usable],
        labels=torch.tensor([entry.record.label for entry in kept], dtype=torch.int64),
        is_test=torch.tensor([is_test_record(entry.record, entry.digest) for entry in kept]),
        skipped=tuple(skipped),
        digests=tuple(entry.digest for entry in kept),
        subjects=_subjects([entry.record for entry in kept]),
    )


def _subjects(records: Sequence[Record]) -> tuple[str, ...] | None:
    """Return each record's subject; ``None`` unless all have one."""
    named = [record.subject for record in records if record.subject is not None]
    return tuple(named) if len(named) == len(records) else None


def _digests(records: Sequence[Record]) -> tuple[list[_Read], list[Skipped]]:
    readable: list[_Read] = []
    skipped: list[Skipped] = []
    for record in records:
        try:
            readable.append(_Read(record, hashlib.sha256(record.path.read_bytes()).digest()))
        except OSError as error:
            skipped.append(Skipped(record.name, error.strerror or "cannot be read"))
    return readable, skipped


def _cache_key(readable: Sequence[_Read], backbone: Backbone) -> str:
    identity = {
        "version": _CACHE_VERSION,
        "model": backbone.name,
        "weights": backbone.weight_hash,
        "preprocessing": backbone.preprocess_hash,
        "files": [(entry.record.name, entry.digest.hex()) for entry in readable],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _encode(
    readable: Sequence[_Read], backbone: Backbone, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Return features (N, D), zero where an image is broken, and which are usable (N,)."""
    features = torch.zeros(len(readable), backbone.feature_size)
    usable = torch.zeros(len(readable), dtype=torch.bool)
    for start in range(0, len(readable), _BATCH):
        positions, pixels = [], []
        for position, entry in enumerate(readable[start : start + _BATCH], start):
            try:
                pixels.append(backbone.preprocess(open_rgb(entry.record.path.read_bytes())))
                positions.append(position)
            except (UnusableImage, OSError):
                continue  # reported by the caller, from ``usable``: so also when they come from the cache
        if pixels:
            encoded = backbone.encode_images(torch.stack(pixels)).cpu()
            features[positions] = encoded
            usable[positions] = encoded.isfinite().all(dim=1)
        if progress is not None:
            progress(min(start + _BATCH, len(readable)), len(readable))
    return features, usable


def _read_cache(path: Path, count: int, feature_size: int) -> tuple[Tensor, Tensor] | None:
    try:
        stored = safetensors.torch.load(path.read_bytes())
        features, usable = stored["features"], stored["usable"].bool()
    except (OSError, KeyError, safetensors.SafetensorError):
        return None  # absent or damaged: computed again and replaced
    fits = features.shape == (count, feature_size) and usable.shape == (count,)
    return (features, usable) if fits else None


def _write_cache(path: Path, stored: tuple[Tensor, Tensor]) -> None:
    features, usable = stored
    content = safetensors.torch.save({"features": features, "usable": usable.to(torch.uint8)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        # mkstemp makes the file with mode 0600; the rename leaves no moment with half a file.
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        raise InvalidInput(f"cannot write the feature cache {path.parent}: {error.strerror}") from error


def _why_unusable(record: Record) -> str:
    try:
        open_rgb(record.path.read_bytes())
    except UnusableImage as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"
    return "its features are not finite"


def _warn(skipped: Sequence[Skipped]) -> None:
    for one in skipped[:_MAX_WARNINGS]:
        log.warning("skipped %s: %s", one.name, one.reason)
    if len(skipped) > _MAX_WARNINGS:
        log.warning("skipped %d images in all", len(skipped))

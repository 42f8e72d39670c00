"""Get the features of image files: those that the store knows from there, the others through the image tower.

What is encoded is kept shard by shard. So work that is stopped, at whatever point, is taken up again where it
ended, and a data set with a thousand new images costs a thousand encodings.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import BoundedSemaphore
from typing import Final

import numpy as np
from torch import Tensor

from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.device import images_at_once
from fedapt_secure.learning.clip.feeding import Feed
from fedapt_secure.learning.data.features.marks import ImageFile, MarkedFiles
from fedapt_secure.learning.data.features.rows import FeatureRows
from fedapt_secure.learning.data.features.shard import DIGEST_BYTES, Shard
from fedapt_secure.learning.data.features.store import FeatureStore, StoreIdentity
from fedapt_secure.learning.data.reading.decoding import (
    MAX_IN_FLIGHT,
    Decoded,
    Decoder,
    Transform,
    in_order,
    thread_count,
)

Progress = Callable[[int, int], None]
"""Called with (images done, images in all); what it raises ends the work, and what is done stays."""

SHARD_IMAGES: Final = 256
"""What a kill costs at most: a minute or two of the largest model on a processor."""
_NOT_FINITE: Final = "its features are not finite"
_at_work = BoundedSemaphore(os.cpu_count() or 1)
"""So many of one process encode at a time: more would only pass the interpreter's lock around."""
_LOOK_S: Final = 0.5


_Batch = Sequence[tuple[ImageFile, Decoded]]


class Encoding:
    """Fills the rows of one list of files.

    Args:
        files: Which; a file may be there twice.
        backbone: The frozen CLIP.
        cache_folder: Where features are kept; ``None`` keeps none.
        view: Name of the transform.
        transform: What is done to each image before preprocessing.
        marked: Told by what the picture of each encoded file is known.
        reading: How DICOM and NIfTI files are read.

    Raises:
        InvalidInput: If the cache cannot be used.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        backbone: Backbone,
        cache_folder: Path | None,
        view: str,
        transform: Transform | None,
        marked: MarkedFiles | None = None,
        reading: ReadingOptions = AS_THEY_ARE,
    ) -> None:
        self._files = files
        self._backbone = backbone
        self._decoder = Decoder(backbone, view, transform, marking=marked is not None, reading=reading)
        self._marked = marked
        self._progress: Progress | None = None
        identity = _identity(backbone, view, reading)
        self._store = None if cache_folder is None else FeatureStore(cache_folder, identity)
        self._rows = FeatureRows(len(files), backbone.feature_size, cache_folder)
        self._usable = np.zeros(len(files), np.bool_)
        self._remarks: dict[int, str] = {}
        self._missing: dict[bytes, list[int]] = defaultdict(list)  # digest to rows
        for row, file in enumerate(files):
            self._missing[file.digest].append(row)

    @property
    def usable_rows(self) -> list[int]:
        """Which files have features."""
        return np.flatnonzero(self._usable).tolist()

    @property
    def unusable(self) -> list[tuple[int, str]]:
        """Which files have none, and why."""
        return [(row, self._remarks[row]) for row in np.flatnonzero(~self._usable).tolist()]

    def features(self, rows: Sequence[int]) -> Tensor:
        """Return the features of some of the `usable_rows`, (N, D); to be called once, at the end."""
        wanted = np.zeros(len(self._files), np.bool_)
        wanted[list(rows)] = True
        return self._rows.only(wanted)

    def carry_out(self, progress: Progress | None = None) -> None:
        """Get all features, from the store first and by encoding the rest.

        Args:
            progress: Told after each batch.

        Raises:
            InvalidInput: If the cache cannot be read or written.
        """
        self._progress = progress
        if self._store is None:
            with self._turn():
                self._encode()
            return
        self._fill_from(self._store)
        if self._missing:
            with self._turn(), self._store.encoding(self._tell):
                self._fill_from(self._store)  # what another process has added while we waited
                self._encode()
        else:
            self._tell()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        while not _at_work.acquire(timeout=_LOOK_S):
            self._tell()  # may raise to give up
        try:
            yield
        finally:
            _at_work.release()

    def _tell(self) -> None:
        if self._progress is not None:
            waiting = sum(len(rows) for rows in self._missing.values())
            self._progress(len(self._files) - waiting, len(self._files))

    def _fill_from(self, store: FeatureStore) -> None:
        for shard in store.unread():
            self._fill(shard)

    def _fill(self, shard: Shard) -> None:
        """Take from a shard what is still missing."""
        rows, sources = [], []
        for source, digest in enumerate(row.tobytes() for row in shard.digests):
            for row in self._missing.pop(digest, ()):
                rows.append(row)
                sources.append(source)
                if not shard.usable[source]:
                    self._remarks[row] = shard.remarks.get(source, "cannot be used")
        if rows:
            self._rows[np.array(rows)] = shard.features[sources]
            self._usable[rows] = shard.usable[sources]

    def _encode(self) -> None:
        """Encode what is missing, and keep it shard by shard."""
        todo = [self._files[rows[0]] for rows in self._missing.values()]
        if not todo:
            self._tell()
        pending: list[Shard] = []
        backbone, size = self._backbone, images_at_once(self._backbone.device)
        feed = Feed(backbone.encode_images, backbone.device, backbone.feature_size)
        decoded = in_order(
            lambda file: self._decoder.decode(file.path, file.content, file.frame),
            todo,
            ahead=max(MAX_IN_FLIGHT, 2 * size),
            threads=thread_count(backbone.device),
        )
        with closing(decoded) as all_:
            batches = ((some, _pixels(some)) for some in _batches(zip(todo, all_, strict=True), size))
            try:
                for batch, features in feed(batches):
                    encoded = self._shard(batch, features)
                    self._fill(encoded)
                    pending.append(encoded)
                    if sum(len(shard) for shard in pending) >= SHARD_IMAGES:
                        self._keep(pending)
                    self._tell()
            finally:
                self._keep(pending)  # also on an interrupt: what is done need not be done again

    def _shard(self, batch: _Batch, found: Tensor) -> Shard:
        """Return what is to be kept of a batch, with the features of its usable images."""
        features = np.zeros((len(batch), self._backbone.feature_size), np.float32)
        features[[row for row, (_, one) in enumerate(batch) if one.pixels is not None]] = found.numpy()
        remarks = {row: one.remark for row, (_, one) in enumerate(batch) if one.pixels is None}
        finite = np.isfinite(features).all(axis=1)
        features[~finite] = 0.0
        remarks |= dict.fromkeys(np.flatnonzero(~finite).tolist(), _NOT_FINITE)
        for file, one in batch:
            if one.marks is not None and self._marked is not None:
                self._marked.note(file.digest, one.marks)
            if not one.lasting:  # not a property of these bytes: not for the cache
                self._give_up(file, one.remark)
        lasting = [row for row, (_, one) in enumerate(batch) if one.lasting]
        digests = np.frombuffer(b"".join(batch[row][0].digest for row in lasting), np.uint8)
        return Shard(
            digests.reshape(len(lasting), DIGEST_BYTES),
            features[lasting],
            np.array([row not in remarks for row in lasting], np.bool_),
            {place: remarks[row] for place, row in enumerate(lasting) if row in remarks},
        )

    def mark_the_others(self) -> None:
        """Decode usable files whose marks are not known yet; the features of some came from the cache."""
        if self._marked is None:
            return
        rows = self._marked.lacking(self.usable_rows)
        decoded = self._marked.find([self._files[row] for row in rows], self._decoder)
        for done, (row, found) in enumerate(zip(rows, decoded, strict=True), 1):
            if found.marks is None:  # what has changed since is not the picture whose features are here
                for same in self._same_as(row):
                    self._usable[same], self._remarks[same] = False, found.remark
            if self._progress is not None and (done % SHARD_IMAGES == 0 or done == len(rows)):
                self._progress(len(self._files) - len(rows) + done, len(self._files))

    def _same_as(self, row: int) -> list[int]:
        digest = self._files[row].digest
        return [number for number, file in enumerate(self._files) if file.digest == digest]

    def _give_up(self, file: ImageFile, reason: str) -> None:
        for row in self._missing.pop(file.digest, ()):
            self._remarks[row] = reason

    def _keep(self, pending: list[Shard]) -> None:
        if self._store is not None and any(len(shard) for shard in pending):
            self._store.add(_joined(pending))
        if self._marked is not None:
            self._marked.keep()
        pending.clear()


def _identity(backbone: Backbone, view: str, reading: ReadingOptions) -> StoreIdentity:
    return StoreIdentity(
        model=backbone.name,
        weights=backbone.weight_hash,
        preprocessing=backbone.preprocess_hash,
        feature_size=backbone.feature_size,
        view=view,
        precision=backbone.precision,
        model_hash=backbone.model_hash,
        reading=reading.identity,
    )


def _joined(shards: Sequence[Shard]) -> Shard:
    remarks: dict[int, str] = {}
    start = 0
    for shard in shards:
        remarks |= {start + row: text for row, text in shard.remarks.items()}
        start += len(shard)
    return Shard(
        np.concatenate([shard.digests for shard in shards]),
        np.concatenate([shard.features for shard in shards]),
        np.concatenate([shard.usable for shard in shards]),
        remarks,
    )


def _pixels(batch: _Batch) -> list[Tensor]:
    return [one.pixels for _, one in batch if one.pixels is not None]


def _batches(items: Iterable[tuple[ImageFile, Decoded]], size: int) -> Iterator[_Batch]:
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch

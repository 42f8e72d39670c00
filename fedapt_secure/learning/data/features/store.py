"""A feature cache on disk: a private folder with one store for each model and view, each of many shards.

    cache/lock                          who encodes at present
    cache/<identity>/about.json         which model and view; its time says when the store was last used
    cache/<identity>/<SHA-256>.safetensors    shards, see `shard`
    cache/marks-2/<SHA-256>.marks       what pictures are known by, see `marks`

Rules: an image is known by its file's bytes, so that other splits, names and labels find its features again;
a shard is written whole or not at all and never changed, so readers need no lock and a kill costs at most the
shard in the making; what cannot be verified is removed and encoded again.
"""

import hashlib
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_crypto.private_files import (
    PRIVATE_FILE_MODE,
    make_private_folder,
    remove_leftovers,
    write_atomically,
)
from fedapt_secure.config.locking import locked
from fedapt_secure.learning.data.features.shard import (
    DamagedShard,
    Shard,
    is_shard,
    read_shard,
    shard_digests,
    write_shard,
)

log = logging.getLogger(__name__)

STORE_VERSION: Final = 3
"""To be raised when the format changes, or when an image file is decoded into other pixels than before."""
ABOUT: Final = "about.json"
LOCK: Final = "lock"
MARKS: Final = "marks-2"
"""Folder of what pictures are known by (`marks`), the same for all models. Its number is to be raised when a
picture is decoded into other pixels than before, or looks are computed in another way."""
_ALL_MARKS: Final = "marks-[0-9]*"
_IDENTITY_DIGITS: Final = 32
_UNNAMED_PRECISION: Final = "float32"  # that of stores made before there was a choice; they keep their names
_LOCK_POLL_S: Final = 0.2
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_MAY_ANYTHING: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class StoreIdentity:
    """What features depend on besides the image file; two stores differ in one of these.

    Attributes:
        model: Name of the model.
        weights: SHA-256 of its weights, hexadecimal.
        preprocessing: SHA-256 of the description of its preprocessing, hexadecimal.
        feature_size: D.
        view: Name of what was done to the image before preprocessing; ``plain`` for nothing.
        version: Of the store.
        precision: What the image tower computed in.
        model_hash: SHA-256 of all that the model's features follow from, hexadecimal; stores that were made
            before it was asked for have none, and match no model.
        reading: How DICOM and NIfTI files were read; empty for the defaults.
    """

    model: str
    weights: str
    preprocessing: str
    feature_size: int
    view: str
    version: int = STORE_VERSION
    precision: str = _UNNAMED_PRECISION
    model_hash: str = ""
    reading: str = ""

    @property
    def folder_name(self) -> str:
        """Name of the store's folder."""
        fields = asdict(self)
        if self.precision == _UNNAMED_PRECISION:
            del fields["precision"]
        if not self.reading:
            del fields["reading"]
        content = json.dumps(fields, sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:_IDENTITY_DIGITS]


def marks_folder(reading: str) -> str:
    """Return the name of the folder of marks of pictures that were read in one way.

    Args:
        reading: What stands for the way in names of files; empty for the defaults.
    """
    return f"{MARKS}-{reading}" if reading else MARKS


class FeatureStore:
    """The features of one model and view.

    Args:
        cache: The cache's folder; made where it is not there.
        identity: Which store.

    Raises:
        InvalidInput: If the folder cannot be used, or others could have changed what is in it.
    """

    def __init__(self, cache: Path, identity: StoreIdentity) -> None:
        self.identity = identity
        self._cache = cache
        self._folder = cache / identity.folder_name
        self._seen: set[str] = set()
        with _explained(cache):
            secure_folder(cache)
            self._make()

    def unread(self) -> Iterator[Shard]:
        """Yield the verified shards that this object has not read or written yet, in the order of names."""
        with _explained(self._cache):
            names = sorted(path.name for path in self._folder.iterdir() if is_shard(path))
        for name in names:
            if name in self._seen:
                continue
            self._seen.add(name)
            shard = self._read(self._folder / name)
            if shard is not None:
                yield shard

    def add(self, shard: Shard) -> None:
        """Keep a shard; raises `InvalidInput` where it cannot be written."""
        with _explained(self._cache):
            self._seen.add(write_shard(self._folder, shard).name)

    @contextmanager
    def encoding(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only process that encodes into this cache, so that no image is encoded twice.

        Args:
            waiting: Called again and again while another process has its turn; may raise to give up.
        """
        with ExitStack() as stack:
            with _explained(self._cache):
                self._wait_for(stack, waiting)
                self._make()  # it may have been cleared while we waited
            yield

    def _wait_for(self, stack: ExitStack, waiting: Callable[[], None]) -> None:
        told = False
        while True:
            try:
                return stack.enter_context(locked(self._cache / LOCK, wait=False))
            except InvalidInput:
                if not told:
                    log.warning("another process fills the feature cache %s: waiting for it", self._cache)
                told = True
            waiting()
            time.sleep(_LOCK_POLL_S)

    def _make(self) -> None:
        make_private_folder(self._folder)
        remove_leftovers(self._folder)
        about = self._folder / ABOUT
        if about.exists():
            os.utime(about)  # last used: now
        else:
            write_atomically(about, (json.dumps(asdict(self.identity), indent=2) + "\n").encode())

    def _read(self, path: Path) -> Shard | None:
        try:
            if stat.S_IMODE(path.stat().st_mode) & _OTHERS_MAY_ANYTHING:
                log.warning("%s could be read by others; it is closed to them now", path)
                path.chmod(PRIVATE_FILE_MODE)
            return read_shard(path, self.identity.feature_size)
        except FileNotFoundError:
            return None  # cleared by somebody else meanwhile
        except (DamagedShard, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning(
                "a part of the feature cache %s is damaged and is made again: %s", self._cache, reason
            )
            path.unlink(missing_ok=True)
            return None


def secure_folder(cache: Path) -> None:
    """Make a cache's folder, or close an existing one to others.

    Raises:
        InvalidInput: If others could have changed features in it: training on them would be theirs to steer.
        OSError: If it cannot be made or is somebody else's.
    """
    if cache.exists():
        mode = stat.S_IMODE(cache.stat().st_mode)
        filled = any(cache.iterdir())
        if filled and mode & _OTHERS_MAY_WRITE:
            raise InvalidInput(
                f"others could change the feature cache {cache}: remove it with 'fedapt-secure cache clear"
                f" --dir {cache}', it is made again"
            )
        if filled and mode & _OTHERS_MAY_ANYTHING:
            log.warning(
                "the feature cache %s could be read by others, and features are as sensitive as images;"
                " it is closed to them now",
                cache,
            )
    make_private_folder(cache)


@dataclass(frozen=True)
class StoreSummary:
    """What ``cache show`` says of a store.

    Attributes:
        path: Its folder.
        identity: Which model and view; ``None`` where that cannot be read.
        images: Number of different images.
        size_bytes: On disk.
        last_used: When a run last asked for features.
    """

    path: Path
    identity: StoreIdentity | None
    images: int
    size_bytes: int
    last_used: datetime


def summaries(cache: Path) -> list[StoreSummary]:
    """Describe the stores of a cache; raises `InvalidInput` if it cannot be read."""
    with _explained(cache):
        return [_summary(path) for path in _store_folders(cache)]


def holds_stores(cache: Path) -> bool:
    """Return whether a folder is a feature cache."""
    with _explained(cache):
        return cache.is_dir() and ((cache / LOCK).exists() or bool(_store_folders(cache)))


def clear(cache: Path, model: str | None = None) -> int:
    """Delete the stores of a model, or of all, and return how many bytes they had.

    Raises:
        InvalidInput: If somebody encodes into the cache at present, or it cannot be deleted.
    """
    with _explained(cache), locked(cache / LOCK, wait=False):
        freed = 0
        for one in summaries(cache):
            if model is None or (one.identity is not None and one.identity.model == model):
                shutil.rmtree(one.path)
                freed += one.size_bytes
        # They say of the images what no features are for any more.
        for marks in sorted(cache.glob(_ALL_MARKS)) if not _store_folders(cache) else ():
            freed += sum(path.stat().st_size for path in marks.iterdir())
            shutil.rmtree(marks)
        for path in cache.iterdir() if model is None else ():
            if is_shard(path):  # earlier versions kept one file a list of images
                freed += path.stat().st_size
                path.unlink()
        return freed


def _store_folders(cache: Path) -> list[Path]:
    if not cache.is_dir():
        return []
    return sorted(path for path in cache.iterdir() if len(path.name) == _IDENTITY_DIGITS and path.is_dir())


def _summary(folder: Path) -> StoreSummary:
    about = folder / ABOUT
    images: set[bytes] = set()
    for path in folder.iterdir():
        if is_shard(path):
            try:
                images.update(row.tobytes() for row in shard_digests(path))
            except (DamagedShard, FileNotFoundError):
                continue  # the next run makes it again
    used = about if about.exists() else folder
    return StoreSummary(
        path=folder,
        identity=_identity(about),
        images=len(images),
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        last_used=datetime.fromtimestamp(used.stat().st_mtime, UTC),
    )


def _identity(about: Path) -> StoreIdentity | None:
    try:
        return StoreIdentity(**json.loads(about.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _explained(cache: Path) -> Iterator[None]:
    """Turn what the file system says into one line that says what to do."""
    try:
        yield
    except OSError as error:
        advice = "make room or give access, or choose another place"
        raise system_error(f"cannot use the feature cache {cache}", error, advice) from None

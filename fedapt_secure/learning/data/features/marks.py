"""The marks of image files, kept beside their features: by a picture's pixels copies of it are known as one.

    cache/marks-2/<SHA-256>.marks     some hundred files' marks each, named after its own content

They follow from the picture alone, so they are the same for every model, and a file whose marks are here is
not decoded again for them. They are as sensitive as the picture, and as private as the features.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from fedapt_crypto.errors import system_error
from fedapt_crypto.private_files import make_private_folder, write_atomically
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.data.features.shard import DIGEST_BYTES
from fedapt_secure.learning.data.features.store import marks_folder
from fedapt_secure.learning.data.reading.decoding import Decoded, Decoder, frame_digest, in_order
from fedapt_secure.learning.data.reading.likeness import Marks

log = logging.getLogger(__name__)

SUFFIX: Final = ".marks"
FILES_AT_ONCE: Final = 256


@dataclass(frozen=True)
class ImageFile:
    """An image file, or one frame of it.

    Attributes:
        path: The file.
        content: SHA-256 of its content; as sensitive as the image.
        frame: Which frame of it, from 0, where each is an image of its own.
    """

    path: Path
    content: bytes = field(repr=False)
    frame: int | None = None

    @property
    def digest(self) -> bytes:
        """By what features and marks of the image are kept; as sensitive as the image."""
        return self.content if self.frame is None else frame_digest(self.content, self.frame)


class MarkedFiles:
    """The marks of a list of files: those that the cache knows, and those that were found since.

    Args:
        digests: By what each file is known, N; a file may be there twice.
        cache_folder: Where marks are kept; ``None`` keeps none.
        reading: How DICOM and NIfTI files are read: other options give other pictures.

    Raises:
        InvalidInput: If the cache cannot be read.
    """

    def __init__(
        self, digests: Sequence[bytes], cache_folder: Path | None, reading: ReadingOptions = AS_THEY_ARE
    ) -> None:
        self._place = {one: place for place, one in enumerate(dict.fromkeys(digests))}
        self._of = np.array([self._place[one] for one in digests], np.int64)
        self._pixels = np.zeros((len(self._place), DIGEST_BYTES), np.uint8)
        self._looks = np.zeros(len(self._place), np.uint64)
        self._known = np.zeros(len(self._place), np.bool_)
        self._new: list[bytes] = []
        self._folder = None if cache_folder is None else cache_folder / marks_folder(reading.digest)
        if self._folder is not None:
            self._read(self._folder)

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """SHA-256 of each file's decoded pixels, (N, 32); zeros where it is not known."""
        return self._pixels[self._of]

    @property
    def looks(self) -> npt.NDArray[np.uint64]:
        """The look of each file's picture, (N,)."""
        return self._looks[self._of]

    def lacking(self, rows: Iterable[int]) -> list[int]:
        """Return those of some files whose marks are not known, each of equal ones once."""
        firsts = {int(self._of[row]): row for row in reversed(list(rows)) if not self._known[self._of[row]]}
        return sorted(firsts.values())

    def note(self, digest: bytes, marks: Marks) -> None:
        """Take note of a file's marks; they are kept with `keep`, or with enough others."""
        self._fill(self._place[digest], marks.pixels, marks.look)
        self._new.append(digest)
        if len(self._new) >= FILES_AT_ONCE:
            self.keep()

    def keep(self) -> None:
        """Write what is not written yet; raises `InvalidInput` where it cannot be."""
        if self._folder is not None and self._new:
            places = [self._place[one] for one in self._new]
            content = safetensors.numpy.save(
                {
                    "digests": _rows(b"".join(self._new)),
                    "pixels": self._pixels[places],
                    "looks": self._looks[places],
                }
            )
            try:
                make_private_folder(self._folder)
                write_atomically(self._folder / f"{hashlib.sha256(content).hexdigest()}{SUFFIX}", content)
            except OSError as error:
                raise _unusable(self._folder, error) from None
        self._new.clear()

    def find(self, files: Sequence[ImageFile], decoder: Decoder) -> Iterator[Decoded]:
        """Decode files for their marks alone, in order, and yield what came of each."""
        try:
            marking = in_order(lambda one: decoder.mark(one.path, one.content, one.frame), files)
            with closing(marking) as found:
                for file, decoded in zip(files, found, strict=True):
                    if decoded.marks is not None:
                        self.note(file.digest, decoded.marks)
                    yield decoded
        finally:
            self.keep()  # also on an interrupt

    def _fill(self, place: int, pixels: bytes, look: int) -> None:
        self._pixels[place] = np.frombuffer(pixels, np.uint8)
        self._looks[place] = look
        self._known[place] = True

    def _read(self, folder: Path) -> None:
        try:
            paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
            for path in paths:
                self._take(path)
        except OSError as error:
            raise _unusable(folder, error) from None

    def _take(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return  # cleared by somebody else meanwhile
        tensors = _verified(path.stem, content)
        if tensors is None:
            log.warning("a part of the feature cache %s is damaged and is made again", path.parent)
            path.unlink(missing_ok=True)
            return
        digests, pixels, looks = tensors
        places = [self._place.get(row.tobytes(), -1) for row in digests]
        rows = [row for row, place in enumerate(places) if place >= 0]
        wanted = [places[row] for row in rows]
        self._pixels[wanted], self._looks[wanted], self._known[wanted] = pixels[rows], looks[rows], True


def _verified(
    name: str, content: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint64]] | None:
    """Return digests, pixels and looks of a file's content; ``None`` where it is not what its name says."""
    if hashlib.sha256(content).hexdigest() != name:
        return None
    try:
        tensors = safetensors.numpy.load(content)
        digests, pixels, looks = tensors["digests"], tensors["pixels"], tensors["looks"]
    except (KeyError, safetensors.SafetensorError):
        return None
    fits = digests.shape == pixels.shape == (looks.size, DIGEST_BYTES) and looks.dtype == np.uint64
    return (digests, pixels, looks) if fits else None


def _rows(digests: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)


def _unusable(folder: Path, error: OSError) -> Exception:
    advice = "make room or give access, or choose another place"
    return system_error(f"cannot use the feature cache {folder.parent}", error, advice)

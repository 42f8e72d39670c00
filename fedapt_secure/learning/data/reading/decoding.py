"""Read and decode image files in several threads, in order, with a bound on what is in memory.

Pillow and the hash release Python's global lock, so threads use all cores. Only so many images are in work or
waiting at a time: a data set of any size decodes in the same memory.
"""

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.device import CPU
from fedapt_secure.learning.data.reading.images import open_rgb, pixels_unpacked
from fedapt_secure.learning.data.reading.likeness import Marks, marks_of
from fedapt_secure.learning.data.reading.unusable import LacksReader, UnusableImage

Transform = Callable[[Image.Image, np.random.Generator], Image.Image]
"""Changes an RGB image before preprocessing. The generator's seed follows from image file and view."""

MAX_THREADS: Final = 8
"""More would only wait for the disk, and take cores from the image tower."""
MAX_THREADS_BESIDE_GPU: Final = 32
"""There the image tower needs no core, and decoding is what one waits for."""
MAX_IN_FLIGHT: Final = 128
"""Images in work or decoded and waiting: at 224 x 224 pixels 77 MB of preprocessed values."""
LARGE_PIXELS: Final = 25_000_000
"""Pictures from here on are decoded one at a time: each may take hundreds of megabytes while it unpacks."""

_initialising = Lock()
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Decoded:
    """What came of one image file.

    Attributes:
        pixels: (3, H, W), preprocessed; ``None`` where it cannot be used.
        remark: Why it cannot be used.
        lasting: Whether that follows from the file's bytes, and not from a disk's bad moment.
        marks: By what the picture is known, where that was asked for.
    """

    pixels: Tensor | None
    remark: str = ""
    lasting: bool = True
    marks: Marks | None = None


def thread_count(device: torch.device = CPU) -> int:
    """Return how many threads decode for an image tower on a device: one a core, up to a bound."""
    return min(os.cpu_count() or 1, MAX_THREADS if device.type == "cpu" else MAX_THREADS_BESIDE_GPU)


def in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    ahead: int = MAX_IN_FLIGHT,
    threads: int | None = None,
) -> Generator[_Result, None, None]:
    """Yield ``work(item)`` for each item, in their order, worked on in threads.

    An exception of ``work`` is raised where its result would have come. Whoever stops early, or is
    interrupted, waits only for what the threads are at.

    Args:
        work: What to do; called from several threads at once.
        items: On what; taken as they are needed.
        ahead: How many may be in work or waiting to be taken.
        threads: How many; by default as many as beside an image tower on the CPU.
    """
    pool = ThreadPoolExecutor(threads or thread_count(), thread_name_prefix="decode")
    waiting: deque[Future[_Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Decoder:
    """Turns image files into what an image tower takes.

    Args:
        backbone: Whose preprocessing.
        view: Name of the transform.
        transform: What is done to the image first; ``None`` for nothing.
        marking: Whether to say by what each picture is known.
        reading: How DICOM and NIfTI files are read.
    """

    def __init__(
        self,
        backbone: Backbone,
        view: str = "",
        transform: Transform | None = None,
        *,
        marking: bool = False,
        reading: ReadingOptions = AS_THEY_ARE,
    ) -> None:
        self._backbone = backbone
        self._reading = reading
        self._marking = marking
        self._view = view
        self._transform = transform
        self._large = Lock()
        with _initialising:
            Image.init()  # Pillow finds its decoders at first use, which threads must not do at once
        # How large a picture may be is for `open_rgb` to say, once and as a reason to skip it.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)

    def decode(self, path: Path, expected: bytes | None = None, frame: int | None = None) -> Decoded:
        """Return the pixels of a file, or why there are none.

        Args:
            path: The file.
            expected: SHA-256 it had before. Features of changed bytes must not be kept under it.
            frame: Which frame of it, from 0, where a file's frames are images of their own.
        """

        def prepared(image: Image.Image, found: bytes) -> Decoded:
            marks = marks_of(image) if self._marking else None
            if self._transform is not None:
                image = self._transform(image, _generator(found, self._view))
            return Decoded(self._backbone.preprocess(image), marks=marks)

        return self._opened(path, expected, frame, prepared)

    def mark(self, path: Path, expected: bytes, frame: int | None = None) -> Decoded:
        """Return by what the picture of a file is known, or why that cannot be said.

        Args:
            path: The file.
            expected: SHA-256 it had before.
            frame: Which frame of it, from 0, where a file's frames are images of their own.
        """
        return self._opened(path, expected, frame, lambda image, _: Decoded(None, marks=marks_of(image)))

    def _opened(
        self,
        path: Path,
        expected: bytes | None,
        frame: int | None,
        use: Callable[[Image.Image, bytes], Decoded],
    ) -> Decoded:
        try:
            data = path.read_bytes()
        except OSError as error:
            return Decoded(None, error.strerror or "cannot be read", lasting=False)
        found = hashlib.sha256(data).digest()
        if expected is not None and found != expected:
            return Decoded(None, "changed while it was read", lasting=False)
        with self._large if pixels_unpacked(data) >= LARGE_PIXELS else nullcontext():
            try:
                image = open_rgb(data, self._reading, frame)
            except UnusableImage as error:
                return Decoded(None, str(error), lasting=not isinstance(error, LacksReader))
            except MemoryError:
                return Decoded(None, "needs more memory than there is", lasting=False)
            return use(image, found if frame is None else frame_digest(found, frame))


def frame_digest(digest: bytes, frame: int) -> bytes:
    """Return by what one frame of a file is known, from the file's SHA-256 and the frame's number from 0."""
    return hashlib.sha256(b"fedapt frame of a file/1" + digest + frame.to_bytes(4, "big")).digest()


def _generator(digest: bytes, view: str) -> np.random.Generator:
    seed = hashlib.sha256(b"view of an image" + digest + view.encode()).digest()
    return np.random.default_rng(int.from_bytes(seed, "big"))

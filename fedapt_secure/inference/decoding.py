"""Images of any origin, decoded by threads and handed over in batches, so that memory stays bounded."""

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from PIL import Image
from torch import Tensor

from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.data.reading.decoding import thread_count
from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.medical.headers import read_header
from fedapt_secure.learning.data.reading.medical.kinds import FIRST_BYTES, is_bare_dicom, is_dicom
from fedapt_secure.learning.data.reading.unusable import UnusableImage


@dataclass(frozen=True)
class Frame:
    """One frame of a DICOM file.

    Attributes:
        path: The file.
        number: Which frame, from 0.
    """

    path: str | os.PathLike[str]
    number: int

    @property
    def name(self) -> str:
        """What it is called in answers."""
        return f"{os.fspath(self.path)} (frame {self.number + 1})"


ImageInput = str | os.PathLike[str] | bytes | Image.Image | Frame
"""A file's path, a file's bytes, an image that Pillow has opened, or one frame of a file."""

_BATCHES_AHEAD: Final = 1  # one is decoded while the tower works on the one before


@dataclass(frozen=True)
class Decoded:
    """One image, or why there is none.

    Attributes:
        name: Its path; ``""`` where it came without one.
        pixels: Preprocessed, (3, H, W); ``None`` where the image cannot be used.
        skipped: Why it cannot be used.
    """

    name: str
    pixels: Tensor | None
    skipped: str | None = None


def decode(image: ImageInput, backbone: Backbone, reading: ReadingOptions = AS_THEY_ARE) -> Decoded:
    """Return an image as the backbone's image tower expects it; what cannot be used is no error.

    Args:
        image: The image.
        backbone: Whose preprocessing.
        reading: How DICOM and NIfTI files are read.
    """
    number = None
    if isinstance(image, Frame):
        name, number, image = image.name, image.number, image.path
    else:
        name = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
    try:
        return Decoded(name, backbone.preprocess(open_rgb(_file_bytes(image), reading, number)))
    except UnusableImage as error:
        return Decoded(name, None, str(error))
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        return Decoded(name, None, getattr(error, "strerror", None) or "cannot be read")


def frames_of(path: Path) -> list[ImageInput]:
    """Return each frame of a DICOM file as an image; the file itself where it is none, or has one."""
    try:
        with path.open("rb") as file:
            first = file.read(FIRST_BYTES)
            if not (is_dicom(first) or is_bare_dicom(first)):
                return [path]
            count = read_header(first + file.read()).frames
    except (UnusableImage, OSError):
        return [path]  # that it cannot be used is said when it is opened
    return [path] if count == 1 else [Frame(path, number) for number in range(count)]


def decoded_batches(
    images: Iterable[ImageInput],
    backbone: Backbone,
    batch_size: int,
    reading: ReadingOptions = AS_THEY_ARE,
) -> Iterator[list[Decoded]]:
    """Yield the images in order, decoded, up to ``batch_size`` at a time.

    Args:
        images: Any number of them; they are taken as they are needed.
        backbone: Whose preprocessing to apply.
        batch_size: At least 1.
        reading: How DICOM and NIfTI files are read.
    """
    source = iter(images)
    pool = ThreadPoolExecutor(thread_count(backbone.device), "decode")
    ahead: deque[list[Future[Decoded]]] = deque()
    try:
        while batch := list(islice(source, batch_size)):
            ahead.append([pool.submit(decode, image, backbone, reading) for image in batch])
            if len(ahead) > _BATCHES_AHEAD:
                yield [one.result() for one in ahead.popleft()]
        while ahead:
            yield [one.result() for one in ahead.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _file_bytes(image: str | os.PathLike[str] | bytes | Image.Image) -> bytes:
    """Return a file's content: one way for all, so that colours and rotation are treated alike."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    content = io.BytesIO()
    plain = image.convert("RGBA") if "transparency" in image.info else image
    try:
        plain.save(content, "TIFF", exif=image.getexif())  # uncompressed, keeps all modes that photos have
    except (OSError, KeyError, ValueError) as error:
        raise UnusableImage(f"the colour mode {image.mode} is not known here: convert it to RGB") from error
    return content.getvalue()

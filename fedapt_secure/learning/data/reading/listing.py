"""What a source says of its images before they are numbered or opened: files in class folders, by name.

Only of files without a suffix the first bytes are read: DICOM files often have none.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput, Unavailable, system_error
from fedapt_secure.learning.data.reading.medical.kinds import FIRST_BYTES, is_bare_dicom, is_dicom

DICOM_SUFFIXES: Final = frozenset({".dcm", ".dicom", ".dic"})
IMAGE_SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"}
    | {".jp2", ".j2k", ".jpx", ".jpf", ".nii", ".nii.gz"}
    | DICOM_SUFFIXES
)
EXPECTED: Final = f"one of the suffixes {' '.join(sorted(IMAGE_SUFFIXES))}, or DICOM without a suffix"
"""For messages about a place where no image is."""
_GZIP: Final = ".gz"
LITTER_NAMES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "__macosx"})
"""What systems leave in folders, in lower case: nobody's images, and no class."""
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Listed:
    """One image as its source names it.

    Attributes:
        path: The file.
        class_name: Its class; empty where its source does not say, as sessions without labels allow.
        name: How the folder or manifest calls the file; POSIX, relative where the source is.
        domain: Its domain, where the source says so.
        split: What it is for, where the source says so.
        subject: Whose image it is, where the source says so; as sensitive as the image.
        frame: Which frame of the file it is, from 0, where each is an image of its own.
    """

    path: Path
    class_name: str
    name: str
    domain: str | None = None
    split: Split | None = None
    subject: str | None = field(default=None, repr=False)
    frame: int | None = None


@dataclass(frozen=True)
class LeftOut:
    """Something that is not used as an image, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What was found below a folder, in a fixed order."""

    images: tuple[Listed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def list_folders(source: Path) -> list[Path]:
    """Return the visible subfolders of a folder, sorted by name.

    Raises:
        InvalidInput: If the folder cannot be read.
    """
    try:
        return sorted(path for path in source.iterdir() if path.is_dir() and not _hidden(path.name))
    except OSError as error:
        raise unreadable(source, error) from error


def list_class_folders(source: Path, prefix: str = "", domain: str | None = None) -> Listing:
    """List a folder ``class/image``; of files without a suffix the first bytes are read, of others nothing.

    What is called like an image and is no file is left out with the reason: opening a pipe would wait for
    ever, and a link may lead in a circle.

    Args:
        source: The folder.
        prefix: Stands before each image's name.
        domain: The domain of all of it.

    Raises:
        InvalidInput: If a folder cannot be read.
    """
    images: list[Listed] = []
    left_out: list[LeftOut] = []
    for folder in list_folders(source):
        found = _list_images(folder, f"{prefix}{folder.name}/", folder.name, domain)
        images += found.images
        left_out += found.left_out
    return Listing(tuple(images), tuple(left_out))


def list_loose_images(source: Path) -> Listing:
    """List the images that lie directly in a folder, in no class; raises `InvalidInput` as the others do."""
    return _list_images(source, "", "", None)


def _list_images(folder: Path, prefix: str, class_name: str, domain: str | None) -> Listing:
    images: list[Listed] = []
    left_out: list[LeftOut] = []
    for path in _visible_images(folder):
        name = f"{prefix}{path.name}"
        reason = why_no_file(path)
        if reason is None:
            images.append(Listed(path, class_name, name, domain))
        else:
            left_out.append(LeftOut(name, reason))
    return Listing(tuple(images), tuple(left_out))


def unreadable(source: Path, error: OSError) -> InvalidInput | Unavailable:
    """Return the one line about a source that the system does not let us read."""
    return system_error(f"cannot read the images of {source}", error)


def _visible_images(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names alone, there may be many
    except OSError as error:
        raise unreadable(folder, error) from error
    return (path for one in names if not _hidden(one) and called_like_an_image(path := folder / one))


def called_like_an_image(path: Path) -> bool:
    """Return whether a file is to be opened as an image: by its suffix, or as DICOM where it has none."""
    suffix = suffix_of(path.name)
    if suffix:
        return suffix in IMAGE_SUFFIXES
    if why_no_file(path) is not None:
        return False
    try:
        with path.open("rb") as file:
            first = file.read(FIRST_BYTES)
    except OSError:
        return False
    return is_dicom(first) or is_bare_dicom(first)


def suffix_of(name: str) -> str:
    """Return a file's suffix in lower case; empty also where it is a number, as in names made of UIDs."""
    parts = Path(name.lower()).suffixes[-2:]
    last = parts[-1] if parts else ""
    if last[1:].isdigit():
        return ""
    return "".join(parts) if last == _GZIP and "".join(parts) in IMAGE_SUFFIXES else last


def why_no_file(path: Path) -> str | None:
    """Return why something cannot be opened as a file; ``None`` where it can: a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return (error.strerror or "cannot be read").lower()
    if stat.S_ISREG(mode):
        return None
    return "a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER_NAMES

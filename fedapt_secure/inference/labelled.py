"""Which labelled images to evaluate on, by domain: what is on disk, and which part of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.data.reading.listing import LeftOut, list_folders
from fedapt_secure.learning.data.reading.manifest import is_manifest
from fedapt_secure.learning.data.reading.records import Record, is_test_record, read_records
from fedapt_secure.learning.data.reading.unused import unused_files

Split = Literal["test", "train", "all"]
SPLITS: Final = ("test", "train", "all")
ALL_IMAGES: Final = "all images"
"""Name of the one group where the data say no domain."""


@dataclass(frozen=True)
class Labelled:
    """Labelled images.

    Attributes:
        by_domain: Records by domain, in the order of names.
        knows_domains: Whether the data say domains.
        unreadable: Name and reason of files that could not be read.
        unused: Every file in the folders that is not listed as an image, and why.
    """

    by_domain: dict[str, tuple[Record, ...]]
    knows_domains: bool
    unreadable: tuple[tuple[str, str], ...] = ()
    unused: tuple[LeftOut, ...] = ()


def read_labelled(
    data: Path, class_names: Sequence[str], split: str, reading: ReadingOptions = AS_THEY_ARE
) -> Labelled:
    """List the images of ``domain/class/image``, ``class/image`` or a manifest.

    Args:
        data: Folder, or CSV manifest.
        class_names: The model's classes; others are refused.
        split: ``test`` for the part that institutions hold out of training, ``train`` or ``all``.
        reading: Whether each frame of a DICOM file is an image.

    Raises:
        InvalidInput: If the data cannot be read, hold no image of the split, or have an unknown class.
    """
    if split not in SPLITS:
        raise InvalidInput(f"--split is test, train or all, not {split}")
    domains = _domain_folders(data)
    sources = {folder.name: folder for folder in domains} or {ALL_IMAGES: data}
    unreadable: list[tuple[str, str]] = []
    unused: list[LeftOut] = []
    by_domain = {}
    for name, source in sources.items():
        read = read_records(source, class_names, reading)
        found = read.records
        prefix = f"{source.name}/" if domains else ""
        unused += [
            LeftOut(f"{prefix}{one.name}", one.reason)
            for one in (read.left_out if is_manifest(source) else unused_files(source, read))
        ]
        chosen = found if split == "all" else _part(found, split == "test", unreadable)
        if chosen:
            by_domain[name] = tuple(chosen)
    if not by_domain:
        raise InvalidInput(f"{data} holds no image for {split} that can be read; --split all takes every one")
    return Labelled(by_domain, bool(domains), tuple(unreadable), tuple(unused))


def _domain_folders(data: Path) -> list[Path]:
    """Return the folders of ``domain/class/image``; none where it is ``class/image`` or a manifest."""
    try:
        folders = list_folders(data) if data.is_dir() else []
        return [folder for folder in folders if list_folders(folder)]
    except OSError as error:
        raise system_error(f"cannot read the images of {data}", error) from None


def _part(records: Sequence[Record], for_tests: bool, unreadable: list[tuple[str, str]]) -> list[Record]:
    chosen = []
    for record in records:
        try:
            digest = hashlib.sha256(record.path.read_bytes()).digest()
        except OSError as error:
            unreadable.append((str(record.path), error.strerror or "cannot be read"))
            continue
        if is_test_record(record, digest) == for_tests:
            chosen.append(record)
    return chosen

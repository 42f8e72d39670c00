"""Which labelled images an institution has: a folder a class, or a CSV manifest; and which are for tests."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fedapt_crypto.errors import InvalidInput

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
TEST_SHARE: Final = 0.25
"""Expected share of the images kept for tests."""
MANIFEST_HEADER: Final = ("path", "label")


@dataclass(frozen=True)
class Record:
    """One labelled image.

    Attributes:
        path: The image file.
        label: Index of its class.
        name: How the folder or manifest calls the file; POSIX, relative where the source is.
        split: What the source says it is for; ``None`` where it does not say.
        subject: Whose image it is, where the source says so; as sensitive as the image.
    """

    path: Path
    label: int
    name: str
    split: Literal["train", "test"] | None = None
    subject: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RecordSet:
    """All labelled images of one source.

    Attributes:
        class_names: What the labels mean, sorted unless the caller gave an order.
        records: The images, in a fixed order.
    """

    class_names: tuple[str, ...]
    records: tuple[Record, ...]


def read_records(source: Path, class_names: Sequence[str] | None = None) -> RecordSet:
    """List the labelled images of a folder or manifest; opens none of them.

    Args:
        source: A folder ``class/image``, or a CSV file with the header ``path,label`` whose paths are
            absolute or relative to the file's folder.
        class_names: The session's classes in order. Not each has to occur. By default those that occur.

    Raises:
        InvalidInput: If the source cannot be read, holds no image, or has a class that is not expected.
    """
    try:
        named = _read_manifest(source) if source.suffix.lower() == ".csv" else _read_folder(source)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a readable manifest"
        raise InvalidInput(f"cannot read the images of {source}: {reason}") from error
    if not named:
        raise InvalidInput(
            f"there is no image in {source}: expected {source.name}/CLASS/IMAGE with one of the suffixes"
            f" {' '.join(sorted(IMAGE_SUFFIXES))}, or a manifest with the header path,label"
        )
    names = tuple(class_names) if class_names is not None else tuple(sorted({entry[0] for entry in named}))
    unknown = sorted({class_name for class_name, _, _ in named} - set(names))
    if unknown:
        raise InvalidInput(f"unknown class {unknown[0]!r} in {source}; the classes are {', '.join(names)}")
    index = {name: position for position, name in enumerate(names)}
    return RecordSet(names, tuple(Record(path, index[label], name) for label, path, name in named))


def _read_folder(source: Path) -> list[tuple[str, Path, str]]:
    return [
        (folder.name, path, f"{folder.name}/{path.name}")
        for folder in list_folders(source)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def list_folders(source: Path) -> list[Path]:
    """Return the visible subfolders of a folder, sorted by name."""
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_manifest(source: Path) -> list[tuple[str, Path, str]]:
    with source.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file, strict=True)
        if tuple(next(rows, ())) != MANIFEST_HEADER:
            raise InvalidInput(f"the manifest {source} must begin with the line {','.join(MANIFEST_HEADER)}")
        named = []
        for row in rows:
            if not row:
                continue
            if len(row) != len(MANIFEST_HEADER) or not all(row):
                raise InvalidInput(f"line {rows.line_num} of the manifest {source} is not PATH,LABEL")
            named.append((row[1], source.parent / row[0], row[0]))
    return named


def write_manifest(path: Path, labelled: Sequence[tuple[Path, str]]) -> None:
    """Write a CSV manifest of (image path, class name) pairs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(MANIFEST_HEADER)
        writer.writerows((str(image), label) for image, label in labelled)


def is_test(image_bytes: bytes, test_share: float = TEST_SHARE) -> bool:
    """Return whether an image is for tests, from its file's bytes alone.

    Labels, names and other images play no role, so one record's presence moves no other record: the
    privacy guarantee rests on that.
    """
    return is_test_digest(hashlib.sha256(image_bytes).digest(), test_share)


def is_test_digest(digest: bytes, test_share: float = TEST_SHARE) -> bool:
    """Return `is_test` for the SHA-256 digest of an image file."""
    return int.from_bytes(digest[:8], "big") < test_share * 2**64


def is_test_record(record: Record, digest: bytes, test_share: float = TEST_SHARE) -> bool:
    """Return whether a record is for tests: as its source says, else by its subject, else by its file.

    A subject's images are all on one side: otherwise a test would ask about people the model was tuned on.

    Args:
        record: The record.
        digest: SHA-256 of its file.
        test_share: Expected share kept for tests, where the source does not say.
    """
    if record.split is not None:
        return record.split == "test"
    if record.subject is not None:
        return is_test(record.subject.encode(), test_share)
    return is_test_digest(digest, test_share)

"""Which labelled images an institution has: a folder a class, or a CSV manifest; and which are for tests."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions
from fedapt_secure.learning.data.reading.classes import check_apart, class_numbers
from fedapt_secure.learning.data.reading.inside import look_inside
from fedapt_secure.learning.data.reading.listing import (
    EXPECTED,
    LeftOut,
    Listed,
    Listing,
    Split,
    list_class_folders,
    list_loose_images,
)
from fedapt_secure.learning.data.reading.manifest import is_manifest, read_manifest
from fedapt_secure.learning.data.reading.medical.people import PatientKey
from fedapt_secure.protocol.reasons import Reason, told_as

UNLABELLED: Final = -1
"""Label of a record that has none."""
TEST_SHARE: Final = 0.25
"""Expected share of the images kept for tests."""


@dataclass(frozen=True)
class Record:
    """One labelled image.

    Attributes:
        path: The image file.
        label: Index of its class; `UNLABELLED` where the source does not say.
        name: How the folder or manifest calls the file; POSIX, relative where the source is.
        split: What the source says it is for; ``None`` where it does not say.
        subject: Whose image it is, where the source says so; as sensitive as the image.
        frame: Which frame of the file it is, from 0, where each is an image of its own.
    """

    path: Path
    label: int
    name: str
    split: Split | None = None
    subject: str | None = field(default=None, repr=False)
    frame: int | None = None


@dataclass(frozen=True)
class RecordSet:
    """All labelled images of one source.

    Attributes:
        class_names: What the labels mean, sorted unless the caller gave an order.
        records: The images, in a fixed order.
        left_out: What is called like an image and is none that can be used, as far as that is known.
    """

    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...] = ()


def read_records(
    source: Path,
    class_names: Sequence[str] | None = None,
    reading: ReadingOptions = AS_THEY_ARE,
    people: PatientKey | None = None,
) -> RecordSet:
    """List the labelled images of one institution; opens none of them but for frames and subjects.

    Args:
        source: A folder ``class/image``, or a manifest (`fedapt_secure.learning.data.reading.manifest`).
        class_names: The session's classes in order. Not each has to occur. By default those that occur.
        reading: Whether each frame of a DICOM file is an image.
        people: Makes subjects out of the PatientIDs of DICOM files; ``None`` leaves that to a manifest.

    Raises:
        InvalidInput: If the source cannot be read, holds no image or several domains, or has a class that
            is not expected, or one under two names.
    """
    listing = Listing(_one_domain(source)) if is_manifest(source) else list_class_folders(source)
    if not listing.images:
        raise InvalidInput(
            f"there is no image in {source}: expected {source.name}/CLASS/IMAGE with {EXPECTED}, or a"
            " manifest with the columns path,label"
        )
    return _record_set(source, _inside(source, listing, reading, people), class_names)


def read_unlabelled(
    source: Path,
    class_names: Sequence[str] | None = None,
    reading: ReadingOptions = AS_THEY_ARE,
    people: PatientKey | None = None,
) -> RecordSet:
    """List an institution's images for a session without labels; opens none but for frames and subjects.

    Labels that are there are for tests alone. Images may lie directly in the folder, in class folders, or
    both; a manifest may do without the column ``label``, or leave it empty.

    Args:
        source: A folder, or a manifest.
        class_names: The session's classes in order; by default those that occur.
        reading: Whether each frame of a DICOM file is an image.
        people: Makes subjects out of the PatientIDs of DICOM files; ``None`` leaves that to a manifest.

    Raises:
        InvalidInput: If the source cannot be read, holds no image or several domains, or says a class that
            is not expected.
    """
    if is_manifest(source):
        listing = Listing(_one_domain(source, labelled=False))
    else:
        loose, classes = list_loose_images(source), list_class_folders(source)
        listing = Listing(loose.images + classes.images, loose.left_out + classes.left_out)
    if not listing.images:
        raise InvalidInput(
            f"there is no image in {source}: expected files with {EXPECTED}, or a manifest with the column"
            " path"
        )
    listing = _inside(source, listing, reading, people)
    try:
        return _record_set(source, listing, class_names)
    except InvalidInput as error:
        with told_as(Reason.CLASSES_DIFFER):
            raise InvalidInput(f"{error}, or put images without a label directly into the folder") from None


def _inside(source: Path, listing: Listing, reading: ReadingOptions, people: PatientKey | None) -> Listing:
    if people is not None and any(one.subject is not None for one in listing.images):
        with told_as(Reason.MANIFEST_INVALID):
            raise InvalidInput(
                f"the manifest {source} has a column subject, and subjects are to come from DICOM headers:"
                " choose one of the two"
            )
    found = look_inside(listing, reading, people)
    if not found.images:
        raise InvalidInput(
            f"none of the {len(listing.images)} images of {source} can be used; the first,"
            f" {found.left_out[0].name}: {found.left_out[0].reason}"
        )
    return found


def _record_set(source: Path, listing: Listing, class_names: Sequence[str] | None) -> RecordSet:
    found = {image.class_name for image in listing.images} - {""}
    with told_as(Reason.CLASSES_DIFFER):
        if class_names is None:
            check_apart(found, source)
        names = tuple(sorted(found)) if class_names is None else tuple(class_names)
        return RecordSet(names, numbered(listing.images, names, source), listing.left_out)


def numbered(images: Sequence[Listed], class_names: Sequence[str], where: object) -> tuple[Record, ...]:
    """Return images as records, labelled with their class's position in ``class_names``.

    Args:
        images: What was listed.
        class_names: The classes in order; names are matched as `class_numbers` has it.
        where: Where the images are from, for messages.

    Raises:
        InvalidInput: If a name is of no class, or two are of one.
    """
    found = {one.class_name for one in images} - {""}
    index = {**class_numbers(class_names, found, where), "": UNLABELLED}
    return tuple(
        Record(one.path, index[one.class_name], one.name, one.split, one.subject, one.frame) for one in images
    )


def _one_domain(source: Path, *, labelled: bool = True) -> tuple[Listed, ...]:
    with told_as(Reason.MANIFEST_INVALID):
        images = read_manifest(source, labelled=labelled)
        domains = sorted({one.domain for one in images if one.domain is not None})
        if len(domains) > 1:
            raise InvalidInput(
                f"the manifest {source} names {len(domains)} domains ({domains[0]!r}, {domains[1]!r}, ...)"
                " and an institution holds one: keep the lines of its own, or leave the column domain out"
            )
        return images


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

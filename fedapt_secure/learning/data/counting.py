"""How many images, and of how many persons, train: counted from files and lists, before any image is decoded.

Pictures that only decode alike are one record in a session and two here, so these are upper bounds.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fedapt_secure.learning.data.reading.decoding import frame_digest
from fedapt_secure.learning.data.reading.records import Record, is_test_record

_NO_TEST: Final = b"\xff" * 32
"""A digest by which no file is for tests."""


@dataclass(frozen=True)
class TrainingCount:
    """How much there is to train on.

    Attributes:
        images: How many images, at most.
        persons: Of how many persons; ``None`` where the source does not say whose the images are.
    """

    images: int
    persons: int | None


def count_training(records: Iterable[Record]) -> TrainingCount:
    """Count training images by reading their files; equal files count once, one that cannot be read never."""
    images, persons = set[bytes](), set[str]()
    named = False
    for record in records:
        named = named or record.subject is not None
        try:
            digest = hashlib.sha256(record.path.read_bytes()).digest()
        except OSError:
            continue  # named by whoever reads the images
        if not is_test_record(record, digest):
            images.add(digest if record.frame is None else frame_digest(digest, record.frame))
            persons |= set() if record.subject is None else {record.subject}
    return TrainingCount(len(images), len(persons) if named else None)


def most_training(records: Iterable[Record]) -> TrainingCount:
    """Count what may train, without opening a file: all but what its source or subject keeps for tests."""
    listed = list(records)
    training = [one for one in listed if not is_test_record(one, _NO_TEST)]
    named = any(one.subject is not None for one in listed)
    persons = {one.subject for one in training if one.subject is not None}
    return TrainingCount(len(training), len(persons) if named else None)

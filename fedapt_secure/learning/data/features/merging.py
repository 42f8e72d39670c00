"""Copies of one picture are one record: they would be one unit of privacy that counts several times.

Privacy per image is promised for a picture with all files that show it. So what becomes of them follows from
these files alone: they are one record together, or none. Whatever the other pictures are plays no part.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.records import UNLABELLED, Record
from fedapt_secure.protocol.reasons import Reason, told_as


@dataclass(frozen=True)
class Duplicates:
    """How many files are not records of their own; as sensitive as the images, and for their owner's eyes.

    Attributes:
        merged: Files that are one record with another file, which has the same bytes or the same pixels.
        contradictory: Files of one picture in several classes: none of them is used.
        alike: Records whose picture looks like that of another record, and is not the same.
    """

    merged: int = 0
    contradictory: int = 0
    alike: int = 0

    def in_words(self) -> tuple[str, ...]:
        """Return a sentence for each that is not nought, for the owner's people."""
        said = (
            (self.merged, "are copies of another picture here, and merged with it: each picture counts once"),
            (self.contradictory, "show a picture that is in several classes: none of them is used"),
            (self.alike, "look like another one: if both show one picture, it counts twice; leave one out"),
        )
        return tuple(f"{count} image files {what}" for count, what in said if count)


@dataclass(frozen=True)
class Shown:
    """A file that can be used.

    Attributes:
        record: What its source says.
        digest: SHA-256 of its bytes.
        pixels: SHA-256 of its decoded pixels.
        is_test: Whether it would be for tests, if it were by itself.
    """

    record: Record
    digest: bytes = field(repr=False)
    pixels: bytes = field(repr=False)
    is_test: bool


@dataclass(frozen=True)
class Picture:
    """One picture, which is one record.

    Attributes:
        row: Which of the files stands for it.
        label: Its class.
        files: SHA-256 of each file that shows it.
        pixels: SHA-256 of its decoded pixels.
    """

    row: int
    label: int
    files: tuple[bytes, ...] = field(repr=False)
    pixels: bytes = field(repr=False)


@dataclass(frozen=True)
class Merged:
    """What files show.

    Attributes:
        pictures: Each picture once, in the order of the files that stand for them.
        copies: Files that are one record with another, and with which: (file, why).
        contradictory: Files that are not used because of each other: (file, why).
    """

    pictures: tuple[Picture, ...]
    copies: tuple[tuple[int, str], ...]
    contradictory: tuple[tuple[int, str], ...]


def merge(files: Mapping[int, Shown]) -> Merged:
    """Return the pictures that files show.

    Of a picture's files one stands for it: one for tests where the source says so of any, else one for
    training where it says so, and of these the one whose digest is the smallest. So no picture is on both
    sides, and what a file is called decides nothing.

    Args:
        files: The files by their rows.

    Raises:
        InvalidInput: If a picture is of two subjects. Privacy per person cannot be had then: whichever of
            them is left out, the picture would still be there for the other one's sake.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row, one in files.items():
        groups[one.pixels].append(row)
    pictures: list[Picture] = []
    copies: list[tuple[int, str]] = []
    contradictory: list[tuple[int, str]] = []
    for pixels, rows in groups.items():
        _check_subjects([files[row].record for row in rows])
        labels = {files[row].record.label for row in rows} - {UNLABELLED}
        if len(labels) > 1:
            contradictory += _contradictions(files, rows)
            continue
        chosen = min(rows, key=lambda row: (_rank(files[row].record), files[row].digest, row))
        digests = tuple(sorted({files[row].digest for row in rows}))
        pictures.append(Picture(chosen, min(labels, default=UNLABELLED), digests, pixels))
        copies += [(row, _copy_of(files[row], files[chosen])) for row in rows if row != chosen]
    return Merged(
        tuple(sorted(pictures, key=lambda one: one.row)), tuple(sorted(copies)), tuple(sorted(contradictory))
    )


def _rank(record: Record) -> int:
    return {"test": 0, "train": 1, None: 2}[record.split]


def _copy_of(one: Shown, other: Shown) -> str:
    same = "file" if one.digest == other.digest else "picture"
    return f"duplicate: the same {same} as {other.record.name}"


def _contradictions(files: Mapping[int, Shown], rows: Sequence[int]) -> Iterator[tuple[int, str]]:
    for row in rows:
        other = next(
            one for one in rows if files[one].record.label not in {files[row].record.label, UNLABELLED}
        )
        yield row, f"contradictory: the same picture as {files[other].record.name}, which is in another class"


def _check_subjects(records: Sequence[Record]) -> None:
    first = records[0]
    other = next((one for one in records if one.subject != first.subject), None)
    if other is None:
        return
    with told_as(Reason.MANIFEST_INVALID):
        raise InvalidInput(
            f"{first.name} and {other.name} are the same picture and have different subjects, so that neither"
            " person can be protected by leaving out their images: give both the same subject, or leave the"
            " picture out"
        )

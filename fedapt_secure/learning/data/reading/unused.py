"""Every file that a session would not use, and why: people see it before the session, and not after."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.listing import (
    IMAGE_SUFFIXES,
    LITTER_NAMES,
    LeftOut,
    called_like_an_image,
    suffix_of,
    unreadable,
    why_no_file,
)
from fedapt_secure.learning.data.reading.manifest import is_manifest
from fedapt_secure.learning.data.reading.records import Record, RecordSet
from fedapt_secure.protocol.reasons import Reason, told_as

WORTH_A_WARNING: Final = 0.01
"""From this share of unused files on a warning is due."""
MAX_UNUSED: Final = 0.2
"""The share of unused files from which on the images are refused, where nobody has said another."""
LITTER: Final = "left by a system"
"""How the reason begins why a file counts neither as used nor as unused."""
_HIDDEN: Final = "hidden: its name, or its folder's, begins with a dot"
_DUPLICATE: Final = "duplicate:"
_MOST_REASONS: Final = 3


@dataclass(frozen=True)
class Usage:
    """How much of a source is used.

    Attributes:
        used: How many files, or frames of files.
        unused: How many files are not, by reason, the most frequent first.
        litter: How many files count as neither: hidden ones, and what systems leave.
    """

    used: int
    unused: tuple[tuple[str, int], ...] = ()
    litter: int = 0

    @property
    def unused_files(self) -> int:
        """How many files are not used."""
        return sum(count for _, count in self.unused)

    @property
    def share(self) -> float:
        """Share of the files that are not used."""
        return self.unused_files / max(1, self.used + self.unused_files)

    def in_words(self) -> str:
        """Return how many files are not used, and the most frequent reasons; empty where all are."""
        if not self.unused:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.unused[:_MOST_REASONS])
        more = len(self.unused) - _MOST_REASONS
        said = f"{reasons} and {more} more reasons" if more > 0 else reasons
        return f"{self.unused_files} of {self.used + self.unused_files} files are not used: {said}"

    @property
    def warning(self) -> str | None:
        """What to say where so many are unused that somebody should know; ``None`` below."""
        return self.in_words() if self.share > WORTH_A_WARNING else None

    def check(self, most: float, rule: str) -> None:
        """Refuse images of which too many are not used: something is wrong with them, or with the folder.

        Args:
            most: The largest share of unused files.
            rule: What sets it, for the message.

        Raises:
            InvalidInput: If it is larger.
        """
        if self.share > most:
            with told_as(Reason.DATA_UNREADABLE):
                raise InvalidInput(
                    f"{self.in_words()}. That is more than {most:.0%} ({rule}): take these files out of the"
                    " folder or repair them ('client rehearse' names each), or allow more"
                )


def usage(source: Path, records: RecordSet, unused: Sequence[LeftOut], skipped: Sequence[LeftOut]) -> Usage:
    """Return how much of a source is used.

    Args:
        source: The folder or manifest. Beside the images that a manifest names, others do not count.
        records: What was listed in it.
        unused: What `unused_files` says.
        skipped: Records that could not be used when they were opened, and copies, which count as used.
    """
    listed = records.left_out if is_manifest(source) else unused
    failed = [one for one in skipped if not one.reason.startswith(_DUPLICATE)]
    return count_usage(len(records.records) - len(failed), (*listed, *failed))


def count_usage(used: int, unused: Iterable[LeftOut]) -> Usage:
    """Return how much is used, where so many files are, and these are not."""
    reasons = Counter(one.reason.split(":")[0] for one in unused)
    litter = reasons.pop(LITTER, 0) + reasons.pop(_HIDDEN.split(":")[0], 0)
    ranked = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return Usage(used, tuple(ranked), litter)


def unused_files(
    source: Path, records: RecordSet, *, labelled: bool = True, form: str = "CLASS/IMAGE"
) -> tuple[LeftOut, ...]:
    """Return the files of a source that are no record, in the order of their names.

    Below a folder that is every file; beside a manifest's images, what is called like an image and is not
    named. Which records cannot be read is not known here.

    Args:
        source: The folder or manifest.
        records: What `read_records` or `read_unlabelled` found in it.
        labelled: Whether the session needs labels: then a loose image is of no class.
        form: Where images lie in the folder.

    Raises:
        InvalidInput: If a folder cannot be read.
    """
    if is_manifest(source):
        named = _not_named(source, records.records)
        return tuple(sorted((*records.left_out, *named), key=lambda one: one.name))
    known = {record.path for record in records.records}
    why = {one.name: one.reason for one in records.left_out}
    depth = form.count("/") + 1
    found = {}
    for path in _files_below(source):
        name = path.relative_to(source).as_posix()
        if path not in known and name not in why:
            found[name] = _reason(path, PurePosixPath(name), depth, form, labelled=labelled)
    return tuple(LeftOut(name, reason) for name, reason in sorted({**found, **why}.items()))


def why_no_image(path: Path, name: PurePath) -> str | None:
    """Return why a file is not to be opened as an image, by its name and first bytes; ``None`` if it is.

    Args:
        path: The file.
        name: How it is called below the folder that was given.
    """
    if any(part.lower() in LITTER_NAMES for part in name.parts):
        return f"{LITTER}: no image of anybody's"
    if any(part.startswith(".") for part in name.parts):
        return _HIDDEN
    if not called_like_an_image(path):
        return f"not an image's suffix: {suffix_of(name.name) or 'none, and no DICOM file'}"
    return why_no_file(path)


def _files_below(source: Path) -> Iterator[Path]:
    def failed(error: OSError) -> None:
        raise unreadable(Path(error.filename or source), error) from None

    for folder, _, names in os.walk(source, onerror=failed):
        for name in names:
            yield Path(folder) / name


def _reason(path: Path, name: PurePosixPath, depth: int, form: str, *, labelled: bool) -> str:
    reason = why_no_image(path, name)
    if reason is not None:
        return reason
    if len(name.parts) > depth:
        return f"too deep: images lie in {form}"
    if len(name.parts) < depth and labelled:
        return f"in no class: images lie in {form}"
    return "appeared after the folder was read"


def _not_named(source: Path, records: Sequence[Record]) -> Iterator[LeftOut]:
    named = {record.path.resolve() for record in records}
    for folder in sorted({record.path.parent for record in records}):
        try:
            files = sorted(_images_in(folder))
        except OSError as error:
            raise unreadable(folder, error) from None
        for file in files:
            if file.resolve() not in named:
                yield LeftOut(_called(file, source.parent), "the manifest does not name it")


def _images_in(folder: Path) -> Iterable[Path]:
    return (one for one in folder.iterdir() if suffix_of(one.name) in IMAGE_SUFFIXES and one.is_file())


def _called(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)

"""Every file that a session would not use, and why: people see it before the session, and not after."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from fedapt_secure.learning.data.reading.listing import IMAGE_SUFFIXES, LeftOut, unreadable
from fedapt_secure.learning.data.reading.manifest import is_manifest
from fedapt_secure.learning.data.reading.records import Record, RecordSet


def unused_files(source: Path, records: RecordSet, *, labelled: bool = True) -> tuple[LeftOut, ...]:
    """Return the files of a source that are no record, in the order of their names.

    Below a folder that is every file; beside a manifest's images, what is called like an image and is not
    named. Which records cannot be read is not known here: no file is opened.

    Args:
        source: The folder or manifest.
        records: What `read_records` or `read_unlabelled` found in it.
        labelled: Whether the session needs labels: then a loose image is of no class.

    Raises:
        InvalidInput: If a folder cannot be read.
    """
    if is_manifest(source):
        return tuple(_not_named(source, records.records))
    known = {record.name for record in records.records}
    why = {one.name: one.reason for one in records.left_out}
    unused = (name for name in _files_below(source) if name not in known)
    found = {name: why.get(name) or _reason(PurePosixPath(name), labelled=labelled) for name in unused}
    return tuple(LeftOut(name, found.get(name, why.get(name, ""))) for name in sorted({*found, *why}))


def _files_below(source: Path) -> Iterator[str]:
    def failed(error: OSError) -> None:
        raise unreadable(Path(error.filename or source), error) from None

    for folder, _, names in os.walk(source, onerror=failed):
        for name in names:
            yield (Path(folder) / name).relative_to(source).as_posix()


def _reason(name: PurePosixPath, *, labelled: bool) -> str:
    if any(part.startswith(".") for part in name.parts):
        return "hidden: its name, or its folder's, begins with a dot"
    if name.suffix.lower() not in IMAGE_SUFFIXES:
        return f"not an image's suffix: {name.suffix or 'none'}"
    if len(name.parts) > 2:
        return "too deep: images lie in CLASS/IMAGE"
    if len(name.parts) == 1 and labelled:
        return "in no class: images lie in CLASS/IMAGE"
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
    return (one for one in folder.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES and one.is_file())


def _called(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)

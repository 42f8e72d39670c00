"""A CSV manifest of images: columns ``path`` and ``label``, optionally ``domain``, ``split``, ``subject``."""

import csv
import difflib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.learning.data.reading.listing import Listed, Split, unreadable

REQUIRED_COLUMNS: Final = ("path", "label")
OPTIONAL_COLUMNS: Final = ("domain", "split", "subject")
MAX_NAME_LENGTH: Final = 256
"""Longest name of a class or domain, as in a session's plan."""
_SPLITS: Final[dict[str, Split | None]] = {"": None, "train": "train", "test": "test"}
_KNOWN: Final = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)


def is_manifest(source: Path) -> bool:
    """Return whether a source is to be read as a manifest: its name ends in ``.csv``."""
    return source.suffix.lower() == ".csv"


def names_subjects(source: Path) -> bool:
    """Return whether a source says whose each image is: a manifest with a column ``subject``.

    Raises:
        InvalidInput: If the source is a manifest and its first line cannot be read.
    """
    if not is_manifest(source):
        return False
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            return "subject" in _columns(
                source, next(csv.reader(file, strict=True), []), REQUIRED_COLUMNS[:1]
            )
    except OSError as error:
        raise unreadable(source, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_a_manifest(source) from error


def read_manifest(source: Path, *, labelled: bool = True) -> tuple[Listed, ...]:
    """Read a manifest: UTF-8, comma-separated, columns in any order; opens no image.

    Without ``labelled`` the column ``label`` may be missing or empty.

    Paths are absolute or relative to the manifest's folder. ``split`` is ``train``, ``test`` or empty;
    ``domain`` and ``subject``, where the column is there, are given for each image.

    Raises:
        InvalidInput: If the file cannot be read, or a line is not what the header announces.
    """
    try:
        # Spreadsheets begin UTF-8 files with a mark that is no part of the first column's name.
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            required = REQUIRED_COLUMNS if labelled else REQUIRED_COLUMNS[:1]
            columns = _columns(source, next(rows, []), required)
            images, seen = [], set()
            for row in rows:
                if not row:
                    continue
                listed = _listed(source, rows.line_num, columns, row, required)
                place = os.path.normpath(listed.path)
                if place in seen:
                    raise _line(source, rows.line_num, f"names {listed.name!r} again: each image stands once")
                seen.add(place)
                images.append(listed)
    except OSError as error:
        raise unreadable(source, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_a_manifest(source) from error
    return tuple(images)


def write_manifest(path: Path, images: Sequence[Listed]) -> None:
    """Write a manifest that `read_manifest` gives back, with those optional columns that say something.

    Only its owner can read it: who has which illness stands in it.
    """
    optional = [one for one in OPTIONAL_COLUMNS if any(getattr(image, one) is not None for image in images)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*REQUIRED_COLUMNS, *optional))
    writer.writerows(
        (str(image.path), image.class_name, *(getattr(image, one) or "" for one in optional))
        for image in images
    )
    write_atomically(path, text.getvalue().encode())


def _not_a_manifest(source: Path) -> InvalidInput:
    return InvalidInput(
        f"cannot read the images of {source}: not a readable manifest (CSV in UTF-8 is expected)"
    )


def _columns(source: Path, header: Sequence[str], required: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(one.strip().lower() for one in header)
    expected = "the columns are path and label, and if wanted domain, split and subject, separated by commas"
    for one in columns:
        if one not in _KNOWN:
            near = difflib.get_close_matches(one, _KNOWN, n=1)
            hint = f" (closest: {near[0]!r})" if near else ""
            raise InvalidInput(f"the manifest {source} has the unknown column {one[:40]!r}{hint}; {expected}")
    missing = [one for one in required if one not in columns]
    if missing:
        raise InvalidInput(
            f"the manifest {source} has no column {missing[0]!r} in its first line; {expected}"
        )
    if len(set(columns)) != len(columns):
        raise InvalidInput(f"the manifest {source} has a column twice; {expected}")
    return columns


def _listed(
    source: Path, number: int, columns: Sequence[str], row: Sequence[str], required: Sequence[str]
) -> Listed:
    if len(row) != len(columns):
        raise _line(
            source, number, f"has {len(row)} values, not {len(columns)} ({','.join(columns).upper()})"
        )
    fields = {column: value.strip() for column, value in zip(columns, row, strict=True)}
    for column in (*REQUIRED_COLUMNS, "domain"):
        given = fields.get(column, "")
        needed = column in required or (column == "domain" and column in fields)
        if not given.isprintable() or (needed and not given):
            raise _line(source, number, f"has no readable {column}")
    if any(len(fields.get(column, "")) > MAX_NAME_LENGTH for column in ("label", "domain")):
        raise _line(source, number, f"has a label or domain of more than {MAX_NAME_LENGTH} characters")
    if "subject" in fields and not fields["subject"]:
        # Half a column would silently turn privacy per person into privacy per image.
        raise _line(source, number, "has no subject: give each image one, or leave the column out")
    split = fields.get("split", "")
    if split not in _SPLITS:
        raise _line(source, number, f"has the split {split[:40]!r}: it is train, test or empty")
    return Listed(
        path=source.parent / fields["path"],
        class_name=fields.get("label", ""),
        name=fields["path"],
        domain=fields.get("domain"),
        split=_SPLITS[split],
        subject=fields.get("subject"),
    )


def _line(source: Path, number: int, what: str) -> InvalidInput:
    return InvalidInput(f"line {number} of the manifest {source} {what}")

"""The work of ``fedapt-secure predict``: find the images, and print each answer as it comes."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.config.reading import ALL_FRAMES
from fedapt_secure.inference.decoding import ImageInput, frames_of
from fedapt_secure.inference.predictor import Model, Prediction
from fedapt_secure.learning.data.reading.listing import EXPECTED, LeftOut
from fedapt_secure.learning.data.reading.unused import count_usage, why_no_image
from fedapt_secure.process.shown import lines_shown
from fedapt_secure.process.streams import json_text, say, say_lines

Form = Literal["text", "json", "csv"]


def print_predictions(model: Model, paths: Sequence[Path], *, top: int, form: Form) -> None:
    """Classify files, and all images of folders, and print the answers; unusable ones go to standard error.

    Raises:
        InvalidInput: If no image is named, or none of them can be used.
    """
    others: list[LeftOut] = []
    images: list[ImageInput] = []
    for path in images_of(paths, others):
        images += frames_of(path) if model.reading.frame == ALL_FRAMES else [path]
    if others:
        say(count_usage(len(images), others).in_words() or f"{len(others)} files of systems", err=True)
    if not images:
        raise InvalidInput(f"no image in the folders given: expected files with {EXPECTED}")
    named = min(top, len(model.class_names))
    printed = _Counted(model.stream(images, named))
    if form == "json":
        _print_json(printed)
    elif form == "csv":
        _print_csv(printed, named)
    else:
        _print_text(printed)
    if printed.skipped == len(images):
        raise InvalidInput(f"none of the {len(images)} images can be used; the reasons are above")
    if printed.skipped:
        say(f"{printed.skipped} of {len(images)} images could not be used", err=True)


def images_of(paths: Sequence[Path], others: list[LeftOut]) -> Iterator[Path]:
    """Yield files as they are given, and of folders all images below them; collect what is none of them."""
    for path in paths:
        if path.is_dir():
            yield from _within(path, others)
        else:
            yield path  # whatever it is: that it cannot be used is said when it is opened


def _within(folder: Path, others: list[LeftOut]) -> list[Path]:
    """Return the images below a folder, and take note of the other files."""
    found = []
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_dir():
                continue
            reason = why_no_image(path, path.relative_to(folder))
            if reason is None:
                found.append(path)
            else:
                others.append(LeftOut(str(path), reason))
    except OSError as error:
        raise system_error(f"cannot read the folder {folder}", error) from None
    return found


class _Counted:
    """Passes predictions on, counts the images that could not be used, and names them."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._predictions = predictions
        self.skipped = 0

    def __iter__(self) -> Iterator[Prediction]:
        for one in self._predictions:
            if one.skipped is not None:
                self.skipped += 1
                say(f"skipped {one.name}: {one.skipped}", err=True)
            yield one


def _print_json(predictions: Iterable[Prediction]) -> None:
    # Written piece by piece: the list may be longer than memory holds.
    sys.stdout.write("[")
    for number, one in enumerate(predictions):
        fields = asdict(one)
        fields["top"] = [{"label": label, "probability": share} for label, share in one.top]
        sys.stdout.write((",\n" if number else "\n") + json_text(fields))
        sys.stdout.flush()
    say_lines("\n]")


def _print_csv(predictions: Iterable[Prediction], top: int) -> None:
    rows = csv.writer(_Obeyed() if sys.stdout.isatty() else sys.stdout, lineterminator="\n")
    further = [f"{column}_{rank}" for rank in range(2, top + 1) for column in ("label", "probability")]
    rows.writerow(["path", "label", "probability", "domain", "skipped", *further])
    for one in predictions:
        others = [value for pair in one.top[1:] for value in pair]
        rows.writerow([one.name, one.label, one.probability, one.domain, one.skipped, *others])


class _Obeyed:
    """A terminal, which would obey what a file name may hold; a program gets names as they are."""

    def write(self, row: str) -> int:
        """Write a row."""
        return sys.stdout.write(lines_shown(row))


def _print_text(predictions: Iterable[Prediction]) -> None:
    for one in predictions:
        if one.skipped is not None:
            continue
        answers = ", ".join(f"{label} {share:.1%}" for label, share in one.top)
        knowledge = "" if one.domain is None else f"  (as in {one.domain})"
        say(f"{one.name}  {answers}{knowledge}")

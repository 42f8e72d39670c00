"""Accuracies that an institution chose to hand over: no log has any, and nothing here vouches for them.

Two kinds of file are taken: what ``evaluate --out`` writes (with figures by class), and what an institution
keeps beside each finished model (``evaluation.json``, counts). Both are read strictly and shown as its word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error

MAX_BYTES: Final = 32 << 20
"""A confusion of 4,096 classes that is not sparse would have more; no test set is large enough for it."""

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ClassAccuracy:
    """How many images of a class there were, and which share of them was recognised."""

    name: str
    images: int
    recall: float | None


@dataclass(frozen=True)
class HandedOver:
    """What one institution says of the finished model on its own images.

    Attributes:
        party: Who handed it over. file: Name of the file.
        images: How many images. accuracy: Share that was recognised.
        untuned: The same without what was trained, where the file has it.
        classes: By class; empty where the file does not name them.
    """

    party: str
    file: str
    images: int
    accuracy: float
    untuned: float | None
    classes: tuple[ClassAccuracy, ...]


class _OfClass(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=256)]
    support: Count
    recall: Share | None


class _Evaluation(BaseModel):
    """What ``evaluate --out`` writes."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    images: Annotated[int, Field(ge=1, lt=1 << 53)]
    top_1: Share
    per_class: Annotated[list[_OfClass], Field(max_length=4096)]


class _Kept(BaseModel):
    """What an institution keeps beside a finished model."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    test_records: Annotated[int, Field(ge=1, lt=1 << 53)]
    zero_shot_correct: Count
    tuned_correct: Count
    confusion: list[tuple[Count, Count, Count]]


def read_handed_over(
    given: Sequence[str], parties: Sequence[str], classes: Sequence[str]
) -> list[HandedOver]:
    """Return what the files say that institutions handed over.

    Args:
        given: ``INSTITUTION=FILE`` each.
        parties: The institutions that the logs or the roster know.
        classes: Class names of the plan, in order; empty where no log has them.

    Raises:
        InvalidInput: If an institution is not known, or a file cannot be read or is no evaluation.
    """
    found = []
    for one in given:
        party, sign, name = one.partition("=")
        if not sign or not name:
            raise InvalidInput(f"--scores: expected INSTITUTION=FILE, not {one!r}")
        if party not in parties:
            raise InvalidInput(f"--scores: no institution {party!r} is in these logs or on their roster")
        found.append(_read(party, Path(name), classes))
    return found


def _read(party: str, path: Path, classes: Sequence[str]) -> HandedOver:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):
            raise InvalidInput("--scores: a path cannot hold a zero byte") from None
        raise system_error(f"cannot read {path}", error) from None
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path} is too large for an evaluation")
    try:
        return _evaluation(party, path.name, _Evaluation.model_validate_json(data))
    except ValidationError:
        pass
    try:
        return _kept(party, path.name, _Kept.model_validate_json(data), classes)
    except ValidationError:
        raise InvalidInput(
            f"{path} is no evaluation.json, neither of 'evaluate --out' nor of a party's folder"
        ) from None


def _evaluation(party: str, file: str, body: _Evaluation) -> HandedOver:
    by_class = tuple(ClassAccuracy(one.name, one.support, one.recall) for one in body.per_class)
    return HandedOver(party, file, body.images, body.top_1, None, by_class)


def _kept(party: str, file: str, body: _Kept, classes: Sequence[str]) -> HandedOver:
    if max(body.tuned_correct, body.zero_shot_correct) > body.test_records:
        raise InvalidInput(f"{file} of {party}: more images were recognised than there are")
    images = [0] * len(classes)
    right = [0] * len(classes)
    for true, said, count in body.confusion:
        if true >= len(classes) or said >= len(classes):
            images = []  # of other classes than the plan's: only the total is of use
            break
        images[true] += count
        right[true] += count * (true == said)
    by_class = tuple(
        ClassAccuracy(name, of, hits / of if of else None)
        for name, of, hits in zip(classes, images, right, strict=False)
        if images
    )
    total = body.test_records
    return HandedOver(
        party, file, total, body.tuned_correct / total, body.zero_shot_correct / total, by_class
    )

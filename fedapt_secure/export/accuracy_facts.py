"""Figures of an evaluation that somebody chose to share: what ``evaluate`` wrote, read strictly."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.learning.bundle import Bundle

_MAX_BYTES: Final = 64 << 20

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    images: Count
    top_1: Share


class DomainFacts(_Part):
    """One domain's share of right answers."""


class ClassFacts(BaseModel):
    """One class: how many images, and which share of them was recognised."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    name: str
    support: Count
    recall: Share | None


class AccuracyFacts(_Part):
    """What ``evaluate --json`` writes, as far as a model card has it; the folder's name is left out."""

    images: Annotated[int, Field(ge=1, lt=1 << 53)]
    split: str
    method: str
    top_5: Share
    mean_recall: Share
    per_domain: dict[str, DomainFacts]
    per_class: Annotated[list[ClassFacts], Field(max_length=1 << 16)]


def accuracy_facts(path: Path, bundle: Bundle) -> AccuracyFacts:
    """Return the figures of an evaluation.

    Args:
        path: What ``evaluate --json`` printed, or its ``evaluation.json``.
        bundle: The model that it has to be of.

    Raises:
        InvalidInput: If it cannot be read, is no evaluation, or is one of another model's classes or method.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise system_error(f"cannot read {path}", error) from None
    try:
        found = AccuracyFacts.model_validate_json(content[:_MAX_BYTES])
    except ValidationError:
        raise InvalidInput(f"{path} is not what 'evaluate --json' writes") from None
    if found.method != bundle.shape.method or [one.name for one in found.per_class] != list(
        bundle.class_names
    ):
        raise InvalidInput(f"{path} is an evaluation of another model: its method or its classes differ")
    return found

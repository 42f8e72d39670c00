"""What papers printed: figures to show beside ours, each with where it stands."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedapt_crypto.errors import InvalidInput, system_error
from fedapt_secure.simulate.comparison.figures import Comparison, PublishedFigure, Row

PUBLISHED_FILE: Final = "published.json"
MEAN: Final = "mean"
Percent = Annotated[float, Field(ge=0, le=100)]


class PublishedRow(BaseModel):
    """What a paper says of one row of a table.

    Attributes:
        row: The row's name here.
        accuracy: Per cent, by domain, or under ``mean`` over all.
        source: Where it stands, and how certain that is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    accuracy: dict[str, Percent] = Field(min_length=1)
    source: str = Field(min_length=1)


class Published(BaseModel):
    """All that is known.

    Attributes:
        about: What the file is.
        tables: Rows, by table.
        share_trained: Of the whole model's values, what the paper says it trains at the most, in per cent.
        share_trained_source: Where it says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    tables: dict[str, tuple[PublishedRow, ...]]
    share_trained: Percent
    share_trained_source: str


def read_published(folder: Path) -> Published:
    """Read the file; raises `InvalidInput` if it is missing or damaged."""
    path = folder / PUBLISHED_FILE
    try:
        return Published.model_validate_json(path.read_bytes())
    except OSError as error:
        raise system_error(f"cannot read {path}", error) from None
    except ValidationError:
        raise InvalidInput(f"{path} is damaged: take it from the package again") from None


def beside(comparison: Comparison, published: Sequence[PublishedRow]) -> Iterator[PublishedFigure]:
    """Yield each published figure that a row without privacy of ours can be held to."""
    rows = {
        row.label.name.removesuffix("-eps-none"): row for row in comparison.rows if row.label.epsilon is None
    }
    for one in published:
        row = rows.get(one.row)
        if row is None:
            continue
        for what, figure in one.accuracy.items():
            ours = _ours(row, what)
            if ours is not None:
                yield PublishedFigure(row.label.title, what, figure, 100 * ours, one.source)


def _ours(row: Row, what: str) -> float | None:
    if what == MEAN:
        return row.mean.mean
    return row.domains[what].mean if what in row.domains else None

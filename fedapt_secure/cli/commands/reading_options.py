"""How DICOM and NIfTI files are read: options of several commands."""

from typing import TYPE_CHECKING, Annotated

import typer

from fedapt_secure.cli.options import within
from fedapt_secure.config import ranges

if TYPE_CHECKING:
    from fedapt_secure.config.reading import ReadingOptions

Window = Annotated[
    str | None,
    typer.Option(help="CENTER,WIDTH of the grey values of DICOM and NIfTI that show (default: the file's)."),
]
Frame = Annotated[
    str | None,
    typer.Option(help="Of DICOM files of several frames: middle, a number from 1, or all (default middle)."),
]
Axis = Annotated[
    int | None,
    typer.Option(
        help="Along which axis NIfTI volumes are cut: 0, 1 or 2 (default 2).", callback=within(ranges.AXIS)
    ),
]
Slice = Annotated[
    str | None,
    typer.Option("--slice", help="Which slice of NIfTI volumes: middle, or a number from 1."),
]


def reading_options(
    command: str,
    window: str | None,
    frame: str | None,
    axis: int | None,
    slice_: str | None,
    otherwise: "ReadingOptions | None" = None,
) -> "ReadingOptions":
    """Return how files are to be read.

    Args:
        command: Whose options, for messages.
        window: As it was given, as the others; ``None`` where it was not.
        frame: Likewise.
        axis: Likewise.
        slice_: Likewise.
        otherwise: What holds where an option was not given; by default the defaults.

    Raises:
        InvalidInput: If one cannot be used.
    """
    from fedapt_secure.config.reading import AS_THEY_ARE, ReadingOptions  # noqa: PLC0415 - pydantic
    from fedapt_secure.config.settings import build  # noqa: PLC0415

    given = {"window": window, "frame": frame, "axis": axis, "slice": slice_}
    fields = (otherwise or AS_THEY_ARE).model_dump() | {
        name: value for name, value in given.items() if value is not None
    }
    return build(ReadingOptions, fields, source=command, as_options=True)

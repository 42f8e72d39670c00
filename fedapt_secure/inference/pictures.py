"""Pictures of an evaluation: what was taken for what, and whose knowledge was used. PNG and SVG."""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedapt_crypto.errors import system_error
from fedapt_crypto.private_files import write_atomically
from fedapt_secure.learning.evaluation.tally import Counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_MATPLOTLIB: Final = "no pictures without matplotlib: pip install 'fedapt-secure[plots]'"
_FORMATS: Final = ("png", "svg")
_MOST_LABELS: Final = 45
"""More names along one side cannot be read; then every second, third ... class is named."""
_MOST_CELLS_WITH_NUMBERS: Final = 16
_LONGEST_NAME: Final = 24
_DPI: Final = 150


def can_draw() -> bool:
    """Return whether matplotlib is installed (extra ``[plots]``)."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_confusion(folder: Path, counts: Counts, class_names: Sequence[str]) -> tuple[Path, ...]:
    """Draw a confusion matrix to ``confusion.png`` and ``confusion.svg``; return the files.

    Args:
        folder: Where to; made where missing.
        counts: (M, M), row true class, column predicted class.
        class_names: M names.

    Raises:
        InvalidInput: If the files cannot be written.
    """
    every = -(-len(class_names) // _MOST_LABELS)
    note = "" if every == 1 else f" ({len(class_names)} classes, each {_ordinal(every)} is named)"
    return _draw(
        folder / "confusion",
        counts,
        class_names,
        class_names,
        title=f"What was taken for what{note}",
        across="predicted class",
        down="true class",
    )


def draw_routing(
    folder: Path, counts: Counts, domains: Sequence[str], keys: Sequence[str]
) -> tuple[Path, ...]:
    """Draw whose knowledge was used to ``routing.png`` and ``routing.svg``; return the files.

    Args:
        folder: Where to; made where missing.
        counts: (len(domains), K), row the images' own domain, column the chosen key.
        domains: The images' domains.
        keys: K names.

    Raises:
        InvalidInput: If the files cannot be written.
    """
    return _draw(
        folder / "routing",
        counts,
        domains,
        keys,
        title="Whose knowledge was used",
        across="chosen key",
        down="domain of the images",
    )


def _draw(
    stem: Path,
    counts: Counts,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    across: str,
    down: str,
) -> tuple[Path, ...]:
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and seconds
    from matplotlib.colors import PowerNorm  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # Rows without an image stay empty rather than dark: nothing is known of them.
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    figure = Figure(figsize=_size(len(columns), len(rows)), layout="constrained")
    axes = figure.add_subplot()
    # Among hundreds of classes a confusion is a small share in a tiny cell: the scale makes it visible.
    scale = PowerNorm(0.4 if max(counts.shape) > _MOST_LABELS else 1.0, vmin=0, vmax=1)
    picture = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest", aspect="equal")
    axes.set_title(title, fontsize="medium")
    _name(axes, rows, columns)
    axes.set(xlabel=across, ylabel=down)
    if max(counts.shape) <= _MOST_CELLS_WITH_NUMBERS:
        _write_numbers(axes, counts, shares)
    figure.colorbar(picture, ax=axes, label="share of the row's images", shrink=0.8, format="{x:.0%}")
    # A fixed salt and no date: equal figures give equal files.
    with mpl.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        return _save(figure, stem)


def _size(columns: int, rows: int) -> tuple[float, float]:
    side = [min(14.0, 2.2 + 0.32 * min(count, _MOST_LABELS)) for count in (columns, rows)]
    return max(5.0, side[0] + 1.6), max(3.6, side[1] + 0.8)


def _name(axes: "Axes", rows: Sequence[str], columns: Sequence[str]) -> None:
    every = [-(-len(names) // _MOST_LABELS) for names in (columns, rows)]
    size = 9 if max(len(rows), len(columns)) <= _MOST_CELLS_WITH_NUMBERS else 7
    across, down = range(0, len(columns), every[0]), range(0, len(rows), every[1])
    axes.set_xticks(across, [_short(columns[i]) for i in across], rotation=60, ha="right", fontsize=size)
    axes.set_yticks(down, [_short(rows[i]) for i in down], fontsize=size)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")


def _write_numbers(axes: "Axes", counts: Counts, shares: Any) -> None:
    for row, column in np.argwhere(counts > 0):
        dark = shares[row, column] > 0.5
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center", fontsize=8,
            color="white" if dark else "black",
        )  # fmt: skip


def _save(figure: "Figure", stem: Path) -> tuple[Path, ...]:
    written = []
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix in _FORMATS:
            path = stem.with_suffix(f".{suffix}")
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            # Tight: long names reach over the edge that the layout has planned for.
            content = io.BytesIO()
            figure.savefig(
                content, format=suffix, dpi=_DPI, metadata=metadata, bbox_inches="tight", pad_inches=0.12
            )
            write_atomically(path, content.getvalue())  # they follow from images: for their owner
            written.append(path)
    except OSError as error:
        raise system_error(f"cannot write the pictures to {stem.parent}", error) from None
    return tuple(written)


def _short(name: str) -> str:
    plain = name.replace("$", r"\$")  # matplotlib would read formulas
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1]}…"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")

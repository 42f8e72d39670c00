"""The picture of a comparison: accuracy of each method, a group of bars for each budget. PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fedapt_crypto.errors import system_error
from fedapt_secure.simulate.comparison.figures import Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEM: Final = "comparison"
_FORMATS: Final = ("png", "svg")
_DPI: Final = 150
_GREY: Final = "#8a8a8a"
_TITLE_WIDTH: Final = 60
_LEAST_WIDTH: Final = 5.0
"""In bars: a lone one would fill the picture."""


def draw(folder: Path, comparison: Comparison) -> tuple[Path, ...]:
    """Draw the means over domains to ``comparison.png`` and ``comparison.svg``; return the files.

    Budgets stand side by side from the loosest to the tightest; what is not trained is a line across.

    Args:
        folder: Where to.
        comparison: With at least one row.

    Raises:
        InvalidInput: If the files cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and seconds
    from matplotlib.figure import Figure  # noqa: PLC0415

    trained = [row for row in comparison.rows if row.label.trains]
    untrained = [row for row in comparison.rows if not row.label.trains]
    budgets = list(dict.fromkeys(row.label.epsilon for row in trained))
    methods = list(dict.fromkeys(row.label.method for row in trained))
    width = max(5.5, 1.6 + 0.28 * len(trained) + 0.35 * len(budgets))
    figure = Figure(figsize=(min(width, 22.0), 4.2), layout="constrained")
    axes = figure.add_subplot()
    colours = {method: mpl.colormaps["tab10"](number % 10) for number, method in enumerate(methods)}
    _bars(axes, trained, budgets, methods, colours)
    for number, row in enumerate(untrained):
        axes.axhline(
            100 * row.mean.mean,
            color=_GREY,
            linestyle=("--", ":", "-.")[number % 3],
            linewidth=1.2,
            label=row.label.title,
        )
    axes.set_ylabel("accuracy on held-out images, mean over domains (%)", fontsize=8)
    axes.set_title(_folded(comparison.title), fontsize="medium")
    axes.set_ylim(*_limits(comparison.rows))
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    with mpl.rc_context({"svg.hashsalt": STEM, "svg.fonttype": "none"}):  # equal figures give equal files
        written = []
        try:
            for suffix in _FORMATS:
                path = folder / f"{STEM}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(path, dpi=_DPI, metadata=metadata)
                written.append(path)
        except OSError as error:
            raise system_error(f"cannot write the picture to {folder}", error) from None
    return tuple(written)


def _bars(
    axes: "Axes",
    rows: Sequence[Row],
    budgets: Sequence[float | None],
    methods: Sequence[str],
    colours: Mapping[str, tuple[float, ...]],
) -> None:
    found = {(row.label.epsilon, row.label.method): row for row in rows}
    names: dict[str, str] = {}
    place, ticks = 0.0, []
    for budget in budgets:
        present = [method for method in methods if (budget, method) in found]
        for method in present:
            row = found[budget, method]
            axes.bar(
                place,
                100 * row.mean.mean,
                width=0.9,
                color=colours[method],
                yerr=None if row.mean.deviation is None else 100 * row.mean.deviation,
                error_kw={"elinewidth": 0.9, "capsize": 2},
                label=None if method in names else row.label.title,
            )
            names.setdefault(method, row.label.title)
            place += 1
        ticks.append((place - (len(present) + 1) / 2, "no privacy" if budget is None else f"ε = {budget:g}"))
        place += 0.8
    middle, half = (place - 1.8) / 2, max(place / 2, _LEAST_WIDTH / 2)
    axes.set_xlim(middle - half, middle + half)
    axes.set_xticks([one for one, _ in ticks], [name for _, name in ticks], fontsize=9)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the axis: from 0, for bars that start elsewhere exaggerate, to above the highest."""
    top = max(row.mean.mean + (row.mean.deviation or 0.0) for row in rows)
    return 0.0, min(100.0, 100 * top * 1.08 + 1)


def _folded(title: str) -> str:
    plain, lines = title.replace("$", r"\$"), [""]
    for word in plain.split():
        if len(lines[-1]) + len(word) > _TITLE_WIDTH and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

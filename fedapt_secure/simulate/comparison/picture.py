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
_MOST_COLOURS: Final = 10
_WHAT: Final = "accuracy on held-out images, mean over domains (%)"
_WHISKERS: Final = {"elinewidth": 0.9, "capsize": 2}
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
    titles = list(dict.fromkeys(row.label.title for row in trained))
    long = len(titles) > _MOST_COLOURS
    width = max(5.5, 1.6 + 0.28 * len(trained) + 0.35 * len(budgets))
    height = 1.2 + 0.22 * len(titles) * len(budgets)
    size = (8.0, height) if long else (min(width, 22.0), 4.2)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    colour = mpl.colormaps["tab10"]
    if long:
        _list(axes, trained, budgets, titles, [colour(number) for number in range(len(budgets))])
    else:
        _bars(axes, trained, budgets, titles, {one: colour(place) for place, one in enumerate(titles)})
    for number, row in enumerate(untrained):
        (axes.axvline if long else axes.axhline)(
            100 * row.mean.mean,
            color=_GREY,
            linestyle=("--", ":", "-.")[number % 3],
            linewidth=1.2,
            label=row.label.title,
        )
    (axes.set_xlabel if long else axes.set_ylabel)(_WHAT, fontsize=8)
    axes.set_title(_folded(comparison.title), fontsize="medium")
    (axes.set_xlim if long else axes.set_ylim)(*_limits(comparison.rows))
    axes.grid(axis="x" if long else "y", linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(budgets) > 1 or untrained or not long:
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
    titles: Sequence[str],
    colours: Mapping[str, tuple[float, ...]],
) -> None:
    found = {(row.label.epsilon, row.label.title): row for row in rows}
    named: set[str] = set()
    place, ticks = 0.0, []
    for budget in budgets:
        present = [title for title in titles if (budget, title) in found]
        for title in present:
            row = found[budget, title]
            axes.bar(
                place,
                100 * row.mean.mean,
                width=0.9,
                color=colours[title],
                yerr=None if row.mean.deviation is None else 100 * row.mean.deviation,
                error_kw=_WHISKERS,
                label=None if title in named else title,
            )
            named.add(title)
            place += 1
        ticks.append((place - (len(present) + 1) / 2, _budget(budget)))
        place += 0.8
    middle, half = (place - 1.8) / 2, max(place / 2, _LEAST_WIDTH / 2)
    axes.set_xlim(middle - half, middle + half)
    axes.set_xticks([one for one, _ in ticks], [name for _, name in ticks], fontsize=9)


def _list(
    axes: "Axes",
    rows: Sequence[Row],
    budgets: Sequence[float | None],
    titles: Sequence[str],
    colours: Sequence[tuple[float, ...]],
) -> None:
    """Draw a bar a row from left to right, the first at the top: for more rows than there are colours."""
    found = {(row.label.epsilon, row.label.title): row for row in rows}
    thick = 0.8 / len(budgets)
    for number, (budget, colour) in enumerate(zip(budgets, colours, strict=True)):
        present = [
            (place, found[budget, title]) for place, title in enumerate(titles) if (budget, title) in found
        ]
        deviations = [row.mean.deviation for _, row in present]
        axes.barh(
            [place + (number - (len(budgets) - 1) / 2) * thick for place, _ in present],
            [100 * row.mean.mean for _, row in present],
            height=thick,
            color=colour,
            xerr=None if None in deviations else [100 * (one or 0.0) for one in deviations],
            error_kw=_WHISKERS,
            label=_budget(budget),
        )
    axes.set_yticks(range(len(titles)), titles, fontsize=8)
    axes.set_ylim(len(titles) - 0.5, -0.5)


def _budget(epsilon: float | None) -> str:
    return "no privacy" if epsilon is None else f"ε = {epsilon:g}"


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

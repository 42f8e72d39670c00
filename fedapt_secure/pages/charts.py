"""Hand-made SVG for pages: ε against rounds, and against a budget. No library, no script.

Colours are of the Okabe-Ito palette, which colour-blind readers can tell apart; line style and labels carry
the same meaning, for print in grey.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from markupsafe import Markup

LINE: Final = "#0072B2"
BUDGET: Final = "#B34700"
AXIS: Final = "#555"
GRID: Final = "#e3e3e3"
WIDTH: Final = 460
HEIGHT: Final = 230
CEILING: Final = 1e9
"""An ε beyond it, or without any bound, is drawn here: it says nothing any more."""
_LABEL: Final = 14
"""Height that a label takes, with the room around it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 22, 38
_SVG = Markup(
    '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" xmlns="http://www.w3.org/2000/svg">'
    "<title>{label}</title>{content}</svg>"
)
_LINE_TAG = Markup('<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{extra}/>')
_TEXT = Markup('<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{text}</text>')
_PATH = Markup('<path d="{d}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round"/>')
_DOT = Markup('<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>')
_BAR = Markup('<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{color}"{extra}/>')
_BAR_SIDE, _BAR_TOP, _BAR_HEIGHT = 8, 10, 26
_DASHED = Markup(' stroke-width="2" stroke-dasharray="7 4"')
_DOTTED = Markup(' stroke-dasharray="2 3"')


class Point(Protocol):
    """ε after a round of a session."""

    @property
    def session(self) -> str:
        """Which session."""

    @property
    def round(self) -> int:
        """Which of its rounds."""

    @property
    def epsilon(self) -> float:
        """ε."""


def epsilon_chart(points: Sequence[Point], budget: float | None, name: str, each: str = "round") -> Markup:
    """Return a plot of ε after each round, with the budget as a dashed line.

    Args:
        points: ε after each round, in order; several sessions follow each other.
        budget: The budget line, if there is one.
        name: Whose, for the label that screen readers read.
        each: After what, where it is not a round.
    """
    heights = [min(point.epsilon, CEILING) for point in points]
    budget = None if budget is None else min(budget, CEILING)
    last = heights[-1] if heights else 0.0
    highest = max([*heights, budget or 0.0, 1e-9])
    ticks = nice_ticks(highest * 1.08)
    top = max(ticks[-1], highest * 1.08)
    count = max(1, len(points))
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x_of(position: float) -> float:
        return _LEFT + inner_width * position / count

    def y_of(epsilon: float) -> float:
        return _TOP + inner_height * (1 - epsilon / top)

    parts = []
    for tick in ticks:
        y = y_of(tick)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, GRID))
        parts.append(_text(_LEFT - 6, y + 4, "end", f"{tick:g}"))
    parts += _rounds(points, x_of)
    if budget is not None:
        y = y_of(budget)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, BUDGET, _DASHED))
        parts.append(_text(_LEFT + 4, y - 5, "start", f"budget {budget:g}", BUDGET))
    if points:
        path = f"M{x_of(0):.1f},{y_of(0):.1f}"
        path += "".join(f"L{x_of(i + 1):.1f},{y_of(height):.1f}" for i, height in enumerate(heights))
        parts.append(_PATH.format(d=path, color=LINE))
        end_x, end_y = x_of(len(points)), y_of(last)
        parts.append(_DOT.format(x=end_x, y=end_y, color=LINE))
        below = y_of(budget) if budget is not None and abs(y_of(budget) - end_y) < _LABEL else end_y
        parts.append(_text(end_x, max(end_y, below) + 2 * _LABEL, "end", f"ε = {last:.2f}", LINE))
    parts.append(_line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, AXIS))
    parts.append(_text(_LEFT - 6, 12, "end", "ε"))
    parts.append(_text((WIDTH + _LEFT - _RIGHT) / 2, HEIGHT - 4, "middle", each))
    limit = "no budget stated" if budget is None else f"a budget of {budget:g}"
    label = f"{name}: ε grows to {last:.2f} over {len(points)} {each}s, against {limit}"
    return _SVG.format(width=WIDTH, height=HEIGHT, label=label, content=Markup("").join(parts))


def budget_bar(spent: float, session: float, allowed: float, name: str) -> Markup:
    """Return a bar of what has been spent, what a session would add at most, and what is allowed.

    Args:
        spent: ε of all that has begun.
        session: ε that the session may spend at most; 0 for none.
        allowed: ε over all sessions.
        name: Whose, for the label that screen readers read.
    """
    top = max(allowed, spent + session, 1e-9)
    inner = WIDTH - 2 * _BAR_SIDE

    def x_of(epsilon: float) -> float:
        return _BAR_SIDE + inner * min(epsilon, top) / top

    parts = [_bar(_BAR_SIDE, x_of(top), GRID), _bar(_BAR_SIDE, x_of(spent), LINE)]
    if session:
        parts.append(_bar(x_of(spent), x_of(spent + session), LINE, Markup(' fill-opacity="0.45"')))
    limit = x_of(allowed)
    parts.append(_line(limit, _BAR_TOP - 6, limit, _BAR_TOP + _BAR_HEIGHT + 6, BUDGET, _DASHED))
    under = _BAR_TOP + _BAR_HEIGHT + 18
    parts.append(_text(_BAR_SIDE, under, "start", f"spent {spent:.3g}", LINE))
    if session:
        parts.append(_text(WIDTH / 2, under, "middle", f"this session at most {session:.3g}"))
    parts.append(_text(WIDTH - _BAR_SIDE, under, "end", f"allowed {allowed:.3g}", BUDGET))
    more = f", this session adds at most {session:.3g}" if session else ""
    label = f"{name}: ε {spent:.3g} of {allowed:.3g} spent{more}"
    return _SVG.format(width=WIDTH, height=under + 6, label=label, content=Markup("").join(parts))


def _bar(left: float, right: float, color: str, extra: Markup | str = "") -> Markup:
    width = max(0.0, right - left)
    return _BAR.format(x=left, y=_BAR_TOP, width=width, height=_BAR_HEIGHT, color=color, extra=Markup(extra))  # noqa: S704


def nice_ticks(top: float) -> list[float]:
    """Return about four round numbers from 0 up to ``top``."""
    raw = top / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return [step * i for i in range(int(top / step) + 1)]


def _rounds(points: Sequence[Point], x_of: Callable[[float], float]) -> list[Markup]:
    """Return round numbers below the axis and a dotted line where a session begins."""
    parts = []
    every = max(1, -(-len(points) // 12))
    for index, point in enumerate(points):
        if index and point.session != points[index - 1].session:
            parts.append(_line(x_of(index), _TOP, x_of(index), HEIGHT - _BOTTOM, AXIS, _DOTTED))
        if index % every == 0 or (index == len(points) - 1 and index % every > every / 2):
            parts.append(_text(x_of(index + 1), HEIGHT - _BOTTOM + 15, "middle", str(point.round)))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, color: str, extra: Markup | str = "") -> Markup:
    return _LINE_TAG.format(x1=x1, y1=y1, x2=x2, y2=y2, color=color, extra=Markup(extra))  # noqa: S704


def _text(x: float, y: float, anchor: str, text: str, color: str = AXIS) -> Markup:
    return _TEXT.format(x=x, y=y, anchor=anchor, text=text, color=color)

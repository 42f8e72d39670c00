"""Pages and forms of an institution, for the process that serves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from fedapt_secure.pages.charts import budget_bar, epsilon_chart
from fedapt_secure.web.site import Site


class SpentPoint(NamedTuple):
    """ε after a round."""

    session: str
    round: int
    epsilon: float


def _epsilon_chart(
    points: Sequence[Sequence[Any]], budget: float | None, name: str, each: str = "round"
) -> Markup:
    seen = [SpentPoint(name, int(number), float(epsilon)) for number, epsilon in points]
    return epsilon_chart(seen, budget, name, each)


def _numbered(values: Sequence[float]) -> list[tuple[int, float]]:
    return list(enumerate(values, start=1))


AGREE: Final = "agree"
DECLINE: Final = "decline"
SITE: Final = Site(
    title="Institution",
    templates=Path(__file__).parent,
    pages={
        "/": "Now",
        "/budget": "Privacy budget",
        "/policy": "Policy",
        "/log": "Log",
        "/models": "Models",
    },
    actions={AGREE: ("hash", "typed"), DECLINE: ("hash", "reason")},
    functions={"budget_bar": budget_bar, "epsilon_chart": _epsilon_chart, "numbered": _numbered},
)

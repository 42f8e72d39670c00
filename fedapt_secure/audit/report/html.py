"""The audit's answer as one self-contained page for somebody who reads no code, on screen and in print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedapt_secure import __version__
from fedapt_secure.audit.report import trust, wording
from fedapt_secure.audit.report.dossier import SELF_REPORTED, Dossier, day
from fedapt_secure.audit.report.guarantees import grouped
from fedapt_secure.audit.report.handed_over import ClassAccuracy, HandedOver
from fedapt_secure.pages.charts import epsilon_chart
from fedapt_secure.pages.environment import page_environment, strips_of

TEMPLATE: Final = "page.html.j2"
MOST_CLASSES: Final = 200
"""More make no page that anybody reads; the annex names all."""


def to_html(dossier: Dossier) -> str:
    """Return the page.

    Args:
        dossier: What the audit found, and what goes with it.
    """
    judgement = dossier.judgement
    environment = page_environment(Path(__file__).parent)
    environment.filters["epsilon"] = wording.number
    return environment.get_template(TEMPLATE).render(
        dossier=dossier,
        judgement=judgement,
        wording=wording,
        mark=wording.MARK,
        chart=epsilon_chart,
        day=day,
        most_classes=MOST_CLASSES,
        said=grouped(
            (one.party, (*one.words, one.bound, f"Counted: {one.composition}")) for one in dossier.guarantees
        ),
        strips=strips_of(judgement.participation.columns),
        by_class=_by_class(dossier.scores),
        self_reported=SELF_REPORTED,
        trust_source=trust.SOURCE,
        version=__version__,
    )


def _by_class(scores: Sequence[HandedOver]) -> list[tuple[str, list[ClassAccuracy | None]]]:
    """Return the accuracies class by class: a cell for each institution that named classes."""
    tables = [{one.name: one for one in handed.classes} for handed in scores if handed.classes]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [(name, [table.get(name) for table in tables]) for name in names]

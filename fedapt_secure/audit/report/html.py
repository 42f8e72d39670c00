"""The audit's answer as one self-contained page for somebody who reads no code, on screen and in print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jinja2

from fedapt_secure import __version__
from fedapt_secure.audit.evidence.participation import Column
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.report import trust, wording
from fedapt_secure.audit.report.charts import epsilon_chart
from fedapt_secure.audit.report.dossier import SELF_REPORTED, Dossier, day
from fedapt_secure.audit.report.guarantees import grouped
from fedapt_secure.audit.report.handed_over import ClassAccuracy, HandedOver
from fedapt_secure.process.shown import lines_shown, shown

TEMPLATE: Final = "page.html.j2"
MOST_CLASSES: Final = 200
"""More make no page that anybody reads; the annex names all."""
STRIP: Final = 15
"""Columns of the grid that stand beside each other: more are cut off on paper."""
_ONE_STRIP: Final = 30
MARK: Final = {
    Verdict.VERIFIED: "✓",
    Verdict.OPEN: "…",
    Verdict.VIOLATED: "!",
    Verdict.TAMPERED: "✕",
}


def to_html(dossier: Dossier) -> str:
    """Return the page.

    Args:
        dossier: What the audit found, and what goes with it.
    """
    judgement = dossier.judgement
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_guarded,
    )
    environment.filters["epsilon"] = wording.number
    environment.filters["plain"] = shown
    return environment.get_template(TEMPLATE).render(
        dossier=dossier,
        judgement=judgement,
        wording=wording,
        mark=MARK,
        chart=epsilon_chart,
        day=day,
        most_classes=MOST_CLASSES,
        said=grouped(
            (one.party, (*one.words, one.bound, f"Counted: {one.composition}")) for one in dossier.guarantees
        ),
        strips=_strips(judgement.participation.columns),
        by_class=_by_class(dossier.scores),
        self_reported=SELF_REPORTED,
        trust_source=trust.SOURCE,
        version=__version__,
    )


def _strips(columns: Sequence[Column]) -> list[list[Column | None]]:
    """Return the grid's columns in strips of equal width that fit onto a page, the last one filled up."""
    width = len(columns) if len(columns) <= _ONE_STRIP else STRIP
    strips: list[list[Column | None]] = []
    for start in range(0, len(columns), max(1, width)):
        part = columns[start : start + width]
        strips.append([*part, *[None] * (width - len(part))])
    return strips


def _by_class(scores: Sequence[HandedOver]) -> list[tuple[str, list[ClassAccuracy | None]]]:
    """Return the accuracies class by class: a cell for each institution that named classes."""
    tables = [{one.name: one for one in handed.classes} for handed in scores if handed.classes]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [(name, [table.get(name) for table in tables]) for name in names]


def _guarded(value: object) -> object:
    """Return what a place of the page shows: no character of any text, wherever it is from, turns others."""
    # Markup is the template's own, and a text with lines keeps them.
    return lines_shown(value) if type(value) is str else value

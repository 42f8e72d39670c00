"""The audit's answer as one self-contained page for somebody who reads no code, on screen and in print."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2

from fedapt_secure import __version__
from fedapt_secure.audit.findings import Verdict
from fedapt_secure.audit.judgement import Judgement
from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.charts import epsilon_chart

TEMPLATE: Final = "page.html.j2"
MARK: Final = {
    Verdict.VERIFIED: "✓",
    Verdict.OPEN: "…",
    Verdict.VIOLATED: "!",
    Verdict.TAMPERED: "✕",
}


def to_html(judgement: Judgement, sources: Sequence[Path], *, now: datetime | None = None) -> str:
    """Return the page.

    Args:
        judgement: What the audit found.
        sources: The paths that were audited, as they were given.
        now: When; the current time by default.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["epsilon"] = wording.number
    return environment.get_template(TEMPLATE).render(
        judgement=judgement,
        wording=wording,
        mark=MARK,
        chart=epsilon_chart,
        meaning=wording.MEANING[judgement.verdict],
        sources=[str(path) for path in sources],
        made=f"{moment:%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )

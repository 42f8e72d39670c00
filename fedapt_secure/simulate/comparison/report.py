"""A comparison as one page, ``report.html``: table, costs, how to read it; for screen and for paper."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fedapt_crypto.private_files import write_atomically
from fedapt_secure import __version__
from fedapt_secure.config.party_folder import PUBLIC_FILE_MODE
from fedapt_secure.pages.environment import page_environment
from fedapt_secure.protocol.methods import ZERO_SHOT
from fedapt_secure.simulate.comparison.figures import Comparison
from fedapt_secure.simulate.comparison.output import (
    COST_COLUMNS,
    PUBLISHED_COLUMNS,
    cost_cells,
    published_cells,
    remarks,
    with_deviation,
)

REPORT_FILE: Final = "report.html"


def write_report(folder: Path, comparison: Comparison) -> Path:
    """Write the page into a comparison's folder; return where.

    Args:
        folder: The folder.
        comparison: What came out.

    Raises:
        InvalidInput: If it cannot be written.
    """
    path = folder / REPORT_FILE
    write_atomically(path, to_html(comparison, datetime.now(UTC)).encode(), mode=PUBLIC_FILE_MODE)
    return path


def to_html(comparison: Comparison, made: datetime) -> str:
    """Return the page.

    Args:
        comparison: What came out.
        made: When.
    """
    trained = [row for row in comparison.rows if row.label.method != ZERO_SHOT]
    untuned = [row for row in comparison.rows if row.label.method == ZERO_SHOT]
    return (
        page_environment(Path(__file__).parent)
        .get_template("report.html.j2")
        .render(
            comparison=comparison,
            best=max(trained or comparison.rows, key=lambda row: row.mean.mean, default=None),
            zero_shot=untuned[0] if untuned and trained else None,
            with_own=any(row.own_domain is not None for row in comparison.rows),
            figure=with_deviation,
            cost_columns=COST_COLUMNS,
            costs=cost_cells,
            published_columns=PUBLISHED_COLUMNS,
            published=published_cells,
            remarks=[one.strip() for one in remarks(comparison)],
            made=f"{made:%Y-%m-%d %H:%M} UTC",
            version=__version__,
        )
    )

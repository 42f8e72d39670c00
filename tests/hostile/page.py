"""``python -m tests.hostile.page`` writes the table into docs/hostile-coordinator.md; a test holds it."""

import sys
from pathlib import Path
from typing import Final

from tests.hostile.behaviour import Behaviour
from tests.hostile.table import SECTIONS, TABLE

PAGE: Final = Path(__file__).parents[2] / "docs" / "hostile-coordinator.md"
BEGIN: Final = "<!-- python -m tests.hostile.page -->"
END: Final = "<!-- end -->"


def rendered() -> str:
    """Return the table as the page has it."""
    lines = [f"{len(TABLE)} rows.", ""]
    for title, rows in SECTIONS.items():
        lines += [f"### {title}", "| the coordinator | ends in | institutions' logs | its own log | audit |"]
        lines += ["|---|---|---|---|---|", *map(_row, rows), ""]
    return "\n".join(lines)


def _row(row: Behaviour) -> str:
    comes = row.comes
    refused = "" if comes.refused is None else f"`{comes.refused[0]}`: {comes.refused[1]}"
    noted = "" if comes.noted is None else f"`{comes.noted[0]}`: {comes.noted[1]}"
    named = comes.named.format(session="…").replace("……", "…")
    audit = str(comes.verdict) + (f": {named}" if named else "")
    cells = (row.name, row.ends, refused, noted, audit)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_table(text: str) -> str:
    """Return a page's text with the table of today in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{rendered()}{END}{after}"


def main() -> int:
    PAGE.write_text(with_table(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.audit.lies.page`` writes the table into docs/audit.md; a test holds it."""

import sys
from pathlib import Path
from typing import Final

from tests.audit.lies.table import SELF_REPORTED

PAGE: Final = Path(__file__).parents[3] / "docs" / "audit.md"
BEGIN: Final = "<!-- python -m tests.audit.lies.page -->"
END: Final = "<!-- end of the table -->"


def rendered() -> str:
    """Return the table as the page has it: fields of one line with one reason stand together."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for (role, type, name), reason in SELF_REPORTED.items():
        rows.setdefault((role, type, reason), []).append(f"`{name}`")
    lines = ["| who | line | fields | why nobody else could know |", "|---|---|---|---|"]
    lines += [
        f"| {role} | `{type}` | {' '.join(names)} | {reason} |"
        for (role, type, reason), names in rows.items()
    ]
    return "\n".join(lines) + "\n"


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

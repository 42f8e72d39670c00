"""What was found, as Markdown tables: one a part, a column for each figure."""

from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """Return the report."""
    facts = found["facts"]
    lines = [
        "# " + str(facts["device"]),
        "",
        ", ".join(f"{name} {value}" for name, value in facts.items() if name != "device"),
    ]
    for part, rows in found["found"].items():
        lines += ["", f"## {part}", "", *_table(rows)]
    if found["faults"]:
        lines += ["", "## Faults", "", *_table(found["faults"])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows),
    ]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")

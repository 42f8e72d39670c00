"""Write into ``docs/data.md`` what becomes of every file that pydicom ships; a test finds it stale.

python -m tests.learning.data.reading.medical.shipped_files
"""

from collections import defaultdict
from pathlib import Path

from fedapt_secure.learning.data.reading.images import open_rgb
from fedapt_secure.learning.data.reading.unusable import UnusableImage
from tests.learning.data.reading.medical.made import SHIPPED, pydicom

PAGE = Path(__file__).parents[5] / "docs" / "data.md"
BEGIN, END = "<!-- pydicom's files: begin -->\n", "<!-- pydicom's files: end -->\n"
MOST_NAMED = 6
NO_DATA = {".py", ".pyc", ".json", ".txt", ".md", ".dump", ".icc"}


def outcomes() -> dict[str, list[str]]:
    """Return what becomes of each file: ``read``, or the reason why not, with the files' names."""
    found = defaultdict(list)
    for path in sorted(SHIPPED.rglob("*")):
        if path.is_file() and path.suffix not in NO_DATA and path.name != "README":
            try:
                picture = open_rgb(path.read_bytes())
                found[f"read, {'grey' if _is_grey(picture) else 'in colour'}"].append(path.name)
            except UnusableImage as error:
                found[str(error)].append(path.name)
    return dict(found)


def _is_grey(picture) -> bool:
    red, green, blue = picture.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def table() -> str:
    """Return the table: read ones first, then refused ones by reason."""
    rows = [f"| {len(names)} | {what} | {_named(names)} |\n" for what, names in _ranked(outcomes())]
    head = f"pydicom {pydicom.__version__.rsplit('.', 1)[0]}:\n\n| files | what becomes of them | which |\n"
    return f"{head}|---|---|---|\n{''.join(rows)}"


def _ranked(found: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    return sorted(found.items(), key=lambda one: (not one[0].startswith("read"), -len(one[1]), one[0]))


def _named(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"


def on_the_page() -> str:
    """Return the table that stands on the page."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")

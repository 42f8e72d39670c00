"""Draw the rooms and who imports whom: ``docs/images/rooms.svg``, made from the imports themselves.

    python -m docs.rooms [--check]

``--check`` changes nothing and exits with 1 where the picture is not up to date. What the picture shows is
read here, and tested by ``tests/test_import_rules.py``, which reads the tree through the same functions.
"""

import ast
import html
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES: Mapping[str, Path] = {
    "fedapt_crypto": ROOT / "crypto" / "fedapt_crypto",
    "fedapt_secure": ROOT / "fedapt_secure",
    "fedapt_client": ROOT / "client" / "fedapt_client",
    "fedapt_server": ROOT / "server" / "fedapt_server",
}
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
COLOURS: Mapping[str, str] = {
    "fedapt_crypto": "#e8def8",
    "fedapt_secure": "#e3eefc",
    "fedapt_client": "#dff3e4",
    "fedapt_server": "#fdeacc",
}
BOX_WIDTH, GAP, LINE, MARGIN, BETWEEN_ROWS, LANE = 236, 26, 16, 20, 46, 14
CAPTION_CHARACTERS = 33


@dataclass(frozen=True)
class Box:
    """Where a room is drawn, in pixels."""

    left: float
    top: float
    height: float


def modules() -> dict[str, Path]:
    """Return every module's dotted name and file; a package stands for its ``__init__``."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return every dotted name that a file imports, also inside functions; ours and others'.

    Raises:
        ValueError: If an import is relative: here they are absolute, so that a reader can search for them.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"{path}: imports are absolute here")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def imported_modules(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return which modules of ours a file imports."""
    return {module for name in imported_names(path) if (module := _module_of(name, known)) is not None}


def _module_of(name: str, known: Mapping[str, Path]) -> str | None:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def drawn_rooms(known: Mapping[str, Path]) -> list[str]:
    """Return the rooms of the picture: each trust domain, and what the two shared ones consist of."""
    rooms = [*PACKAGES, "fedapt_crypto.secagg"]
    rooms += [name for name in known if re.fullmatch(r"fedapt_secure\.\w+", name) and is_package(name, known)]
    rooms.remove("fedapt_secure")
    return rooms


def is_package(name: str, known: Mapping[str, Path]) -> bool:
    """Return whether a module is a folder."""
    return known[name].name == "__init__.py"


def _edges(rooms: list[str], known: Mapping[str, Path]) -> dict[str, set[str]]:
    def room_of(module: str) -> str | None:
        holding = [room for room in rooms if module == room or module.startswith(room + ".")]
        return max(holding, key=len, default=None)

    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module, path in known.items():
        here = room_of(module)
        for other in imported_modules(path, known):
            there = room_of(other)
            if here is not None and there is not None and here != there:
                found[here].add(there)
    return found


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for other in edges[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def _without_detours(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each arrow that follows from two others: whoever sees A on B on C knows that A may use C."""
    return {
        room: {to for to in below if not any(to in _reached(other, edges) for other in below - {to})}
        for room, below in edges.items()
    }


def _rows(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the rows from the top: each room as high as those that use it allow."""
    depth: dict[str, int] = {}

    def depth_of(room: str) -> int:
        if room not in depth:
            users = [other for other, below in edges.items() if room in below]
            depth[room] = 1 + max((depth_of(other) for other in users), default=-1)
        return depth[room]

    rows: list[list[str]] = [[] for _ in range(1 + max(depth_of(room) for room in edges))]
    for room in edges:
        rows[depth[room]].append(room)
    return rows


def _caption(room: str, known: Mapping[str, Path]) -> list[str]:
    text = ast.get_docstring(ast.parse(known[room].read_text(encoding="utf-8"))) or ""
    first = re.split(r"[:;.]( |$)", text.replace("``", ""), maxsplit=1)[0].splitlines()[0]
    return textwrap.wrap(first, CAPTION_CHARACTERS)


def _inside(room: str, known: Mapping[str, Path]) -> list[str]:
    prefix = room + "."
    inner = [
        name.removeprefix(prefix)
        for name in known
        if name.startswith(prefix) and "." not in name.removeprefix(prefix) and is_package(name, known)
    ]
    return textwrap.wrap(" · ".join(inner), CAPTION_CHARACTERS) if inner else []


def picture() -> str:
    """Return the picture as SVG: a box for each room, arrows down to what is used."""
    known = modules()
    edges = _edges(drawn_rooms(known), known)
    rows = _rows(edges)
    row_of = {room: number for number, row in enumerate(rows) for room in row}
    arrows = [(room, to) for room, below in _without_detours(edges).items() for to in sorted(below)]
    long = [arrow for arrow in arrows if row_of[arrow[1]] > row_of[arrow[0]] + 1]
    beside = MARGIN + LANE * len(long)
    width = beside + max(len(row) for row in rows) * (BOX_WIDTH + GAP) - GAP + MARGIN
    boxes: dict[str, Box] = {}
    parts: list[str] = []
    top: float = MARGIN
    for row in rows:
        texts = {room: (_caption(room, known), _inside(room, known)) for room in row}
        height = 34 + LINE * max(len(caption) + len(inner) for caption, inner in texts.values())
        left = (width + beside - MARGIN - len(row) * (BOX_WIDTH + GAP) + GAP) / 2
        for room in row:
            boxes[room] = Box(left, top, height)
            parts += _box(room, *texts[room], boxes[room])
            left += BOX_WIDTH + GAP
        top += height + BETWEEN_ROWS
    ends = _ends(arrows, boxes)
    for number, arrow in enumerate(arrows):
        lane = long.index(arrow) if arrow in long else None
        parts.append(_arrow(*ends[number], lane))
    return "\n".join([*_head(width, top - BETWEEN_ROWS + MARGIN), *parts, "</svg>"]) + "\n"


def _ends(
    arrows: list[tuple[str, str]], boxes: Mapping[str, Box]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return where each arrow begins and ends: side by side along its boxes' edges."""

    def place(number: int, end: int) -> float:
        room = arrows[number][end]
        mates = [n for n, arrow in enumerate(arrows) if arrow[end] == room]
        mates.sort(key=lambda n: boxes[arrows[n][1 - end]].left)
        return boxes[room].left + BOX_WIDTH * (mates.index(number) + 1) / (len(mates) + 1)

    found = []
    for number, (room, to) in enumerate(arrows):
        start = (place(number, 0), boxes[room].top + boxes[room].height)
        found.append((start, (place(number, 1), boxes[to].top - 1)))
    return found


def _arrow(start: tuple[float, float], end: tuple[float, float], lane: int | None) -> str:
    (x, y), (to_x, to_y) = start, end
    if lane is None:
        bend = (to_y - y) / 2
        path = f"M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y:.0f}"
    else:  # over several rows: beside the boxes, not behind them
        out, back, beside = y + 8 + 5 * lane, to_y - 28 + 5 * lane, MARGIN + LANE * lane
        path = f"M{x:.0f} {y:.0f}V{out:.0f}H{beside}V{back:.0f}H{to_x:.0f}V{to_y:.0f}"
    return f'<path d="{path}" fill="none" stroke="#667" marker-end="url(#tip)"/>'


def _head(width: float, height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="sans-serif" font-size="12" role="img"'
        ' aria-label="Rooms and their imports">'
    )
    yield (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>'
    )
    yield '<rect width="100%" height="100%" fill="#fff"/>'


def _box(room: str, caption: list[str], inner: list[str], box: Box) -> Iterator[str]:
    colour = COLOURS[room.split(".", maxsplit=1)[0]]
    yield (
        f'<rect x="{box.left:.0f}" y="{box.top:.0f}" width="{BOX_WIDTH}" height="{box.height:.0f}" rx="6"'
        f' fill="{colour}" stroke="#556"/>'
    )
    x, y = box.left + 10, box.top + 20
    yield f'<text x="{x:.0f}" y="{y:.0f}" font-weight="bold" fill="#111">{room}</text>'
    for line in caption:
        y += LINE
        yield f'<text x="{x:.0f}" y="{y:.0f}" fill="#222">{html.escape(line)}</text>'
    for line in inner:
        y += LINE
        yield f'<text x="{x:.0f}" y="{y:.0f}" font-style="italic" fill="#447">{html.escape(line)}</text>'


def main() -> int:
    """Write the picture, or check it; returns the exit status."""
    wanted = picture()
    if "--check" in sys.argv[1:]:
        return int(not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != wanted)
    PICTURE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

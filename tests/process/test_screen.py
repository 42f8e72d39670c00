"""Tables on narrow and odd screens: all of every cell is there, and no line is too long."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from fedapt_secure.process.screen import Screen
from fedapt_secure.process.shown import shown
from fedapt_secure.process.streams import fitting

NAMES = st.text(st.characters(codec="latin-1"), min_size=1, max_size=90)
FRAME = re.compile(r"[│┃┏┳┓┡╇┩└┴┘├┼┤━─+|\s-]")


def printed(table: Table, width: int | None, encoding: str = "utf-8") -> list[str]:
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as file:
        Screen(file=file, width=width).print(table)
        file.seek(0)
        return file.read().split("\n")


def table_of(names: list[str], figures: int) -> Table:
    table = Table()
    table.add_column("institution")
    for number in range(figures):
        table.add_column(f"figure {number}", justify="right")
    for name in names:
        table.add_row(escape(name), *(f"{number}.12345678" for number in range(figures)))
    return table


@settings(deadline=None)
@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.integers(0, 9),
    st.sampled_from([40, 60, 80, 120]),
    st.sampled_from(["ascii", "cp1252", "utf-8"]),
)
def test_nothing_is_cut(names: list[str], figures: int, width: int, encoding: str) -> None:
    lines = printed(table_of(names, figures), width, encoding)
    assert all(cell_len(line) <= width for line in lines)
    rows = "".join(FRAME.sub("", line) for line in lines)
    letters = sorted(rows)
    for name in names:
        expected = FRAME.sub("", fitting(shown(name), encoding))
        for letter in set(expected):
            assert letters.count(letter) >= expected.count(letter)
    assert rows.count(".12345678") == figures * len(names), "figures stay whole"


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_names_that_begin_alike_stay_apart(width: int | None) -> None:
    names = [f"hospital-of-the-northern-provinces-department-of-radiology-{mark}" for mark in "QXZ"]
    text = "\n".join(printed(table_of(names, 6), width))
    assert [mark for mark in "QXZ" if mark in text] == ["Q", "X", "Z"]


def test_in_a_pipe_rows_stay_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "n" * 300
    assert any(name in line for line in printed(table_of([name], 3), None))


def test_a_cell_and_a_sentence_are_one_line() -> None:
    table = Table("name", "state")
    table.add_row("two\nlines\x1b[31m", "fine")
    text = "\n".join(printed(table, 80))
    assert r"two\nlines\x1b[31m" in text
    assert "\x1b" not in text
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as file:
        Screen(file=file, width=80).print("forged\nline")
        file.seek(0)
        assert file.read() == "forged\\nline\n"

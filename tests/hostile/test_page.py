"""The page says what the table says, and names tests that are there."""

import re
from pathlib import Path

from tests.hostile.page import PAGE, with_table

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_table_of_today() -> None:
    text = PAGE.read_text()
    assert text == with_table(text), "run python -m tests.hostile.page"


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) > 15
    for path, function in named:
        source = (ROOT / path).read_text()
        assert not function or re.search(rf"(def|class) {function}\b", source), f"{path}::{function}"

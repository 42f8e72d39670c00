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


def test_every_row_about_adversaries_names_tests_that_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") in (3, 6)]
    tables = [row for row in rows if "`tests/" in row or "crypto/model" in row]
    assert len(tables) >= 18
    for path in re.findall(r"`(tests/[\w/.]+)`", "\n".join(tables)):
        assert (ROOT / path).exists(), path
    about = text[text.index("## Who can do what") : text.index("### Secure aggregation hides the summands")]
    for row in [line for line in about.splitlines() if line.startswith("| ")][1:]:
        assert "`tests/" in row, row

"""Text from outside on a screen: one line, nothing that a terminal obeys, nothing that looks like another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_secure.process.shown import lines_shown, sentence_shown, shown

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, wörds of ε", "plain, wörds of ε"),
        ("two\nlines\r\n\tand", r"two\nlines\r\n\tand"),
        ("\x1b[2J\x07\x00", r"\x1b[2J\x07\x00"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ufeffa\u200bb\u200d\u2028", r"\ufeffa\u200bb\u200d\u2028"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("\xa0", r"\xa0"),
    ],
)
def test_what_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(ANY)
def test_it_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert sentence_shown(text).isprintable()
    assert all(part.isprintable() for part in lines_shown(text).replace("\t", "").split("\n"))


@given(ANY)
def test_shown_twice_is_shown_once(text: str) -> None:
    assert shown(shown(text)) == shown(text)


@given(ANY.filter(lambda text: "\\" not in text), ANY.filter(lambda text: "\\" not in text))
def test_two_texts_stay_two(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) == (one == other)

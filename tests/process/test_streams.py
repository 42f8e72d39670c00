"""Streams that take every text in every encoding, and a log stream that is JSON whatever is written to it."""

import ast
import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.rooms import modules
from fedapt_secure.process import streams
from fedapt_secure.process.streams import SPELT, JsonLines, fitting, json_text

ANY = st.text(st.characters(exclude_categories=()))
ENCODINGS = ("ascii", "cp1252", "latin-1", "iso8859-7", "koi8-r", "shift_jis", "utf-8", "utf-16")


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "epsilon = 8 +/- 1, x, -, ..., Renyi, Z\\xfcrich \\u0436"),
        ("latin-1", "epsilon = 8 ± 1, ×, -, ..., Rényi, Zürich \\u0436"),
        ("cp1252", "epsilon = 8 ± 1, ×, –, …, Rényi, Zürich \\u0436"),
        ("utf-8", "ε = 8 ± 1, ×, –, …, Rényi, Zürich ж"),
    ],
)
def test_what_an_encoding_lacks_is_spelt(encoding: str, expected: str) -> None:
    assert fitting("ε = 8 ± 1, ×, –, …, Rényi, Zürich ж", encoding) == expected


@given(ANY, st.sampled_from(ENCODINGS))
def test_it_always_fits(text: str, encoding: str) -> None:
    found = fitting(text, encoding)
    assert fitting(found, encoding) == found
    assert not set("\x1b\x07\x9b\u202e") & set(found)
    found.encode(encoding)


@given(st.text())
def test_what_an_encoding_has_stays(text: str) -> None:
    if text.isprintable():
        assert fitting(text, "utf-8") == text


def literals(source: str) -> set[str]:
    """Return the strings that code has and that are no docstrings."""
    tree = ast.parse(source)
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    }


def test_every_letter_of_ours_has_a_spelling() -> None:
    texts = {text for path in modules().values() for text in literals(path.read_text())}
    letters = {letter for text in texts for letter in text.replace("Rényi", "") if not letter.isascii()}
    assert letters <= set(SPELT) | {"\x9b"}
    assert all(spelt.isascii() for spelt in SPELT.values())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_the_same_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"name": "ε \x1b[31m\x9b\u202e\udc80 Zürich", "number": 1.5}
    with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        text = json_text(fields)
    assert json.loads(text.encode(encoding).decode(encoding)) == fields
    assert not set("\x1b\x9b\u202e") & set(text)


def test_json_has_no_infinite_numbers() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"epsilon": float("inf")})


@given(st.lists(ANY))
def test_whatever_is_written_is_an_object_a_line(parts: list[str]) -> None:
    under = io.StringIO()
    stream = JsonLines(under)
    for part in parts:
        stream.write(part)
    stream.end()
    objects = [json.loads(line) for line in under.getvalue().splitlines()]
    assert [one["message"] for one in objects] == [
        line.strip() for line in "".join(parts).split("\n") if line.strip()
    ]


def test_an_object_stays_as_it_is() -> None:
    under = io.StringIO()
    JsonLines(under).write('{"event": "x"}\n[1]\n{"broken\n')
    first, second, third = under.getvalue().splitlines()
    assert first == '{"event": "x"}'
    assert (json.loads(second)["message"], json.loads(third)["message"]) == ("[1]", '{"broken')


@pytest.mark.parametrize("as_json", [False, True])
def test_a_complaint_is_one_line(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    under = io.StringIO()
    monkeypatch.setattr(sys, "stderr", JsonLines(under) if as_json else under)
    streams.complain("error", "no\nsuch \x1b[31mfile")
    (line,) = under.getvalue().splitlines()
    assert (
        json.loads(line)["message"] if as_json else line.removeprefix("error: ")
    ) == r"no such \x1b[31mfile"

"""docs/models.md lists every name that open_clip has, as `every_architecture` saw it."""

import re

import open_clip
import pytest

from tests.learning.clip.every_architecture import BEGIN, END, PAGE, rendered, rows

TABLE = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
LISTED = {name: line for line in TABLE.splitlines() for name in re.findall(r"^\| `([^`]+)` \|", line)}
SOME = ("ViT-S-32-alt", "ViT-B-32-SigLIP2-256", pytest.param("coca_base", marks=pytest.mark.slow))


def test_the_page_has_all_names():
    assert list(LISTED) == open_clip.list_models()
    assert f"{len(LISTED)} architectures, {len(LISTED)} of them can be tuned" in TABLE


def line_of(row):
    return next(line for line in rendered([row]).splitlines() if line.startswith(f"| `{row.name}`"))


@pytest.mark.parametrize("name", SOME)
def test_some_are_as_the_page_says(name):
    [row] = rows([name])
    assert line_of(row) == LISTED[name]


@pytest.mark.slow  # ten minutes
@pytest.mark.timeout(3600)
def test_all_are_as_the_page_says():
    for row in rows(open_clip.list_models()):
        assert line_of(row) == LISTED[row.name]

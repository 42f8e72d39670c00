"""Class names in prompts: as people say them, and never two alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_secure.learning.clip.class_names import spoken, spoken_alike, spoken_names
from fedapt_secure.learning.data.layouts.office31 import OFFICE31
from fedapt_secure.learning.data.layouts.officehome import OFFICEHOME

NAMES = st.text("aAbcDef_- 0é", max_size=12)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fire_truck", "fire truck"),
        ("  sea__anemone ", "sea anemone"),
        ("mouse_pad", "mouse pad"),
        ("alarm-clock", "alarm clock"),
        ("ToothBrush", "Tooth Brush"),
        ("Real_World", "Real World"),
        ("The_Eiffel_Tower", "The Eiffel Tower"),
        ("see_saw", "see saw"),
        ("TV", "TV"),
        ("x-ray", "x-ray"),
        ("t-shirt", "t-shirt"),
        ("covid-19", "covid-19"),
        ("iPhone", "iPhone"),
        ("McDonald", "McDonald"),
        ("DNase", "DNase"),
        ("n01440764", "n01440764"),
        ("Müll-Eimer", "Müll Eimer"),
    ],
)
def test_as_people_say_it(name: str, said: str) -> None:
    assert spoken(name) == said


@given(NAMES)
def test_saying_it_again_changes_nothing(name: str) -> None:
    assert spoken(spoken(name)) == spoken(name)


@given(st.lists(NAMES, unique=True, max_size=8))
def test_different_names_stay_different(names: list[str]) -> None:
    said = spoken_names(names)
    assert len(set(said)) == len(names)
    for name, one in zip(names, said, strict=True):
        assert one == (name if name in spoken_alike(names) else spoken(name))


def test_names_that_would_be_alike_stay_as_written() -> None:
    assert spoken_alike(["fire_truck", "fire truck", "sea_lion"]) == ("fire_truck", "fire truck")
    assert spoken_names(["fire_truck", "fire truck", "sea_lion"]) == ("fire_truck", "fire truck", "sea lion")


@pytest.mark.parametrize("layout", [OFFICE31, OFFICEHOME])
def test_published_class_lists_have_none_alike(layout) -> None:
    assert spoken_alike(layout.class_names) == ()
    assert not any("_" in name for name in spoken_names(layout.class_names))

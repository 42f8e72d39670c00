"""Class lists that differ: everything that differs is said, and not more than fits into a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.classes import MOST_NAMED, agreed_classes, class_differences

NAMES = st.sets(st.text("abcXYZ_", min_size=1, max_size=6), min_size=1, max_size=4)


def test_unknown_missing_and_closest() -> None:
    assert (
        class_differences(["Alarm_Clock", "mug"], ["alarm_clock", "mug"])
        == "unknown class 'alarm_clock' (closest: 'Alarm_Clock'); missing 'Alarm_Clock'"
    )
    assert class_differences(["mug"], ["zzz", "mug"]) == "unknown class 'zzz'"
    assert class_differences(["mug", "pen"], ["pen"]) == "missing 'mug'"


@given(NAMES, NAMES)
def test_all_of_a_small_difference_is_named(expected: set[str], found: set[str]) -> None:
    said = class_differences(expected, found)
    assert bool(said) == (expected != found)
    for name in expected ^ found:
        assert repr(name) in said


def test_a_large_difference_is_counted() -> None:
    said = class_differences([f"{n:03d}" + "x" * 300 for n in range(345)], [f"{n:03d}y" for n in range(345)])
    assert said.count(f"and {345 - MOST_NAMED} more") == 2
    assert len(said) < 1000


def test_domains_must_agree() -> None:
    assert agreed_classes([("a", {"y", "x"}), ("b", ["x", "y"])]) == ("x", "y")
    with pytest.raises(InvalidInput, match="b against a: missing 'y'; c against a: unknown class 'z'"):
        agreed_classes([("a", {"y", "x"}), ("b", {"x"}), ("c", {"x", "y", "z"})])

"""Class lists that differ: everything that differs is said, and not more than fits into a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.reading.classes import (
    MOST_NAMED,
    agreed_classes,
    all_classes,
    class_differences,
    class_numbers,
)
from fedapt_secure.protocol.class_names import compared

NAMES = st.sets(st.text("abcXYZ_", min_size=1, max_size=6), min_size=1, max_size=4)


def test_unknown_missing_and_closest() -> None:
    assert (
        class_differences(["Alarm_Clock", "mug"], ["alarm-clock", "mug"])
        == "unknown class 'alarm-clock' (closest: 'Alarm_Clock'); missing 'Alarm_Clock'"
    )
    assert class_differences(["mug"], ["zzz", "mug"]) == "unknown class 'zzz'"
    assert class_differences(["mug", "pen"], ["pen"]) == "missing 'mug'"


@given(NAMES, NAMES)
def test_all_of_a_small_difference_is_named(expected: set[str], found: set[str]) -> None:
    said = class_differences(expected, found)
    keys = {compared(one) for one in expected}, {compared(one) for one in found}
    assert bool(said) == (keys[0] != keys[1])
    for key in keys[0] ^ keys[1]:
        assert any(repr(name) in said for name in expected | found if compared(name) == key)


def test_a_large_difference_is_counted() -> None:
    said = class_differences([f"{n:03d}" + "x" * 300 for n in range(345)], [f"{n:03d}y" for n in range(345)])
    assert said.count(f"and {345 - MOST_NAMED} more") == 2
    assert len(said) < 1000


def test_domains_must_agree() -> None:
    assert agreed_classes([("a", {"y", "x"}), ("b", ["x", "y"])]) == ("x", "y")
    with pytest.raises(InvalidInput, match="b against a: missing 'y'; c against a: unknown class 'z'"):
        agreed_classes([("a", {"y", "x"}), ("b", {"x"}), ("c", {"x", "y", "z"})])


class TestMatching:
    def test_other_spellings_are_the_sessions_class(self) -> None:
        found = class_numbers(["naevus", "mélanome"], ["Naevus ", "me\u0301lanome"], "here")
        assert found == {"Naevus ": 0, "me\u0301lanome": 1}

    def test_two_spellings_at_once_are_refused_and_told_apart(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            class_numbers(["naevus", "x"], ["Naevus", "naevus "], "here")
        assert str(caught.value).startswith(
            "here has a class under two names: 'Naevus' (differs by capital letters) and 'naevus ' (differs"
            " by a space at the end) both stand for the session's 'naevus'"
        )

    def test_what_the_eye_takes_for_the_same_is_told_apart(self) -> None:
        with pytest.raises(
            InvalidInput, match="has U\\+0430 CYRILLIC SMALL LETTER A in place of U\\+0061 LATIN"
        ):
            class_numbers(["naevus", "x"], ["n\u0430evus"], "here")


class TestClassesOfAllDomains:
    def test_a_domain_may_lack_some(self) -> None:
        assert all_classes([("a", {"y", "x"}), ("b", {"x"}), ("c", {"z", "x", "y"})]) == ("x", "y", "z")

    def test_of_spellings_the_first_counts(self) -> None:
        assert all_classes([("a", {"E\u0301 "}), ("b", {"é"})]) == ("É",)

    @pytest.mark.parametrize("slip", ["dgo", "violin"])
    def test_a_slip_is_no_class_of_its_own(self, slip: str) -> None:
        with pytest.raises(
            InvalidInput, match=f"c against the others: unknown class '{slip}'.*missing 'dog'"
        ):
            all_classes([("a", {"cat", "dog"}), ("b", {"cat", "dog"}), ("c", {"cat", slip})])

    def test_one_class_under_two_names_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="b has a class under two names: 'Y' and 'y' are one class"):
            all_classes([("a", {"y", "x"}), ("b", {"y", "Y"})])

"""Class names: what is one class, in which words two that look alike are told apart, and that plans agree."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, MalformedMessage
from fedapt_secure.config.settings import build
from fedapt_secure.protocol.class_names import both, check_class_names, collision, compared, lookalikes, shown
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from tests.protocol.federation import Federation

ODD = st.text(st.sampled_from("aAeéÉe\u0301ßẞſİıσςΣ \u00a0\u1e9e\ufb01\u0345"), max_size=6)


@given(st.text() | ODD)
def test_what_stands_for_a_name_stands_for_itself(name: str) -> None:
    key = compared(name)
    assert compared(key) == key
    assert key == key.strip()
    assert unicodedata.is_normalized("NFC", key)


@given(st.text(max_size=8) | ODD, st.sampled_from(["", " ", "\t", "\u00a0"]))
def test_form_and_blanks_at_the_ends_do_not_matter(name: str, blank: str) -> None:
    for form in ("NFC", "NFD"):
        assert compared(unicodedata.normalize(form, name)) == compared(name)
    assert compared(blank + compared(name) + blank) == compared(name)


@given(st.text("abcdéèöñ", max_size=8))
def test_capitals_do_not_matter(name: str) -> None:
    assert compared(name.upper()) == compared(name)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["zero", "one", "zero"], "the class 'zero' is named twice"),
        (["zero", "Zero"], "'zero' and 'Zero' are one class: the second differs by capital letters only"),
        (
            ["zero", "zero "],
            "'zero' and 'zero ' are one class: the second differs by a space at the end only",
        ),
        (["é", "e\u0301"], r"'é' and 'e\\u0301' are one class: .*accents that are characters of their own"),
        (["zero", "  "], "the class name '  ' is blank"),
    ],
)
def test_a_list_that_names_a_class_twice_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_class_names(names)


@given(st.lists(st.text(min_size=1, max_size=4) | ODD, max_size=6))
def test_exactly_lists_without_collision_pass(names: list[str]) -> None:
    keys = [compared(name) for name in names]
    if all(keys) and len(set(keys)) == len(keys):
        check_class_names(names)
    else:
        with pytest.raises(ValueError, match=r"^[^\n]*$"):
            check_class_names(names)


@given(st.text(min_size=1, max_size=6) | ODD, st.text(min_size=1, max_size=6) | ODD)
def test_two_names_of_one_class_never_look_the_same(first: str, second: str) -> None:
    if collision([first, second]) and first != second:
        said = both(first, second)
        assert said.isprintable()
        assert "differs by  only" not in said


def test_names_that_look_the_same_are_told_apart_by_their_characters() -> None:
    told = "U+0430 CYRILLIC SMALL LETTER A in place of U+0061 LATIN SMALL LETTER A"
    assert lookalikes("naevus", "n\u0430evus") == told
    assert lookalikes("x-ray", "x\u2011ray").startswith("U+2011 NON-BREAKING HYPHEN in place of U+002D")
    assert lookalikes("naevus", "naevi") == ""
    assert lookalikes("a", "\u0430 and b") == ""  # what the eye sees anyway is not spelled out


def test_a_name_is_shown_so_that_its_form_is_seen() -> None:
    assert shown("mélanome") == "'mélanome'"
    assert shown("me\u0301lanome") == r"'me\u0301lanome'"
    assert len(shown("x" * 300)) < 50


@pytest.fixture(scope="module")
def configuration() -> SessionConfiguration:
    return Federation(3, rounds=3).configuration


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["zero", "zero"], "session.yaml: class_names: the class 'zero' is named twice"),
        (["zero", "Zero", "zero "], "'zero' and 'Zero' are one class: the second differs by capital letters"),
        (["zero", "zero "], "'zero' and 'zero ' are one class: the second differs by a space at the end"),
        (["\u00e9", "e\u0301"], r"'é' and 'e\\u0301' are one class: .*Unicode NFD, not NFC"),
        (["zero", " "], "the class name ' ' is blank"),
    ],
)
def test_a_plan_with_one_class_twice_is_refused(configuration, names, said) -> None:
    fields = configuration.plan.model_dump(mode="json") | {"class_names": names}
    with pytest.raises(InvalidInput, match=said):
        build(SessionPlan, fields, source="session.yaml")


def test_an_institution_takes_no_configuration_with_one_class_twice(configuration) -> None:
    """A coordinator that leaves the check out does not get past the institutions."""
    names = ("zero", "Zero", *configuration.plan.class_names[2:])
    bad = configuration.model_copy(
        update={"plan": configuration.plan.model_copy(update={"class_names": names})}
    )
    with pytest.raises(MalformedMessage):
        SessionConfiguration.from_bytes(bad.to_bytes())

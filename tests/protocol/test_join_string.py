"""The join string: what was put in comes out, and a mistake in copying is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.protocol.joining import join_string as j
from fedapt_secure.protocol.joining.join_string import JoinString

HASHES = st.binary(min_size=32, max_size=32)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
ADDRESSES = st.from_regex(r"[A-Za-z0-9:][A-Za-z0-9._:-]{0,60}", fullmatch=True)
JOINS = st.builds(
    JoinString,
    addresses=st.lists(ADDRESSES, min_size=1, max_size=8).map(tuple),
    port=st.integers(1, 65535),
    authority_fingerprint=HASHES,
    coordinator_fingerprint=HASHES,
    name=NAMES,
    token=HASHES,
    expires=st.integers(0, (1 << 40) - 1),
)
ONE = JoinString(
    addresses=("coordinator.example", "192.0.2.7"),
    port=8444,
    authority_fingerprint=bytes(32),
    coordinator_fingerprint=bytes(range(32)),
    name="clinic-1",
    token=bytes(range(1, 33)),
    expires=1_800_000_000,
)


@given(JOINS)
def test_it_comes_back(join: JoinString) -> None:
    text = join.to_text()
    assert JoinString.from_text(text) == join
    assert text.startswith("fedapt1-")
    assert len(text) < 2000


@given(JOINS, st.data())
def test_white_space_does_not_matter(join: JoinString, data: st.DataObject) -> None:
    text = join.to_text()
    at = data.draw(st.integers(0, len(text)))
    space = data.draw(st.sampled_from([" ", "\n", "\r\n  ", "\t"]))
    assert JoinString.from_text(f" {text[:at]}{space}{text[at:]}\n") == join


def test_every_changed_character_is_noticed() -> None:
    text = ONE.to_text()
    for index in range(len(j.PREFIX), len(text)):
        for other in "Aa0-_":
            if other != text[index]:
                with pytest.raises(InvalidInput, match="copy all of it again"):
                    JoinString.from_text(text[:index] + other + text[index + 1 :])


def test_every_shortened_one_is_noticed() -> None:
    text = ONE.to_text()
    for length in range(len(text)):
        with pytest.raises(InvalidInput, match="join string"):
            JoinString.from_text(text[:length])


@given(st.text(max_size=200))
def test_what_is_none_is_refused_in_one_line(text: str) -> None:
    for attempt in (text, j.PREFIX + text):
        with pytest.raises(InvalidInput) as caught:
            JoinString.from_text(attempt)
        assert "\n" not in str(caught.value)


def test_another_version_is_named() -> None:
    with pytest.raises(InvalidInput, match="another version: update"):
        JoinString.from_text("fedapt2-AAAA")


def test_a_very_long_one_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InvalidInput):
        JoinString.from_text(j.PREFIX + "A" * 10_000_000)


def test_the_token_is_not_shown() -> None:
    assert ONE.token.hex() not in repr(ONE)
    assert "<32 bytes>" in repr(ONE)


def test_what_is_kept_of_a_token_does_not_give_it_back() -> None:
    token = j.fresh_token()
    kept = {j.token_hash(token), j.paper_key(token)}
    assert len(kept) == 2
    assert token not in kept
    assert j.token_id(token) == token[:8]
    assert j.fresh_token() != token


def test_a_request_is_authenticated_by_one_token_only() -> None:
    keys = [j.paper_key(bytes((number,)) * 32) for number in range(2)]
    assert len({j.authenticate(key, part) for key in keys for part in (b"a", b"b")}) == 4

"""Messages between a page's two processes: bounded, strict, and gone when the other side has gone."""

import math
import socket
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import MalformedMessage
from fedapt_secure.web.pipe import LENGTH, MAX_ASKED, packed, plain, receive, unpacked

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_is_sent_arrives(fields: dict[str, Any]) -> None:
    here, there = socket.socketpair()
    with here, there:
        sending = Thread(target=here.sendall, args=(packed(fields),))
        sending.start()
        assert receive(there, 1 << 20) == fields
        sending.join()


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b"\xff", b'{"a":' * 10_000, b'"text"'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        unpacked(data)


def test_what_is_too_long_is_not_read() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(LENGTH.pack(MAX_ASKED + 1))
        with pytest.raises(MalformedMessage, match="bytes"):
            receive(there, MAX_ASKED)


@pytest.mark.parametrize("sent", [b"", b"\0", LENGTH.pack(5), LENGTH.pack(5) + b"{}"])
def test_who_has_gone_in_the_middle_has_gone(sent: bytes) -> None:
    here, there = socket.socketpair()
    with there:
        here.sendall(sent)
        here.close()
        assert receive(there, MAX_ASKED) is None


def test_numbers_that_json_has_not_are_none() -> None:
    found = plain({"a": [math.inf, {"b": math.nan}, (1.5, -math.inf)], "c": "inf", "d": 3})
    assert found == {"a": [None, {"b": None}, [1.5, None]], "c": "inf", "d": 3}
    assert packed(found)

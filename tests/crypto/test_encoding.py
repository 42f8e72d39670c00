"""The decoder accepts one spelling of each message and nothing else."""

from typing import Annotated, Literal

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from fedapt_crypto.encoding import Message, TaggedMessage, decode_one_of, encode, kinds_of
from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.institution_machine import kinds_due
from fedapt_crypto.secagg.masking import coordinator as masking_coordinator
from fedapt_crypto.secagg.masking import messages as secagg
from fedapt_crypto.secagg.masking.institution import _TRANSITIONS
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as session
from tests.crypto.secagg.frames import split_masked
from tests.crypto.secagg.harness import World

EVERY_KIND = {**session.FROM_INSTITUTION, **session.FROM_COORDINATOR, **kinds_due(_TRANSITIONS)}


class Note(Message):
    number: int
    name: Annotated[str, Field(max_length=8)]
    data: bytes


class Tagged(TaggedMessage):
    kind: Literal["tagged"] = "tagged"
    value: int


NOTE = Note(number=7, name="a", data=b"\x00\xff")


@pytest.mark.parametrize("key", ["by me\x1b[2J", b"by me", 7])
def test_a_field_s_name_that_a_peer_chose_is_in_no_error(key: object) -> None:
    data = msgpack.packb({"data": b"", key: 1, "name": "a", "number": 7})
    with pytest.raises(MalformedMessage) as caught:
        Note.from_bytes(data)
    assert "by me" not in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=8), st.binary(max_size=100))
def test_round_trip(number: int, name: str, data: bytes) -> None:
    note = Note(number=number, name=name, data=data)
    assert Note.from_bytes(note.to_bytes()) == note


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(NOTE.to_bytes() + b"\x00", id="leftovers"),
        pytest.param(NOTE.to_bytes()[:-1], id="truncated"),
        pytest.param(b"", id="empty"),
        pytest.param(encode({"number": 7, "name": "a"}), id="missing-field"),
        pytest.param(encode({"number": 7, "name": "a", "data": b"", "more": 1}), id="unknown-field"),
        pytest.param(encode({"number": 7.0, "name": "a", "data": b""}), id="float-for-int"),
        pytest.param(encode({"number": "7", "name": "a", "data": b""}), id="text-for-int"),
        pytest.param(encode({"number": True, "name": "a", "data": b""}), id="bool-for-int"),
        pytest.param(encode({"number": 7, "name": b"a", "data": b""}), id="bytes-for-text"),
        pytest.param(encode({"number": 7, "name": "123456789", "data": b""}), id="too-long"),
        pytest.param(b"\x84\xa4data\xc4\x00\xa4name\xa1a\xa4name\xa1a\xa6number\x07", id="repeated-key"),
        pytest.param(msgpack.packb({"number": 7, "name": "a", "data": b""}), id="unsorted-keys"),
        pytest.param(b"\x83\xa4data\xc4\x00\xa4name\xa1a\xa6number\xcc\x07", id="long-number"),
        pytest.param(encode([1, 2]), id="not-a-map"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="four-billion-items"),
        pytest.param(b"\x91" * 5000, id="nested-deeply"),
        pytest.param(b"\xc7\x01\x05\x00", id="extension-type"),
        pytest.param(b"\xc1", id="reserved-byte"),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Note.from_bytes(data)


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(MalformedMessage, match="at most 4"):
        Note.from_bytes(NOTE.to_bytes(), max_bytes=4)


def test_errors_and_representations_show_no_content() -> None:
    secret = Note(number=1, name="a", data=b"hidden")
    assert "hidden" not in repr(secret)
    assert "hidden" not in str(secret)
    with pytest.raises(MalformedMessage) as caught:
        Note.from_bytes(encode({"number": "hidden", "name": "a", "data": b""}))
    assert "hidden" not in str(caught.value)


@given(st.binary(max_size=300))
def test_random_bytes_never_do_anything_else(data: bytes) -> None:
    try:
        decode_one_of(data, EVERY_KIND, max_bytes=1000)
    except MalformedMessage:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(max_size=9), s),
        max_leaves=8,
    ),
    st.sampled_from(sorted(EVERY_KIND)),
)
def test_structured_rubbish_never_does_anything_else(value: object, kind: str) -> None:
    fields = value if isinstance(value, dict) else {"payload": value}
    try:
        decode_one_of(encode(fields | {"kind": kind}), EVERY_KIND, max_bytes=1 << 16)
    except MalformedMessage:
        pass


def test_the_tag_chooses_the_class() -> None:
    kinds = kinds_of(Tagged)
    assert decode_one_of(Tagged(value=3).to_bytes(), kinds, max_bytes=100) == Tagged(value=3)
    with pytest.raises(MalformedMessage):
        decode_one_of(encode({"kind": "other", "value": 3}), kinds, max_bytes=100)


def test_a_message_of_several_kinds_has_its_own_limit_beside_that_of_the_port() -> None:
    class Short(TaggedMessage):
        kind: Literal["short"] = "short"
        max_bytes = 20
        value: bytes

    class Long(TaggedMessage):
        kind: Literal["long"] = "long"
        max_bytes = 100
        value: bytes

    kinds: dict[str, type[TaggedMessage]] = kinds_of(Short, Long)
    fits, beyond = Short(value=b"").to_bytes(), Short(value=bytes(10)).to_bytes()
    assert len(fits) <= 20 < len(beyond)
    assert decode_one_of(fits, kinds, max_bytes=100) == Short(value=b"")
    with pytest.raises(MalformedMessage, match="at most 20"):
        decode_one_of(beyond, kinds, max_bytes=100)
    long = Long(value=bytes(10)).to_bytes()
    assert decode_one_of(long, kinds, max_bytes=100) == Long(value=bytes(10))
    with pytest.raises(MalformedMessage, match="at most 15"):
        decode_one_of(long, kinds, max_bytes=15)


def plain(value: object) -> object:
    """The obvious way: everything to plain values, maps sorted, and the library packs it."""
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("length", [1, 70_000])
def test_every_message_of_a_round_is_encoded_as_the_library_would(length: int) -> None:
    world = World(5, length=length)
    seen: list[bytes] = []

    def keep(phase: object, receiver: str, payload: bytes) -> bytes:
        seen.append(payload)
        return payload

    world.run({"clinic-2": Phase.MASKED_INPUT}, keep)
    seen += [
        split_masked(outgoing.payload)[0].to_bytes() if outgoing.releases else outgoing.payload
        for _, outgoing in world.sent_to_coordinator
    ]
    kinds = {**kinds_due(_TRANSITIONS), **masking_coordinator._KINDS, **kinds_of(secagg.MaskedInput)}
    for payload in seen:
        message = decode_one_of(payload, kinds, max_bytes=1 << 24)
        slow = msgpack.packb(plain(message.model_dump(mode="python")), use_bin_type=True)
        assert slow == payload == encode(message.model_dump(mode="python"))
        assert message.model_copy(update={}).to_bytes() == payload
    assert len({decode_one_of(p, kinds, max_bytes=1 << 24).kind for p in seen}) == 10


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=30,
    )
)
def test_plain_values_are_encoded_as_the_library_would(value: object) -> None:
    assert encode(value) == msgpack.packb(plain(value), use_bin_type=True)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000])
def test_every_header_size(size: int) -> None:
    for value in (
        bytes(size),
        "x" * size,
        list(range(min(size, 4096))),
        {str(i): 0 for i in range(min(size, 300))},
    ):
        assert encode({"a": value}) == msgpack.packb(plain({"a": value}), use_bin_type=True)

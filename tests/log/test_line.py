"""The bytes of a line: one spelling, strictly parsed, signed as they stand."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_secure.log.line import (
    GENESIS,
    LogHead,
    SegmentHeader,
    line_bytes,
    opened_body,
    parse_line,
    read_header,
    verify_line,
)
from tests.audit.logs import IDENTITY

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODY = st.dictionaries(st.text(), JSON, max_size=4)
KNOWN = (
    '{"seq":7,"time":"2026-11-23T12:00:00.000000+00:00","type":"refused","body":{"a":"\\u00fc","b":0.5},'
    '"prev":"0000000000000000000000000000000000000000000000000000000000000000","sig":"'
)


def line(body: dict | None = None, **changes) -> bytes:
    fields = {"seq": 7, "time": NOON, "type": "refused", "body": body or {}, "prev": GENESIS}
    return line_bytes(**(fields | changes), identity=IDENTITY)


def test_known_answer() -> None:
    raw = line({"b": 0.5, "a": "ü"})
    assert raw.startswith(KNOWN.encode())
    signed = raw[: -len(',"sig":""}') - 128]
    assert signed.decode() + ',"sig":"' == KNOWN
    assert raw.decode() == KNOWN + IDENTITY.sign("audit log line", signed).hex() + '"}'
    assert hashlib.sha256(raw).hexdigest() == (
        "6da6c2d8fafd16299a39f8efec060d89013c6a45ef0f90b2e2300891b086787d"
    ), "Ed25519 is deterministic: another hash means another format"


@given(BODY, st.integers(0, 10**18 - 1), st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_parsed(body: dict, seq: int, time: datetime) -> None:
    raw = line(body, seq=seq, time=time)
    assert b"\n" not in raw
    entry = parse_line(raw, "here")
    assert (entry.seq, entry.time, entry.type, entry.prev) == (seq, time, "refused", GENESIS)
    assert entry.body == body
    assert entry.hash == hashlib.sha256(raw).digest()
    verify_line(entry, IDENTITY.public_key, signer="clinic-1")
    with pytest.raises(VerificationFailed):
        verify_line(entry, Identity.generate().public_key, signer="clinic-1")


def test_another_zone_is_written_in_utc() -> None:
    raw = line(time=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert raw == line()


@settings(max_examples=300)
@given(st.data())
def test_any_other_byte_is_refused_or_breaks_the_signature(data: st.DataObject) -> None:
    raw = bytearray(line({"list": [1, 2.5, None], "text": "ü\n"}))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        entry = parse_line(bytes(raw), "here")
    except InvalidInput:
        return
    with pytest.raises(VerificationFailed):
        verify_line(entry, IDENTITY.public_key, signer="clinic-1")


@given(st.binary(max_size=600))
@example(b"")
@example(b"{}")
def test_rubbish_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="^here is not a log line$"):
        parse_line(data, "here")


SIG = ',"prev":"' + "0" * 64 + '","sig":"' + "0" * 128 + '"}'


def spelled(seq: str = "7", time: str = "2026-11-23T12:00:00.000000+00:00", body: str = "{}") -> bytes:
    return f'{{"seq":{seq},"time":"{time}","type":"refused","body":{body}{SIG}'.encode()


def test_the_spelling_that_the_next_test_changes_is_right() -> None:
    assert parse_line(spelled(), "here").body == {}
    assert parse_line(spelled(body='{"a":1,"b":[1.5,-2e-07]}'), "here").body == {"a": 1, "b": [1.5, -2e-07]}


@pytest.mark.parametrize(
    "raw",
    [
        spelled() + b"\n",
        spelled() + b" ",
        spelled().replace(b'"seq"', b' "seq"'),
        spelled(seq="07"),
        spelled(seq="-1"),
        spelled(seq="1" + "0" * 18),
        spelled(seq="7.0"),
        spelled(seq="true"),
        spelled(time="2026-11-23T12:00:00+00:00"),
        spelled(time="2026-11-23T12:00:00.000000Z"),
        spelled(time="2026-11-23T12:00:00.000000+01:00"),
        spelled(time="2026-13-23T12:00:00.000000+00:00"),
        spelled(time="2026-11-23 12:00:00.000000+00:00"),
        spelled(body="[]"),
        spelled(body="null"),
        spelled(body='{"a": 1}'),
        spelled(body='{"b":1,"a":2}'),
        spelled(body='{"a":1,"a":1}'),
        spelled(body='{"a":NaN}'),
        spelled(body='{"a":Infinity}'),
        spelled(body='{"a":1e999}'),
        spelled(body='{"a":1E5}'),
        spelled(body='{"a":1.50}'),
        spelled(body='{"a":-0}'),
        spelled(body='{"a":"ü"}'),
        spelled(body='{"a":"\\u00FC"}'),
        spelled(body='{"a":"\\/"}'),
        spelled(body='{"a":"\\ud800"}'),
        spelled(body="{}{}"),
        spelled(body='{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        spelled().replace(b"refused", b"Refused"),
        spelled().replace(b"refused", b""),
        spelled().replace(b'"prev":"00', b'"prev":"0A'),
        spelled().replace(b'"sig":"00', b'"sig":"0'),
        spelled().replace(b'"sig"', b'"more":1,"sig"'),
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="^here is not a log line$"):
        parse_line(raw, "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"body": {"x": float("nan")}},
        {"body": {"x": [{"y": float("-inf")}]}},
        {"body": {"x": b"1"}},
        {"body": {2: "a", 10: "b"}},
        {"body": {"x": "\ud800"}},
        {"body": {"x": {1, 2}}},
        {"type": "Type"},
        {"type": "a b"},
        {"type": "x" * 65},
        {"seq": -1},
        {"seq": 10**18},
        {"prev": b""},
        {"body": {"x": "y" * (4 << 20)}},
    ],
)
def test_what_cannot_be_read_back_is_not_written(changes: dict) -> None:
    with pytest.raises((ValueError, TypeError)):
        line(**changes)


class TestHeads:
    def test_text_form(self) -> None:
        head = LogHead(bytes(range(16)), 7, bytes(range(32)))
        assert LogHead.parse(str(head)) == head
        for bad in ("", "x", f"{head} ", str(head).upper(), str(head).replace(":7:", ":07:")):
            with pytest.raises(InvalidInput, match="LOG:SEQ:HASH"):
                LogHead.parse(bad)


class TestHeader:
    header = SegmentHeader(bytes(16), "clinic-1", "institution", IDENTITY.public_key)

    def read(self, type: str, body: dict) -> SegmentHeader:
        return read_header(parse_line(line(body, type=type), "here"), "here")

    @pytest.mark.parametrize(
        ("type", "changes"),
        [
            ("log_opened", {}),
            ("log_opened", {"continues": LogHead(bytes(16), 3, bytes(32))}),
            ("log_continued", {"segment_of": bytes(32)}),
            ("log_continued", {"segment_of": bytes(32), "continues": LogHead(bytes(16), 3, bytes(32))}),
        ],
    )
    def test_what_is_written_is_read(self, type: str, changes: dict) -> None:
        header = SegmentHeader(**(vars(self.header) | changes))
        assert self.read(type, opened_body(header)) == header

    @pytest.mark.parametrize(
        "change",
        [
            {"format": "fedapt-log/2"},
            {"role": "auditor"},
            {"party": ""},
            {"party": "a b"},
            {"log": "00"},
            {"log": None},
            {"identity": "0A" * 32},
            {"continues": {"log": "00" * 16, "seq": True, "hash": "00" * 32}},
            {"continues": []},
            {"more": 1},
            {"segment_of": "00" * 32},
        ],
    )
    def test_anything_else_begins_no_log(self, change: dict) -> None:
        body = opened_body(self.header)
        with pytest.raises(InvalidInput, match="does not begin a log"):
            self.read("log_opened", json.loads(json.dumps(body)) | change)

    @pytest.mark.parametrize("y", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 1])
    def test_a_key_of_small_order_or_not_canonical_begins_no_log(self, y: int) -> None:
        """Under the neutral point one signature is good for every line."""
        body = opened_body(self.header) | {"identity": y.to_bytes(32, "little").hex()}
        with pytest.raises(InvalidInput, match="a log that nobody can have signed"):
            self.read("log_opened", body)

    def test_another_line_begins_no_log(self) -> None:
        with pytest.raises(InvalidInput, match="does not begin a log"):
            self.read("spend", opened_body(self.header))

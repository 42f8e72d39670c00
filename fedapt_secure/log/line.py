"""The form of one log line, without I/O: its exact bytes, and a parser that accepts nothing else.

A line is one JSON object whose keys stand in one order and whose body is canonical, so the same content has
one spelling only. Its last member is a signature of fixed length: what is signed is the line's own bytes up
to there, and checking them never encodes anything again. ``docs/log-format.md`` is the specification.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fedapt_crypto.decoding_cost import json_fits
from fedapt_crypto.errors import InvalidInput, VerificationFailed
from fedapt_crypto.identity import Identity, check_public_key, verify

JsonBody = Mapping[str, Any]

FORMAT: Final = "fedapt-log/1"
LOG_ID_BYTES: Final = 16
MAX_LINE_BYTES: Final = 4 << 20
"""Longer lines are refused unread; the longest real one names 4,096 institutions with a signature each."""
MAX_SEQ: Final = 10**18 - 1
GENESIS: Final = bytes(32)
"""What stands for the hash of the line before the first."""

LOG_OPENED: Final = "log_opened"
LOG_CONTINUED: Final = "log_continued"
LOG_ROTATED: Final = "log_rotated"
WITNESSED: Final = "witnessed"
SESSION_CLOSED: Final = "session_closed"

ROLES: Final = ("coordinator", "institution")
_LINE_LABEL: Final = "audit log line"
_HEAD_LABEL: Final = "log head"
_START = re.compile(
    rb'\{"seq":(0|[1-9][0-9]{0,17}),'
    rb'"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00)",'
    rb'"type":"([a-z][a-z0-9_]{0,63})","body":(?=\{)'
)
_PREV = re.compile(rb',"prev":"([0-9a-f]{64})"')
_SIG = re.compile(rb',"sig":"([0-9a-f]{128})"\}')
_PREV_BYTES = len(',"prev":""') + 64
_SIG_BYTES = len(',"sig":""}') + 128
HEAD_PATTERN: Final = "^([0-9a-f]{32}):(0|[1-9][0-9]{0,17}):([0-9a-f]{64})$"
_TYPE = re.compile("[a-z][a-z0-9_]{0,63}")
_PARTY = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a log.

    Attributes:
        seq: Its number, from 0. time: When it was written, UTC. type: What happened. body: The details.
        prev: SHA-256 of the line before, 32 bytes. signature: Ed25519, 64 bytes.
        hash: SHA-256 of this whole line without its newline, 32 bytes.
        signed_bytes: What the signature is over.
    """

    seq: int
    time: datetime
    type: str
    body: JsonBody
    prev: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    signed_bytes: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a log ends: its identifier (16 bytes), the number of its last line, that line's SHA-256.

    Whoever knows it can tell afterwards whether the log up to there is still the same.
    """

    log: bytes
    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.log.hex()}:{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "LogHead":
        """Read what ``str`` of a head gives, ``log:seq:hash``; raises `InvalidInput` for anything else."""
        match = re.fullmatch(HEAD_PATTERN, text)
        if match is None:
            raise InvalidInput("a log's head is written LOG:SEQ:HASH, 32 hex digits, a number, 64 hex digits")
        return cls(bytes.fromhex(match[1]), int(match[2]), bytes.fromhex(match[3]))


def canonical_body(body: JsonBody) -> str:
    """Return the one JSON spelling of a body: keys sorted, no spaces, ASCII, no NaN.

    Raises:
        ValueError: If it holds what JSON cannot, or would be spelled in another way once read back.
        TypeError: If it holds a value that is not JSON.
    """
    text = _encode(dict(body))
    _check_spelling(text, json.loads(text))
    return text


def _check_spelling(text: str, body: Any) -> None:
    if _encode(body) != text:
        raise ValueError("the body is not canonical JSON")
    if _SURROGATE.search(text):
        # Half a surrogate pair is JSON, but no text: whoever prints the body would fail.
        json.dumps(body, ensure_ascii=False).encode("utf-8")


def line_bytes(seq: int, time: datetime, type: str, body: JsonBody, prev: bytes, identity: Identity) -> bytes:
    """Return a signed line without its newline.

    Args:
        seq: Its number.
        time: Aware; written in UTC with microseconds.
        type: ``[a-z][a-z0-9_]*``, at most 64 characters.
        body: JSON values only.
        prev: SHA-256 of the line before, or `GENESIS`.
        identity: The party's signing key.

    Raises:
        ValueError, TypeError: If the body is not JSON, or type, number or length are not a line's.
    """
    moment = time.astimezone(UTC).isoformat(timespec="microseconds")
    if not _TYPE.fullmatch(type) or not 0 <= seq <= MAX_SEQ or len(prev) != len(GENESIS):
        raise ValueError(f"{type!r}, number {seq}, cannot be a log line")
    text = (
        f'{{"seq":{seq},"time":"{moment}","type":"{type}","body":{canonical_body(body)},"prev":"{prev.hex()}"'
    )
    signed = text.encode("ascii")
    if len(signed) + _SIG_BYTES > MAX_LINE_BYTES or not json_fits(signed):
        raise ValueError(f"a log line of {len(signed)} bytes is too long")
    return signed + b',"sig":"%s"}' % identity.sign(_LINE_LABEL, signed).hex().encode()


def parse_line(raw: bytes, where: str) -> LogEntry:
    """Parse one line, given without its newline; its signature is not checked here.

    Args:
        raw: The line's bytes.
        where: How to name it in an error, such as ``clinic-1.jsonl, line 7``.

    Raises:
        InvalidInput: If these are not exactly the bytes of a log line.
    """
    cut = len(raw) - _SIG_BYTES
    start, prev = _START.match(raw), _PREV.fullmatch(raw, max(cut - _PREV_BYTES, 0), max(cut, 0))
    sig = _SIG.fullmatch(raw, max(cut, 0))
    if len(raw) > MAX_LINE_BYTES or start is None or prev is None or sig is None or not json_fits(raw):
        raise InvalidInput(f"{where} is not a log line")
    try:
        text = raw[start.end() : cut - _PREV_BYTES].decode("ascii")
        body = json.loads(text)
        _check_spelling(text, body)
        time = datetime.fromisoformat(start[2].decode())
    except (ValueError, RecursionError):
        raise InvalidInput(f"{where} is not a log line") from None
    return LogEntry(
        seq=int(start[1]),
        time=time,
        type=start[3].decode(),
        body=body,
        prev=bytes.fromhex(prev[1].decode()),
        signature=bytes.fromhex(sig[1].decode()),
        hash=hashlib.sha256(raw).digest(),
        signed_bytes=raw[:cut],
    )


def glance(raw: bytes) -> tuple[int, str] | None:
    """Return a line's number and type without a look at the rest; ``None`` if it cannot be a log line."""
    start = _START.match(raw)
    return None if start is None else (int(start[1]), start[3].decode())


def verify_line(entry: LogEntry, public_key: bytes, *, signer: str) -> None:
    """Check a line's signature; raises `VerificationFailed`, naming ``signer``."""
    verify(public_key, entry.signature, _LINE_LABEL, entry.signed_bytes, signer=signer)


def head_statement(
    session: bytes, round_number: int, party: str, head: LogHead
) -> tuple[str, bytes, int, str, bytes, int, bytes]:
    """Return label and parts of what a party signs about its log's head in a round of a session."""
    return (_HEAD_LABEL, session, round_number, party, head.log, head.seq, head.hash)


@dataclass(frozen=True)
class SegmentHeader:
    """What the first line of a segment says about the log.

    Attributes:
        log: The log's identifier. party, role, identity: Whose it is.
        continues: For a log in the place of a lost one: the highest head of that one that others held.
        segment_of: For later segments: the hash of the log's very first line.
    """

    log: bytes
    party: str
    role: str
    identity: bytes
    continues: LogHead | None = None
    segment_of: bytes | None = None


def opened_body(header: SegmentHeader) -> dict[str, Any]:
    """Return the body of a segment's first line, ``log_opened`` or ``log_continued``."""
    lost = header.continues
    body: dict[str, Any] = {
        "format": FORMAT,
        "log": header.log.hex(),
        "party": header.party,
        "role": header.role,
        "identity": header.identity.hex(),
        "continues": lost and {"log": lost.log.hex(), "seq": lost.seq, "hash": lost.hash.hex()},
    }
    if header.segment_of is not None:
        body["segment_of"] = header.segment_of.hex()
    return body


def read_header(entry: LogEntry, where: str) -> SegmentHeader:
    """Return what a segment's first line says.

    Raises:
        InvalidInput: If the line is not one that a segment begins with.
    """
    body = entry.body
    try:
        header = SegmentHeader(
            log=_hex(body["log"], LOG_ID_BYTES),
            party=str(body["party"]),
            role=str(body["role"]),
            identity=_hex(body["identity"], 32),
            continues=_continued(body["continues"]),
            segment_of=None if entry.type == LOG_OPENED else _hex(body["segment_of"], 32),
        )
        begins = entry.type in (LOG_OPENED, LOG_CONTINUED)
        whole = begins and canonical_body(opened_body(header)) == canonical_body(body)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or header.role not in ROLES or not _PARTY.fullmatch(header.party):
        raise InvalidInput(f"{where} does not begin a log of this program")
    try:
        check_public_key(header.identity, owner=header.party)
    except VerificationFailed as error:  # under some of these lines verify that nobody has signed
        raise InvalidInput(f"{where} begins a log that nobody can have signed: {error}") from None
    return header


def _continued(value: Any) -> LogHead | None:
    if value is None:
        return None
    return LogHead(_hex(value["log"], LOG_ID_BYTES), int(value["seq"]), _hex(value["hash"], 32))


def _hex(text: Any, size: int) -> bytes:
    """Return the bytes of lower-case hexadecimal; raises ValueError for another length or spelling."""
    data = bytes.fromhex(text)
    if len(data) != size or data.hex() != text:
        raise ValueError("not the expected hexadecimal")
    return data

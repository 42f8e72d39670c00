"""Inputs that are small as bytes and large once decoded, for every form in which this project reads bytes.

Sizes are a decoder's largest. Some bombs are rubbish that any decoder could refuse; the structured ones are
real messages of the corpus in which one array is blown up, so that they get as far as validation.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from fedapt_crypto.encoding import MAX_CONTAINER_ITEMS

_SCALARS: Mapping[str, bytes] = {
    "nil": b"\xc0",
    "small integers": b"\x07",
    "integers": b"\xcd\x7f\xff",
    "floats": b"\xcb" + struct.pack(">d", 1.5),
    "empty texts": b"\xa0",
    "letters": b"\xa1a",
    "wide letters": b"\xa4" + "\U00010000".encode(),
    "empty bytes": b"\xc4\x00",
    "bytes of one": b"\xc4\x01a",
    "empty arrays": b"\x90",
    "arrays of one": b"\x91\x00",
    "empty maps": b"\x80",
    "maps of one": b"\x81\xa0\x00",
    "maps of six": b"\x86" + b"".join(bytes((0xA1, 97 + at, 0)) for at in range(6)),
    "empty extensions": b"\xc7\x00\x01",
    "short extensions": b"\xd4\x01\x00",
    "time stamps": b"\xd6\xff" + bytes(4),
}
_JSON_ITEMS: Mapping[str, bytes] = {
    "numbers": b"0",
    "floats": b"1.5",
    "texts": b'"ab"',
    "empty lists": b"[]",
    "lists of one": b"[0]",
    "empty objects": b"{}",
    "objects of one": b'{"":0}',
    "long numbers": b"1" * 4000,
    "wide texts": b'"' + b"a" * 200 + rb"\ud83d\ude00" + b'"',
}
JUNK: tuple[Any, ...] = (None, 0, "", "x" * 40, b"", (), {}, ((),), {str(at): at for at in range(40)})


def msgpack_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of what is not a message but may be msgpack, at most ``size`` long."""
    array = struct.pack(">BH", 0xDC, MAX_CONTAINER_ITEMS)
    for name, item in _SCALARS.items():
        row = array + item * MAX_CONTAINER_ITEMS
        rows = min(MAX_CONTAINER_ITEMS, (size - len(array)) // len(row))
        if rows > 0:
            yield f"rows of {name}", struct.pack(">BH", 0xDC, rows) + row * rows
        count = min(1 << 32, size - 5) // len(item)
        yield f"one array of {name}", struct.pack(">BI", 0xDD, count) + item * count
    yield "arrays within arrays", b"\x91" * size
    yield "maps within maps", b"\x81\xa0" * (size // 2)
    ladder = b"\x92\x80" * 500 + b"\x80"
    yield "many ladders", array + ladder * min(MAX_CONTAINER_ITEMS, size // len(ladder))
    keys = [f"{at:05x}" for at in range(min(60_000, size // 8))]
    yield "a map of many keys", msgpack.packb(dict.fromkeys(keys, 0))
    wide = "\U00010000".encode()
    yield "a wide text", struct.pack(">BI", 0xDB, size - 5) + b"a" * (size - 9) + wide
    text = struct.pack(">BH", 0xDA, 60_000) + b"a" * 59_996 + wide
    many = min(MAX_CONTAINER_ITEMS, size // len(text))
    yield "many wide texts", struct.pack(">BH", 0xDC, many) + text * many
    yield "long bytes", struct.pack(">BI", 0xC6, size - 5) + bytes(size - 5)
    yield "a promise", struct.pack(">BI", 0xDD, (1 << 32) - 1) + b"\xdf\xff\xff\xff\xff" * 400


def structured_bombs(seed: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield a real message with each array in it blown up: by its own first item, and by what is none.

    Args:
        seed: An encoded message.
        size: At most so many bytes.
    """
    try:
        message = msgpack.unpackb(seed, raw=False, use_list=False, strict_map_key=False)
    except (ValueError, TypeError):
        return
    if not isinstance(message, dict):
        return
    pack = msgpack.Packer(use_bin_type=True).pack
    yield "unknown fields", pack({**message, **{f"z{at:05}": at for at in range(MAX_CONTAINER_ITEMS)}})
    for field, value in message.items():
        room = size - len(seed) - 16
        if isinstance(value, str):
            yield f"a long {field}", pack({**message, field: "a" * (room - 4) + "\U00010000"})
        elif isinstance(value, bytes):
            yield f"long bytes as {field}", pack({**message, field: bytes(room)})
        elif isinstance(value, tuple):
            for number, item in enumerate((*value[:1], *JUNK)):
                blown = pack({**message, field: (item,) * MAX_CONTAINER_ITEMS})
                if len(blown) <= size:
                    yield f"{field} of many ({number})", blown


def json_bombs(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of JSON that is no line, roster or description, at most ``size`` long."""
    for name, item in _JSON_ITEMS.items():
        count = size // (len(item) + 1) - 1
        yield f"a list of {name}", b"[" + b",".join([item] * count) + b"]"
    yield "lists within lists", b"[" * (size // 2) + b"]" * (size // 2)
    yield "objects within objects", b'{"":' * (size // 5) + b"0" + b"}" * (size // 5)
    yield "many keys", b"{" + b",".join(b'"%06x":0' % at for at in range(size // 12)) + b"}"
    yield "a wide text", b'"' + b"a" * (size - 20) + rb"\ud83d\ude00" + b'"'
    yield "a wide text of quotes", b'"' + rb"\"" * (size // 2 - 20) + rb"\ud83d\ude00" + b'"'
    yield "a raw wide text", '"{}\U00010000"'.format("a" * (size - 20)).encode()
    yield "a long number", b"1" * size


def as_log_line(body: bytes) -> bytes:
    """Return JSON as the body of a log line that is well-formed but for its signature."""
    head = b'{"seq":1,"time":"2026-11-01T00:00:00.000000+00:00","type":"witnessed","body":{"heads":'
    return head + body + b'},"prev":"' + b"0" * 64 + b'","sig":"' + b"0" * 128 + b'"}'


def as_bundle(header: bytes) -> bytes:
    """Return JSON as the header of a safetensors file without tensors."""
    return struct.pack("<Q", len(header)) + header


def as_description(description: bytes) -> bytes:
    """Return JSON as the description within the header of a bundle."""
    return as_bundle(json.dumps({"__metadata__": {"fedapt-secure": description.decode()}}).encode())

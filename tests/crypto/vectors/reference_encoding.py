"""The reference's own msgpack: maps sorted by key, everything in its shortest form, nothing else accepted."""

import struct
from collections.abc import Sequence

from fedapt_crypto.errors import MalformedMessage


def encode(value: object) -> bytes:
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        return _encode_int(value)
    if isinstance(value, str):
        text = value.encode()
        return _head(len(text), 0xA0, 32, 0xD9, 0xDA, 0xDB) + text
    if isinstance(value, bytes):
        return _head(len(value), 0, 0, 0xC4, 0xC5, 0xC6) + value
    if isinstance(value, dict):
        items = [encode(key) + encode(value[key]) for key in sorted(value)]
        return _head(len(items), 0x80, 16, None, 0xDE, 0xDF) + b"".join(items)
    items = [encode(item) for item in value]
    return _head(len(items), 0x90, 16, None, 0xDC, 0xDD) + b"".join(items)


def _encode_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    sizes = ((0xCC, "B"), (0xCD, "H"), (0xCE, "I"), (0xCF, "Q"))
    if value < 0:
        sizes = ((0xD0, "b"), (0xD1, "h"), (0xD2, "i"), (0xD3, "q"))
    for tag, size in sizes:
        try:
            return bytes([tag]) + struct.pack(">" + size, value)
        except struct.error:
            continue
    raise ValueError("an integer of more than 64 bits")


def _head(count: int, fixed: int, below: int, one: int | None, two: int, four: int) -> bytes:
    if count < below:
        return bytes([fixed | count])
    if one is not None and count < 1 << 8:
        return bytes([one]) + struct.pack(">B", count)
    return bytes([two]) + struct.pack(">H", count) if count < 1 << 16 else bytes([four, *count.to_bytes(4)])


def decode(data: bytes) -> object:
    """Return what `encode` was given; anything but its exact output is refused."""
    try:
        value, rest = _decode(data)
        canonical = encode(value) == data and not rest
    except (IndexError, ValueError, TypeError, struct.error):
        canonical = False
    if not canonical:
        raise MalformedMessage("not the canonical encoding")
    return value


def _decode(data: bytes) -> tuple[object, bytes]:
    tag, rest = data[0], data[1:]
    if tag < 0x80 or tag >= 0xE0:
        return struct.unpack(">b", data[:1])[0], rest
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], rest
    numbers = dict(zip(range(0xCB, 0xD4), ("d", "B", "H", "I", "Q", "b", "h", "i", "q"), strict=True))
    if tag in numbers:
        size = struct.calcsize(">" + numbers[tag])
        return struct.unpack(">" + numbers[tag], rest[:size])[0], rest[size:]
    for kind, fixed, below, tags in (
        ("map", 0x80, 0x90, {0xDE: 2, 0xDF: 4}),
        ("list", 0x90, 0xA0, {0xDC: 2, 0xDD: 4}),
        ("text", 0xA0, 0xC0, {0xD9: 1, 0xDA: 2, 0xDB: 4}),
        ("bytes", 0, 0, {0xC4: 1, 0xC5: 2, 0xC6: 4}),
    ):
        if fixed <= tag < below:
            return _decode_items(kind, tag - fixed, rest)
        if tag in tags:
            return _decode_items(kind, int.from_bytes(rest[: tags[tag]]), rest[tags[tag] :])
    raise ValueError("an unknown tag")


def _decode_items(kind: str, count: int, rest: bytes) -> tuple[object, bytes]:
    if kind == "bytes":
        return rest[:count], rest[count:]
    if kind == "text":
        return rest[:count].decode(), rest[count:]
    items = []
    for _ in range(count if kind == "list" else 2 * count):
        item, rest = _decode(rest)
        items.append(item)
    return (items if kind == "list" else dict(zip(items[::2], items[1::2], strict=True))), rest


def pack_parties(indices: Sequence[int]) -> bytes:
    return b"".join(index.to_bytes(2) for index in sorted(indices))


def unpack_parties(data: bytes, roster_size: int) -> list[int]:
    indices = [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]
    if len(data) % 2 or indices != sorted(set(indices)) or any(i >= roster_size for i in indices):
        raise MalformedMessage("a list of parties")
    return indices

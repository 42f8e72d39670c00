"""Random changes to messages: of raw bytes, and of fields under a canonical encoding."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from fedapt_crypto.encoding import encode

LENGTHS = (0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 4096, 4097, 65535, 65536)
NUMBERS = (-1, 0, 1, 2, 127, 128, 255, 256, 4096, 65535, 65536, 2**31, 2**32, 2**63 - 1, 2**64 - 1)


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return ``data`` with one to four changes; ``others`` are messages to splice in."""
    if rng.random() < 0.5:
        try:
            return encode(_change(_decoded(data), rng))
        except (ValueError, TypeError, OverflowError):
            pass  # not msgpack at all, or no longer: change its bytes
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_BYTE_CHANGES)(data, others, rng)
    return data


def _decoded(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def _at(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def _flip(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    position = rng.randrange(len(data))
    return data[:position] + bytes((data[position] ^ 1 << rng.randrange(8),)) + data[position + 1 :]


def _overwrite(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    position, new = _at(data, rng), rng.randbytes(rng.choice((1, 2, 4, 32)))
    return data[:position] + new + data[position + len(new) :]


def _insert(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    position = _at(data, rng)
    return data[:position] + rng.randbytes(rng.randint(1, 8)) + data[position:]


def _cut(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    start, stop = sorted((_at(data, rng), _at(data, rng)))
    return data[:start] + data[stop:]


def _truncate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    return data[: _at(data, rng)]


def _repeat(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    start, stop = sorted((_at(data, rng), _at(data, rng)))
    return data[:stop] + data[start:stop] * rng.randint(1, 3) + data[stop:]


def _splice(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others) if others else data
    return data[: _at(data, rng)] + other[_at(other, rng) :]


def _length(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Put a header in that promises much: the sizes of containers and strings must be bounded."""
    code = rng.choice((0xC4, 0xC5, 0xC6, 0xC7, 0xC9, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF))
    position = _at(data, rng)
    return data[:position] + bytes((code,)) + b"\xff" * rng.randint(1, 4) + data[position:]


_BYTE_CHANGES: Sequence[Callable[[bytes, Sequence[bytes], random.Random], bytes]] = (
    _flip,
    _overwrite,
    _insert,
    _cut,
    _truncate,
    _repeat,
    _splice,
    _length,
)


def _change(value: Any, rng: random.Random) -> Any:
    """Return a decoded value with one place in it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.05:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.1:
            return value | {rng.choice(("more", "", "kind", "signature")): value[key]}
        return value | {key: _change(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        position, kind = rng.randrange(len(value)), rng.random()
        if kind < 0.1:
            return value[:position] + value[position + 1 :]
        if kind < 0.2:
            return [*value, value[position]]
        if kind < 0.3:
            return rng.sample(value, len(value))
        return [*value[:position], _change(value[position], rng), *value[position + 1 :]]
    return _other(value, rng)


def _other(value: Any, rng: random.Random) -> Any:
    """Return something else in place of a value: mostly of its type, seldom of another."""
    if isinstance(value, bytes) and rng.random() < 0.8:
        if rng.random() < 0.3:
            return rng.randbytes(rng.choice(LENGTHS))
        return rng.choice(_BYTE_CHANGES)(value, (), rng)
    if isinstance(value, int) and rng.random() < 0.8:
        return rng.choice(NUMBERS)
    if isinstance(value, str) and rng.random() < 0.8:
        return rng.choice((value + "x", value[:-1], "", "x" * 500, "clinic-1", "clinic-3", "../x", "\x00"))
    return rng.choice((None, True, False, 0, -1, 1.5, float("nan"), "", b"", [], {}, [[]], value))

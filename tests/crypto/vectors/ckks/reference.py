"""CKKS as section 5 of SPEC.md says it, slowly: everything around the ciphertexts, with whole numbers alone.

Numbers that are not whole are integers times 2**-256 here, so that nothing depends on a processor.
"""

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedapt_crypto.errors import MalformedMessage, SumCheckFailed
from tests.crypto.vectors import reference as ref

SLOTS, CHECKS, VALUES = 2048, 4, 2044
PRIME = 2**61 - 1
ONE = 1 << 256
"""1, in the numbers that are not whole."""

Sparse = Sequence[tuple[int, int, float]]
"""Piece, place in it and what is there in units of 2**-22, wherever that is not zero."""


def pieces_of(length: int) -> int:
    return (length + VALUES - 1) // VALUES


def words(key: bytes, count: int) -> list[int]:
    return [word for (word,) in struct.iter_unpack("<Q", ref.keystream(key, 0, 8 * count))]


def ckks_execution(context_hash: bytes) -> bytes:
    return ref.digest("ckks execution", [context_hash])


def ckks_places(secret: bytes, execution: bytes, length: int) -> list[list[int]]:
    drawn = words(ref.derive(secret, "ckks kappa slots", [execution]), pieces_of(length) * SLOTS)
    found = []
    for piece in range(pieces_of(length)):
        row = drawn[SLOTS * piece : SLOTS * (piece + 1)]
        smallest = sorted(range(SLOTS), key=lambda place: row[place])[:CHECKS]
        found.append(sorted(smallest))
    return found


def ckks_kappa(secret: bytes, execution: bytes, name: str, length: int) -> list[int]:
    drawn = words(ref.derive(secret, "ckks kappa", [execution, name]), CHECKS * pieces_of(length))
    return [(word >> 39) - 2**24 for word in drawn]


def _layout(secret: bytes, execution: bytes, length: int) -> Iterator[tuple[int, int, str, int]]:
    """Yield each slot: piece, place, what it is for, and which of those it is."""
    value = check = 0
    for piece, checks in enumerate(ckks_places(secret, execution, length)):
        for place in range(SLOTS):
            if place in checks:
                yield piece, place, "kappa", check
                check += 1
            else:
                yield piece, place, "value" if value < length else "end", value
                value += 1


def ckks_pack(secret: bytes, execution: bytes, name: str, update: Sequence[int]) -> dict[str, object]:
    kappa = ckks_kappa(secret, execution, name, len(update))
    kinds = {"kappa": kappa, "value": list(update)}
    layout = list(_layout(secret, execution, len(update)))
    integers = [0 if kind == "end" else kinds[kind][number] for _, _, kind, number in layout]
    flat = struct.pack(f"<{len(integers)}d", *(integer / 2**22 for integer in integers))
    checks = [
        [piece, place, integer]
        for (piece, place, kind, _), integer in zip(layout, integers, strict=True)
        if kind == "kappa"
    ]
    return {"kappa": checks, "slots": hashlib.sha256(flat).digest()}


def ckks_tag(secret: bytes, execution: bytes, name: str, update: Sequence[int]) -> bytes:
    return ref.sum_check_tag(secret, execution, execution, name, [[1, value] for value in update])


def ckks_sum_hash(execution: bytes, pieces: Sequence[bytes], tag: bytes) -> bytes:
    return ref.digest("ckks sum", [execution, list(pieces), tag])


def ckks_transcript(execution: bytes, contributors: Sequence[str], sum_hash: bytes) -> bytes:
    return ref.digest("ckks transcript", [execution, list(contributors), sum_hash])


def ckks_signature(
    identity: bytes, sender: str, execution: bytes, contributors: Sequence[str], sum_hash: bytes
) -> bytes:
    """What a contributor signs in the phase ``consistency``."""
    fields = {"execution": execution, "contributors": list(contributors), "sum_hash": sum_hash}
    return _signed(identity, "ckks consistency", sender, fields)


def ckks_update_signature(
    identity: bytes, sender: str, execution: bytes, byte: bytes, size: int, tag: bytes
) -> bytes:
    """The signature of an update of one piece, ``size`` times the same byte."""
    fields = {"execution": execution, "pieces": [byte * size], "update_tag": tag}
    return _signed(identity, "ckks update", sender, fields)


def _signed(identity: bytes, kind: str, sender: str, fields: Mapping[str, Any]) -> bytes:
    return ref.sign(identity, f"secagg {kind}", [ref.encode({"kind": kind, "sender": sender, **fields})])


def ckks_open(
    secret: bytes,
    execution: bytes,
    participants: int,
    contributors: Sequence[str],
    length: int,
    slots: Sparse,
    tag: bytes,
) -> list[int]:
    """Return X, from what the sum's ciphertexts decrypt to."""
    if int.from_bytes(tag) >= PRIME:
        raise MalformedMessage("no tag")
    there = {(piece, place): decrypted for piece, place, decrypted in slots}
    sums = [0] * (CHECKS * pieces_of(length))
    for name in contributors:
        sums = [a + b for a, b in zip(sums, ckks_kappa(secret, execution, name, length), strict=True)]
    total = []
    for piece, place, kind, number in _layout(secret, execution, length):
        decrypted = there.get((piece, place), 0.0)
        nearest = round(decrypted)
        if abs(decrypted - nearest) > 1 / 8 or abs(nearest) > 2**31 - 1:
            raise SumCheckFailed("no integer of 32 bits")
        if kind == "value":
            total.append(nearest)
        elif nearest != (sums[number] if kind == "kappa" else 0):
            raise SumCheckFailed("not the contributors'")
    limit = (2**31 - 1) // participants
    runs = [[1, value] for value in total]
    ref.sum_check_verify(secret, execution, execution, contributors, limit, runs, tag)
    return total


def ckks_noise(
    secret: bytes,
    execution: bytes,
    contributors: Sequence[str],
    sum_hash: bytes,
    participants: int,
    decryptions: int,
    count: int,
) -> list[int]:
    key = ref.derive(secret, "ckks noise", [execution, list(contributors), sum_hash])
    drawn = [word >> 11 for word in words(key, count + count % 2)]
    variance = 448 * 448 * decryptions * participants
    found = []
    for a, b in zip(drawn[::2], drawn[1::2], strict=True):
        radius = math.isqrt(-2 * variance * _logarithm(ONE - a * ONE // 2**53) * ONE)
        angle = 2 * _pi() * b >> 53
        found += [_nearest(radius * _sine(angle + _pi() // 2) // ONE), _nearest(radius * _sine(angle) // ONE)]
    return found[:count]


def _nearest(number: int) -> int:
    return (number + ONE // 2) // ONE


def _sine(angle: int) -> int:
    term = total = angle
    for k in range(1, 80):
        term = -term * angle // ONE * angle // ONE // (2 * k * (2 * k + 1))
        total += term
    return total


def _arctangent(inverse: int) -> int:
    """Return arctan(1 / inverse)."""
    power, total = ONE // inverse, 0
    for k in range(200):
        total += (-1) ** k * power // (2 * k + 1)
        power //= inverse * inverse
    return total


def _pi() -> int:
    """Machin 1706."""
    return 16 * _arctangent(5) - 4 * _arctangent(239)


def _logarithm(number: int) -> int:
    """Return ln of a number above 0 and at most 1: whole halvings apart, from the series of artanh."""
    halvings = 0
    while number < ONE // 2:
        number, halvings = 2 * number, halvings + 1
    return _series(number) - halvings * -_series(ONE // 2)


def _series(number: int) -> int:
    ratio = (number - ONE) * ONE // (number + ONE)
    power, total = ratio, 0
    for k in range(170):
        total += power // (2 * k + 1)
        power = power * ratio // ONE * ratio // ONE
    return 2 * total

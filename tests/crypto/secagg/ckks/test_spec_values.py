"""Places and values of κ, noise and pieces as SPEC.md, section 5, has them, in plain Python."""

import hashlib
import math
import struct

import numpy as np
import pytest

from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.kdf import derive
from fedapt_crypto.secagg.ckks import flooding, packing, structure
from tests.crypto.vectors import reference

G = hashlib.sha256(b"g").digest()
EXECUTION = hashlib.sha256(b"execution").digest()


def words(key: bytes, count: int) -> list[int]:
    return [word for (word,) in struct.iter_unpack("<Q", reference.keystream(key, 0, 8 * count))]


@pytest.mark.parametrize("length", [1, 2044, 2045, 5000])
def test_kappa(length: int) -> None:
    pieces = math.ceil(length / 2044)
    key = reference.derive(G, "ckks kappa slots", [EXECUTION])
    assert key == derive(G, "ckks kappa slots", EXECUTION)
    drawn = words(key, pieces * 2048)
    rows = [drawn[2048 * row : 2048 * (row + 1)] for row in range(pieces)]
    places = [sorted(sorted(range(2048), key=row.__getitem__)[:4]) for row in rows]
    mask = packing.kappa_mask(key, length)
    assert [np.flatnonzero(row).tolist() for row in mask] == places
    own = reference.derive(G, "ckks kappa", [EXECUTION, "clinic-1"])
    values = [(word >> 39) - 2**24 for word in words(own, 4 * pieces)]
    found = packing.kappa(own, length)
    assert found.reshape(-1).tolist() == values
    update = np.arange(1, length + 1, dtype=np.uint32)
    slots = packing.pack(update, mask, found) * 2.0**22
    for row, where in enumerate(places):
        assert slots[row, where].tolist() == values[4 * row : 4 * row + 4]
    others = [
        slots[row, column] for row in range(pieces) for column in range(2048) if column not in places[row]
    ]
    assert others == [*update, *[0.0] * (2044 * pieces - length)]


@pytest.mark.parametrize(("institutions", "decryptions"), [(3, 1), (5, 4096), (64, 1 << 20)])
def test_noise(institutions: int, decryptions: int) -> None:
    error = math.sqrt(2048 * institutions) * 3.5 / 2**49 * 2**22
    deviation = 8 * math.sqrt(decryptions) * 2**20 * math.sqrt(2048) * error
    assert flooding.noise_deviation(institutions, decryptions) == pytest.approx(deviation, rel=1e-14)
    key = reference.derive(G, "ckks noise", [EXECUTION, ["clinic-1"], bytes(32)])
    normal = []
    drawn = [(word >> 11) * 2.0**-53 for word in words(key, 1002)]
    for a, b in zip(drawn[::2], drawn[1::2], strict=True):
        radius = 448 * math.sqrt(decryptions * institutions) * math.sqrt(-2 * math.log1p(-a))
        normal += [radius * math.cos(2 * math.pi * b), radius * math.sin(2 * math.pi * b)]
    found = flooding.noise(key, 1001, participants=institutions, decryptions=decryptions)
    assert found.tolist() == [round(z) for z in normal[:1001]]


@pytest.mark.parametrize("length", [60_000, 65_659, 66_560])
def test_the_structure_of_a_piece(length: int) -> None:
    varint = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    head = bytes.fromhex("5ea11004") + b"\x01" + bytes.fromhex("020000") + struct.pack("<Q", length)
    room = length - len(head) - 10
    frame = bytes.fromhex("28b52ffd60") + b"\x01\x02" + (room << 3 | 1).to_bytes(3, "little")
    body = head + frame + bytes(room)
    piece = bytes.fromhex("0a02801012") + varint + body + b"\x19" + struct.pack("<d", 2.0**49)
    structure.check_piece(piece)
    for place in (*range(12), *range(13, 29), *range(31, 34), *range(len(piece) - 9, len(piece))):
        wrong = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
        with pytest.raises(MalformedMessage):
            structure.check_piece(wrong)

"""The structure check: what it lets through does TenSEAL no harm that the worker does not contain."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import MalformedMessage
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import PublicGroup
from fedapt_crypto.secagg.ckks.parameters import SCALE, SLOTS
from fedapt_crypto.secagg.ckks.structure import check_piece
from tests.crypto.secagg.ckks.groups import contexts, public_worker, secret_worker

CRASHES_THE_ADDER = bytes.fromhex("0a028010190000000000007042")
"""A size, a scale and no ciphertext."""


def fields(piece: bytes) -> tuple[bytes, bytes, bytes]:
    """Sizes, ciphertext and scale, each with its tag."""
    return piece[:4], piece[4:-9], piece[-9:]


@pytest.fixture(scope="module")
def piece() -> bytes:
    small = struct.pack(f"<{SLOTS}d", *(i / SLOTS for i in range(SLOTS)))
    return secret_worker().call(Operation.ENCRYPT, small)[0]


@pytest.fixture(scope="module")
def group() -> PublicGroup:
    return PublicGroup(
        commitment=bytes(32),
        decryptions=1,
        public_context=contexts()[1],
        worker=public_worker(),
    )


def with_scale(scale: float) -> bytes:
    return b"\x19" + struct.pack("<d", scale)


FORGED = {
    "empty": lambda s, c, k: b"",
    "crashes-the-adder": lambda s, c, k: CRASHES_THE_ADDER,
    "no-ciphertext": lambda s, c, k: s + k,
    "no-size": lambda s, c, k: c + k,
    "no-scale": lambda s, c, k: s + c,
    "two-ciphertexts": lambda s, c, k: s + c + c + k,
    "two-sizes": lambda s, c, k: b"\x0a\x04\x80\x10\x80\x10" + c + k,
    "size-twice": lambda s, c, k: s + s + c + k,
    "size-unpacked": lambda s, c, k: b"\x08\x80\x10" + c + k,
    "size-not-minimal": lambda s, c, k: b"\x0a\x03\x80\x90\x00" + c + k,
    "size-zero": lambda s, c, k: b"\x0a\x01\x00" + c + k,
    "size-huge": lambda s, c, k: b"\x0a\x05\xff\xff\xff\xff\x07" + c + k,
    "scale-twice": lambda s, c, k: s + c + k + k,
    "scale-zero": lambda s, c, k: s + c + with_scale(0.0),
    "scale-nan": lambda s, c, k: s + c + with_scale(float("nan")),
    "scale-other": lambda s, c, k: s + c + with_scale(SCALE * 2),
    "other-order": lambda s, c, k: c + s + k,
    "unknown-field": lambda s, c, k: s + c + k + b"\x20\x01",
    "length-not-minimal": lambda s, c, k: s + c[:3] + bytes([c[3] | 0x80, 0]) + c[4:] + k,
    "length-short": lambda s, c, k: s + b"\x12\x10" + c[4:20] + k,
    "ciphertext-empty": lambda s, c, k: s + b"\x12\x00" + k,
    "ciphertext-of-zeros": lambda s, c, k: s + c[:4] + bytes(len(c) - 4) + k,
    "ciphertext-other-length-inside": lambda s, c, k: s + c[:12] + b"\x00" + c[13:] + k,
    "ciphertext-uncompressed-mode": lambda s, c, k: s + c[:9] + b"\x00" + c[10:] + k,
}


INSIDE = 24
"""Where the compressed inside begins: after size, length and SEAL's header."""


def bomb(room: int) -> bytes:
    """A zstd frame of that length that stands for 2 GiB of zeros: blocks of 128 KiB of one repeated byte."""
    blocks = (room - 6) // 4
    block = (1 << 1 | 1 << 17 << 3).to_bytes(3, "little") + b"\x00"
    last = bytes([block[0] | 1]) + block[1:]
    frame = b"\x28\xb5\x2f\xfd\x00\x38" + block * (blocks - 1) + last
    return frame + bytes(room - len(frame))


INSIDES = {
    "a bomb": bomb,
    "a size in one byte": lambda room: b"\x28\xb5\x2f\xfd\x20" + bytes(room - 5),
    "a size of four bytes": lambda room: b"\x28\xb5\x2f\xfd\xa0" + bytes(room - 5),
    "a block that is not the last": lambda room: frame(room, header=0),
    "a repeated byte": lambda room: frame(room, header=1 | 1 << 1),
    "a reserved kind of block": lambda room: frame(room, header=1 | 3 << 1),
    "a shorter block": lambda room: frame(room, less=1),
    "no frame": bytes,
}


def frame(room: int, *, header: int = 1, less: int = 0) -> bytes:
    """One frame with one raw block, as real ones are, but for what is changed."""
    block = (header | room - 10 - less << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x60" + (65_633 - 256).to_bytes(2, "little") + block + bytes(room - 10)


@pytest.mark.parametrize("name", INSIDES)
def test_an_inside_that_could_grow_is_refused(name: str, piece: bytes) -> None:
    room = len(piece) - INSIDE - 9
    forged = piece[:INSIDE] + INSIDES[name](room) + piece[-9:]
    assert len(forged) == len(piece)
    with pytest.raises(MalformedMessage, match="compressed in another way"):
        check_piece(forged, "clinic-1")
    check_piece(piece[:INSIDE] + frame(room) + piece[-9:])


def test_what_a_changed_body_can_be(piece: bytes, group: PublicGroup) -> None:
    """Another ciphertext, of the same size: every word below the prime is one. Its sum fails its tag."""
    added = []
    for bit in range(64):
        changed = bytearray(piece)
        changed[-9 - 8 * (64 - bit) + bit // 8] ^= 1 << bit % 8  # of another coefficient each
        try:
            (total,) = group.add([piece], [bytes(changed)], "clinic-1")
        except MalformedMessage:
            continue
        added.append(bit)
        assert len(total) == len(piece)
    assert not set(added) & {60, 61, 62, 63}  # the prime has 60 bits
    assert set(range(40)) <= set(added)


def test_a_real_one_passes(piece: bytes, group: PublicGroup) -> None:
    check_piece(piece)
    (once,) = group.add([], [piece], "clinic-1")
    (twice,) = group.add([once], [piece], "clinic-1")
    check_piece(twice)


@pytest.mark.parametrize("name", FORGED)
def test_forged_structures_are_refused(name: str, piece: bytes) -> None:
    forged = FORGED[name](*fields(piece))
    assert forged != piece
    with pytest.raises(MalformedMessage, match="clinic-3: a ciphertext"):
        check_piece(forged, "clinic-3")


@st.composite
def mutations(draw, length: int):
    kind = draw(st.sampled_from(["flip", "flip", "cut", "insert", "repeat", "overwrite"]))
    # the ends, where the structure is, as often as the body
    at = draw(st.integers(0, 40) | st.integers(length - 20, length - 1) | st.integers(0, length - 1))
    size = draw(st.integers(1, 64))
    return kind, at, size, draw(st.binary(min_size=size, max_size=size)), draw(st.integers(0, 7))


def mutate(piece: bytes, mutation) -> bytes:
    kind, at, size, data, bit = mutation
    if kind == "flip":
        return piece[:at] + bytes([piece[at] ^ 1 << bit]) + piece[at + 1 :]
    if kind == "cut":
        return piece[:at] + piece[at + size :]
    if kind == "insert":
        return piece[:at] + data + piece[at:]
    if kind == "repeat":
        return piece[:at] + piece[at : at + size] + piece[at:]
    return piece[:at] + data + piece[at + len(data) :]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_change_is_refused_or_harmless(piece: bytes, group: PublicGroup, data) -> None:
    changed = mutate(piece, data.draw(mutations(len(piece))))
    try:
        check_piece(changed, "clinic-2")
    except MalformedMessage:
        return
    refusal = "clinic-2: refused"
    try:
        (total,) = group.add([piece], [changed], "clinic-2")
    except MalformedMessage as error:
        refusal = str(error)
    else:
        check_piece(total)
    assert refusal.startswith("clinic-2: ")
    assert "died" not in refusal
    (still_there,) = group.add([piece], [piece], "clinic-1")
    check_piece(still_there)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        check_piece(data)

"""A masked input's layout: one spelling, no byte more or less, every byte of the vector under its hash."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto import parallel
from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.masks import RANGE_VALUES
from fedapt_crypto.secagg.masking.masked_input import MaskedPayload, assemble
from fedapt_crypto.secagg.masking.messages import MaskedInput
from fedapt_crypto.secagg.signed import UNSIGNED
from tests.crypto.secagg.frames import CHUNK_BYTES, hash_of, join_masked, masked, split_masked
from tests.crypto.secagg.harness import make_parties

ROSTER, IDENTITIES = make_parties(2)
HEADER = MaskedInput(
    sender="clinic-1",
    signature=UNSIGNED,
    execution=bytes(32),
    transcript=bytes(32),
    masked_tag=bytes(8),
    vector_hash=bytes(32),
)
TAG = b"masktag8"
TAGGED = HEADER.model_copy(update={"masked_tag": TAG})
IDENTITY = IDENTITIES["clinic-1"]


def assembled(vector: np.ndarray) -> bytes:
    def fill(part: np.ndarray, first: int) -> int:
        part[:] = vector[first : first + part.size]
        return first

    finished: list[list[int]] = []

    def finish(filled: list[int]) -> bytes:
        finished.append(list(filled))
        return TAG

    payload, results = assemble(HEADER, IDENTITY, vector.size, fill, finish)
    assert finished == [results] == [list(range(0, vector.size, RANGE_VALUES))]
    return payload


def test_chunks_are_as_the_specification_says() -> None:
    assert CHUNK_BYTES == 4 * RANGE_VALUES == 1 << 20


@settings(max_examples=30)
@given(st.binary(max_size=90), st.text("abcdefgh-", max_size=30))
def test_it_is_put_together_and_taken_apart_as_the_obvious_way_does(data: bytes, name: str) -> None:
    vector = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    header = HEADER.model_copy(update={"sender": "a" + name})
    payload, _ = assemble(
        header, IDENTITY, vector.size, lambda part, first: part.__setitem__(..., vector), lambda filled: TAG
    )
    assert payload == masked(header.model_copy(update={"masked_tag": TAG}), vector.tobytes(), IDENTITY)
    found = MaskedPayload.from_bytes(payload, vector.size, "a")
    assert (found.header, found.vector.tobytes()) == split_masked(payload)
    assert join_masked(found.header, found.vector.tobytes()) == payload
    assert MaskedPayload.begins(payload)


@pytest.mark.parametrize(
    "size", [0, 1, RANGE_VALUES - 1, RANGE_VALUES, RANGE_VALUES + 1, 2 * RANGE_VALUES + 7]
)
@pytest.mark.parametrize("threads", [1, 3])
def test_hash_and_vector_do_not_depend_on_threads(monkeypatch, size: int, threads: int) -> None:
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    vector = np.random.default_rng(size).integers(0, 1 << 32, size, dtype=np.uint32)
    payload = assembled(vector)
    assert payload == masked(TAGGED, vector.tobytes(), IDENTITY)
    found = MaskedPayload.from_bytes(payload, size, "clinic-1")
    found.check(ROSTER)
    assert np.array_equal(found.words, vector)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda p: p + b"\x00", id="trailing"),
        pytest.param(lambda p: p + bytes(4), id="a-value-more"),
        pytest.param(lambda p: p[:-1], id="a-byte-less"),
        pytest.param(lambda p: p[:-4], id="a-value-less"),
        pytest.param(lambda p: p[:3], id="half-a-length"),
        pytest.param(lambda p: b"", id="empty"),
        pytest.param(lambda p: b"\x7f\xff\xff\xff" + p[4:], id="a-length-beyond-the-end"),
        pytest.param(lambda p: (int.from_bytes(p[:4]) - 1).to_bytes(4) + p[4:], id="a-length-too-short"),
        pytest.param(lambda p: (int.from_bytes(p[:4]) + 1).to_bytes(4) + p[4:], id="a-length-too-long"),
    ],
)
def test_another_length_is_refused(spoil) -> None:
    payload = spoil(assembled(np.arange(9, dtype=np.uint32)))
    with pytest.raises(MalformedMessage):
        MaskedPayload.from_bytes(payload, 9, "clinic-1")


def test_padding_is_zero_and_as_short_as_it_can_be() -> None:
    # a name for every length of padding
    for size in range(1, 17):
        header = HEADER.model_copy(update={"sender": "a" * size})
        payload = join_masked(header, bytes(8))
        end = 4 + int.from_bytes(payload[:4])
        start = len(payload) - 8
        assert start % 16 == 0
        assert start - end < 16
        MaskedPayload.from_bytes(payload, 2, "a")
        longer = payload[:end] + bytes(16) + payload[end:]
        spoilt = [longer, *(payload[:at] + b"\x01" + payload[at + 1 :] for at in range(end, start))]
        for data in spoilt:
            with pytest.raises(MalformedMessage, match="clinic-1"):
                MaskedPayload.from_bytes(data, 2, "clinic-1")


def test_every_byte_is_covered() -> None:
    vector = np.arange(RANGE_VALUES + 3, dtype=np.uint32)
    payload = assembled(vector)
    size, start = len(payload), len(payload) - vector.nbytes
    for at in (start, start + 1, start + CHUNK_BYTES - 1, start + CHUNK_BYTES, size - 1):
        changed = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(VerificationFailed, match="clinic-1: sent another vector"):
            MaskedPayload.from_bytes(changed, vector.size, "clinic-1").check(ROSTER)
    header, data = split_masked(payload)
    for fields in (
        {"vector_hash": hash_of(data[:-4])},
        {"execution": b"\x01" * 32},
        {"masked_tag": b"masktag9"},
    ):
        forged = join_masked(header.model_copy(update=fields), data)
        with pytest.raises(VerificationFailed, match="clinic-1: the signature"):
            MaskedPayload.from_bytes(forged, vector.size, "clinic-1").check(ROSTER)


def test_lengths_and_chunks_do_not_run_into_each_other() -> None:
    """Zeros of any length, chunks in any order: each has a hash of its own."""
    some = [bytes(4 * n) for n in (0, 1, 2, RANGE_VALUES, RANGE_VALUES + 1)]
    some += [
        b"\x01" + bytes(CHUNK_BYTES - 1) + bytes(CHUNK_BYTES),
        bytes(CHUNK_BYTES) + b"\x01" + bytes(CHUNK_BYTES - 1),
    ]
    assert len({hash_of(vector) for vector in some}) == len(some)


def test_no_copy_of_the_vector_is_made() -> None:
    size = 4 * RANGE_VALUES
    payload = assembled(np.zeros(size, np.uint32))
    tracemalloc.start()
    try:
        MaskedPayload.from_bytes(payload, size, "clinic-1").check(ROSTER)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        again, _ = assemble(HEADER, IDENTITY, size, lambda part, first: None, lambda filled: TAG)
        made = tracemalloc.get_traced_memory()[1] - len(again)
    finally:
        tracemalloc.stop()
    assert max(taken, made) < size  # bytes: a quarter of the vector

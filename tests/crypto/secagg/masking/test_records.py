"""Records, parcels and sealed plaintexts have one spelling: what decodes encodes to the same bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.encoding import encode_plain
from fedapt_crypto.errors import MalformedMessage, VerificationFailed
from fedapt_crypto.kdf import digest
from fedapt_crypto.merkle import MerkleTree, check_proof, proof_length
from fedapt_crypto.secagg.masking import keys
from fedapt_crypto.secagg.masking.records import (
    HOLDER,
    OWN,
    PAIR,
    RECORD_BYTES,
    SEALED_PAIR_SEED_BYTES,
    SEALED_SHARES_BYTES,
    Parcel,
    Record,
    pair_seed_plaintext,
    read_pair_seed,
    read_shares,
    record_heads,
    root_commitment,
    self_mask_commitment,
    shares_plaintext,
    split_parcels,
    split_records,
)

HASHES = st.binary(min_size=32, max_size=32)
INDICES = st.integers(0, (1 << 16) - 1)


@st.composite
def records(draw: st.DrawFn) -> Record:
    flags, byte = draw(st.sampled_from(sorted(RECORD_BYTES))), draw(st.binary(min_size=1, max_size=1))
    return Record(
        receiver=draw(INDICES),
        flags=flags,
        self_mask_share=draw(HASHES),
        root_share=draw(HASHES),
        pair_seed=draw(HASHES),
        sealed_shares=byte * SEALED_SHARES_BYTES if flags & HOLDER and not flags & OWN else b"",
        sealed_pair_seed=byte * SEALED_PAIR_SEED_BYTES if flags & PAIR else b"",
    )


@given(records())
def test_a_record_is_what_it_was(record: Record) -> None:
    data = record.to_bytes()
    assert Record.from_bytes(data) == record
    assert len(data) == RECORD_BYTES[record.flags]
    assert data.startswith(*record_heads([record.receiver], [record.flags]))
    assert self_mask_commitment(data) == record.self_mask_share
    assert root_commitment(data) == record.root_share
    for wrong in (data[:-1], data + b"\x00", data[:98], b""):
        with pytest.raises(MalformedMessage):
            Record.from_bytes(wrong)


@pytest.mark.parametrize("flags", sorted(set(range(256)) - RECORD_BYTES.keys()))
def test_no_other_flags(flags: int) -> None:
    for size in RECORD_BYTES.values():
        with pytest.raises(MalformedMessage):
            Record.from_bytes(bytes(2) + bytes([flags]) + bytes(size - 3))


def test_what_the_flags_announce() -> None:
    assert {flags: size - 99 for flags, size in RECORD_BYTES.items()} == {
        0: 0,
        HOLDER: 1136 + 37 + 66,
        PAIR: 1136 + 37 + 32,
        HOLDER | PAIR: 2 * (1136 + 37) + 98,
        HOLDER | OWN: 0,
    }


@given(st.lists(records(), max_size=4))
def test_a_table_is_cut_where_its_records_end(some: list[Record]) -> None:
    encoded = [record.to_bytes() for record in some]
    table = b"".join(encoded)
    assert split_records(table) == encoded
    for wrong in (table[:-1], table + b"\x00"):
        if wrong:
            with pytest.raises(MalformedMessage):
                split_records(wrong)


@given(st.data())
def test_parcels_are_what_they_were(data: st.DataObject) -> None:
    counts, parcels, roots = [], [], []
    for _ in range(data.draw(st.integers(0, 3))):
        table = [record.to_bytes() for record in data.draw(st.lists(records(), min_size=1, max_size=6))]
        tree, position = MerkleTree(table), data.draw(st.integers(0, len(table) - 1))
        counts.append(len(table))
        roots.append(tree.root)
        parcels.append(Parcel(position, tree.proof(position), table[position]))
        assert tree.proofs()[position] == b"".join(tree.proof(position))
    packed = b"".join(parcel.to_bytes() for parcel in parcels)
    assert split_parcels(packed, counts) == parcels
    for root, count, parcel in zip(roots, counts, parcels, strict=True):
        check_proof(root, parcel.record, parcel.position, count, parcel.proof)
    for wrong in (packed[:-1], packed + b"\x00"):
        if wrong != packed:
            with pytest.raises(MalformedMessage):
                split_parcels(wrong, counts)


@given(st.binary(max_size=300), st.lists(st.integers(0, 9), max_size=3))
def test_any_bytes_are_refused_or_have_this_spelling(data: bytes, counts: list[int]) -> None:
    try:
        parcels = split_parcels(data, counts)
    except MalformedMessage:
        return
    assert b"".join(parcel.to_bytes() for parcel in parcels) == data


def test_a_position_that_does_not_exist() -> None:
    record = Record(0, 0, bytes(32), bytes(32), bytes(32), b"", b"").to_bytes()
    for count, position in ((1, 1), (1, 65535), (4, 4), (0, 0)):
        with pytest.raises(MalformedMessage, match="position"):
            split_parcels(position.to_bytes(2) + bytes(32 * 3) + record, [count])


@given(st.integers(1, 300), st.data())
def test_the_place_says_how_long_a_proof_is(count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1))
    tree = MerkleTree([bytes([i % 256]) for i in range(count)])
    assert proof_length(position, count) == len(tree.proof(position))


@given(HASHES, INDICES, INDICES, st.binary(min_size=66, max_size=66))
def test_plaintexts_are_what_they_were(execution: bytes, dealer: int, receiver: int, content: bytes) -> None:
    ends = (execution, dealer, receiver)
    shares, seed = (
        shares_plaintext(*ends, content[:33], content[33:]),
        pair_seed_plaintext(*ends, content[:32]),
    )
    assert read_shares(shares, *ends) == (content[:33], content[33:])
    assert read_pair_seed(seed, *ends) == content[:32]
    for read, plaintext in ((read_shares, shares), (read_pair_seed, seed)):
        for wrong in (plaintext[:-1], plaintext + b"\x00", b""):
            with pytest.raises(MalformedMessage):
                read(wrong, *ends)
        for at in range(37):  # every byte of what names it
            changed = plaintext[:at] + bytes([plaintext[at] ^ 1]) + plaintext[at + 1 :]
            with pytest.raises(VerificationFailed):
                read(changed, *ends)
    with pytest.raises(MalformedMessage):
        read_shares(seed, *ends)


@given(st.text("abc-", min_size=1, max_size=64), st.binary(min_size=33, max_size=33))
def test_commitments_made_by_halves_are_the_same(holder: str, share: bytes) -> None:
    made = keys.ShareCommitments("root", bytes(32), "clinic-1").to(encode_plain(holder), share)
    assert made == keys.commit("root share", bytes(32), "clinic-1", holder, share)
    assert made == digest("secagg commit root share", bytes(32), "clinic-1", holder, share)

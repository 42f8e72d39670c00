"""The package behind the function names of the reference, so that one list of cases runs through both."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from fedapt_crypto import domain_keys, encoding, kdf, masks, merkle, roster, seal, shamir, sum_tag
from fedapt_crypto import fixed_point as fp
from fedapt_crypto import identity as ids
from fedapt_crypto.keystream import Keystream
from fedapt_crypto.secagg import group_secret
from fedapt_crypto.secagg.ckks import setup
from fedapt_crypto.secagg.masking import keys, parties
from fedapt_secure.protocol import statements
from tests.crypto.vectors.recorded import RecordedSource


class _Holder(encoding.Message):
    """A message with room for any value: what strict decoding does whatever the message."""

    value: Any


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


encode = encoding.encode


def decode(data: bytes) -> object:
    return _Holder.from_bytes(data).model_dump()


def pack_parties(indices: Sequence[int]) -> bytes:
    packed = parties.pack(indices)
    assert list(parties.unpack(packed, max(indices, default=0) + 1)) == sorted(indices)
    return packed


def unpack_parties(data: bytes, roster_size: int) -> list[int]:
    return list(parties.unpack(data, roster_size))


def labelled(label: str, parts: Sequence[object]) -> bytes:
    return kdf.labelled(label, *_tuples(parts))


def digest(label: str, parts: Sequence[object]) -> bytes:
    return kdf.digest(label, *_tuples(parts))


def derive(secret: bytes, label: str, parts: Sequence[object], length: int = 32) -> bytes:
    return kdf.derive(secret, label, *_tuples(parts), length=length)


def identity_key(identity: bytes) -> bytes:
    return ids.Identity.from_private_bytes(identity).public_key


def sign(identity: bytes, label: str, parts: Sequence[object]) -> bytes:
    signer = ids.Identity.from_private_bytes(identity)
    signature = signer.sign(label, *_tuples(parts))
    ids.verify(signer.public_key, signature, label, *_tuples(parts), signer="signer")
    return signature


fingerprint = ids.fingerprint
pair_seed = keys.pair_seed
pair_mask_key = keys.pair_mask_key
self_mask_key = keys.self_mask_key


def self_tag_mask(seed: bytes, execution: bytes, transcript: bytes, owner: str) -> bytes:
    return keys.self_tag_mask(seed, execution, transcript, owner).to_bytes(8)


def pair_tag_mask(seed: bytes, execution: bytes, transcript: bytes, dealer: str, receiver: str) -> bytes:
    return keys.pair_tag_mask(seed, execution, transcript, dealer, receiver).to_bytes(8)


execution_id = keys.execution_id
transcript_id = keys.transcript_id
survivors_id = keys.survivors_id


def mask_key(root: bytes, context: bytes) -> bytes:
    return keys.mask_key(root, context).public_key


def commit(kind: str, execution: bytes, owner: str, value: Sequence[bytes | str]) -> bytes:
    return keys.commit(kind, execution, owner, *value)


def keystream(key: bytes, start: int, length: int) -> bytes:
    return Keystream(key).uniform_words(start + length, np.uint8)[start:].tobytes()


def add_masks(words: Sequence[int], keys: Sequence[tuple[bytes, bool]]) -> list[int]:
    vector = np.array(words, np.uint32)
    masks.apply_masks(vector, [(key, 1 if add else -1) for key, add in keys])
    return vector.tolist()


def split(
    secret: bytes, threshold: int, indices: Sequence[int], coefficients: Sequence[bytes]
) -> list[bytes]:
    source = RecordedSource(numbers=coefficients)
    with patch.object(shamir, "secrets", source):
        shares = shamir.split(secret, threshold, indices)
    assert not source.numbers, "coefficients left over"
    return [shares[index] for index in indices]


def weights_at_zero(indices: Sequence[int]) -> list[bytes]:
    return [weight.to_bytes(33) for weight in shamir.weights_at_zero(indices)]


def combine(shares: Sequence[tuple[int, bytes]]) -> bytes:
    assert len(dict(shares)) == len(shares), "two shares at one point"
    return shamir.combine(dict(shares))


def thresholds(up_to: int) -> list[int]:
    return [roster.threshold(n) for n in range(1, up_to + 1)]


def fixed_sizes(summands: int, clip: float) -> dict[str, int]:
    fixed = fp.FixedPoint(summands, clip)
    return {"limit": fixed.limit, "fraction_bits": fixed.fraction_bits}


def fixed_encode(summands: int, clip: float, values: Sequence[float]) -> dict[str, object]:
    fixed = fp.FixedPoint(summands, clip)
    words, saturated = fixed.encode(np.array(values))
    return {**fixed_sizes(summands, clip), "words": words.tolist(), "saturated": saturated}


def fixed_decode(summands: int, clip: float, words: Sequence[int]) -> dict[str, object]:
    values = fp.FixedPoint(summands, clip).decode(np.array(words, np.uint32))
    return {**fixed_sizes(summands, clip), "values": values.tolist()}


def sealing_key(root: bytes) -> bytes:
    return seal.SealingKey(root).public_key


def open_sealed(root: bytes, sealed: bytes, info: Sequence[object]) -> bytes:
    return seal.SealingKey(root).open(sealed, *_tuples(info))


def merkle_tree(leaves: Sequence[bytes]) -> dict[str, object]:
    tree = merkle.MerkleTree(leaves)
    proofs = [list(tree.proof(position)) for position in range(len(leaves))]
    assert tree.proofs() == [b"".join(proof) for proof in proofs]
    assert all(len(p) == merkle.proof_length(i, len(leaves)) for i, p in enumerate(proofs))
    for position, proof in enumerate(proofs):
        merkle.check_proof(tree.root, leaves[position], position, len(leaves), proof)
    return {"root": tree.root, "proofs": proofs}


merkle_check = merkle.check_proof
domain_commitment = domain_keys.commitment
domain_check = domain_keys.check_seed


def domain_open(root: bytes, sealed: bytes, session: bytes, key_index: int, receiver: str) -> bytes:
    return domain_keys.open_seed(sealed, seal.SealingKey(root), session, key_index, receiver)


def domain_values(seed: bytes, key_index: int, shape: tuple[int, int]) -> list[list[int]]:
    return _steps(domain_keys.expand(seed, bytes(16), key_index, tuple(shape), None))


def shared_domain_values(
    seed: bytes, session: bytes, key_index: int, shape: tuple[int, int], secret: bytes
) -> list[list[int]]:
    shared = group_secret.GroupSecret(session, secret)
    return _steps(domain_keys.expand(seed, session, key_index, tuple(shape), shared))


def _steps(values: np.ndarray) -> list[list[int]]:
    return (values.astype(np.float64) * 2**24).astype(int).tolist()


def field_elements(drawn: bytes) -> list[bytes]:
    return [element.to_bytes(8) for element in sum_tag.field_elements(np.frombuffer(drawn, "<u8")).tolist()]


def sum_check_elements(secret: bytes, label: str, execution: bytes, transcript: bytes, count: int) -> bytes:
    check = sum_tag.SumCheck(secret, execution, transcript, length=1)
    return check._elements(label, count).astype(">u8").tobytes()


def sum_check_pad(secret: bytes, execution: bytes, transcript: bytes, name: str) -> bytes:
    return sum_tag.SumCheck(secret, execution, transcript, length=1)._pad(name).to_bytes(8)


def _spread(runs: Sequence[Sequence[int]]) -> fp.RingVector:
    counts, values = zip(*runs, strict=True)
    return np.repeat(np.array(values, np.int32), counts).view(np.uint32)


def sum_check_tag(
    secret: bytes, execution: bytes, transcript: bytes, name: str, runs: Sequence[Sequence[int]]
) -> bytes:
    vector = _spread(runs)
    return sum_tag.SumCheck(secret, execution, transcript, length=vector.size).tag(name, vector).to_bytes(8)


def sum_check_verify(
    secret: bytes,
    execution: bytes,
    transcript: bytes,
    survivors: Sequence[str],
    limit: int,
    runs: Sequence[Sequence[int]],
    tag: bytes,
) -> int:
    total = _spread(runs)
    check = sum_tag.SumCheck(secret, execution, transcript, length=total.size)
    check.verify(total, int.from_bytes(tag), survivors, limit=limit)
    return len(survivors) * limit


def next_model(model: bytes, total: Sequence[int], survivors: int, fraction_bits: int) -> dict[str, object]:
    words = np.array(total, np.int32).view(np.uint32)
    about: dict[str, int] = {"survivors": survivors, "fraction_bits": fraction_bits}
    after = sum_tag.next_model(np.frombuffer(model, "<f4"), words, **about)
    means = words.view(np.int32) * 2.0**-fraction_bits / survivors
    return {"model": after.astype("<f4").tobytes(), "means": means.tolist()}


def group_roster(members: Sequence[tuple[str, bytes, bytes]]) -> roster.Roster:
    """Return a roster of (name, identity key, sealing key) as far as a group secret needs one."""
    return roster.Roster.model_construct(
        authority_fingerprint=bytes(32),
        coordinator_key=bytes(32),
        members=tuple(
            roster.Member.model_construct(
                name=name, identity_key=key, sealing_key=sealing, domain_index=0, entry_signature=bytes(64)
            )
            for name, key, sealing in members
        ),
    )


def group_commitment(session: bytes, secret: bytes) -> bytes:
    return group_secret.GroupSecret(session, secret).commitment


def group_offer(
    identity: bytes,
    maker: str,
    members: Sequence[Sequence[object]],
    session: bytes,
    configuration_hash: bytes,
    secret: bytes,
    attachment: bytes,
    boxes: Sequence[bytes],
) -> dict[str, object]:
    """Return the offer's header and each member's part without its box, as made with recorded boxes."""
    signer, left = ids.Identity.from_private_bytes(identity), list(boxes)
    keys = [(name, seal.SealingKey(root)) for name, root in members]
    entries = [
        (name, signer.public_key if name == maker else bytes(32), key.public_key) for name, key in keys
    ]

    def repeat(key: bytes, plaintext: bytes, *info: object) -> bytes:
        owner = next(own for _, own in keys if own.public_key == key)
        assert owner.open(left[0], *info) == plaintext
        return left.pop(0)

    group = group_secret.GroupSecret(session, secret)
    with patch.object(group_secret.seal, "seal", repeat):
        offer = group.offer(configuration_hash, group_roster(entries), maker, signer, attachment)
    assert not left, "boxes left over"
    routed = group_secret.route_offer(offer, session, configuration_hash, group_roster(entries), maker)
    parts = [group_secret.GroupSecretPart.from_bytes(routed.parts[name]) for name, _ in keys]
    assert [part.box for part in parts] == list(boxes)
    assert {part.attachment for part in parts} == {attachment}
    return {"header": parts[0].header.to_bytes(), "proofs": [part.proof for part in parts]}


def group_open(
    payload: bytes,
    session: bytes,
    configuration_hash: bytes,
    maker: str,
    maker_key: bytes,
    name: str,
    position: int,
    count: int,
    root: bytes,
) -> dict[str, object]:
    """Return what a member opens, at a position of a roster of so many with that maker in it."""
    names = [f"other-{i}" for i in range(count)]
    names[position - 1] = maker
    names[position] = name
    entries = [(each, maker_key if each == maker else bytes(32), b"") for each in names]
    opened = group_secret.open_part(
        payload, session, configuration_hash, group_roster(entries), name, seal.SealingKey(root)
    )
    assert opened.secret.session == session
    return {"secret": opened.secret._secret, "maker": opened.maker, "attachment": opened.attachment}


def group_confirmed(identity: bytes, session: bytes, configuration_hash: bytes, commitment: bytes) -> bytes:
    configuration = SimpleNamespace(session=session, hash=configuration_hash)
    return statements.sign_confirmation(ids.Identity.from_private_bytes(identity), configuration, commitment)


def ckks_context(secret: bytes, sealed: bytes) -> bytes:
    """Return what is sealed in a CKKS session's attachment."""
    return setup._aead(group_secret.GroupSecret(bytes(16), secret)).decrypt(setup._NONCE, sealed, None)

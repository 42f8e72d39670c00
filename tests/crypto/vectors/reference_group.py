"""The reference's group secret: the commitment, what a maker signs, and what a member makes of its part."""

import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedapt_crypto.errors import ContextMismatch, MalformedMessage, VerificationFailed
from tests.crypto.vectors import reference as ref

HASH, SESSION, BOX, SIGNATURE = 32, 16, 1136 + 32, 64
HEADER = {
    "session": SESSION,
    "configuration_hash": HASH,
    "commitment": HASH,
    "boxes_root": HASH,
    "attachment_hash": HASH,
    "signature": SIGNATURE,
}
"""Fields of a header that are bytes, and how many; the others are its kind and sender."""
MOST_ATTACHED, MOST_PROOF = 2**17, 32 * 13


def group_commitment(session: bytes, secret: bytes) -> bytes:
    return ref.digest("group commitment", [session, secret])


def group_offer(
    identity: bytes,
    maker: str,
    members: Sequence[Sequence[Any]],
    session: bytes,
    configuration_hash: bytes,
    secret: bytes,
    attachment: bytes,
    boxes: Sequence[bytes],
) -> dict[str, object]:
    for (name, root), box in zip(members, boxes, strict=True):
        assert ref.open_sealed(root, box, info(session, configuration_hash, maker, name)) == secret
    assert maker in [name for name, _ in members]
    header = {
        "kind": "group header",
        "sender": maker,
        "session": session,
        "configuration_hash": configuration_hash,
        "commitment": group_commitment(session, secret),
        "boxes_root": ref.merkle_root(boxes),
        "attachment_hash": hashlib.sha256(attachment).digest(),
    }
    signature = ref.sign(identity, "secagg group header", [ref.encode(header)])
    proofs = [b"".join(ref.merkle_proof(boxes, position)) for position in range(len(boxes))]
    return {"header": ref.encode({**header, "signature": signature}), "proofs": proofs}


def info(session: bytes, configuration_hash: bytes, maker: str, receiver: str) -> list[object]:
    return ["group secret", session, configuration_hash, maker, receiver]


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
    assert 0 <= position < count
    part = ref.decode(payload)
    header = decoded(part)
    if header["sender"] != maker:
        raise VerificationFailed("a stranger to the roster")
    unsigned = {key: value for key, value in header.items() if key != "signature"}
    try:
        signed = ref.labelled("secagg group header", [ref.encode(unsigned)])
        Ed25519PublicKey.from_public_bytes(maker_key).verify(header["signature"], signed)
    except InvalidSignature:
        raise VerificationFailed("not signed by its maker") from None
    if (header["session"], header["configuration_hash"]) != (session, configuration_hash):
        raise ContextMismatch("another session or configuration")
    nodes = [part["proof"][at : at + HASH] for at in range(0, len(part["proof"]), HASH)]
    if len(part["proof"]) != HASH * len(ref.merkle_proof([b""] * count, position)):
        raise MalformedMessage("a proof of the wrong length")
    ref.merkle_check(header["boxes_root"], part["box"], position, count, nodes)
    if hashlib.sha256(part["attachment"]).digest() != header["attachment_hash"]:
        raise VerificationFailed("another attachment")
    secret = ref.open_sealed(root, part["box"], info(session, configuration_hash, maker, name))
    if group_commitment(session, secret) != header["commitment"]:
        raise VerificationFailed("another secret")
    return {"secret": secret, "maker": header["sender"], "attachment": part["attachment"]}


def decoded(part: Any) -> dict[str, Any]:
    """Return the header of a part, having looked at every field's kind and length."""
    fields = {"kind", "header", "box", "proof", "attachment"}
    if not isinstance(part, dict) or part.keys() != fields or part["kind"] != "group secret part":
        raise MalformedMessage("no part of a group secret")
    header = part["header"]
    if not isinstance(header, dict) or header.keys() != {*HEADER, "kind", "sender"}:
        raise MalformedMessage("no header")
    sizes = [(header[field], size, size) for field, size in HEADER.items()]
    sizes += [(part["box"], BOX, BOX), (part["proof"], 0, MOST_PROOF)]
    sizes += [(part["attachment"], 0, MOST_ATTACHED)]
    for value, low, high in sizes:
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise MalformedMessage("a field of another size")
    if header["kind"] != "group header":
        raise MalformedMessage("no header")
    return header


def group_confirmed(identity: bytes, session: bytes, configuration_hash: bytes, commitment: bytes) -> bytes:
    return ref.sign(identity, "group confirmed", [session, configuration_hash, commitment])


def ckks_context(secret: bytes, sealed: bytes) -> bytes:
    return ChaCha20Poly1305(ref.derive(secret, "ckks context", [])).decrypt(bytes(12), sealed, None)

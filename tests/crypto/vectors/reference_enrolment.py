"""Enrolment, rosters and signatures once more, from SPEC.md and ENROLMENT.md alone.

Ed25519, X.509 and SHA-256 come from libraries; messages are maps that are encoded by `reference_encoding`.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from tests.crypto.vectors.reference import derive, digest, labelled
from tests.crypto.vectors.reference_encoding import decode, encode

P = 2**255 - 19
SMALL_Y = (
    *(0, 1, P - 1),
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
SMALL_U = (
    *(0, 1, P - 1),
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
)


def must(holds: bool) -> None:
    if not holds:
        raise VerificationFailed("does not hold")


# Signatures, keys, entries.


def _sign(identity: bytes, label: str, *parts: object) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(identity).sign(labelled(label, parts))


def signature_check(public_key: bytes, signature: bytes, label: str, parts: Sequence[Any]) -> str:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, labelled(label, parts))
    except (InvalidSignature, ValueError):
        raise VerificationFailed("a signature") from None
    return label


def identity_key_check(public_key: bytes) -> bytes:
    y = int.from_bytes(public_key, "little") % 2**255
    must(len(public_key) == 32 and y < P and y not in SMALL_Y)
    return public_key


def sealing_key_check(curve_key: bytes) -> bytes:
    u = int.from_bytes(curve_key, "little")
    must(len(curve_key) == 32 and u < P and u not in SMALL_U)
    return curve_key


def entry_sign(identity: bytes, authority: bytes, coordinator: bytes, name: str, sealing_key: bytes) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()
    return _sign(identity, "roster entry", authority, coordinator, name, public, sealing_key)


def entry_check(authority: bytes, coordinator: bytes, member: Mapping[str, Any]) -> dict[str, Any]:
    identity_key_check(member["identity_key"])
    sealing_key_check(member["sealing_key"][1184:])
    if not isinstance(member["domain_index"], int) or not 0 <= member["domain_index"] < 4096:
        raise ValueError("a domain index")
    parts = [authority, coordinator, member["name"], member["identity_key"], member["sealing_key"]]
    signature_check(member["identity_key"], member["entry_signature"], "roster entry", parts)
    return {"name": member["name"], "domain_index": member["domain_index"]}


# The join string.


def token_values(token: bytes) -> dict[str, bytes]:
    return {
        "invitation": token[:8],
        "hash": digest("enrolment token", [token]),
        "paper_key": derive(token, "enrolment on paper", []),
    }


def join_text(join: Mapping[str, Any]) -> str:
    data = encode(join)
    checked = data + digest("join string", [data])[:4]
    return "fedapt1-" + base64.urlsafe_b64encode(checked).decode().rstrip("=")


def join_read(text: str) -> dict[str, Any]:
    text = "".join(text.split())
    body = text.removeprefix("fedapt1-")
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        join = decode(data[:-4])
        whole = isinstance(join, dict) and len(body) <= 4096 and join_text(join) == text
    except (ValueError, MalformedMessage):
        whole = False
    if not whole:
        raise InvalidInput("not a join string")
    assert isinstance(join, dict)
    return join


# Messages.


def signed(identity: bytes, kind: str, fields: Mapping[str, Any]) -> bytes:
    message = {**fields, "kind": kind, "signature": b""}
    return encode({**message, "signature": _sign(identity, kind, encode(message))})


def opened(data: bytes, kind: str) -> dict[str, Any]:
    message = decode(data)
    if not isinstance(message, dict) or message.get("kind") != kind:
        raise MalformedMessage("another kind of message")
    return message


def signed_by(message: Mapping[str, Any], key: bytes) -> None:
    signature_check(key, message["signature"], message["kind"], [encode({**message, "signature": b""})])


def authenticator(request: Mapping[str, Any], token: bytes) -> bytes:
    empty = encode({**request, "authenticator": b"", "signature": b""})
    key = derive(token, "enrolment on paper", [])
    return hmac.digest(key, labelled("enrolment request", [empty]), "sha256")


def enrolment_request(identity: bytes, token: bytes, fields: Mapping[str, Any]) -> bytes:
    request = {**fields, "kind": "enrolment request"}
    return signed(identity, "enrolment request", {**request, "authenticator": authenticator(request, token)})


def request_check(request: bytes, token: bytes, name: str, authority: bytes, coordinator: bytes) -> bytes:
    asked = opened(request, "enrolment request")
    must((asked["name"], asked["authority_fingerprint"], asked["invitation"]) == (name, authority, token[:8]))
    must(asked["authenticator"] == authenticator(asked, token))
    signed_by(asked, asked["identity_key"])
    entry_check(authority, coordinator, {**asked, "domain_index": 0})
    csr_key(asked["certificate_request"], name)
    return digest("certificate request", [request])


def csr_key(request: bytes, name: str) -> bytes:
    """Return the public key (DER) in a certificate request."""
    try:
        parsed = x509.load_der_x509_csr(request)
    except ValueError:
        raise MalformedMessage("no certificate request") from None
    must(parsed.is_signature_valid and [part.value for part in parsed.subject] == [name])
    key = parsed.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedMessage("another kind of key")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def renewal_request(identity: bytes, fields: Mapping[str, Any]) -> bytes:
    return signed(identity, "renewal request", fields)


def renewal_check(
    renewal: bytes, member: Mapping[str, Any], nonce: bytes, authority: bytes, coordinator: bytes
) -> bytes:
    asked = opened(renewal, "renewal request")
    must((asked["name"], asked["authority_fingerprint"]) == (member["name"], authority))
    must(asked["nonce"] == nonce)
    signed_by(asked, member["identity_key"])
    entry = {**member, "domain_index": 0, "entry_signature": asked["entry_signature"]}
    entry_check(authority, coordinator, entry)
    csr_key(asked["certificate_request"], member["name"])
    return digest("certificate request", [renewal])


def certified(identity: bytes, fields: Mapping[str, Any]) -> bytes:
    return signed(identity, "certified", fields)


def certified_check(answer: bytes, request: bytes, authority: bytes, coordinator: bytes) -> bytes:
    found, asked = opened(answer, "certified"), opened(request, "enrolment request")
    must(hashlib.sha256(found["coordinator_key"]).digest() == coordinator)
    must(hashlib.sha256(found["authority"]).digest() == authority)
    signed_by(found, found["coordinator_key"])
    certificate = x509.load_der_x509_certificate(found["certificate"])
    common = [part.value for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    must(found["request_hash"] == digest("certificate request", [request]))
    must((found["name"], common) == (asked["name"], [asked["name"]]))
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    must(key == csr_key(asked["certificate_request"], asked["name"]))
    return hashlib.sha256(found["certificate"]).digest()


# The roster.


def roster_hash(content: Mapping[str, Any]) -> bytes:
    names = [member["name"] for member in content["members"]]
    keys = [content["coordinator_key"], *(member["identity_key"] for member in content["members"])]
    if len(set(names)) < len(names) or len(set(keys)) < len(keys) or "coordinator" in names:
        raise ValueError("names and keys are distinct")
    return digest("roster", [encode(content)])


def roster_file(identity: bytes, content: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    return signed(identity, "roster", {**fields, "roster": encode(content)})


def roster_check(file: bytes, coordinator_key: bytes) -> bytes:
    message = opened(file, "roster")
    signed_by(message, coordinator_key)
    content = decode(message["roster"])
    assert isinstance(content, dict)
    must(content["coordinator_key"] == coordinator_key)
    identity_key_check(coordinator_key)
    for member in content["members"]:
        if member["domain_index"] >= len(message["domains"]):
            raise MalformedMessage("a domain that is not there")
        entry_check(content["authority_fingerprint"], hashlib.sha256(coordinator_key).digest(), member)
    return roster_hash(content)


def as_file(title: str, message: bytes) -> str:
    text = base64.b64encode(message).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {title}-----", *lines, f"-----END {title}-----", ""])

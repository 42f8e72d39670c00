"""The package's enrolment, rosters and graph sizes behind the function names of the reference."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from fedapt_crypto import certificates, roster, seal
from fedapt_crypto import identity as ids
from fedapt_crypto.errors import VerificationFailed
from fedapt_crypto.secagg.masking import graph
from fedapt_secure.protocol.joining import enrolment as e
from fedapt_secure.protocol.joining import join_string


def _identity(private: bytes) -> ids.Identity:
    return ids.Identity.from_private_bytes(private)


def signature_check(public_key: bytes, signature: bytes, label: str, parts: Sequence[Any]) -> str:
    ids.verify(public_key, signature, label, *parts, signer="signer")
    return label


def identity_key_check(public_key: bytes) -> bytes:
    ids.check_public_key(public_key, owner="owner")
    return public_key


def sealing_key_check(curve_key: bytes) -> bytes:
    """Of the X25519 half; the other half is a good one."""
    good = seal.SealingKey(bytes(32)).public_key
    seal.check_public_key(good[:1184] + curve_key, owner="owner")
    return curve_key


def entry_sign(identity: bytes, authority: bytes, coordinator: bytes, name: str, sealing_key: bytes) -> bytes:
    return roster.sign_entry(_identity(identity), authority, coordinator, name, sealing_key)


def entry_check(authority: bytes, coordinator: bytes, member: Mapping[str, Any]) -> dict[str, Any]:
    entry = roster.Member(**member)
    entry.check(authority, coordinator)
    return {"name": entry.name, "domain_index": entry.domain_index}


def token_values(token: bytes) -> dict[str, bytes]:
    return {
        "invitation": join_string.token_id(token),
        "hash": join_string.token_hash(token),
        "paper_key": join_string.paper_key(token),
    }


def join_text(join: Mapping[str, Any]) -> str:
    return join_string.JoinString(**{**join, "addresses": tuple(join["addresses"])}).to_text()


def join_read(text: str) -> dict[str, Any]:
    return join_string.JoinString.from_text(text).model_dump()


def enrolment_request(identity: bytes, token: bytes, fields: Mapping[str, Any]) -> bytes:
    unsigned = e.Request(**fields, authenticator=bytes(32), signature=e.UNSIGNED)
    proof = e.authenticator(unsigned, join_string.paper_key(token))
    return e.signed(_identity(identity), unsigned.model_copy(update={"authenticator": proof})).to_bytes()


def request_check(request: bytes, token: bytes, name: str, authority: bytes, coordinator: bytes) -> bytes:
    """Check a request as the coordinator does, and return its hash."""
    asked = e.Request.from_bytes(request)
    proof = e.authenticator(asked, join_string.paper_key(token))
    if (asked.name, asked.authority_fingerprint) != (name, authority):
        raise VerificationFailed("another name or authority")
    if asked.invitation != join_string.token_id(token) or not hmac.compare_digest(asked.authenticator, proof):
        raise VerificationFailed("not of this invitation")
    e.check_signature(asked, asked.identity_key, signer=asked.name)
    fields = {key: getattr(asked, key) for key in ("name", "identity_key", "sealing_key", "entry_signature")}
    roster.Member(**fields, domain_index=0).check(authority, coordinator)
    certificates.request_key(asked.certificate_request, name)
    return e.request_hash(asked)


def renewal_request(identity: bytes, fields: Mapping[str, Any]) -> bytes:
    return e.signed(_identity(identity), e.Renewal(**fields, signature=e.UNSIGNED)).to_bytes()


def renewal_check(
    renewal: bytes, member: Mapping[str, Any], nonce: bytes, authority: bytes, coordinator: bytes
) -> bytes:
    """Check a renewal as the coordinator does, and return its hash."""
    asked = e.Renewal.from_bytes(renewal)
    known = roster.Member(**member, domain_index=0, entry_signature=asked.entry_signature)
    if (asked.name, asked.authority_fingerprint, asked.nonce) != (known.name, authority, nonce):
        raise VerificationFailed("another name, authority or connection")
    e.check_signature(asked, known.identity_key, signer=known.name)
    known.check(authority, coordinator)
    certificates.request_key(asked.certificate_request, known.name)
    return e.request_hash(asked)


def certified(identity: bytes, fields: Mapping[str, Any]) -> bytes:
    return e.signed(_identity(identity), e.Certified(**fields, signature=e.UNSIGNED)).to_bytes()


def certified_check(answer: bytes, request: bytes, authority: bytes, coordinator: bytes) -> bytes:
    """Check an answer to a request as the institution does, and return the certificate's hash."""
    found, asked = e.Certified.from_bytes(answer), e.Request.from_bytes(request)
    if ids.fingerprint_bytes(found.coordinator_key) != coordinator:
        raise VerificationFailed("another coordinator")
    if hashlib.sha256(found.authority).digest() != authority:
        raise VerificationFailed("another authority")
    e.check_signature(found, found.coordinator_key, signer="coordinator")
    about = certificates.facts(found.certificate)
    if found.request_hash != e.request_hash(asked) or (found.name, about.name) != (asked.name, asked.name):
        raise VerificationFailed("an answer to another request")
    if about.public_key != certificates.request_key(asked.certificate_request, asked.name):
        raise VerificationFailed("a certificate for another key")
    return about.fingerprint


def _roster(content: Mapping[str, Any]) -> roster.Roster:
    members = tuple(roster.Member(**member) for member in content["members"])
    return roster.Roster(**{**content, "members": members})


def roster_hash(content: Mapping[str, Any]) -> bytes:
    return _roster(content).hash


def roster_file(identity: bytes, content: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    about = {**fields, "domains": tuple(fields["domains"])}
    unsigned = e.RosterFile(**about, roster=_roster(content).to_bytes(), signature=e.UNSIGNED)
    return e.signed(_identity(identity), unsigned).to_bytes()


def roster_check(file: bytes, coordinator_key: bytes) -> bytes:
    """Check a signed roster with all its entries, and return the roster's hash."""
    return e.RosterFile.from_bytes(file).check(coordinator_key).hash


def as_file(title: str, message: bytes) -> str:
    kind = next(each for each, name in e._TITLES.items() if name == title)
    text = e.to_file(kind.from_bytes(message))
    assert e.from_file(b"a mail\n" + text, kind, "file").to_bytes() == message
    return text.decode()


def graph_sizes(n: int) -> dict[str, int]:
    sizes = graph.topology(n)
    return {
        "k": sizes.neighbours,
        "t": sizes.share_threshold,
        "quorum": sizes.quorum,
        "d": graph.most_incoming(n, sizes.neighbours),
    }

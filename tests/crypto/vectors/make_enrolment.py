"""Vectors of enrolment, rosters, signatures and graph sizes: all from labelled hashes."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.crypto.vectors import curve, package, package_enrolment
from tests.crypto.vectors.make_round import fixed

NAME, COORDINATOR = "clinic-1", "coordinator.example.org"
GRAPHS = (1, 2, 3, 10, 63, 64, 65, 66, 80, 100, 150, 200, 300)


def case(function: str, **arguments: object) -> dict[str, Any]:
    """Return a case: a function, its arguments, and the result that the package gives."""
    result = getattr(package_enrolment, function)(**arguments)
    return {"function": function, "arguments": arguments, "result": result}


def tls_key(*what: object) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(fixed("tls", *what)[:31]), ec.SECP256R1())


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def csr(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request, DER, the same each time."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(name))
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def certificate(name: str, key: ec.EllipticCurvePublicKey, serial: int) -> bytes:
    """Return a certificate of the vectors' authority, DER, the same each time."""
    builder = x509.CertificateBuilder().subject_name(subject(name)).issuer_name(subject("vectors CA"))
    builder = builder.public_key(key).serial_number(serial)
    builder = builder.not_valid_before(datetime(2026, 11, 1, tzinfo=UTC))
    builder = builder.not_valid_after(datetime(2027, 1, 30, tzinfo=UTC))
    made = builder.sign(tls_key("authority"), hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(Encoding.DER)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


AUTHORITY = certificate("vectors CA", tls_key("authority").public_key(), 1)
COORDINATOR_KEY = package.identity_key(fixed("coordinator"))
FEDERATION = {"authority": digest(AUTHORITY), "coordinator": digest(COORDINATOR_KEY)}
TOKEN = fixed("token")
JOIN = {
    "addresses": [COORDINATOR, "192.0.2.7"],
    "authority_fingerprint": FEDERATION["authority"],
    "coordinator_fingerprint": FEDERATION["coordinator"],
    "expires": 1796000000,
    "name": NAME,
    "port": 8444,
    "token": TOKEN,
}


def member(name: str, domain: int) -> dict[str, Any]:
    """Return an entry of the roster as its owner signed it."""
    sealing_key = package.sealing_key(fixed("sealing_root", name))
    signature = package_enrolment.entry_sign(
        fixed("identity", name), **FEDERATION, name=name, sealing_key=sealing_key
    )
    return {
        "name": name,
        "identity_key": package.identity_key(fixed("identity", name)),
        "sealing_key": sealing_key,
        "domain_index": domain,
        "entry_signature": signature,
    }


def request_fields() -> dict[str, Any]:
    own = member(NAME, 0)
    return {
        "name": NAME,
        "authority_fingerprint": FEDERATION["authority"],
        "identity_key": own["identity_key"],
        "sealing_key": own["sealing_key"],
        "certificate_request": csr(NAME, tls_key(NAME)),
        "invitation": TOKEN[:8],
        "entry_signature": own["entry_signature"],
    }


def certified_fields(request_hash: bytes) -> dict[str, Any]:
    return {
        "name": NAME,
        "domain": "fundus-a",
        "federation": "retina",
        "certificate": certificate(NAME, tls_key(NAME).public_key(), 2),
        "authority": AUTHORITY,
        "coordinator_name": "coordinator",
        "coordinator_key": COORDINATOR_KEY,
        "rounds_port": 8443,
        "request_hash": request_hash,
    }


def renewal_fields() -> dict[str, Any]:
    return {
        "name": NAME,
        "authority_fingerprint": FEDERATION["authority"],
        "certificate_request": csr(NAME, tls_key(NAME, "next")),
        "nonce": fixed("nonce"),
        "entry_signature": member(NAME, 0)["entry_signature"],
    }


def roster_content(*members: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "authority_fingerprint": FEDERATION["authority"],
        "coordinator_key": COORDINATOR_KEY,
        "members": list(members),
    }


ROSTER_FIELDS = {
    "federation": "retina",
    "revision": 3,
    "changed": 1795000000,
    "domains": ["fundus-a", "fundus-b"],
}


def keys_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("name", "identity_key", "sealing_key")}


def enrolment() -> list[dict[str, Any]]:
    own, identity = member(NAME, 0), fixed("identity", NAME)
    text = package_enrolment.join_text(JOIN)
    made = case("enrolment_request", identity=identity, token=TOKEN, fields=request_fields())
    request = made["result"]
    checked = case("request_check", request=request, token=TOKEN, name=NAME, **FEDERATION)
    answer = case("certified", identity=fixed("coordinator"), fields=certified_fields(checked["result"]))
    renewed = case("renewal_request", identity=identity, fields=renewal_fields())
    content = roster_content(own, member("clinic-2", 1))
    file = case("roster_file", identity=fixed("coordinator"), content=content, fields=ROSTER_FIELDS)
    return [
        case("token_values", token=TOKEN),
        case("join_text", join=JOIN),
        case("join_read", text=f" {text[:40]}\n{text[40:]} "),
        case("entry_sign", identity=identity, **FEDERATION, name=NAME, sealing_key=own["sealing_key"]),
        case("entry_check", **FEDERATION, member=own),
        made,
        checked,
        answer,
        case("certified_check", answer=answer["result"], request=request, **FEDERATION),
        renewed,
        case(
            "renewal_check",
            renewal=renewed["result"],
            member=keys_of(own),
            nonce=fixed("nonce"),
            **FEDERATION,
        ),
        case("roster_hash", content=content),
        file,
        case("roster_check", file=file["result"], coordinator_key=COORDINATOR_KEY),
        case("as_file", title="FEDAPT CERTIFICATE ANSWER", message=answer["result"]),
        *signatures(),
    ]


def signatures() -> list[dict[str, Any]]:
    """Signatures at the edge of what is accepted, and accepted."""
    message, scalar = package.labelled("label", ["part"]), int.from_bytes(fixed("scalar")) % curve.ORDER
    key, signature = curve.sign(scalar, message)
    neutral = curve.pack(curve.NEUTRAL)
    of_no_nonce = neutral + (curve.challenge(neutral, key, message) * scalar % curve.ORDER).to_bytes(
        32, "little"
    )
    found = [(key, signature), (key, of_no_nonce)]
    return [
        *(
            case("signature_check", public_key=k, signature=s, label="label", parts=["part"])
            for k, s in found
        ),
        case("identity_key_check", public_key=key),
        case("sealing_key_check", curve_key=package.sealing_key(fixed("sealing"))[1184:]),
    ]


def graphs() -> list[dict[str, Any]]:
    return [case("graph_sizes", n=n) for n in GRAPHS]

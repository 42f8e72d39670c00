"""Read X.509 objects that came from elsewhere: certificates, requests for one, and revocation lists.

What is read here has been parsed by `cryptography`, never by hand, and every mistake in it is one error.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedapt_crypto.errors import MalformedMessage, VerificationFailed

EXPIRES_SOON = timedelta(days=14)
MAX_REQUEST_BYTES = 4096
"""A request for a P-256 key with one name has about 250 bytes."""


@dataclass(frozen=True)
class CertificateFacts:
    """What people and programs ask about a certificate.

    Attributes:
        name: Its common name.
        issuer: Common name of who issued it, or the whole issuer where it has none.
        serial: Its serial number.
        not_before, not_after: When it is valid.
        public_key: DER of its public key.
        fingerprint: SHA-256 of the whole certificate (DER).
    """

    name: str
    issuer: str
    serial: int
    not_before: datetime
    not_after: datetime
    public_key: bytes
    fingerprint: bytes

    def expired(self, now: datetime) -> bool:
        """Whether it is past its last moment."""
        return now > self.not_after

    def valid(self, now: datetime) -> bool:
        """Whether it has begun and is not over."""
        return self.not_before <= now <= self.not_after

    def renewal_due(self, now: datetime) -> bool:
        """Whether it is in its last third: a month of the usual three to notice that renewing fails."""
        return now > self.not_after - (self.not_after - self.not_before) / 3

    def expires_soon(self, now: datetime) -> bool:
        """Whether somebody should look why it has not been renewed."""
        return expires_soon(self.not_after, self.not_after - self.not_before, now)


def expires_soon(not_after: datetime, lifetime: timedelta, now: datetime) -> bool:
    """Whether two weeks are left, or, of a certificate that lives shortly, half of its last third.

    Args:
        not_after: Its last moment.
        lifetime: How long it is valid.
        now: What time it is.
    """
    return not_after - now < min(EXPIRES_SOON, lifetime / 6)


def facts(certificate: bytes) -> CertificateFacts:
    """Return the facts of a certificate, PEM or DER.

    Raises:
        MalformedMessage: If it is not a certificate.
    """
    return _facts(_certificate(certificate))


def to_der(certificate: bytes) -> bytes:
    """Return a certificate, PEM or DER, as DER; raises `MalformedMessage` if it is none."""
    return _certificate(certificate).public_bytes(serialization.Encoding.DER)


def to_pem(certificate: bytes) -> bytes:
    """Return a certificate, PEM or DER, as PEM; raises `MalformedMessage` if it is none."""
    return _certificate(certificate).public_bytes(serialization.Encoding.PEM)


def check_issued(certificate: bytes, authority: bytes) -> CertificateFacts:
    """Check that an authority issued a certificate; neither the dates nor the name are looked at.

    Raises:
        MalformedMessage: If either is not a certificate.
        VerificationFailed: If the authority did not issue it, or is none.
    """
    issued, issuer = _certificate(certificate), _certificate(authority)
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            raise VerificationFailed("a certificate was issued by one that may not issue any")
        issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise VerificationFailed("a certificate is not of this federation's authority") from None
    return _facts(issued)


def request_key(request: bytes, name: str) -> bytes:
    """Check a certificate request and return its public key, DER.

    The signature proves that the requester holds the private key. Names and extensions in it count for
    nothing, for the authority chooses them; a request that asks for another name is refused all the same,
    since somebody meant something by it.

    Raises:
        MalformedMessage: If it is not a request (DER), or for a key other than ECDSA on P-256.
        VerificationFailed: If its signature does not verify or it asks for another name.
    """
    try:
        parsed = x509.load_der_x509_csr(request) if len(request) <= MAX_REQUEST_BYTES else None
        if parsed is None or not isinstance(key := parsed.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError  # noqa: TRY301 - one refusal for every way a request can be wrong
        if not isinstance(key.curve, ec.SECP256R1) or not isinstance(
            parsed.signature_hash_algorithm, hashes.SHA256
        ):
            raise ValueError  # noqa: TRY301, TRY004
        right, asked = parsed.is_signature_valid, [attribute.value for attribute in parsed.subject]
    except Exception:  # noqa: BLE001 - whatever the parser makes of hostile bytes, it is this one mistake
        raise MalformedMessage("not a certificate request for an ECDSA key on P-256") from None
    if not right:
        raise VerificationFailed("the signature of the certificate request does not verify")
    if asked != [name]:
        raise VerificationFailed("the certificate request asks for another name than the invitation's")
    return public_key_der(key)


@dataclass(frozen=True)
class RevocationList:
    """A list whose signature was checked.

    Attributes:
        number: Counts the lists; a later one has a higher number.
        serials: Serial numbers of the certificates on it.
    """

    number: int
    serials: frozenset[int]


def read_revocation_list(pem: bytes, authority: bytes) -> RevocationList:
    """Check a revocation list (X.509 CRL, PEM) and return what it says.

    Raises:
        MalformedMessage: If it is not a numbered revocation list.
        VerificationFailed: If it is not signed by the authority.
    """
    key = _certificate(authority).public_key()
    try:
        parsed = x509.load_pem_x509_crl(pem)
        number = parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        # Only EC keys: an authority of this project has no other.
        right = isinstance(key, ec.EllipticCurvePublicKey) and parsed.is_signature_valid(key)
        serials = frozenset(entry.serial_number for entry in parsed)
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise MalformedMessage("not a revocation list of this program") from None
    if not right:
        raise VerificationFailed("a revocation list is not signed by this federation's authority")
    return RevocationList(number, serials)


def public_key_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as it stands in certificates."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _facts(parsed: x509.Certificate) -> CertificateFacts:
    key = parsed.public_key()
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return CertificateFacts(
        name=_common_name(parsed.subject),
        issuer=_common_name(parsed.issuer),
        serial=parsed.serial_number,
        not_before=parsed.not_valid_before_utc.astimezone(UTC),
        not_after=parsed.not_valid_after_utc.astimezone(UTC),
        public_key=der,
        fingerprint=hashlib.sha256(parsed.public_bytes(serialization.Encoding.DER)).digest(),
    )


def _common_name(name: x509.Name) -> str:
    found = [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return found[0] if found else name.rfc4514_string()


def _certificate(data: bytes) -> x509.Certificate:
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError:
        raise MalformedMessage("not a certificate") from None

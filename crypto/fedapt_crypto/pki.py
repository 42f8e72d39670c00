"""The run's own certificate authority and the TLS certificates it issues (X.509, ECDSA P-256)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedapt_crypto.errors import InvalidInput

CLOCK_SKEW = timedelta(minutes=5)
CA_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=90)


@dataclass(frozen=True, repr=False)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    private_key_pem: bytes


@dataclass(frozen=True)
class CertificateFacts:
    """What a log says about a certificate.

    Attributes:
        name: Its common name. fingerprint: SHA-256 of its DER encoding, hexadecimal.
        not_before, not_after: When it is valid.
    """

    name: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


def read_certificate(pem: bytes) -> CertificateFacts:
    """Return the facts about a PEM file's first certificate; raises `InvalidInput` where there is none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    except (ValueError, IndexError):
        raise InvalidInput("the TLS certificate does not parse") from None
    return CertificateFacts(
        name=str(name),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


class CertificateAuthority:
    """Issues certificates for one federation; whoever holds it decides who may connect."""

    def __init__(self, certificate: x509.Certificate, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._private_key = private_key

    @classmethod
    def create(cls, federation: str, *, now: datetime | None = None) -> "CertificateAuthority":
        """Make a new authority; ``now`` is for tests."""
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"{federation} CA")
        certificate = (
            _builder(name, name, key.public_key(), now, CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def __repr__(self) -> str:
        return "CertificateAuthority(key hidden)"

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate, which every party pins."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def private_key_pem(self) -> bytes:
        """Return the authority's key, for its key file only."""
        return _private_pem(self._private_key)

    def issue(
        self, name: str, *, server_addresses: tuple[str, ...] = (), now: datetime | None = None
    ) -> Certificate:
        """Issue a certificate with a fresh key.

        Args:
            name: Party name, which becomes the common name and a DNS name.
            server_addresses: Host names and IP addresses under which a coordinator is reached; none
                makes a client certificate.
            now: Start of validity, for tests.
        """
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server_addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        alternatives = [x509.DNSName(name), *map(_general_name, server_addresses)]
        certificate = (
            _builder(_name(name), self._certificate.subject, key.public_key(), now, CERTIFICATE_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private_key.public_key()),
                critical=False,
            )
            .sign(self._private_key, hashes.SHA256())
        )
        return Certificate(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""The federation's own certificate authority (X.509, ECDSA P-256), and TLS keys that never travel.

A party makes its key and a request for a certificate; the authority looks at the request, decides the name
and signs. No function here makes a key for somebody else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedapt_crypto.certificates import public_key_der, request_key
from fedapt_crypto.errors import InvalidInput

CLOCK_SKEW = timedelta(minutes=5)
CA_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=90)


class TlsKey:
    """A party's TLS key, or the authority's key; made where it is used."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self.private_key = private_key
        self.public_key = public_key_der(private_key.public_key())

    def __repr__(self) -> str:
        return "TlsKey(private half hidden)"

    @classmethod
    def generate(cls) -> "TlsKey":
        """Draw a new key from the operating system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, password: bytes | None = None) -> "TlsKey":
        """Rebuild a key from its file.

        Raises:
            InvalidInput: If it is not a key of this program, or the password is missing or wrong.
        """
        return cls(_load(pem, password))

    def private_pem(self, password: bytes | None = None) -> bytes:
        """Return the private key as PKCS#8, for the key file only; encrypted if there is a password."""
        return _private_pem(self.private_key, password)

    def request(self, name: str) -> bytes:
        """Return a request (PKCS#10, DER) for a certificate in this name, signed with the key."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
        return builder.sign(self.private_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Revocation:
    """One certificate that is no longer to be trusted, and since when."""

    serial: int
    revoked_at: datetime


class CertificateAuthority:
    """Signs certificates for one federation; whoever holds it decides who may connect."""

    def __init__(self, certificate: x509.Certificate, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._private_key = private_key

    @classmethod
    def create(
        cls, federation: str, key: TlsKey | None = None, *, now: datetime | None = None
    ) -> "CertificateAuthority":
        """Make a new authority, with a fresh key if none is given; ``now`` is for tests."""
        now = now or datetime.now(UTC)
        private_key = (key or TlsKey.generate()).private_key
        name = _name(f"{federation} CA")
        certificate = (
            _builder(name, name, private_key.public_key(), now - CLOCK_SKEW, now + CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False
            )
            .sign(private_key, hashes.SHA256())
        )
        return cls(certificate, private_key)

    @classmethod
    def load(cls, certificate_pem: bytes, key: TlsKey) -> "CertificateAuthority":
        """Rebuild an authority from its files.

        Raises:
            InvalidInput: If they are not an authority's, or do not belong together.
        """
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
        except ValueError:
            raise InvalidInput("the authority's certificate file does not hold a certificate") from None
        if certificate.public_key() != key.private_key.public_key():
            raise InvalidInput("the authority's certificate and key do not belong together")
        return cls(certificate, key.private_key)

    def __repr__(self) -> str:
        return "CertificateAuthority(key hidden)"

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate, which every party pins."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> TlsKey:
        """The authority's key, for its key file only."""
        return TlsKey(self._private_key)

    def sign_request(
        self,
        request: bytes,
        name: str,
        *,
        server_addresses: tuple[str, ...] = (),
        now: datetime | None = None,
        begins: datetime | None = None,
        lifetime: timedelta = CERTIFICATE_LIFETIME,
    ) -> bytes:
        """Sign a certificate for the key in a request; everything else in it is chosen here.

        Args:
            request: PKCS#10, DER, from `TlsKey.request`.
            name: Party name, which becomes the common name and a DNS name; the request must ask for it.
            server_addresses: Host names and IP addresses under which a coordinator is reached; none
                makes a client certificate.
            now: What time it is, for tests.
            begins: Start of validity, where it is to be earlier than `CLOCK_SKEW` ago.
            lifetime: How long it is valid from now on; never beyond the authority's end.

        Returns:
            The certificate, PEM.

        Raises:
            InvalidInput: If the authority's own certificate is not valid now.
            MalformedMessage: If the request is none, or for another kind of key.
            VerificationFailed: If its signature does not verify, or it asks for another name.
        """
        key = serialization.load_der_public_key(request_key(request, name))
        assert isinstance(key, ec.EllipticCurvePublicKey)  # request_key lets no other through
        now = now or datetime.now(UTC)
        first, last = self._validity(now)
        begins = max(first, min(begins or now, now - CLOCK_SKEW))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server_addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        alternatives = [x509.DNSName(name), *map(_general_name, server_addresses)]
        certificate = (
            _builder(_name(name), self._certificate.subject, key, begins, min(last, now + lifetime))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private_key.public_key()),
                critical=False,
            )
            .sign(self._private_key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _validity(self, now: datetime) -> tuple[datetime, datetime]:
        """Return from when until when the authority is valid; raises `InvalidInput` where that is not now."""
        first, last = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if not first <= now < last:
            raise InvalidInput(
                f"the federation's authority is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, and this"
                f" machine's clock says {now:%Y-%m-%d %H:%M} UTC: nothing was signed; put the clock right, or"
                " found a new federation if it was wrong when this one was founded"
            )
        return first, last

    def revocation_list(
        self, revocations: Iterable[Revocation], number: int, *, now: datetime | None = None
    ) -> bytes:
        """Return the signed list (X.509 CRL, PEM) of certificates that are no longer to be trusted.

        It is read from a file beside whoever checks it and renewed with every change, so its next update
        is the authority's end: a list must not lapse, and let everybody or nobody in, because nothing
        was revoked for a while.

        Args:
            revocations: Everything revoked so far.
            number: Counts the lists; higher than that of every earlier one.
            now: Time of the list, for tests.
        """
        now = now or datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now)
            .next_update(max(self._certificate.not_valid_after_utc, now + CLOCK_SKEW))
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for revocation in revocations:
            entry = x509.RevokedCertificateBuilder().serial_number(revocation.serial)
            builder = builder.add_revoked_certificate(entry.revocation_date(revocation.revoked_at).build())
        return builder.sign(self._private_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
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


def _private_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None) -> bytes:
    encryption = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _load(pem: bytes, password: bytes | None) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError:
        raise InvalidInput(
            "the key is protected by a passphrase, and none was given, or the reverse"
        ) from None
    except ValueError:
        raise InvalidInput("not a private key, or the passphrase is wrong") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("not a private key of this program (ECDSA on P-256)")
    return key

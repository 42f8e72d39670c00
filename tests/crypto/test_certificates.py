"""Requests, certificates and revocation lists: what the authority signs, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.certificates import (
    MAX_REQUEST_BYTES,
    check_issued,
    expires_soon,
    facts,
    read_revocation_list,
    request_key,
    to_der,
    to_pem,
)
from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.pki import CertificateAuthority, Revocation, TlsKey

NAME = "clinic-1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def common_name(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def request(key, name: x509.Name, hash_function=None) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hash_function or hashes.SHA256()
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return signed.public_bytes(serialization.Encoding.DER)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


P256 = ec.generate_private_key(ec.SECP256R1())
REFUSED: dict[str, tuple[Callable[[], bytes], type[Exception]]] = {
    "nothing": (lambda: b"", MalformedMessage),
    "rubbish": (lambda: b"0\x82\x01\x00" + bytes(256), MalformedMessage),
    "too long": (lambda: bytes(MAX_REQUEST_BYTES + 1), MalformedMessage),
    "PEM": (lambda: b"-----BEGIN CERTIFICATE REQUEST-----", MalformedMessage),
    "another curve": (
        lambda: request(ec.generate_private_key(ec.SECP384R1()), common_name(NAME)),
        MalformedMessage,
    ),
    "RSA": (
        lambda: request(rsa.generate_private_key(public_exponent=65537, key_size=2048), common_name(NAME)),
        MalformedMessage,
    ),
    "Ed25519": (lambda: request(ed25519.Ed25519PrivateKey.generate(), common_name(NAME)), MalformedMessage),
    "a weaker hash": (lambda: request(P256, common_name(NAME), hashes.SHA224()), MalformedMessage),
    "a signature of another": (lambda: flipped(request(P256, common_name(NAME))), VerificationFailed),
    "another name": (lambda: request(P256, common_name("clinic-2")), VerificationFailed),
    "two names": (lambda: request(P256, common_name(NAME, "clinic-2")), VerificationFailed),
    "no name": (lambda: request(P256, x509.Name([])), VerificationFailed),
    "an organisation": (
        lambda: request(P256, x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "all")])),
        VerificationFailed,
    ),
}


class TestRequests:
    def test_the_key_in_it(self) -> None:
        key = TlsKey.generate()
        assert request_key(key.request(NAME), NAME) == key.public_key

    @pytest.mark.parametrize("case", REFUSED)
    def test_what_is_refused(self, case: str) -> None:
        make, error = REFUSED[case]
        data, authority = make(), CertificateAuthority.create("test")
        with pytest.raises(error):
            request_key(data, NAME)
        with pytest.raises(error):
            authority.sign_request(data, NAME)

    @given(st.binary(max_size=300))
    def test_bytes_are_refused_in_one_way(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage):
            request_key(data, NAME)

    def test_extensions_in_it_count_for_nothing(self) -> None:
        builder = x509.CertificateSigningRequestBuilder().subject_name(common_name(NAME))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("clinic-2")]), critical=False
        )
        asked = builder.sign(P256, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
        signed = CertificateAuthority.create("test").sign_request(asked, NAME)
        certificate = x509.load_pem_x509_certificate(signed)
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [NAME]


class TestCertificates:
    def test_facts(self) -> None:
        authority, key = CertificateAuthority.create("test", now=NOW), TlsKey.generate()
        signed = authority.sign_request(key.request(NAME), NAME, now=NOW, lifetime=timedelta(days=30))
        about = facts(signed)
        assert (about.name, about.issuer, about.public_key) == (NAME, "test CA", key.public_key)
        assert about.not_after == NOW + timedelta(days=30)
        assert facts(to_der(signed)) == facts(to_pem(to_der(signed))) == about
        assert check_issued(signed, authority.certificate_pem) == about

    @pytest.mark.parametrize(
        ("day", "due", "expired"),
        [(0, False, False), (59, False, False), (61, True, False), (91, True, True)],
    )
    def test_renewal_is_due_in_the_last_third(self, day: int, due: bool, expired: bool) -> None:
        authority, key = CertificateAuthority.create("test", now=NOW), TlsKey.generate()
        about = facts(authority.sign_request(key.request(NAME), NAME, now=NOW))
        now = NOW + timedelta(days=day)
        assert (about.renewal_due(now), about.expired(now)) == (due, expired)

    def test_another_authority_of_that_name_did_not_issue_it(self) -> None:
        ours, theirs = (CertificateAuthority.create("test") for _ in range(2))
        signed = ours.sign_request(TlsKey.generate().request(NAME), NAME)
        with pytest.raises(VerificationFailed):
            check_issued(signed, theirs.certificate_pem)

    def test_a_member_is_no_authority(self) -> None:
        authority, key = CertificateAuthority.create("test"), TlsKey.generate()
        member = authority.sign_request(key.request(NAME), NAME)
        pretender = CertificateAuthority(x509.load_pem_x509_certificate(member), key.private_key)
        forged = pretender.sign_request(TlsKey.generate().request("clinic-2"), "clinic-2")
        with pytest.raises(VerificationFailed, match="may not issue"):
            check_issued(forged, member)

    def test_an_authority_is_loaded_with_its_own_key_only(self) -> None:
        authority = CertificateAuthority.create("test")
        again = CertificateAuthority.load(authority.certificate_pem, authority.key)
        assert again.certificate_pem == authority.certificate_pem
        with pytest.raises(InvalidInput, match="do not belong together"):
            CertificateAuthority.load(authority.certificate_pem, TlsKey.generate())
        with pytest.raises(InvalidInput, match="does not hold a certificate"):
            CertificateAuthority.load(b"rubbish", authority.key)

    @given(st.binary(max_size=300))
    def test_bytes_are_refused_in_one_way(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage):
            facts(data)


class TestRevocationLists:
    def test_what_is_on_it(self) -> None:
        authority = CertificateAuthority.create("test")
        listed = authority.revocation_list([Revocation(7, NOW), Revocation(1 << 150, NOW)], 3)
        read = read_revocation_list(listed, authority.certificate_pem)
        assert (read.number, read.serials) == (3, {7, 1 << 150})
        assert (
            read_revocation_list(authority.revocation_list([], 0), authority.certificate_pem).serials == set()
        )

    def test_one_of_another_authority_is_refused(self) -> None:
        ours, theirs = (CertificateAuthority.create("test") for _ in range(2))
        with pytest.raises(VerificationFailed):
            read_revocation_list(theirs.revocation_list([], 1), ours.certificate_pem)

    @pytest.mark.parametrize(
        "data", [b"", b"rubbish", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"]
    )
    def test_what_is_none_is_refused(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage):
            read_revocation_list(data, CertificateAuthority.create("test").certificate_pem)


def test_what_expires_soon() -> None:
    """Two weeks of the usual three months, and not all their life of those that live for a week."""
    ends = datetime(2026, 3, 1, tzinfo=UTC)
    for lifetime, soon in ((90, 14), (365, 14), (30, 5), (6, 1)):
        days = timedelta(days=lifetime)
        assert not expires_soon(ends, days, ends - timedelta(days=soon))
        assert expires_soon(ends, days, ends - timedelta(days=soon) + timedelta(seconds=1))

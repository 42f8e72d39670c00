"""Messages of enrolment: one spelling, signatures over every field, and files that survive mail."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_secure.protocol.joining import enrolment as e

SIGNER = Identity.generate()
HASHES = st.binary(min_size=32, max_size=32)
PRINTABLE = st.characters(exclude_categories=("C", "Zl", "Zp"))
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
REQUESTS = st.builds(
    e.Request,
    name=NAMES,
    authority_fingerprint=HASHES,
    identity_key=st.just(SIGNER.public_key),
    sealing_key=st.binary(min_size=1216, max_size=1216),
    certificate_request=st.binary(min_size=1, max_size=300),
    invitation=st.binary(min_size=8, max_size=8),
    authenticator=HASHES,
    signature=st.just(e.UNSIGNED),
)
CERTIFIED = st.builds(
    e.Certified,
    name=NAMES,
    domain=st.text(PRINTABLE, min_size=1, max_size=50),
    federation=st.text(PRINTABLE, max_size=50),
    certificate=st.binary(min_size=1, max_size=900),
    authority=st.binary(min_size=1, max_size=900),
    coordinator_name=NAMES,
    coordinator_key=st.just(SIGNER.public_key),
    rounds_port=st.integers(0, 65535),
    request_hash=HASHES,
    signature=st.just(e.UNSIGNED),
)
RENEWALS = st.builds(
    e.Renewal,
    name=NAMES,
    authority_fingerprint=HASHES,
    certificate_request=st.binary(min_size=1, max_size=300),
    nonce=HASHES,
    signature=st.just(e.UNSIGNED),
)
ROSTERS = st.builds(
    e.RosterFile,
    federation=st.text(PRINTABLE, max_size=50),
    revision=st.integers(1, 1000),
    changed=st.integers(0, 1 << 39),
    domains=st.lists(st.text(PRINTABLE, min_size=1, max_size=20), min_size=1, max_size=5).map(tuple),
    roster=st.binary(max_size=500),
    signature=st.just(e.UNSIGNED),
)
SIGNED = st.one_of(REQUESTS, CERTIFIED, RENEWALS, ROSTERS)


def different(value: Any) -> Any:
    match value:
        case bytes():
            return value[:-1] + bytes((value[-1] ^ 1,)) if value else b"x"
        case int():
            return value - 1 if value else 1
        case tuple():
            return (*value, "another")
    return "x" + value[1:] if not value.startswith("x") else "y" + value[1:]


@given(SIGNED)
@settings(deadline=None)
def test_it_comes_back_also_from_a_file(message: TaggedMessage) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message
    text = e.to_file(message)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 76  # mail
    mailed = b"> Hello,\r\n\r\n" + text.replace(b"\n", b"\r\n") + b"-- \r\nsignature"
    assert e.from_file(mailed, type(message), "mail") == message


@given(SIGNED, st.data())
@settings(deadline=None)
def test_a_signature_covers_every_field(message: TaggedMessage, data: st.DataObject) -> None:
    signed = e.signed(SIGNER, message)
    e.check_signature(signed, SIGNER.public_key, signer="x")
    field = data.draw(st.sampled_from(sorted(type(message).model_fields.keys() - {"kind"})))
    changed = signed.model_copy(update={field: different(getattr(signed, field))})
    with pytest.raises(VerificationFailed):
        e.check_signature(changed, SIGNER.public_key, signer="x")
    with pytest.raises(VerificationFailed):
        e.check_signature(signed, Identity.generate().public_key, signer="x")


@given(
    REQUESTS, st.sampled_from(["name", "sealing_key", "identity_key", "certificate_request", "invitation"])
)
@settings(deadline=None)
def test_an_authenticator_covers_every_field_but_itself(request: e.Request, field: str) -> None:
    key = bytes(32)
    changed = request.model_copy(update={field: different(getattr(request, field))})
    assert e.authenticator(changed, key) != e.authenticator(request, key)
    same = request.model_copy(update={"authenticator": bytes(32), "signature": bytes(64)})
    assert e.authenticator(same, key) == e.authenticator(request, key)


@given(st.binary(max_size=500))
def test_any_bytes(data: bytes) -> None:
    for kinds in (e.FROM_INSTITUTION, e.FROM_COORDINATOR):
        with pytest.raises(MalformedMessage):
            decode_one_of(data, kinds, max_bytes=e.MAX_REQUEST_FRAME_BYTES)


@given(SIGNED, st.data())
@settings(deadline=None)
def test_a_damaged_file(message: TaggedMessage, data: st.DataObject) -> None:
    text = bytearray(e.to_file(message))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 6))
    read: TaggedMessage | None = None
    with contextlib.suppress(InvalidInput):
        read = e.from_file(bytes(text), type(message), "file")
    # A change of white space does no harm; one in a field is noticed by the signature.
    assert read is None or read == message or read.to_bytes() != message.to_bytes()


def test_a_request_fits_into_its_frame() -> None:
    request = e.Request(
        name="n" * 64,
        authority_fingerprint=bytes(32),
        identity_key=bytes(32),
        sealing_key=bytes(1216),
        certificate_request=bytes(4096),
        invitation=bytes(8),
        entry_signature=bytes(64),
        authenticator=bytes(32),
        signature=bytes(64),
    )
    whole = e.Enrol(token=bytes(32), request=request.to_bytes()).to_bytes()
    assert len(whole) < e.MAX_REQUEST_FRAME_BYTES

"""What must be refused of enrolment, rosters, keys and signatures: one thing is changed in each."""

from typing import Any

from fedapt_crypto.encoding import encode
from tests.crypto.vectors import curve, package, package_enrolment
from tests.crypto.vectors.make_enrolment import (
    COORDINATOR_KEY,
    FEDERATION,
    JOIN,
    NAME,
    ROSTER_FIELDS,
    TOKEN,
    certificate,
    certified_fields,
    csr,
    digest,
    keys_of,
    member,
    renewal_fields,
    request_fields,
    roster_content,
    tls_key,
)
from tests.crypto.vectors.make_round import fixed

REFUSED = "VerificationFailed"


def refused() -> list[dict[str, Any]]:
    """Return what must be refused, by the error's name, each under a hash as in `failing_cases`."""
    cases = [*refused_signatures(), *refused_keys(), *refused_entries(), *refused_messages()]
    named = [{"name": f"enrolment-{name}", **body} for name, body in cases]
    return [{**one, "sha256": digest(encode(one))} for one in named]


Refused = tuple[str, dict[str, Any]]


def refuse(name: str, function: str, error: str = REFUSED, /, **arguments: object) -> Refused:
    return name, {"function": function, "arguments": arguments, "error": error}


def refused_signatures() -> list[Refused]:
    message, scalar = package.labelled("label", ["part"]), int.from_bytes(fixed("scalar")) % curve.ORDER
    key, signature = curve.sign(scalar, message)
    beyond = (int.from_bytes(signature[32:], "little") + curve.ORDER).to_bytes(32, "little")
    identity = (curve.P + 1).to_bytes(32, "little")
    respelt = identity + (curve.challenge(identity, key, message) * scalar % curve.ORDER).to_bytes(
        32, "little"
    )
    mixed_key, mixed = curve.sign(scalar, message, key_torsion=curve.EIGHTH)
    assert curve.challenge(mixed[:32], mixed_key, message) % 8
    _, stray = curve.sign(scalar, message, nonce_torsion=curve.EIGHTH)
    found = {
        "signature-s-beyond-the-order": (key, signature[:32] + beyond),
        "signature-r-not-canonical": (key, respelt),
        "signature-cofactored-r": (key, stray),
        "signature-cofactored-key": (mixed_key, mixed),
        "signature-key-off-the-curve": ((2).to_bytes(32, "little"), signature),
        "signature-short": (key, signature[:63]),
    }
    about: dict[str, Any] = {"label": "label", "parts": ["part"]}
    return [
        *(
            refuse(name, "signature_check", public_key=k, signature=s, **about)
            for name, (k, s) in found.items()
        ),
        refuse(
            "signature-other-label",
            "signature_check",
            public_key=key,
            signature=signature,
            label="lapel",
            parts=["part"],
        ),
    ]


def refused_keys() -> list[Refused]:
    eighths = {curve.times(i, curve.EIGHTH) for i in range(8)}
    found = [
        refuse(f"identity-of-small-order-{i}", "identity_key_check", public_key=curve.pack(point))
        for i, point in enumerate(sorted(eighths))
    ]
    for i, y in enumerate((curve.P, curve.P + 1, 2**255 - 1)):
        found.append(
            refuse(f"identity-not-canonical-{i}", "identity_key_check", public_key=y.to_bytes(32, "little"))
        )
    one = (1 | 1 << 255).to_bytes(32, "little")
    found.append(refuse("identity-one-with-sign", "identity_key_check", public_key=one))
    # u of the same eight points: (1 + y) / (1 - y), and 0 for y = -1
    u = {(1 + y) * pow(1 - y, -1, curve.P) % curve.P for _, y in eighths if y != 1} | {0}
    for i, value in enumerate([*sorted(u), curve.P, curve.P + 9, 2**255, 2**256 - 1]):
        found.append(refuse(f"sealing-key-{i}", "sealing_key_check", curve_key=value.to_bytes(32, "little")))
    return found


def refused_entries() -> list[Refused]:
    own, other = member(NAME, 0), member("clinic-2", 1)
    found = {
        "entry-with-another-sealing-key": {**own, "sealing_key": other["sealing_key"]},
        "entry-with-another-identity": {**own, "identity_key": other["identity_key"]},
        "entry-in-another-name": {**own, "name": "clinic-2"},
        "entry-signed-by-another": {**own, "entry_signature": other["entry_signature"]},
    }
    swapped = {"authority": FEDERATION["coordinator"], "coordinator": FEDERATION["authority"]}
    return [
        *(refuse(name, "entry_check", **FEDERATION, member=entry) for name, entry in found.items()),
        refuse("entry-of-another-federation", "entry_check", **swapped, member=own),
    ]


def refused_messages() -> list[Refused]:
    own, identity, e = member(NAME, 0), fixed("identity", NAME), package_enrolment
    fields, token = request_fields(), {"token": TOKEN}
    request = e.enrolment_request(identity, TOKEN, fields)
    asked: dict[str, Any] = {"request": request, **token, "name": NAME, **FEDERATION}
    hashed = e.request_check(**asked)

    def made(**changes: object) -> bytes:
        return e.enrolment_request(identity, TOKEN, {**fields, **changes})

    answer = e.certified(fixed("coordinator"), certified_fields(hashed))
    given: dict[str, Any] = {"answer": answer, "request": request, **FEDERATION}

    def certified(**changes: object) -> bytes:
        return e.certified(fixed("coordinator"), {**certified_fields(hashed), **changes})

    renewal = e.renewal_request(identity, renewal_fields())
    renew: dict[str, Any] = {
        "renewal": renewal,
        "member": keys_of(own),
        "nonce": fixed("nonce"),
        **FEDERATION,
    }
    thief = {**member("clinic-2", 1), "sealing_key": own["sealing_key"]}
    content = roster_content(own, thief)
    roster = e.roster_file(fixed("coordinator"), content, ROSTER_FIELDS)
    apart = {**ROSTER_FIELDS, "domains": ["fundus-a"]}
    whole = roster_content(own, member("clinic-2", 1))
    homeless = e.roster_file(fixed("coordinator"), whole, apart)
    foreign = e.roster_file(identity, whole, ROSTER_FIELDS)
    text = e.join_text(JOIN)
    other_key = certificate(NAME, tls_key("other").public_key(), 2)
    other_name = certificate("clinic-2", tls_key(NAME).public_key(), 2)
    signed_by_other = e.enrolment_request(fixed("identity", "clinic-2"), TOKEN, fields)
    return [
        refuse(
            "request-of-another-token", "request_check", **{**asked, "token": TOKEN[:8] + fixed("guess")[8:]}
        ),
        refuse(
            "request-of-another-invitation",
            "request_check",
            **{**asked, "request": made(invitation=bytes(8))},
        ),
        refuse("request-in-another-name", "request_check", **{**asked, "name": "clinic-2"}),
        refuse("request-for-another-authority", "request_check", **{**asked, "authority": bytes(32)}),
        refuse("request-signed-by-another", "request_check", **{**asked, "request": signed_by_other}),
        refuse(
            "request-with-a-foreign-entry",
            "request_check",
            **{**asked, "request": made(entry_signature=thief["entry_signature"])},
        ),
        refuse(
            "request-for-a-certificate-in-another-name",
            "request_check",
            **{**asked, "request": made(certificate_request=csr("clinic-2", tls_key(NAME)))},
        ),
        refuse(
            "request-without-a-certificate-request",
            "request_check",
            "MalformedMessage",
            **{**asked, "request": made(certificate_request=b"0")},
        ),
        refuse("renewal-of-another-connection", "renewal_check", **{**renew, "nonce": bytes(32)}),
        refuse(
            "renewal-in-place-of-a-request",
            "request_check",
            "MalformedMessage",
            **{**asked, "request": renewal},
        ),
        refuse("renewal-of-another-member", "renewal_check", **{**renew, "member": keys_of(thief)}),
        refuse("answer-of-another-coordinator", "certified_check", **{**given, "coordinator": bytes(32)}),
        refuse("answer-with-another-authority", "certified_check", **{**given, "authority": bytes(32)}),
        refuse(
            "answer-signed-by-another",
            "certified_check",
            **{**given, "answer": e.certified(identity, certified_fields(hashed))},
        ),
        refuse(
            "answer-to-another-request",
            "certified_check",
            **{**given, "answer": certified(request_hash=bytes(32))},
        ),
        refuse(
            "answer-for-another-key",
            "certified_check",
            **{**given, "answer": certified(certificate=other_key)},
        ),
        refuse(
            "answer-in-another-name",
            "certified_check",
            **{**given, "answer": certified(certificate=other_name)},
        ),
        refuse(
            "roster-with-a-swapped-sealing-key", "roster_check", file=roster, coordinator_key=COORDINATOR_KEY
        ),
        refuse(
            "roster-with-a-domain-that-is-not-there",
            "roster_check",
            "MalformedMessage",
            file=homeless,
            coordinator_key=COORDINATOR_KEY,
        ),
        refuse("roster-signed-by-a-member", "roster_check", file=foreign, coordinator_key=COORDINATOR_KEY),
        refuse(
            "roster-of-another-coordinator", "roster_check", file=foreign, coordinator_key=own["identity_key"]
        ),
        refuse(
            "join-string-with-a-slip",
            "join_read",
            "InvalidInput",
            text=text[:30] + ("A" if text[30] != "A" else "B") + text[31:],
        ),
        refuse("join-string-cut-short", "join_read", "InvalidInput", text=text[:-5]),
        refuse("join-string-with-padding", "join_read", "InvalidInput", text=text + "="),
    ]

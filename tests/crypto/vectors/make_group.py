"""Vectors of the group secret: all from labelled hashes, but for its boxes, in which HPKE draws."""

from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedapt_crypto import kdf, seal
from tests.crypto.vectors import package, reference_encoding
from tests.crypto.vectors.make_round import SESSION, fixed

MAKER, RECEIVER, COUNT = 3, 4, 5
"""The last of five: its proof is short, so that it tells how many there are."""
CONFIGURATION, SECRET, ATTACHED = fixed("configuration"), fixed("a group secret"), b"attached"


def case(function: str, **arguments: object) -> dict[str, Any]:
    """Return a case: a function, its arguments, and the result that the package gives."""
    result = getattr(package, function)(**arguments)
    return {"function": function, "arguments": arguments, "result": result}


def name_of(position: int) -> str:
    return f"clinic-{position + 1}"


def root_of(position: int) -> bytes:
    return fixed("group sealing", position)


def box(position: int, secret: bytes = SECRET, *, maker: str = "", receiver: str = "") -> bytes:
    """Seal a secret to a member, by default with the info that is due."""
    ends = (maker or name_of(MAKER), receiver or name_of(position))
    key = package.sealing_key(root_of(position))
    return seal.seal(key, secret, "group secret", SESSION, CONFIGURATION, *ends)


def group_secrets() -> list[dict[str, Any]]:
    identity = fixed("group maker")
    about: dict[str, Any] = {"session": SESSION, "configuration_hash": CONFIGURATION}
    commitment = case("group_commitment", session=SESSION, secret=SECRET)
    offer = case(
        "group_offer",
        identity=identity,
        maker=name_of(MAKER),
        members=[[name_of(i), root_of(i)] for i in range(COUNT)],
        **about,
        secret=SECRET,
        attachment=ATTACHED,
        boxes=[box(i) for i in range(COUNT)],
    )
    header = reference_encoding.decode(offer["result"]["header"])
    part = {
        "kind": "group secret part",
        "header": header,
        "box": offer["arguments"]["boxes"][RECEIVER],
        "proof": offer["result"]["proofs"][RECEIVER],
        "attachment": ATTACHED,
    }
    opened = case(
        "group_open",
        payload=package.encode(part),
        **about,
        maker=name_of(MAKER),
        maker_key=package.identity_key(identity),
        name=name_of(RECEIVER),
        position=RECEIVER,
        count=COUNT,
        root=root_of(RECEIVER),
    )
    assert opened["result"]["secret"] == SECRET
    confirmed = case("group_confirmed", identity=identity, **about, commitment=commitment["result"])
    sealed = ChaCha20Poly1305(kdf.derive(SECRET, "ckks context")).encrypt(bytes(12), b"a context", None)
    key = case("ckks_context", secret=SECRET, sealed=sealed)
    return [commitment, offer, opened, confirmed, key]

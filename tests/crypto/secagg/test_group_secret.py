"""The group secret: every member opens the same one, and nobody but a member makes it."""

from collections.abc import Callable

import numpy as np
import pytest

from fedapt_crypto.encoding import MAX_CONTAINER_ITEMS
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    InvalidInput,
    MalformedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.merkle import MerkleTree
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import group_secret as g
from fedapt_crypto.secagg import groups, registry
from tests.support.rosters import roster_of

SESSION, CONFIGURATION = bytes(range(16)), bytes(range(32))
NAMES = ("clinic-1", "clinic-2", "clinic-3", "clinic-4", "clinic-5")


class Parties:
    """Five institutions, one of which makes a group secret."""

    def __init__(self, maker: str = "clinic-1") -> None:
        self.maker = maker
        self.identities = {name: Identity.generate() for name in NAMES}
        self.sealing = {name: SealingKey.fresh() for name in NAMES}
        entries = [(n, self.identities[n], self.sealing[n].public_key, 0) for n in NAMES]
        self.roster = roster_of(Identity.generate().public_key, entries)
        self.secret = g.GroupSecret.fresh(SESSION)
        self.offer = self.secret.offer(CONFIGURATION, self.roster, maker, self.identities[maker], b"attached")
        self.routed = self.route(self.offer)

    def route(self, offer: bytes, sender: str | None = None, **changes: object) -> g.RoutedOffer:
        arguments = {"session": SESSION, "configuration_hash": CONFIGURATION, "roster": self.roster} | changes
        return g.route_offer(offer, sender=sender or self.maker, **arguments)

    def open(self, payload: bytes, name: str = "clinic-2", **changes: object) -> g.OpenedPart:
        arguments = {"session": SESSION, "configuration_hash": CONFIGURATION, "roster": self.roster} | changes
        return g.open_part(payload, name=name, sealing_key=self.sealing[name], **arguments)

    def part(self, name: str = "clinic-2") -> g.GroupSecretPart:
        return g.GroupSecretPart.from_bytes(self.routed.parts[name])


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties()


@pytest.mark.parametrize("maker", NAMES)
def test_everybody_opens_the_same_secret(maker: str) -> None:
    parties = Parties(maker)
    opened = [parties.open(parties.routed.parts[name], name) for name in NAMES]
    assert {one.secret._secret for one in opened} == {parties.secret._secret}
    assert {one.secret.commitment for one in opened} == {parties.routed.commitment}
    assert {(one.maker, one.attachment) for one in opened} == {(maker, b"attached")}


def test_the_coordinator_has_nothing_of_it(parties: Parties) -> None:
    held = parties.offer + b"".join(parties.routed.parts.values()) + repr(parties.routed).encode()
    assert parties.secret._secret not in held
    assert parties.secret._secret.hex() not in repr(parties.secret) + repr(parties.routed)


def test_an_offer_to_a_thousand_is_small_and_a_part_stays_so() -> None:
    identity, key = Identity.generate(), SealingKey.fresh()
    names = [f"site-{i}" for i in range(1000)]
    identities = {name: identity if name == names[0] else Identity.generate() for name in names}
    roster = roster_of(
        Identity.generate().public_key, [(name, identities[name], key.public_key, 0) for name in names]
    )
    offer = g.GroupSecret.fresh(SESSION).offer(CONFIGURATION, roster, names[0], identity)
    assert len(offer) <= 1_500_000
    parts = g.route_offer(offer, SESSION, CONFIGURATION, roster, names[0]).parts
    assert max(map(len, parts.values())) < 2_500
    assert g.open_part(parts[names[999]], SESSION, CONFIGURATION, roster, names[999], key).secret


def test_the_largest_roster_fits_a_message() -> None:
    assert g.GroupSecretOffer.max_bytes > MAX_CONTAINER_ITEMS * g.BOX_BYTES


def test_a_stranger_makes_none(parties: Parties) -> None:
    with pytest.raises(InvalidInput, match="not the one that the roster has"):
        parties.secret.offer(CONFIGURATION, parties.roster, "clinic-1", Identity.generate())
    with pytest.raises(InvalidInput, match="not on the roster"):
        parties.secret.offer(CONFIGURATION, parties.roster, "stranger", Identity.generate())
    other = Parties("clinic-3")
    with pytest.raises(VerificationFailed):  # made under a roster with other keys
        parties.route(other.offer, "clinic-3")
    with pytest.raises(VerificationFailed):
        parties.open(other.routed.parts["clinic-2"])


def test_an_offer_in_anothers_name(parties: Parties) -> None:
    with pytest.raises(VerificationFailed, match="in another's name"):
        parties.route(parties.offer, "clinic-2")


@pytest.mark.parametrize("change", [{"session": bytes(16)}, {"configuration_hash": bytes(32)}])
def test_another_session_or_configuration(parties: Parties, change: dict[str, bytes]) -> None:
    with pytest.raises(ContextMismatch):
        parties.route(parties.offer, **change)
    with pytest.raises(ContextMismatch):
        parties.open(parties.routed.parts["clinic-2"], **change)


def test_anothers_part_does_not_open(parties: Parties) -> None:
    with pytest.raises(VerificationFailed):
        parties.open(parties.routed.parts["clinic-3"], "clinic-2")


Change = Callable[[g.GroupSecretPart], g.GroupSecretPart]


def changed(**fields: object) -> Change:
    return lambda part: part.model_copy(update=fields)


def header(**fields: object) -> Change:
    return lambda part: part.model_copy(update={"header": part.header.model_copy(update=fields)})


CHANGED_BY_THE_COORDINATOR: dict[str, tuple[Change, type[FedaptError]]] = {
    "another box": (changed(box=bytes(g.BOX_BYTES)), VerificationFailed),
    "no proof": (changed(proof=b""), MalformedMessage),
    "another proof": (changed(proof=bytes(96)), VerificationFailed),
    "half a proof": (changed(proof=bytes(95)), MalformedMessage),
    "another attachment": (changed(attachment=b"other"), VerificationFailed),
    "another commitment": (header(commitment=bytes(32)), VerificationFailed),
    "another root": (header(boxes_root=bytes(32)), VerificationFailed),
    "another maker": (header(sender="clinic-2"), VerificationFailed),
    "a stranger": (header(sender="stranger"), VerificationFailed),
}


@pytest.mark.parametrize("name", CHANGED_BY_THE_COORDINATOR)
def test_what_a_coordinator_changes_is_refused(parties: Parties, name: str) -> None:
    change, error = CHANGED_BY_THE_COORDINATOR[name]
    with pytest.raises(error):
        parties.open(change(parties.part()).to_bytes())


class TestMaliciousMaker:
    """Everything here is signed by a member that was asked."""

    def deal(self, parties: Parties, secrets: dict[str, bytes], **fields: object) -> bytes:
        """An offer with other secrets in some boxes, or another header."""
        boxes = [
            seal(
                member.sealing_key,
                secrets.get(member.name, parties.secret._secret),
                "group secret",
                SESSION,
                CONFIGURATION,
                "clinic-1",
                member.name,
            )
            for member in parties.roster.members
        ]
        original = g.GroupSecretOffer.from_bytes(parties.offer)
        root = {"boxes_root": MerkleTree(boxes).root}
        signed = original.header.model_copy(update=root | fields).signed_by(parties.identities["clinic-1"])
        return original.model_copy(update={"header": signed, "boxes": b"".join(boxes)}).to_bytes()

    def test_it_can_be_honest(self, parties: Parties) -> None:
        routed = parties.route(self.deal(parties, {}))
        assert parties.open(routed.parts["clinic-2"]).secret.commitment == parties.secret.commitment

    def test_two_secrets_under_one_commitment_are_found_out_and_blamed(self, parties: Parties) -> None:
        routed = parties.route(self.deal(parties, {"clinic-2": bytes(32)}))
        parties.open(routed.parts["clinic-3"], "clinic-3")
        with pytest.raises(VerificationFailed, match="another group secret than it committed to") as caught:
            parties.open(routed.parts["clinic-2"])
        assert caught.value.peer == "clinic-1"

    def test_a_box_for_another_session(self, parties: Parties) -> None:
        box = seal(
            parties.roster.member("clinic-2").sealing_key,
            parties.secret._secret,
            *("group secret", bytes(16), CONFIGURATION, "clinic-1", "clinic-2"),
        )
        offer = g.GroupSecretOffer.from_bytes(self.deal(parties, {}))
        size = g.BOX_BYTES
        boxes = [offer.boxes[i * size : (i + 1) * size] for i in range(5)]
        boxes[1] = box
        root = MerkleTree(boxes).root
        signed = offer.header.model_copy(update={"boxes_root": root}).signed_by(
            parties.identities["clinic-1"]
        )
        changed = offer.model_copy(update={"header": signed, "boxes": b"".join(boxes)})
        with pytest.raises(VerificationFailed, match="does not open") as caught:
            parties.open(parties.route(changed.to_bytes()).parts["clinic-2"])
        assert caught.value.peer == "clinic-1"

    def test_boxes_that_are_missing_or_exchanged(self, parties: Parties) -> None:
        offer = g.GroupSecretOffer.from_bytes(parties.offer)
        size = g.BOX_BYTES
        for boxes, error in (
            (offer.boxes[:-size], MalformedMessage),
            (offer.boxes + offer.boxes[:size], MalformedMessage),
            (offer.boxes[size:] + offer.boxes[:size], VerificationFailed),
        ):
            with pytest.raises(error):
                parties.route(offer.model_copy(update={"boxes": boxes}).to_bytes())
        with pytest.raises(VerificationFailed):
            parties.route(offer.model_copy(update={"attachment": b""}).to_bytes())


def test_masking_takes_nothing_that_is_attached(parties: Parties) -> None:
    arguments = (registry.MASKING, parties.offer, SESSION, CONFIGURATION, parties.roster, "clinic-1")
    with pytest.raises(MalformedMessage, match="attached something"):
        groups.route_offer(*arguments, decryptions=1)
    with pytest.raises(MalformedMessage, match="attached something"):
        groups.open_part(
            registry.MASKING,
            parties.routed.parts["clinic-2"],
            SESSION,
            CONFIGURATION,
            parties.roster,
            "clinic-2",
            parties.sealing["clinic-2"],
            decryptions=1,
        )


def test_a_closed_secret_is_empty(parties: Parties) -> None:
    opened = parties.open(parties.routed.parts["clinic-4"], "clinic-4").secret
    opened.close()
    assert opened._secret == b""
    for use in (
        lambda: opened.derive("anything"),
        lambda: opened.sum_check(bytes(32), bytes(32), length=1),
        lambda: opened.offer(CONFIGURATION, parties.roster, "clinic-4", parties.identities["clinic-4"]),
    ):
        with pytest.raises(InvalidInput, match="closed with its session"):
            use()


def test_sizes_are_checked() -> None:
    with pytest.raises(InvalidInput):
        g.GroupSecret(SESSION, bytes(31))
    with pytest.raises(InvalidInput):
        g.GroupSecret(bytes(15), bytes(32))


def test_which_commitment_a_part_names(parties: Parties) -> None:
    assert g.commitment_in(parties.routed.parts["clinic-1"]) == parties.secret.commitment
    with pytest.raises(MalformedMessage):
        g.commitment_in(b"rubbish")


def test_two_draws_differ() -> None:
    first, second = g.GroupSecret.fresh(SESSION), g.GroupSecret.fresh(SESSION)
    assert first.commitment != second.commitment
    assert g.GroupSecret(bytes(16), first._secret).commitment != first.commitment, "bound to the session"
    assert isinstance(first.sum_check(bytes(32), bytes(32), length=3).tag("a", np.zeros(3, np.uint32)), int)

"""The group's set-up: only the roster's first institution makes it, and only for this session and roster."""

from collections.abc import Callable

import numpy as np
import pytest
import tenseal

from fedapt_crypto.encoding import Message
from fedapt_crypto.errors import (
    ContextMismatch,
    FedaptError,
    InvalidInput,
    MalformedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import Roster
from fedapt_crypto.seal import SealingKey, seal
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.ckks import messages as m
from fedapt_crypto.secagg.ckks import setup
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.setup import make_group, open_group, route_offer
from tests.crypto.secagg.ckks.groups import secret_worker
from tests.crypto.secagg.harness import make_context
from tests.support.rosters import roster_of

SESSION = bytes(range(16))
DECRYPTIONS = 100


class Parties:
    """Three institutions with keys for everything."""

    def __init__(self) -> None:
        self.identities = {f"clinic-{i}": Identity.generate() for i in (1, 2, 3)}
        self.sealing = {name: SealingKey.fresh() for name in self.identities}
        entries = [
            (name, identity, self.sealing[name].public_key, 0) for name, identity in self.identities.items()
        ]
        self.roster = roster_of(Identity.generate().public_key, entries)
        self.key, self.offer = self.make("clinic-1")
        self.public, self.deliveries = self.route(self.offer)

    def make(self, name: str, roster: Roster | None = None, session: bytes = SESSION):
        roster = self.roster if roster is None else roster
        return make_group(session, roster, name, self.identities[name], decryptions=DECRYPTIONS)

    def route(self, offer: bytes, sender: str = "clinic-1", **changes: object):
        arguments = {"session": SESSION, "roster": self.roster, "decryptions": DECRYPTIONS} | changes
        return route_offer(offer, sender=sender, **arguments)

    def open(self, payload: bytes, name: str = "clinic-2", **changes: object):
        arguments = {"session": SESSION, "roster": self.roster, "decryptions": DECRYPTIONS} | changes
        return open_group(payload, name=name, sealing_key=self.sealing[name], **arguments)


@pytest.fixture(scope="module")
def parties():
    made = Parties()
    yield made
    made.key.discard()
    made.public.close()


def test_all_get_the_same_key_and_a_round_works(parties: Parties) -> None:
    keys = {name: parties.open(parties.deliveries[name], name) for name in parties.roster.names}
    context = make_context(parties.roster, 10, session=SESSION)
    updates = {name: np.full(10, i + 1.0) for i, name in enumerate(keys)}
    coordinator = registry.coordinator_round(registry.CKKS, context, parties.roster, group=parties.public)
    machines = {
        name: registry.institution_round(
            registry.CKKS,
            context,
            parties.roster,
            name,
            parties.identities[name],
            updates[name],
            minimum_participants=3,
            group=keys[name],
        )
        for name in keys
    }
    for name, machine in machines.items():
        coordinator.receive(name, machine.start().payload)
    for name, payload in coordinator.close_phase().items():
        coordinator.receive(name, machines[name].receive(payload).payload)
    for name, payload in coordinator.close_phase().items():
        assert machines[name].receive(payload) is None
    totals = [machine.aggregate.total for machine in machines.values()]
    assert all(np.array_equal(total, totals[0]) for total in totals)
    assert totals[0] == pytest.approx([6.0] * 10, abs=0.01)
    for key in keys.values():
        key.discard()


def test_what_the_coordinator_gets_does_not_decrypt(parties: Parties) -> None:
    context = tenseal.context_from(parties.public.public_context, n_threads=1)
    assert not context.is_private()
    ones = np.ones(2048).tobytes()
    (piece,) = secret_worker().call(Operation.ENCRYPT, ones)
    with pytest.raises(ValueError, match="secret_key"):
        tenseal.ckks_vector_from(context, piece).decrypt()
    offer = m.GroupOffer.from_bytes(parties.offer)
    assert len(offer.header.public_context) <= m.MAX_PUBLIC_CONTEXT_BYTES
    held = parties.offer + b"".join(parties.deliveries.values()) + parties.public.public_context
    secret_key = parties.key._secret_context
    assert parties.key._secret not in held
    assert not any(secret_key[i : i + 32] in held for i in range(1000, len(secret_key) - 32, 997))


def test_only_the_first_of_the_roster_makes_a_group(parties: Parties) -> None:
    with pytest.raises(InvalidInput, match="only clinic-1"):
        parties.make("clinic-2")
    with pytest.raises(InvalidInput, match="only clinic-1"):
        make_group(SESSION, parties.roster, "clinic-1", Identity.generate())


@pytest.mark.parametrize("decryptions", [0, (1 << 20) + 1])
def test_decryptions_out_of_range(parties: Parties, decryptions: int) -> None:
    with pytest.raises(InvalidInput, match="decrypts at most"):
        make_group(
            SESSION, parties.roster, "clinic-1", parties.identities["clinic-1"], decryptions=decryptions
        )


@pytest.mark.parametrize(
    "change", [{"session": bytes(16)}, {"decryptions": DECRYPTIONS + 1}, {"roster": "other"}]
)
def test_another_session_roster_or_plan(parties: Parties, change: dict[str, object]) -> None:
    if "roster" in change:
        stranger = parties.roster.members[2].model_copy(update={"domain_index": 1})
        change = {
            "roster": Roster(
                authority_fingerprint=bytes(32),
                coordinator_key=parties.roster.coordinator_key,
                members=(*parties.roster.members[:2], stranger),
            )
        }
    with pytest.raises(ContextMismatch):
        parties.route(parties.offer, **change)
    with pytest.raises(ContextMismatch):
        parties.open(parties.deliveries["clinic-2"], **change)


def test_anothers_delivery_does_not_open(parties: Parties) -> None:
    with pytest.raises(VerificationFailed):
        parties.open(parties.deliveries["clinic-3"], "clinic-2")
    theirs, ours = (m.GroupDelivery.from_bytes(parties.deliveries[name]) for name in ("clinic-3", "clinic-2"))
    with pytest.raises(VerificationFailed, match="not the one that was signed for"):
        parties.open(ours.model_copy(update={"sealed": theirs.sealed}).to_bytes())


def test_an_offer_in_anothers_name(parties: Parties) -> None:
    with pytest.raises(VerificationFailed, match="in another's name"):
        parties.route(parties.offer, sender="clinic-2")


def test_an_offer_by_another_institution(parties: Parties) -> None:
    """Well made and signed, by one who may not: refused on both sides."""
    members = parties.roster.members
    turned = Roster(
        authority_fingerprint=parties.roster.authority_fingerprint,
        coordinator_key=parties.roster.coordinator_key,
        members=(members[1], members[0], members[2]),
    )
    key, offer = parties.make("clinic-2", turned)
    with pytest.raises(VerificationFailed, match="the first of the roster"):
        parties.route(offer, sender="clinic-2")
    group, deliveries = parties.route(offer, sender="clinic-2", roster=turned)
    with pytest.raises(VerificationFailed, match="the first of the roster"):
        parties.open(deliveries["clinic-3"], "clinic-3")
    key.discard()
    group.close()


HeaderChange = Callable[[m.GroupHeader], Message]
HEADERS: dict[str, tuple[HeaderChange, type[FedaptError]]] = {
    "unsigned": (lambda h: h.model_copy(update={"signature": bytes(64)}), VerificationFailed),
    "signed-by-a-stranger": (lambda h: h.signed_by(Identity.generate()), VerificationFailed),
    "other-commitment": (lambda h: h.model_copy(update={"commitment": bytes(32)}), VerificationFailed),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_the_maker_did_not_sign(parties: Parties, name: str) -> None:
    change, error = HEADERS[name]
    offer = m.GroupOffer.from_bytes(parties.offer)
    with pytest.raises(error):
        parties.route(offer.model_copy(update={"header": change(offer.header)}).to_bytes())
    delivery = m.GroupDelivery.from_bytes(parties.deliveries["clinic-2"])
    with pytest.raises(error):
        parties.open(delivery.model_copy(update={"header": change(delivery.header)}).to_bytes())


class TestCheatingKeyMaker:
    """Everything here is signed by the roster's first institution."""

    def deal(self, parties: Parties, header: dict[str, object], **secret: object) -> bytes:
        """A delivery to clinic-2 with another header or another secret part."""
        original = m.GroupDelivery.from_bytes(parties.deliveries["clinic-2"])
        plaintext = m.GroupPlaintext(
            session=SESSION,
            roster_hash=parties.roster.hash,
            sender="clinic-1",
            receiver="clinic-2",
            secret_context=parties.key._secret_context,
            secret=parties.key._secret,
        ).model_copy(update=secret)
        info = ("ckks group", SESSION, parties.roster.hash, "clinic-1", "clinic-2")
        sealed = seal(parties.roster.member("clinic-2").sealing_key, plaintext.to_bytes(), *info)
        receivers = tuple(
            entry.model_copy(update={"sealed_hash": setup._hash(sealed)})
            if entry.receiver == "clinic-2"
            else entry
            for entry in original.header.receivers
        )
        changed = original.header.model_copy(update={"receivers": receivers, **header})
        signed = changed.signed_by(parties.identities["clinic-1"])
        return m.GroupDelivery(header=signed, sealed=sealed).to_bytes()

    def test_the_forger_can_be_honest(self, parties: Parties) -> None:
        key = parties.open(self.deal(parties, {}))
        assert key._secret == parties.key._secret
        key.discard()

    def test_different_secrets_for_different_institutions(self, parties: Parties) -> None:
        with pytest.raises(VerificationFailed, match="another group key than it committed to"):
            parties.open(self.deal(parties, {}, secret=bytes(32)))

    @pytest.mark.parametrize(
        "change",
        [
            {"session": bytes(16)},
            {"roster_hash": bytes(32)},
            {"receiver": "clinic-3"},
            {"sender": "clinic-3"},
        ],
    )
    def test_a_secret_part_for_another_place(self, parties: Parties, change: dict[str, object]) -> None:
        with pytest.raises(ContextMismatch):
            parties.open(self.deal(parties, {}, **change))

    def context(self, bits: list[int], scale: float, kind: str = "SYMMETRIC") -> tenseal.Context:
        made = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            4096,
            coeff_mod_bit_sizes=bits,
            encryption_type=tenseal.ENCRYPTION_TYPE[kind],
            n_threads=1,
        )
        made.global_scale = scale
        return made

    @pytest.mark.parametrize(
        ("bits", "scale"), [([60, 40], 2.0**49), ([40, 40], 2.0**30), ([60, 49], 2.0**40)]
    )
    def test_other_parameters(self, parties: Parties, bits: list[int], scale: float) -> None:
        context = self.context(bits, scale).serialize(
            save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
        commitment = setup.commitment(context, parties.key._secret)
        with pytest.raises(MalformedMessage, match="clinic-1: .*refused"):
            parties.open(self.deal(parties, {"commitment": commitment}, secret_context=context))

    def test_a_secret_context_without_a_secret_key(self, parties: Parties) -> None:
        context = parties.public.public_context
        commitment = setup.commitment(context, parties.key._secret)
        with pytest.raises(VerificationFailed, match="with a secret key"):
            parties.open(self.deal(parties, {"commitment": commitment}, secret_context=context))

    @pytest.mark.parametrize("context", [b"\x00", bytes(200), bytes.fromhex("0a02801019000000000000")])
    def test_rubbish_for_a_context(self, parties: Parties, context: bytes) -> None:
        commitment = setup.commitment(context, parties.key._secret)
        with pytest.raises(MalformedMessage, match="clinic-1"):
            parties.open(self.deal(parties, {"commitment": commitment}, secret_context=context))
        with pytest.raises(MalformedMessage, match="clinic-1"):
            parties.open(self.deal(parties, {"public_context": context}))

    def test_a_secret_key_for_the_coordinator(self, parties: Parties) -> None:
        """Does not even fit the message."""
        offer = m.GroupOffer.from_bytes(parties.offer)
        header = offer.header.model_copy(update={"public_context": parties.key._secret_context})
        forged = offer.model_copy(update={"header": header.signed_by(parties.identities["clinic-1"])})
        with pytest.raises(MalformedMessage, match="public_context"):
            parties.route(forged.to_bytes())

    def test_other_receivers(self, parties: Parties) -> None:
        receivers = m.GroupOffer.from_bytes(parties.offer).header.receivers[::-1]
        with pytest.raises(MalformedMessage, match="other receivers"):
            parties.open(self.deal(parties, {"receivers": receivers}))

    def test_other_ciphertexts_than_signed_for(self, parties: Parties) -> None:
        offer = m.GroupOffer.from_bytes(parties.offer)
        with pytest.raises(VerificationFailed, match="other secrets than it signed for"):
            parties.route(offer.model_copy(update={"sealed": offer.sealed[::-1]}).to_bytes())


def test_a_discarded_key_is_empty_and_useless(parties: Parties) -> None:
    key = parties.open(parties.deliveries["clinic-3"], "clinic-3")
    key.discard()
    assert key.discarded
    assert (key._secret, key._secret_context) == (b"", b"")
    context = make_context(parties.roster, 3, session=SESSION)
    for use in (
        lambda: key.check_usable(context),
        lambda: key.encrypt(context, "clinic-3", np.zeros(3)),
        lambda: key.decrypt(context, parties.roster.names, [b""]),
    ):
        with pytest.raises(InvalidInput, match="discarded"):
            use()


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_for_a_group(parties: Parties, n: int) -> None:
    roster = parties.roster.only(parties.roster.names[:n])
    with pytest.raises(InvalidInput, match="3 to 64"):
        parties.make("clinic-1", roster)

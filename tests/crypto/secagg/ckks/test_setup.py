"""What CKKS adds to the group secret: one key for all, from one attachment, closed to the coordinator."""

import numpy as np
import pytest
import tenseal

from fedapt_crypto.errors import ContextMismatch, InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.seal import SealingKey
from fedapt_crypto.secagg import group_secret, groups, registry
from fedapt_crypto.secagg.ckks import messages as m
from fedapt_crypto.secagg.ckks import setup
from fedapt_crypto.secagg.ckks.frames import Operation
from fedapt_crypto.secagg.ckks.group import GroupKey, PublicGroup
from tests.crypto.secagg.ckks.groups import secret_worker
from tests.crypto.secagg.harness import COORDINATOR_IDENTITY, make_context
from tests.support.rosters import roster_of

SESSION, CONFIGURATION = bytes(range(16)), bytes(range(32))
DECRYPTIONS = 100
CKKS = registry.CKKS


class Parties:
    """Three institutions with keys for everything."""

    def __init__(self) -> None:
        self.identities = {f"clinic-{i}": Identity.generate() for i in (1, 2, 3)}
        self.sealing = {name: SealingKey.fresh() for name in self.identities}
        entries = [
            (name, identity, self.sealing[name].public_key, 0) for name, identity in self.identities.items()
        ]
        self.roster = roster_of(Identity.generate().public_key, entries)
        self.about = (SESSION, CONFIGURATION, self.roster)
        self.offer = groups.make_offer(
            CKKS, *self.about, "clinic-1", self.identities["clinic-1"], decryptions=DECRYPTIONS
        )
        self.public, self.parts = self.route(self.offer)

    def route(self, offer: bytes, decryptions: int = DECRYPTIONS) -> tuple[PublicGroup, dict[str, bytes]]:
        return groups.route_offer(CKKS, offer, *self.about, "clinic-1", decryptions=decryptions)

    def open(self, name: str = "clinic-2", decryptions: int = DECRYPTIONS) -> GroupKey:
        payload, key = self.parts[name], self.sealing[name]
        return groups.open_part(CKKS, payload, *self.about, name, key, decryptions=decryptions)

    @property
    def opened(self) -> group_secret.OpenedPart:
        """The secret and the attachment, for who cheats with them."""
        return group_secret.open_part(
            self.parts["clinic-1"], *self.about, "clinic-1", self.sealing["clinic-1"]
        )


@pytest.fixture(scope="module")
def parties():
    made = Parties()
    yield made
    made.public.close()


def test_all_get_the_same_key_and_a_round_works(parties: Parties) -> None:
    keys = {name: parties.open(name) for name in parties.roster.names}
    context = make_context(parties.roster, 10, session=SESSION, group=parties.public.commitment)
    updates = {name: np.full(10, i + 1.0) for i, name in enumerate(keys)}
    coordinator = registry.coordinator_round(
        CKKS, context, parties.roster, COORDINATOR_IDENTITY, group=parties.public
    )
    machines = {
        name: registry.institution_round(
            CKKS,
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
    assert len(parties.public.public_context) <= m.MAX_PUBLIC_CONTEXT_BYTES
    held = parties.offer + b"".join(parties.parts.values()) + parties.public.public_context
    key = parties.open()
    secret_key = key._secret_context
    assert not any(secret_key[i : i + 32] in held for i in range(1000, len(secret_key) - 32, 997))
    key.close()


@pytest.mark.parametrize("decryptions", [0, (1 << 20) + 1])
def test_decryptions_out_of_range(parties: Parties, decryptions: int) -> None:
    with pytest.raises(InvalidInput, match="decrypts at most"):
        groups.make_offer(
            CKKS, *parties.about, "clinic-1", parties.identities["clinic-1"], decryptions=decryptions
        )


def test_another_plan(parties: Parties) -> None:
    with pytest.raises(ContextMismatch, match="another plan"):
        parties.route(parties.offer, DECRYPTIONS + 1)
    with pytest.raises(ContextMismatch, match="another plan"):
        parties.open(decryptions=DECRYPTIONS + 1)


class TestCheatingMaker:
    """Who makes the secret attaches what it likes, to all alike."""

    def attach(self, parties: Parties, **changes: object) -> group_secret.OpenedPart:
        """Our part with another attachment, which the maker has signed."""
        opened = parties.opened
        original = m.GroupAttachment.from_bytes(opened.attachment)
        attachment = original.model_copy(update=changes).to_bytes()
        return group_secret.OpenedPart(opened.secret, "clinic-1", attachment)

    def seal(self, parties: Parties, context: bytes) -> group_secret.OpenedPart:
        aead = setup._aead(parties.opened.secret)
        return self.attach(parties, sealed_context=aead.encrypt(bytes(12), context, None))

    def open(self, part: group_secret.OpenedPart) -> GroupKey:
        return setup.open_group(part, decryptions=DECRYPTIONS)

    def test_it_can_be_honest(self, parties: Parties) -> None:
        key = self.open(self.attach(parties))
        assert key.commitment == parties.public.commitment
        key.discard()

    def test_a_context_that_the_secret_does_not_open(self, parties: Parties) -> None:
        with pytest.raises(VerificationFailed, match="does not open"):
            self.open(self.attach(parties, sealed_context=bytes(100)))

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
        with pytest.raises(MalformedMessage, match="clinic-1: .*refused"):
            self.open(self.seal(parties, context))

    def test_a_secret_context_without_a_secret_key(self, parties: Parties) -> None:
        with pytest.raises(VerificationFailed, match="with a secret key"):
            self.open(self.seal(parties, parties.public.public_context))

    @pytest.mark.parametrize("context", [b"\x00", bytes(200), bytes.fromhex("0a02801019000000000000")])
    def test_rubbish_for_a_context(self, parties: Parties, context: bytes) -> None:
        with pytest.raises(MalformedMessage, match="clinic-1"):
            self.open(self.seal(parties, context))
        with pytest.raises(MalformedMessage, match="clinic-1"):
            self.open(self.attach(parties, public_context=context))
        routed = group_secret.RoutedOffer(
            "clinic-1", bytes(32), self.attach(parties, public_context=context).attachment, {}
        )
        with pytest.raises(MalformedMessage, match="clinic-1"):
            setup.public_group(routed, decryptions=DECRYPTIONS)

    def test_a_secret_key_for_the_coordinator(self, parties: Parties) -> None:
        """Does not even fit the message."""
        key = parties.open()
        part = self.attach(parties, public_context=key._secret_context)
        with pytest.raises(MalformedMessage, match="public_context"):
            self.open(part)
        key.close()


def test_a_discarded_key_is_empty_and_useless(parties: Parties) -> None:
    key = parties.open("clinic-3")
    key.discard()
    assert key.discarded
    assert (key._secret._secret, key._secret_context) == (b"", b"")
    context = make_context(parties.roster, 3, session=SESSION, group=key.commitment)
    for use in (
        lambda: key.check_usable(context),
        lambda: key.encrypt(context, "clinic-3", np.zeros(3, np.uint32)),
        lambda: key.decrypt(context, parties.roster.names, [b""], bytes(8)),
    ):
        with pytest.raises(InvalidInput, match="discarded"):
            use()

"""The suite every aggregation scheme passes: exact sums, dropouts, clean aborts, single use."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.errors import (
    ContextMismatch,
    InvalidInput,
    MalformedMessage,
    PeerError,
    PolicyRefused,
    RoundAborted,
    UnexpectedMessage,
    UpdateUnusable,
    VerificationFailed,
)
from fedapt_crypto.kdf import digest
from fedapt_crypto.roster import threshold
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.scheme import Phase
from tests.crypto.secagg.harness import RELEASED_IN, SCHEMES, World, make_context

EVERY_PHASE = [(scheme, phase) for scheme in SCHEMES for phase in registry.PHASES[scheme]]


def assert_exact(world: World) -> None:
    aggregate = world.aggregate
    assert aggregate is not None
    exact = world.exact_sum(aggregate.contributors)
    assert np.abs(aggregate.total - exact).max() <= world.error_bound
    true = np.sum([world.updates[name] for name in aggregate.contributors], axis=0)
    bound = {
        registry.NONE: 1e-5,
        registry.MASKING: world.n * world.context.fixed_point.resolution / 2,
        registry.CKKS: world.error_bound,
    }[world.scheme]
    assert np.abs(aggregate.total - true).max() <= bound
    assert_everybody_has_the_same(world)
    start = np.linspace(-1, 1, world.length, dtype=np.float32)
    moved = start.astype(float) + aggregate.total / len(aggregate.contributors)
    assert np.array_equal(aggregate.next_model(start), moved.astype(np.float32))


def assert_everybody_has_the_same(world: World) -> None:
    """Who is there at the end holds the sum, and what stands for it is the same everywhere."""
    held = [machine.verified for machine in world.institutions.values() if machine.verified is not None]
    assert len(held) >= world.context.threshold
    assert len({(each.sum_hash, each.tag) for each in held}) == 1
    assert len(held[0].sum_hash) == 32
    assert len(held[0].tag) == (0 if world.scheme == registry.NONE else 8)  # that one claims nothing
    start = np.linspace(-1, 1, world.length, dtype=np.float32)
    models = {each.aggregate.next_model(start).tobytes() for each in held}
    assert len(models) == 1
    for machine in world.institutions.values():
        assert (machine.verified is None) == (machine.aggregate is None)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_everyone_contributes(scheme: str, n: int) -> None:
    world = World(n, scheme)
    world.run()
    assert_exact(world)
    assert world.aggregate.contributors == world.roster.names
    assert {machine.transcript for machine in world.institutions.values()} == {world.coordinator.transcript}
    other = World(n, scheme)
    other.run()
    assert world.coordinator.transcript != other.coordinator.transcript
    assert all(machine.finished for machine in world.institutions.values())
    assert not world.refusals


@pytest.mark.parametrize(("scheme", "phase"), EVERY_PHASE)
@pytest.mark.parametrize("who", ["clinic-1", "clinic-3", "clinic-5"])
def test_one_of_five_vanishes(scheme: str, phase: Phase, who: str) -> None:
    world = World(5, scheme)
    world.run({who: phase})
    assert_exact(world)
    released = registry.PHASES[scheme].index(RELEASED_IN[scheme])
    in_the_sum = registry.PHASES[scheme].index(phase) > released
    transcripts = {machine.transcript for name, machine in world.institutions.items() if name != who}
    assert transcripts == {world.coordinator.transcript}
    assert world.institutions[who].transcript in (None, world.coordinator.transcript, world.context.hash)
    assert (who in world.aggregate.contributors) == in_the_sum


@pytest.mark.parametrize(("scheme", "phase"), EVERY_PHASE)
def test_one_too_many_vanish(scheme: str, phase: Phase) -> None:
    world = World(5, scheme)
    with pytest.raises(RoundAborted, match="are needed"):
        world.run({"clinic-2": phase, "clinic-4": phase})
    assert world.aggregate is None
    assert world.coordinator.phase is None


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_dropouts_give_an_exact_sum_or_a_clean_abort(data) -> None:
    scheme = data.draw(st.sampled_from(SCHEMES))
    n = data.draw(st.integers(3, 7))
    names = [f"clinic-{i}" for i in range(1, n + 1)]
    vanish = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(registry.PHASES[scheme])))
    world = World(n, scheme, length=data.draw(st.integers(1, 9)))
    try:
        world.run(vanish)
    except RoundAborted:
        assert n - len(vanish) < threshold(n)
        assert world.aggregate is None
    else:
        assert_exact(world)


@pytest.mark.parametrize("scheme", SCHEMES)
class TestEveryScheme:
    def test_only_one_payload_releases_the_update(self, scheme: str) -> None:
        world = World(4, scheme)
        world.run()
        for name in world.identities:
            releases = [o.phase for sender, o in world.sent_to_coordinator if sender == name and o.releases]
            assert len(releases) == 1

    def test_single_use(self, scheme: str) -> None:
        world = World(3, scheme)
        world.run()
        for machine in world.institutions.values():
            with pytest.raises(UnexpectedMessage):
                machine.start()

    def test_another_round_or_model_is_refused(self, scheme: str) -> None:
        for change in (
            {"round": 2},
            {"attempt": 2},
            {"model_hash": digest("other")},
            {"session": b"\x01" * 16},
            {"configuration_hash": digest("other")},
            {"threshold": 2},
            {"purpose": "metrics"},
        ):
            world = World(5, scheme)
            stranger = world.institution("clinic-1", make_context(world.roster, world.length, **change))
            with pytest.raises(ContextMismatch):
                world.coordinator.receive("clinic-1", stranger.start().payload)
            assert "clinic-1" in world.coordinator.waiting_for

    def test_a_message_in_anothers_name_is_refused(self, scheme: str) -> None:
        world = World(5, scheme)
        payload = world.institutions["clinic-1"].start().payload
        with pytest.raises(VerificationFailed):
            world.coordinator.receive("clinic-2", payload)

    def test_twice_is_refused_and_changes_nothing(self, scheme: str) -> None:
        world = World(5, scheme)
        payload = world.institutions["clinic-1"].start().payload
        world.coordinator.receive("clinic-1", payload)
        with pytest.raises(UnexpectedMessage):
            world.coordinator.receive("clinic-1", payload)
        for name in world.roster.names[1:]:
            world.coordinator.receive(name, world.institutions[name].start().payload)
        assert not world.coordinator.waiting_for

    @pytest.mark.parametrize("payload", [b"", b"\x80", b"\xc1", bytes(1000)])
    def test_rubbish_is_refused(self, scheme: str, payload: bytes) -> None:
        world = World(3, scheme)
        with pytest.raises(MalformedMessage):
            world.coordinator.receive("clinic-1", payload)
        world.institutions["clinic-1"].start()
        with pytest.raises(PeerError):
            world.institutions["clinic-1"].receive(payload)

    def test_a_flipped_signature_is_refused(self, scheme: str) -> None:
        world = World(3, scheme)
        payload = bytearray(world.institutions["clinic-1"].start().payload)
        at = bytes(payload).index(b"signature") + 20
        payload[at] ^= 1
        with pytest.raises(VerificationFailed):
            world.coordinator.receive("clinic-1", bytes(payload))


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != registry.NONE])
def test_a_set_that_an_institution_does_not_admit_is_not_signed(scheme: str) -> None:
    world, asked = World(5, scheme), []

    def refuse(survivors: tuple[str, ...]) -> None:
        asked.append(survivors)
        raise PolicyRefused("too few of them hold our key", rule="minimum_institutions_per_key")

    strict = world.institution("clinic-2", world.context, world.keys.get("clinic-2"), admits=refuse)
    world.institutions["clinic-2"] = strict

    def tamper(phase: Phase | None, receiver: str, payload: bytes) -> bytes | None:
        if receiver != "clinic-2" or registry.PHASES[scheme].index(phase) < first:
            return payload
        if phase is RELEASED_IN[scheme]:
            with pytest.raises(PolicyRefused):
                strict.receive(payload)
        return None

    first = registry.PHASES[scheme].index(RELEASED_IN[scheme])
    world.run(tamper=tamper)
    assert asked == [world.roster.names]
    sent = [outgoing.phase for name, outgoing in world.sent_to_coordinator if name == "clinic-2"]
    assert sent == list(registry.PHASES[scheme][: first + 1])
    assert strict.finished
    assert strict.transcript is strict.verified is None


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused_before_a_secret_is_drawn(scheme: str, value: float) -> None:
    world = World(3, scheme=scheme)
    world.updates["clinic-1"][1] = value
    with pytest.raises(UpdateUnusable, match="not finite"):
        world.institution("clinic-1", world.context, world.keys.get("clinic-1"))


def test_whatever_goes_wrong_the_secrets_go_with_the_round(monkeypatch) -> None:
    """Also by a mistake of our own, that is no error of this project."""
    world = World(3)
    machine = world.institutions["clinic-1"]

    def broken(*arguments: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(type(world.context.fixed_point), "encode", broken)
    monkeypatch.setattr(type(world.context.fixed_point), "encode_into", broken)
    with pytest.raises(ZeroDivisionError):
        world.run()
    stopped = [one for one in world.institutions.values() if one.state.name == "ABORTED"]
    assert len(stopped) == 1
    assert stopped[0]._secrets is None
    assert machine.finished or machine._secrets is not None


def test_unknown_scheme() -> None:
    with pytest.raises(InvalidInput, match="masking or ckks or none"):
        registry.phases("homomorphic")


def test_saturated_values_are_clipped_and_counted() -> None:
    world = World(3)
    machine = world.institutions["clinic-2"]
    limit = world.context.fixed_point.limit * world.context.fixed_point.resolution
    machine._secrets.update = np.where(np.arange(world.length) < 2, 1e6, 0.0)
    world.updates["clinic-2"] = np.where(np.arange(world.length) < 2, limit, 0.0)
    world.run()
    assert machine.saturated == 2
    assert world.institutions["clinic-1"].saturated == 0
    assert np.array_equal(world.coordinator.aggregate.total, world.exact_sum(world.roster.names))


def test_masked_inputs_look_uniform_and_hide_the_update() -> None:
    world = World(3, length=4096)
    for name in world.updates:
        world.institutions[name]._secrets.update = np.zeros(4096)
    world.run()
    masked = [o.payload for _, o in world.sent_to_coordinator if o.phase is Phase.MASKED_INPUT]
    for payload in masked:
        words = np.frombuffer(payload[-4096 * 4 :], np.uint8)
        counts = np.bincount(words, minlength=256)
        expected = len(words) / 256
        # an all-zero update would give one value 16,384 times; 255 degrees of freedom, p about 1e-9
        assert ((counts - expected) ** 2 / expected).sum() < 420
    assert np.array_equal(world.coordinator.aggregate.total, np.zeros(4096))

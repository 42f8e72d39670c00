"""A coordinator that lies about sums and models across rounds: what is taken, refused, and binds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedapt_client.session.own_model import OwnModel, PastRounds
from fedapt_client.session.states import State
from fedapt_crypto.encoding import TaggedMessage, decode_one_of
from fedapt_crypto.errors import (
    ContextMismatch,
    PeerError,
    TooFewParticipants,
    UnexpectedMessage,
    UnresolvedExecution,
)
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.masking.sums import SumAnnouncement
from fedapt_crypto.secagg.scheme import Opening, Phase
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.session import model_hash
from fedapt_secure.protocol.stated import Confirmation, SumStatement
from fedapt_secure.protocol.statements import caught_up, sign_sum
from tests.crypto.secagg.harness import SCHEMES
from tests.protocol.federation import Federation

TAGGED = [scheme for scheme in SCHEMES if scheme != registry.NONE]
FIVE = tuple(f"clinic-{i}" for i in range(1, 6))
Change = Callable[[str, TaggedMessage], TaggedMessage | None]


def tampered(federation: Federation, change: Change) -> None:
    """Let the coordinator send something else; what becomes ``None`` does not arrive."""

    def tamper(name: str, data: bytes) -> bytes:
        message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.MAX_FRAME_BYTES)
        changed = change(name, message)
        return m.Standby().to_bytes() if changed is None else changed.to_bytes()

    deliver = federation._deliver

    def only_what_arrives(name: str, data: bytes) -> None:
        message = decode_one_of(data, m.FROM_COORDINATOR, max_bytes=m.MAX_FRAME_BYTES)
        if change(name, message) is not None:
            deliver(name, data)

    federation._deliver = only_what_arrives
    federation.tamper = tamper


def announced(message: TaggedMessage) -> SumAnnouncement | None:
    """The sum in a message of the coordinator, if it is one."""
    if not isinstance(message, m.Aggregation) or message.phase != Phase.UNMASK:
        return None
    try:
        return SumAnnouncement.from_bytes(message.payload)
    except PeerError:
        return None


def is_sum(message: TaggedMessage) -> bool:
    """Whether it is a round's last message, whatever the scheme."""
    if isinstance(message, m.Aggregation) and message.phase == Phase.CONSISTENCY:
        return b"ckks sum" in message.payload
    return announced(message) is not None


def models(federation: Federation) -> set[bytes]:
    """What stands for the model at each institution, by record."""
    return {
        b"" if party.past.kept is None else party.past.kept.model_id for party in federation.parties.values()
    }


def statuses(federation: Federation) -> list[str]:
    return [body["status"] for body in federation.entries("round_ended")]


def test_everybody_has_the_same_model_with_the_same_bits_and_states_it() -> None:
    federation = Federation(5)
    federation.run()
    kept = [party.past.kept for party in federation.parties.values()]
    assert len({one.model.tobytes() for one in kept}) == 1
    assert federation.coordinator.progress.model.tobytes() == kept[0].model.tobytes()
    assert {(one.round, one.attempt) for one in kept} == {(3, 1)}
    assert len(federation.coordinator.progress.statements) == 5
    for log in federation.logs.values():
        if log.bodies("verified_sum"):
            assert [body["round"] for body in log.bodies("verified_sum")] == [1, 2, 3]


CHANGED_SUMS: dict[str, Callable[[SumAnnouncement], SumAnnouncement]] = {
    "one value more": lambda s: s.model_copy(update={"total": bytes([s.total[0] ^ 1]) + s.total[1:]}),
    "nothing": lambda s: s.model_copy(update={"total": bytes(len(s.total)), "sum_tag": bytes(8)}),
    "another tag": lambda s: s.model_copy(update={"sum_tag": bytes([0] * 7 + [1])}),
    "unsigned": lambda s: s.model_copy(update={"signature": bytes(64)}),
}


@pytest.mark.parametrize("name", CHANGED_SUMS)
def test_another_sum_moves_nobody_and_is_said_in_both_logs(name: str) -> None:
    federation = Federation(5, rounds=1)

    def change(_: str, message: TaggedMessage) -> TaggedMessage:
        found = announced(message)
        if found is None:
            return message
        return message.model_copy(update={"payload": CHANGED_SUMS[name](found).to_bytes()})

    tampered(federation, change)
    federation.run()
    assert models(federation) == {b""}
    assert set(statuses(federation)) == {"aborted"}
    assert len(federation.entries("sum_refused")) == 5
    for name_ in FIVE:
        assert len(federation.logs[name_].bodies("unresolved")) == 1
        assert "VerificationFailed" in " ".join(
            federation.parties[name_].refused
        ) or "SumCheckFailed" in " ".join(federation.parties[name_].refused)


def test_two_models_to_two_institutions_is_one_model_and_one_refusal() -> None:
    federation = Federation(5, rounds=2)

    def change(name: str, message: TaggedMessage) -> TaggedMessage:
        found = announced(message)
        if found is None or name != "clinic-1":
            return message
        return message.model_copy(update={"payload": CHANGED_SUMS["one value more"](found).to_bytes()})

    tampered(federation, change)
    federation.run()
    assert statuses(federation) == ["completed", "completed"], "four state the sum: it is right"
    assert [body["name"] for body in federation.entries("sum_refused")] == ["clinic-1"] * 2
    assert len(models(federation)) == 1, "the one caught up by what the others state"
    assert federation.logs["clinic-1"].bodies("caught_up")


@pytest.mark.parametrize("scheme", TAGGED)
def test_a_sum_that_is_hidden_binds_everybody_to_its_survivors(scheme: str) -> None:
    """The rewind: take a sum, give it to nobody, and try again with somebody left out."""
    federation = Federation(5, rounds=3, secure_aggregation=scheme)
    hidden: list[str] = []

    def change(name: str, message: TaggedMessage) -> TaggedMessage | None:
        if is_sum(message) and message.round == 1:
            hidden.append(name)
            return None
        if isinstance(message, m.RoundStart) and message.round == 1 and message.attempt > 1:
            return None
        return message

    tampered(federation, change)
    federation._server(federation.coordinator.start())
    for name in FIVE:
        federation.connect(name)
    federation.play(timers=False)
    assert sorted(hidden) == list(FIVE)
    party = federation.parties["clinic-2"]
    [opening] = party.machine._own.unresolved
    assert opening.survivors == FIVE
    with pytest.raises(UnresolvedExecution):
        party.machine._own.admit(FIVE[1:])
    party.machine._own.admit(FIVE)
    party.machine = federation.machine("clinic-2")  # a restart forgets nothing of it
    own = OwnModel(federation.configuration, federation.identities["clinic-2"], party.past)
    with pytest.raises(UnresolvedExecution):
        own.admit(FIVE[1:])


def opening(federation: Federation, number: int, survivors: tuple[str, ...] = FIVE) -> Opening:
    first = federation.coordinator.progress.model_id
    context = federation.configuration.round_context(number, 1, first, bytes(32))
    return Opening(context, bytes(32), bytes(32), survivors, bytes(32))


def own_model(federation: Federation, **past: object) -> OwnModel:
    return OwnModel(federation.configuration, federation.identities["clinic-1"], PastRounds(**past))


def start(
    federation: Federation, number: int, attempt: int = 1, model_id: bytes | None = None
) -> m.RoundStart:
    first = federation.coordinator.progress.model_id
    return m.RoundStart(
        round=number, attempt=attempt, model_id=model_id or first, participants=parties.pack(range(5))
    )


class TestUnresolved:
    def test_a_second_one_on_a_model_ends_the_session(self) -> None:
        federation = Federation(5)
        one = own_model(federation, openings=(opening(federation, 1),), newest=(1, 1))
        one.begin(start(federation, 2))
        one.reveal(opening(federation, 2))
        with pytest.raises(UnresolvedExecution, match="two rounds from this model"):
            one.begin(start(federation, 3))

    def test_they_are_forgotten_with_their_model_alone(self) -> None:
        federation = Federation(5)
        one = own_model(federation, openings=(opening(federation, 1),), newest=(1, 1))
        one.kept = replace(one.kept, model_id=bytes(32), round=1, attempt=1)
        assert one.unresolved == []
        one.admit(FIVE[:4])

    def test_only_the_newest_executions_sum_may_still_come(self) -> None:
        """Else a coordinator gives the first one's to one institution, and the second one's to another."""
        federation = Federation(5)
        one = own_model(federation, openings=(opening(federation, 1),), newest=(1, 1))
        missed = m.MissedSum(round=1, attempt=1, payload=b"")
        assert one.opening_of(missed) is not None
        assert not one.has_joined_later(missed)
        one.begin(start(federation, 1, 2))
        assert one.opening_of(missed) is None
        assert one.has_joined_later(missed), "so that with CKKS, too, it is not taken"

    def test_no_round_is_joined_that_is_verified(self) -> None:
        federation = Federation(5)
        one = own_model(federation)
        one.kept = replace(one.kept, round=2, attempt=1)
        for number, attempt in ((1, 9), (2, 2)):
            with pytest.raises(UnexpectedMessage, match="is verified"):
                one.begin(start(federation, number, attempt, one.kept.model_id))
        one.begin(start(federation, 3, 1, one.kept.model_id))

    def test_another_start_is_not_joined(self) -> None:
        federation = Federation(5)
        with pytest.raises(ContextMismatch, match="another model"):
            own_model(federation).begin(start(federation, 1, 1, bytes(32)))


def test_a_round_called_aborted_whose_sum_was_given_out_ends_it_there() -> None:
    federation = Federation(5, rounds=1)

    def change(name: str, message: TaggedMessage) -> TaggedMessage:
        if isinstance(message, m.RoundEnd) and name == "clinic-3":
            return message.model_copy(update={"status": "aborted", "contributors": ()})
        return message

    tampered(federation, change)
    federation.run()
    victim = federation.parties["clinic-3"]
    assert victim.refused[-1] == "quit: ContextMismatch"
    assert victim.past.kept is not None, "what it has verified stays"


def test_other_contributors_than_those_of_the_sum_end_it_there() -> None:
    federation = Federation(5, rounds=1)

    def change(name: str, message: TaggedMessage) -> TaggedMessage:
        if isinstance(message, m.RoundEnd) and name == "clinic-3":
            return message.model_copy(update={"contributors": FIVE[1:]})
        return message

    tampered(federation, change)
    federation.run()
    assert federation.parties["clinic-3"].refused[-1] == "quit: ContextMismatch"
    assert federation.parties["clinic-1"].refused == []


def test_no_end_with_a_model_of_the_coordinators_own() -> None:
    federation = Federation(5, rounds=1)
    close = federation.coordinator._close

    def lie() -> list:
        federation.coordinator._keep(model_id=model_hash(bytes(4)), model=federation.plan.initial_model())
        return close()

    federation.coordinator._close = lie
    federation.run()
    assert all(party.concluded is None for party in federation.parties.values())
    assert all(party.refused == ["VerificationFailed"] for party in federation.parties.values())
    assert [body["reason"] for body in federation.entries("left")] == ["message_refused"] * 5


class TestCatchingUp:
    def stated(self, federation: Federation, names: tuple[str, ...], **changes: object) -> m.CatchUp:
        model = np.arange(federation.plan.shape.size, dtype="<f4").tobytes()
        fields = {
            "session": federation.configuration.session,
            "configuration_hash": federation.configuration.hash,
            "round": 1,
            "attempt": 1,
            "transcript": bytes(32),
            "sum_hash": bytes(32),
            "sum_tag": bytes(8),
            "model_before": bytes(32),
            "model_after": model_hash(model),
        }
        statement = SumStatement(**(fields | changes))
        signatures = tuple(
            Confirmation(party=name, signature=sign_sum(federation.identities[name], statement))
            for name in names
        )
        return m.CatchUp(statement=statement, signatures=signatures, model=model)

    @pytest.mark.parametrize(("n", "needed"), [(3, 3), (4, 2), (5, 3), (7, 3), (10, 4)])
    def test_v_of_them_are_enough_and_one_less_is_not(self, n: int, needed: int) -> None:
        federation = Federation(n)
        assert federation.configuration.statements_needed == needed
        names = federation.roster.names
        caught_up(federation.configuration, self.stated(federation, names[:needed]))
        with pytest.raises(TooFewParticipants, match=f"where {needed} must"):
            caught_up(federation.configuration, self.stated(federation, names[: needed - 1]))
        twice = self.stated(federation, (names[0],) * needed)
        with pytest.raises(TooFewParticipants):
            caught_up(federation.configuration, twice)

    def test_another_model_statement_session_or_signer_is_refused(self) -> None:
        federation, names = Federation(5), FIVE
        good = self.stated(federation, names)
        other = self.stated(federation, names, sum_hash=b"\x01" * 32)
        for message in (
            good.model_copy(update={"model": good.model[:-4] + bytes(4)}),
            good.model_copy(update={"signatures": other.signatures}),
            self.stated(federation, names, session=b"\x01" * 16),
            self.stated(federation, names, configuration_hash=bytes(32)),
            self.stated(Federation(5), names),
        ):
            with pytest.raises(PeerError):
                caught_up(federation.configuration, message)

    def test_one_that_was_away_goes_on_from_the_newest(self) -> None:
        federation = Federation(5, rounds=3)
        federation.parties["clinic-4"].vanish_at = {(1, Phase.ADVERTISE)}
        federation.run()
        assert statuses(federation) == ["completed"] * 3
        assert federation.logs["clinic-4"].bodies("caught_up")[0]["round"] == 1
        assert [body["round"] for body in federation.logs["clinic-4"].bodies("verified_sum")] == [2, 3]
        assert len(models(federation)) == 1

    def test_a_model_in_a_scheme_that_hides_it_is_refused(self) -> None:
        federation = Federation(3, secure_aggregation=registry.CKKS)
        one = own_model(federation)
        [refused] = one.catch_up(self.stated(federation, federation.roster.names))
        assert "cannot know" in str(refused.error)
        assert one.kept.round == 0

    def test_an_older_one_changes_nothing(self) -> None:
        federation = Federation(5)
        one = own_model(federation)
        one.kept = replace(one.kept, round=1)
        assert one.catch_up(self.stated(federation, FIVE)) == []


class TestRestarts:
    @pytest.mark.parametrize("scheme", TAGGED)
    @pytest.mark.parametrize("name", ["clinic-1", "clinic-5"])
    def test_one_that_restarts_before_the_sum_comes_checks_it_by_its_record(
        self, name: str, scheme: str
    ) -> None:
        federation = Federation(5, rounds=2, secure_aggregation=scheme)
        lost: list[str] = []

        def change(receiver: str, message: TaggedMessage) -> TaggedMessage | None:
            if is_sum(message) and receiver == name and not lost:
                lost.append(receiver)
                federation.disconnect(name)
                federation.parties[name].machine = federation.machine(name)
                federation._to_reconnect.append(name)
                return None
            return message

        tampered(federation, change)
        federation.run()
        assert lost == [name]
        assert statuses(federation) == ["completed"] * 2
        assert [body["round"] for body in federation.logs[name].bodies("verified_sum")] == [1, 2]
        assert federation.logs[name].bodies("caught_up") == []

    @pytest.mark.parametrize("scheme", TAGGED)
    def test_a_coordinator_that_restarts_with_a_sum_that_nobody_has_gives_it_out_again(
        self, scheme: str
    ) -> None:
        federation = Federation(5, rounds=2, secure_aggregation=scheme)
        dropped: list[str] = []

        def change(receiver: str, message: TaggedMessage) -> TaggedMessage | None:
            if is_sum(message) and message.round == 1:
                dropped.append(receiver)
                return None
            return message

        tampered(federation, change)
        federation._server(federation.coordinator.start())
        for name in FIVE:
            federation.connect(name)
        federation.play(timers=False)
        assert sorted(dropped) == list(FIVE)
        del federation._deliver
        federation.tamper = lambda name, data: data
        federation.restart_coordinator()
        assert statuses(federation) == ["completed"]
        for name in FIVE:
            federation.connect(name)
        federation.play()
        assert statuses(federation) == ["completed", "completed"]
        assert len(models(federation)) == 1
        assert {party.machine.state for party in federation.parties.values()} == {State.ENDED}


@pytest.mark.parametrize("scheme", TAGGED)
def test_after_too_few_to_open_a_sum_the_next_round_is_with_exactly_its_survivors(scheme: str) -> None:
    """Another set would not be signed: an honest coordinator wastes no update on it."""
    federation = Federation(5, rounds=3, secure_aggregation=scheme)
    phases = registry.PHASES[scheme]
    federation.parties["clinic-1"].vanish_at = {(1, phases[0])}
    federation.parties["clinic-2"].vanish_at = {(1, phases[-1])}
    federation.run()
    ends = federation.entries("round_ended")
    assert [body["status"] for body in ends] == ["aborted", "completed", "completed"]
    assert ends[1]["participants"] == list(FIVE[1:]), "the survivors of the first round, and nobody else"
    assert ends[2]["participants"] == list(FIVE)
    assert len(models(federation)) == 1

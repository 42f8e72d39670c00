"""Whole sessions in memory: sums, dropouts, returning institutions, refusals, budgets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.session.closing import in_order
from fedapt_client.session.requirements import Requirements
from fedapt_crypto.errors import (
    InvalidInput,
    UnexpectedMessage,
    VerificationFailed,
)
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import threshold
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking import parties
from fedapt_crypto.secagg.plain import PlainCoordinator
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.parameters import initial_parameters
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_server.session.states import State
from tests.protocol.federation import Federation
from tests.support.examples import examples

ALL = registry.PHASES[registry.MASKING]


def expected_model(federation: Federation) -> np.ndarray:
    """The initial model plus the plain mean of each completed round's recorded contributors."""
    plan = federation.configuration.plan
    model = initial_parameters(plan.shape, plan.initial_seed).astype(float)
    for body in federation.entries("round_ended"):
        if body["status"] == "completed":
            updates = [federation.update_of(name, body["round"]) for name in body["contributors"]]
            model += np.mean(updates, axis=0, dtype=float)
    return model


def assert_sound(federation: Federation) -> None:
    """What must hold however a session went."""
    rounds = federation.entries("round_ended")
    fixed = federation.configuration.round_context(1, 1, bytes(32), None).fixed_point
    bound = len(rounds) * (fixed.resolution / 2 + 1e-6)
    assert np.abs(federation.coordinator.progress.model - expected_model(federation)).max() <= bound
    assert in_order([record for kept in federation.kept[-1:] for record in kept.records])
    assert [(body["round"], body["attempt"]) for body in rounds] == [
        (record.round, record.attempt) for record in federation.coordinator.progress.records
    ]
    for party in federation.parties.values():
        assert len(set(party.released)) == len(party.released), "an update was released twice"
        assert party.joined == sorted(set(party.joined))
        for body in rounds:
            if party.name in body["contributors"]:
                assert body["round"] in party.released
    assert federation.ended


@pytest.mark.parametrize("scheme", [registry.MASKING, registry.NONE])
def test_everyone_stays(scheme: str) -> None:
    requirements = Requirements(differential_privacy=True, aggregation=(scheme,), minimum_participants=2)
    federation = Federation(5, requirements=requirements, secure_aggregation=scheme)
    federation.run()
    assert_sound(federation)
    assert [body["status"] for body in federation.entries("round_ended")] == ["completed"] * 3
    assert all(len(body["contributors"]) == 5 for body in federation.entries("round_ended"))
    assert all(body["bytes_up"] > 0 and body["bytes_down"] > 0 for body in federation.entries("round_ended"))
    models = {party.concluded.model.tobytes() for party in federation.parties.values()}
    assert models == {federation.coordinator.progress.model.tobytes()}


@pytest.mark.parametrize("phase", ALL)
def test_one_vanishes_and_is_back_next_round(phase: Phase) -> None:
    federation = Federation(5)
    federation.parties["clinic-3"].vanish_at = {(2, phase)}
    federation.run()
    assert_sound(federation)
    first, second, third = federation.entries("round_ended")
    assert second["dropped"] == ["clinic-3"]
    assert ("clinic-3" in second["contributors"]) == (phase in (Phase.CONSISTENCY, Phase.UNMASK))
    assert len(first["contributors"]) == len(third["contributors"]) == 5
    assert federation.parties["clinic-3"].concluded is not None


@pytest.mark.parametrize("phase", ALL)
def test_two_of_five_vanish(phase: Phase) -> None:
    federation = Federation(5)
    for name in ("clinic-1", "clinic-4"):
        federation.parties[name].vanish_at = {(2, phase)}
    federation.run()
    assert_sound(federation)
    first, second, *rest = federation.entries("round_ended")
    assert (first["status"], second["status"]) == ("completed", "aborted")
    assert second["dropped"] == ["clinic-1", "clinic-4"]
    assert second["model"] == first["model"]
    # Before updates leave nothing is lost: the same round is attempted anew.
    again = [(2, 2), (3, 1)] if phase in (Phase.ADVERTISE, Phase.SHARE) else [(3, 1)]
    assert [(body["round"], body["attempt"]) for body in rest] == again
    assert all(body["status"] == "completed" and len(body["contributors"]) == 5 for body in rest)


@settings(max_examples=examples(8, 25), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"clinic-{i}" for i in range(1, 6)]),
        st.sets(st.tuples(st.integers(1, 3), st.sampled_from(ALL)), max_size=3),
    )
)
def test_whoever_vanishes_whenever(vanish: dict[str, set[tuple[int, Phase]]]) -> None:
    federation = Federation(5)
    for name, moments in vanish.items():
        federation.parties[name].vanish_at = set(moments)
    federation.run()
    assert_sound(federation)
    for body in federation.entries("round_ended"):
        assert (body["status"] == "completed") <= (len(body["contributors"]) >= threshold(5))


def test_one_whose_budget_is_spent_rests() -> None:
    federation = Federation(5)
    federation.parties["clinic-2"].budget_rounds = 1
    federation.run()
    assert_sound(federation)
    first, second, third = federation.entries("round_ended")
    assert "clinic-2" in first["contributors"]
    assert "clinic-2" not in second["contributors"] + third["participants"]
    assert federation.entries("left") == []
    declined = {"name": "clinic-2", "round": 2, "reason": "budget_spent", "final": True}
    assert federation.entries("declined") == [declined]
    assert federation.parties["clinic-2"].concluded is not None, "it takes the model all the same"


def test_too_few_remain_and_the_session_closes_with_what_there_is() -> None:
    federation = Federation(4)
    for name in ("clinic-1", "clinic-2"):
        federation.parties[name].budget_rounds = 1
    federation.run()
    assert_sound(federation)
    assert [body["status"] for body in federation.entries("round_ended")] == ["completed", "aborted"]
    assert federation.entries("cannot_continue")
    assert federation.parties["clinic-4"].concluded is not None


def test_one_that_comes_back_unnoticed_hears_the_offer_first() -> None:
    """Its old connection still counts, and the round that hangs on it ends in the very same step."""
    federation = Federation(5)
    last = federation.parties["clinic-3"]
    last.vanish_at, last.restarts = {(3, Phase.UNMASK)}, True

    def unnoticed(name: str) -> None:
        federation.parties[name].connected = False

    vars(federation)["disconnect"] = unnoticed  # the coordinator is not told
    federation.run()
    assert_sound(federation)
    assert last.concluded is not None


def test_one_who_never_comes_is_not_waited_for() -> None:
    federation = Federation(5)
    connect = federation.connect
    federation.connect = lambda name: None if name == "clinic-5" else connect(name)
    federation.run()
    assert_sound(federation)
    assert {len(body["participants"]) for body in federation.entries("round_ended")} == {4}


def test_nothing_the_coordinator_receives_holds_an_update() -> None:
    federation = Federation(5)
    federation.run()
    sent = b"".join(data for _, data in federation.received_by_coordinator)
    fixed = federation.configuration.round_context(1, 1, bytes(32), None).fixed_point
    for name in federation.parties:
        for round_number in (1, 2, 3):
            update = federation.update_of(name, round_number)
            ring, _ = fixed.encode(update)
            for form in (update.tobytes(), ring.tobytes(), update.astype("f8").tobytes()):
                for start in range(0, len(form) - 8, 8):
                    assert form[start : start + 8] not in sent
    without = Federation(
        5,
        secure_aggregation=registry.NONE,
        requirements=Requirements(
            differential_privacy=True, aggregation=(registry.NONE,), minimum_participants=2
        ),
    )
    without.run()
    sent = b"".join(data for _, data in without.received_by_coordinator)
    assert without.update_of("clinic-1", 1).tobytes() in sent, "the search above can find an update"


class TestBlindCoordinator:
    """CKKS: the sum is the institutions' alone, and so is the model."""

    def final_models(self, federation: Federation) -> list[np.ndarray]:
        return [party.concluded.model for party in federation.parties.values() if party.concluded]

    def assert_sound(self, federation: Federation, models: int = 3) -> None:
        found = self.final_models(federation)
        assert len(found) == models
        assert len({model.tobytes() for model in found}) == 1
        assert np.abs(found[0] - expected_model(federation)).max() < 1e-4
        assert federation.ended
        for party in federation.parties.values():
            assert len(set(party.released)) == len(party.released)

    def test_everyone_stays(self) -> None:
        federation = Federation(3, secure_aggregation=registry.CKKS)
        federation.run()
        self.assert_sound(federation)
        assert [body["status"] for body in federation.entries("round_ended")] == ["completed"] * 3
        start = initial_parameters(federation.configuration.plan.shape, 0)
        assert np.array_equal(federation.coordinator.progress.model, start), "the coordinator learns no model"
        sent = b"".join(data for _, data in federation.received_by_coordinator)
        for model in self.final_models(federation):
            assert model.tobytes()[:64] not in sent

    @pytest.mark.parametrize("phase", registry.PHASES[registry.CKKS])
    def test_one_who_vanishes_catches_up(self, phase: Phase) -> None:
        federation = Federation(4, secure_aggregation=registry.CKKS)
        federation.parties["clinic-2"].vanish_at = {(2, phase)}
        federation.run()
        self.assert_sound(federation, models=4)
        _, second, third = federation.entries("round_ended")
        assert second["dropped"] == ["clinic-2"]
        assert ("clinic-2" in second["contributors"]) == (phase is Phase.CONSISTENCY)
        assert len(third["contributors"]) == 4

    @pytest.mark.parametrize("phase", registry.PHASES[registry.CKKS])
    @pytest.mark.parametrize("name", ["clinic-1", "clinic-2"], ids=["key maker", "another"])
    def test_one_who_restarts_opens_the_group_key_and_all_sums_again(self, name: str, phase: Phase) -> None:
        federation = Federation(4, secure_aggregation=registry.CKKS)
        party = federation.parties[name]
        party.vanish_at, party.restarts = {(2, phase)}, True
        federation.run()
        self.assert_sound(federation, models=4)
        assert party.refused == []
        assert len(federation.entries("round_ended")[2]["contributors"]) == 4

    def test_a_burned_key_stays_burned_after_a_restart(self) -> None:
        federation = Federation(4, secure_aggregation=registry.CKKS)
        party = federation.parties["clinic-2"]
        party.vanish_at, party.restarts = {(2, Phase.UPDATE)}, True
        party.journal.discard()
        with pytest.raises(InvalidInput, match="discarded"):
            federation.run()

    def test_a_sessions_end_ends_the_worker_processes(self) -> None:
        federation = Federation(3, secure_aggregation=registry.CKKS)
        federation.run()
        groups = [
            federation.coordinator._grouping.held,
            *(p.machine._grouping.held for p in federation.parties.values()),
        ]
        assert [group._worker.process_id for group in groups] == [None] * 4

    def test_too_few_is_a_clean_abort(self) -> None:
        federation = Federation(4, secure_aggregation=registry.CKKS)
        for name in ("clinic-2", "clinic-3"):
            federation.parties[name].vanish_at = {(2, Phase.UPDATE)}
        federation.run()
        self.assert_sound(federation, models=4)
        assert [b["status"] for b in federation.entries("round_ended")] == [
            "completed",
            "aborted",
            "completed",
        ]


class TestRefusals:
    def refuse(self, error: type[Exception], tamper, match: str | None = None, **options) -> Federation:
        federation = Federation(3, **options)
        federation.tamper = lambda name, data: tamper(federation, data) if name == "clinic-1" else data
        with pytest.raises(error, match=match):
            federation.run()
        return federation

    @staticmethod
    def offered(federation: Federation, data: bytes, identity: Identity, **changes) -> bytes:
        offer = m.SessionOffer.from_bytes(data)
        head = offer.head
        configuration = SessionConfiguration.from_bytes(offer.configuration).model_copy(update=changes)
        signature = identity.sign("session offer", configuration.hash)
        offer = m.SessionOffer(configuration=configuration.to_bytes(), signature=signature, head=head)
        return offer.to_bytes()

    def test_a_session_that_the_pinned_coordinator_did_not_sign(self) -> None:
        stranger = Identity.generate()
        self.refuse(VerificationFailed, lambda f, data: self.offered(f, data, stranger))

    def test_another_roster_than_the_approved_one(self) -> None:
        def tamper(federation: Federation, data: bytes) -> bytes:
            members = federation.roster.members
            sybil = members[2].model_copy(update={"identity_key": Identity.generate().public_key})
            roster = federation.roster.model_copy(update={"members": (*members[:2], sybil)})
            return self.offered(federation, data, federation.coordinator_identity, roster=roster)

        self.refuse(InvalidInput, tamper, match="roster")

    def test_a_session_without_differential_privacy(self) -> None:
        self.refuse(InvalidInput, lambda f, data: data, match="privacy", differential_privacy=False)

    def test_a_session_in_which_the_coordinator_sees_updates(self) -> None:
        self.refuse(
            InvalidInput,
            lambda f, data: data,
            match="policy rule aggregation: the session uses 'none'",
            secure_aggregation="none",
        )

    def test_another_scheme_where_masking_is_required(self) -> None:
        requirements = Requirements(
            differential_privacy=True, aggregation=(registry.MASKING,), minimum_participants=2
        )
        federation = Federation(3, requirements=requirements, secure_aggregation=registry.CKKS)
        with pytest.raises(
            InvalidInput, match="policy rule aggregation: the session uses 'ckks', masking is allowed"
        ):
            federation.run()

    def test_a_domain_key_that_was_not_committed_to(self) -> None:
        federation = Federation(3)
        federation.coordinator._reception._key_seeds = (bytes(32), bytes(32))
        with pytest.raises(VerificationFailed, match="committed"):
            federation.run()

    def test_a_coordinator_with_another_model_begins_no_round(self) -> None:
        federation = Federation(5)
        progress = federation.coordinator.progress
        federation.coordinator._book.progress = replace(progress, model_id=bytes(32))
        federation.run()  # each declines every round, and signs no end with that model
        assert all("ContextMismatch" in party.refused for party in federation.parties.values())
        assert all("VerificationFailed" in party.refused for party in federation.parties.values())
        assert all(party.concluded is None for party in federation.parties.values())
        assert not any(party.joined for party in federation.parties.values())

    @pytest.mark.parametrize("bad", [1e30, -1e30])
    def test_sums_that_no_honest_run_gives(self, bad: float) -> None:
        """Without protection an institution takes what the coordinator says is the sum: not any values."""
        federation = Federation(
            3,
            rounds=2,
            secure_aggregation=registry.NONE,
            differential_privacy=False,
            requirements=Requirements(
                differential_privacy=False, aggregation=(registry.NONE,), minimum_participants=2
            ),
        )
        close = PlainCoordinator.close_phase

        def lie(coordinator: PlainCoordinator) -> dict[str, bytes]:
            coordinator._sum[0] = bad
            return close(coordinator)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PlainCoordinator, "close_phase", lie)
            with pytest.raises(InvalidInput, match="out of range"):
                federation.run()
        assert all("InvalidInput" in party.refused for party in federation.parties.values())

    def test_one_that_is_told_of_another_model_is_left_out_by_an_honest_coordinator(self) -> None:
        def another_model(name: str, data: bytes) -> bytes:
            if name != "clinic-1" or b"round start" not in data:
                return data
            return m.RoundStart.from_bytes(data).model_copy(update={"model_id": bytes(32)}).to_bytes()

        federation = Federation(5, rounds=1)
        federation.tamper = another_model
        federation.run()
        [body] = federation.entries("round_ended")
        [declined] = federation.entries("declined")
        assert (declined["name"], declined["reason"]) == ("clinic-1", "other_start")
        assert body["status"] == "completed"
        assert body["dropped"] == ["clinic-1"]
        assert federation.parties["clinic-1"].released == []
        assert_sound(federation)

    def test_seeds_that_were_not_committed_to_at_the_end(self) -> None:
        federation = Federation(3, rounds=1)
        start = federation.coordinator._rounds._finish

        def finish(*arguments, **given):
            federation.coordinator._reception._key_seeds = (bytes(32), bytes(32))
            return start(*arguments, **given)

        federation.coordinator._rounds._finish = finish
        federation.run()
        assert all("VerificationFailed" in party.refused for party in federation.parties.values())
        assert all(party.concluded is None for party in federation.parties.values())
        assert {body["reason"] for body in federation.entries("left")} == {"message_refused"}

    def test_out_of_turn(self) -> None:
        federation = Federation(3)
        federation.run()
        machine = federation.parties["clinic-1"].machine
        with pytest.raises(UnexpectedMessage):
            machine.receive(
                m.RoundStart(
                    round=9, attempt=1, model_id=bytes(32), participants=parties.pack(range(3))
                ).to_bytes()
            )
        with pytest.raises(UnexpectedMessage):
            machine.connected()

    def test_the_coordinator_survives_rubbish(self) -> None:
        federation = Federation(3)
        federation._server(federation.coordinator.start())
        for data in (
            b"",
            b"\xc1",
            m.GroupReady(signature=bytes(64)).to_bytes(),
            m.Hello(name="clinic-1").to_bytes(),
        ):
            federation._server(federation.coordinator.receive("clinic-1", data))
        assert len(federation.entries("refused")) == 4
        assert federation.coordinator.state is State.GATHERING

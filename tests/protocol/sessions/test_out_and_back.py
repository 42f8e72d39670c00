"""Who says no, mends something, and comes back; sessions in which no round can take place."""

import numpy as np
import pytest

from fedapt_client.session import actions
from fedapt_client.session.requirements import Requirements
from fedapt_client.session.states import State as ClientState
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.masking import parties
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.reasons import Reason
from fedapt_server.session.states import Presence, State
from tests.protocol.federation import Federation, Party

EVERYBODY = parties.pack(range(5))
THREE = ("clinic-1", "clinic-2", "clinic-3")


class Doubtful(Federation):
    """A federation in which some refuse the session, until they are persuaded."""

    def __init__(self, n: int = 3, **plan: object) -> None:
        self.refusing: dict[str, Reason] = {}
        super().__init__(n, **plan)

    def _institution(self, party: Party, todo: list[actions.Action]) -> None:
        reason = self.refusing.get(party.name)
        if reason is not None and any(isinstance(action, actions.Prepare) for action in todo):
            todo = party.machine.refused(reason)
        super()._institution(party, todo)

    def begin(self) -> None:
        """Let everybody connect, and play until nothing but a timer is left."""
        self._server(self.coordinator.start())
        for name in self.parties:
            self.connect(name)
        self.play(timers=False)

    def play_and_persuade(self, name: str, lines: int, kind: str) -> None:
        """Play the session; one is persuaded once the coordinator has so many lines of a kind."""
        deliver = self._deliver

        def deliver_and_come_back(to: str, data: bytes) -> None:
            deliver(to, data)
            if name in self.refusing and len(self.entries(kind)) == lines:
                self.persuade(name)

        self._deliver = deliver_and_come_back
        self._server(self.coordinator.start())
        for one in self.parties:
            self.connect(one)
        self.play()

    def persuade(self, name: str) -> None:
        """Somebody mends what is wrong and starts the institution again."""
        del self.refusing[name]
        self.disconnect(name)
        self.parties[name].machine = self.machine(name)
        self.connect(name)


def test_one_says_no_is_persuaded_and_all_train() -> None:
    """The session used to end at once, for all three, with 0 rounds."""
    federation = Doubtful()
    federation.refusing = {"clinic-3": Reason.NOT_APPROVED}
    federation.begin()
    assert federation.coordinator.state is State.GATHERING
    assert federation.parties["clinic-3"].machine.state is ClientState.OUT
    assert federation.entries("left") == [{"name": "clinic-3", "reason": "not_approved"}]
    assert federation.entries("waiting_for_return") == [{"names": ["clinic-3"]}]
    assert federation.timer == 3600.0
    federation.persuade("clinic-3")
    federation.play()
    assert federation.ended
    assert federation.coordinator.progress.completed_rounds == 3
    assert not federation.entries("refused")
    for party in federation.parties.values():
        assert party.concluded is not None
        assert party.refused == []


@pytest.mark.parametrize("scheme", [registry.MASKING, registry.CKKS])
def test_the_others_go_on_and_who_was_out_is_in_the_next_round(scheme: str) -> None:
    federation = Doubtful(4, secure_aggregation=scheme, rounds=6)
    federation.refusing = {"clinic-4": Reason.CLASSES_DIFFER}
    federation.play_and_persuade("clinic-4", 1, "round_ended")
    assert federation.ended
    ended = federation.entries("round_ended")
    assert [body["status"] for body in ended] == ["completed"] * 6
    assert "clinic-4" not in ended[0]["participants"]
    assert "clinic-4" in ended[-1]["contributors"]
    models = [party.concluded.model for party in federation.parties.values()]
    assert all(np.array_equal(model, models[0]) for model in models)


def test_nobody_comes_back_and_the_session_ends_without_a_model() -> None:
    federation = Doubtful()
    federation.refusing = {"clinic-3": Reason.POLICY_EPSILON}
    federation.begin()
    federation.play()
    assert federation.ended
    assert federation.entries("cannot_continue") == [
        {"reason": "2 institutions remain, 3 are needed"},
    ]
    for name in ("clinic-1", "clinic-2"):
        party = federation.parties[name]
        assert party.machine.state is ClientState.ENDED
        assert party.concluded is None, "a session without a round has no model"
    assert sorted(federation.entries("done"), key=lambda body: body["name"]) == [
        {"name": "clinic-1", "bundle": None},
        {"name": "clinic-2", "bundle": None},
    ]
    [closed] = federation.logs["clinic-1"].bodies("session_closed")
    assert (closed["completed_rounds"], closed["missing"]) == (0, ["clinic-3"])


def test_an_ended_session_is_not_revived() -> None:
    """A plain restart after an end without a round logged that the session has started."""
    federation = Doubtful()
    federation.refusing = dict.fromkeys(THREE, Reason.NO_SPACE)
    federation.begin()
    federation.play()
    assert federation.ended
    again = type(federation.coordinator)(
        federation.configuration,
        federation.seeds,
        federation.coordinator_identity,
        (),
        federation.kept[-1],
    )
    assert again.start() == []
    assert again.state is State.ENDED


def test_one_who_is_out_ignores_how_the_session_goes_on() -> None:
    """`session closed` out of turn ended a client that was to stay."""
    federation = Doubtful(4)
    federation.refusing = {"clinic-4": Reason.POLICY_DELTA}
    federation.begin()
    federation.play()
    party = federation.parties["clinic-4"]
    assert federation.ended
    assert party.machine.state is ClientState.OUT
    assert party.refused == []
    assert len(federation.entries("round_ended")) == 3


def test_a_second_refusal_is_no_second_line() -> None:
    federation = Doubtful(4)
    federation.refusing = {"clinic-4": Reason.POLICY_DELTA}
    federation.begin()
    refuse = m.SessionRefuse(reason="policy_delta").to_bytes()
    federation._server(federation.coordinator.receive("clinic-4", refuse))
    assert len(federation.entries("left")) == 1
    assert not federation.entries("refused")


class TestParticipants:
    def test_who_wants_more_sits_out_before_anything_is_spent_and_comes_with_more(self) -> None:
        """Its minimum is known to nobody else; the others' rounds go on without it."""
        federation = Doubtful(7)
        federation.parties["clinic-1"].machine.requirements = Requirements(
            differential_privacy=True, aggregation=(registry.MASKING,), minimum_participants=7
        )
        federation.refusing = {"clinic-7": Reason.DATA_UNREADABLE}
        federation.play_and_persuade("clinic-7", 2, "round_started")
        assert federation.ended
        assert federation.coordinator.progress.completed_rounds == 3
        [declined] = federation.entries("declined")
        assert (declined["name"], declined["reason"]) == ("clinic-1", "policy_participants")
        assert (declined["round"], federation.parties["clinic-1"].joined[0][0]) == (1, 3)
        assert len(federation.entries("round_ended")[0]["contributors"]) == 5
        assert len(federation.entries("round_ended")[-1]["contributors"]) == 7

    def test_a_coordinator_that_says_more_than_there_are_gains_nothing(self) -> None:
        requirements = Requirements(
            differential_privacy=True, aggregation=(registry.MASKING,), minimum_participants=4
        )
        federation = Federation(5, requirements=requirements)
        federation.parties["clinic-5"].vanish_at = set()
        start = federation.coordinator._start_round

        def lie(participants: tuple[str, ...]) -> list:
            actions = start(participants)
            return [
                type(action)(action.name, action.data)
                if not hasattr(action, "data") or b"round start" not in action.data
                else type(action)(
                    action.name,
                    m.RoundStart.from_bytes(action.data)
                    .model_copy(update={"participants": EVERYBODY})
                    .to_bytes(),
                )
                for action in actions
                if hasattr(action, "data")
            ] + [action for action in actions if not hasattr(action, "data")]

        federation.coordinator._start_round = lie
        present = federation.coordinator._attendance
        for name in ("clinic-4", "clinic-5"):
            present.out(name, Reason.NO_SPACE)
        federation._server(federation.coordinator.start())
        for name in THREE:
            federation.connect(name)
        federation.play(timers=False)
        assert not any(party.released for party in federation.parties.values())


class TestEnding:
    def test_the_operator_may_end_a_session_that_waits(self) -> None:
        federation = Doubtful()
        federation.refusing = {"clinic-3": Reason.NOT_APPROVED}
        federation.begin()
        federation._server(federation.coordinator.stop())
        federation.play()
        assert federation.ended
        assert federation.coordinator.progress.completed_rounds == 0

    def test_nobody_is_waited_for_where_coming_back_would_not_help(self) -> None:
        federation = Federation(3)
        for party in federation.parties.values():
            party.budget_rounds = 1
        federation.run()
        assert federation.ended
        assert not federation.entries("waiting_for_return")
        assert {federation.coordinator._attendance.of(name) for name in THREE} == {Presence.RESTING}
        assert all(party.concluded is not None for party in federation.parties.values())

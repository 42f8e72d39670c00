"""The coordinator dies at any moment and goes on from its store: real machines, real store, real files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.session import actions as client_actions
from fedapt_client.session.closing import in_order
from fedapt_client.session.own_model import OwnModel, PastRounds
from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.protocol import messages as m
from fedapt_server.archive.store import SessionStore
from fedapt_server.session import actions as server
from fedapt_server.session.machine import CoordinatorSession
from fedapt_server.session.progress import Progress
from fedapt_server.session.states import State
from tests.protocol.federation import Federation
from tests.protocol.test_sessions import expected_model


class Crash(Exception):
    """The coordinator's power is cut."""


class Mortal(Federation):
    """A federation whose coordinator keeps a store and dies when told to.

    ``dies`` is asked before each of its actions, with the number of the action and the action itself.
    """

    def __init__(self, n: int, store: SessionStore, **plan: object) -> None:
        super().__init__(n, **plan)
        self.store = store
        self.store.create(self.configuration, self.seeds)
        self.dies: Callable[[int, server.Action], bool] = lambda number, action: False
        self.count = 0
        self.deaths = 0

    def _server(self, actions: list[server.Action]) -> None:
        for action in actions:
            self.count += 1
            if self.dies(self.count, action):
                raise Crash
            if isinstance(action, server.Keep):
                self.store.keep(self.configuration.session, action.progress)
            super()._server([action])

    def revive(self) -> None:
        """Start the coordinator anew from what is on disk; institutions notice that it was away."""
        self.deaths += 1
        self._to_institutions.clear()
        self.timer = None
        stored = self.store.find(self.configuration.session)
        assert stored is not None
        assert stored.key_seeds == self.seeds
        assert stored.configuration == self.configuration
        log = self.logs[COORDINATOR]
        begun = bool(log.bodies("session_started"))
        self.coordinator = CoordinatorSession(
            stored.configuration,
            stored.key_seeds,
            self.coordinator_identity,
            log.highest_heads(),
            stored.progress if begun else None,
        )
        ends = log.bodies("round_ended")
        self.ended = stored.progress.ended
        self._server(self.coordinator.start((ends[-1]["round"], ends[-1]["attempt"]) if ends else None))
        for name in self.parties:
            self.parties[name].connected = False
            self.connect(name)

    def run_through(self) -> None:
        """Run to the end, reviving the coordinator whenever it dies."""
        step = self.run
        for _ in range(50):
            try:
                step()
            except Crash:
                step = self._again
            else:
                return
        raise AssertionError("the coordinator dies for ever")

    def _again(self) -> None:
        self.revive()
        self.play()


def assert_sound(federation: Mortal) -> None:
    """What must hold wherever the coordinator died."""
    progress = federation.coordinator.progress
    rounds = federation.logs[COORDINATOR].bodies("round_ended")
    places = [(body["round"], body["attempt"]) for body in rounds]
    assert places == [(record.round, record.attempt) for record in progress.records], "a round is logged once"
    assert in_order(progress.records)
    completed = [body["round"] for body in rounds if body["status"] == "completed"]
    assert len(set(completed)) == len(completed) == progress.completed_rounds
    if not federation.configuration.blind:
        federation.log = [server.Log("round_ended", body) for body in rounds]
        assert np.abs(progress.model - expected_model(federation)).max() < 1e-4
    for party in federation.parties.values():
        assert len(set(party.released)) == len(party.released), "an update was released twice"
        for body in rounds:
            if party.name in body["contributors"]:
                assert body["round"] in party.released
    stored = federation.store.finished()
    assert stored is not None
    assert np.array_equal(stored.progress.model, progress.model)
    assert stored.progress.records == progress.records
    assert federation.store.unfinished() is None


def once(number: int) -> Callable[[int, server.Action], bool]:
    return lambda count, action: count == number


@pytest.mark.slow  # tests/world and tests/hostile/test_restarts.py end it at some of them
def test_every_moment_of_a_session(tmp_path: Path) -> None:
    """The coordinator dies before its first action, before its second, and so on to the last."""
    for moment in range(1, 400):
        (folder := tmp_path / str(moment)).mkdir()
        federation = Mortal(3, SessionStore(folder), rounds=1)
        federation.dies = once(moment)
        federation.run_through()
        assert_sound(federation)
        if not federation.deaths:
            break
        assert federation.deaths == 1
    else:
        raise AssertionError("a session of one round has fewer actions than that")
    assert moment > 50


@settings(max_examples=12, deadline=None)
@given(
    moments=st.sets(st.integers(1, 200), min_size=1, max_size=4),
    vanish=st.dictionaries(
        st.sampled_from(["clinic-1", "clinic-2", "clinic-4"]),
        st.sets(st.tuples(st.integers(1, 3), st.sampled_from(registry.PHASES[registry.MASKING])), max_size=2),
    ),
)
@pytest.mark.slow  # tests/world does that and more
def test_deaths_and_vanishing_institutions(
    tmp_path_factory: pytest.TempPathFactory,
    moments: set[int],
    vanish: dict[str, set[tuple[int, Phase]]],
) -> None:
    federation = Mortal(5, SessionStore(tmp_path_factory.mktemp("store")), rounds=3)
    for name, when in vanish.items():
        federation.parties[name].vanish_at = set(when)
    federation.dies = lambda count, action: count in moments
    federation.run_through()
    assert_sound(federation)


@pytest.mark.parametrize("moment", [9, 14, 26, 41])
def test_a_blind_coordinator(tmp_path: Path, moment: int) -> None:
    federation = Mortal(3, SessionStore(tmp_path), rounds=2, secure_aggregation=registry.CKKS)
    federation.dies = once(moment)
    federation.run_through()
    assert_sound(federation)
    assert federation.deaths == 1
    models = {party.concluded.model.tobytes() for party in federation.parties.values() if party.concluded}
    assert len(models) == 1


def test_an_interrupted_round_is_attempted_anew_and_released_updates_are_burned(tmp_path: Path) -> None:
    federation = Mortal(5, SessionStore(tmp_path), rounds=2)

    def first_unmask(count: int, action: server.Action) -> bool:
        return (
            not federation.deaths and isinstance(action, server.Log) and action.body.get("phase") == "unmask"
        )

    federation.dies = first_unmask
    federation.run_through()
    assert_sound(federation)
    rounds = federation.logs[COORDINATOR].bodies("round_ended")
    # All five updates had left in round 1, and shares may have: there is no second attempt at it.
    assert [(b["round"], b["attempt"], b["status"]) for b in rounds] == [
        (1, 1, "aborted"),
        (2, 1, "completed"),
    ]
    assert rounds[0]["detail"] == "the coordinator was restarted"
    assert all(party.released == [1, 2] for party in federation.parties.values())
    [resumed] = federation.logs[COORDINATOR].bodies("session_resumed")
    assert (resumed["round"], resumed["attempt"], resumed["interrupted"]) == (1, 1, True)


def test_before_anything_was_released_no_round_is_lost(tmp_path: Path) -> None:
    federation = Mortal(5, SessionStore(tmp_path), rounds=2)
    federation.dies = lambda count, action: (
        not federation.deaths and isinstance(action, server.Log) and action.body.get("phase") == "share"
    )
    federation.run_through()
    assert_sound(federation)
    rounds = federation.logs[COORDINATOR].bodies("round_ended")
    assert [(b["round"], b["attempt"], b["status"]) for b in rounds] == [
        (1, 1, "aborted"),
        (1, 2, "completed"),
        (2, 1, "completed"),
    ]


def test_whoever_was_away_at_the_end_gets_the_model_later(tmp_path: Path) -> None:
    federation = Mortal(4, SessionStore(tmp_path), rounds=1)
    late = federation.parties["clinic-2"]
    late.vanish_at = {(1, Phase.UNMASK)}
    reconnect = federation.connect

    def connect(name: str) -> None:
        if late.vanish_at or name != late.name:
            reconnect(name)  # once it has vanished it stays away

    federation.connect = connect  # type: ignore[method-assign]
    federation.run_through()
    assert federation.coordinator.state is State.ENDED
    assert late.concluded is None
    federation.connect = reconnect  # type: ignore[method-assign]
    federation.ended = False
    federation.revive()  # also by a coordinator that was restarted since
    federation.ended = False
    federation.connect("clinic-2")
    federation.play()
    assert late.concluded is not None
    assert np.array_equal(late.concluded.model, federation.coordinator.progress.model)
    [body] = federation.logs["clinic-2"].bodies("session_closed")
    assert body["missing"] == ["clinic-2"]


def test_what_was_told_about_the_end_stays_true(tmp_path: Path) -> None:
    """The coordinator dies after it has told how the session ended, and before anybody has signed that."""
    federation = Mortal(4, SessionStore(tmp_path), rounds=2)
    for name in ("clinic-1", "clinic-2"):
        federation.parties[name].budget_rounds = 1  # too few remain for round 2: the session ends early
    told: list[bytes] = []

    def dies(count: int, action: server.Action) -> bool:
        if isinstance(action, server.SendTo) and b"session end" in action.data:
            told.append(action.data)
        return len(told) == 2 and not federation.deaths

    federation.dies = dies
    federation.run_through()
    assert federation.deaths == 1
    assert len(told) > 2
    assert_sound(federation)
    assert len({m.SessionEnd.from_bytes(data).rounds for data in told}) == 1


class TestStore:
    def test_a_second_session_waits_for_the_first(self, tmp_path: Path) -> None:
        federation = Mortal(3, SessionStore(tmp_path))
        other = federation.next_session(bytes(16)).configuration
        with pytest.raises(InvalidInput, match="has not ended"):
            federation.store.create(other, federation.seeds)

    def test_it_comes_back_as_it_was_kept(self, tmp_path: Path) -> None:
        federation = Mortal(3, SessionStore(tmp_path), rounds=2, secure_aggregation=registry.CKKS)
        federation.run()
        kept: Progress = federation.coordinator.progress
        found = SessionStore(tmp_path).finished()
        assert found is not None
        for name in (
            "model_id",
            "number",
            "attempt",
            "records",
            "last_end",
            "sealed_sums",
            "group",
            "signed",
        ):
            assert getattr(found.progress, name) == getattr(kept, name), name
        assert np.array_equal(found.progress.model, kept.model)
        assert len(found.progress.sealed_sums) == 2
        assert found.progress.ended

    def test_only_the_present_model_is_kept(self, tmp_path: Path) -> None:
        federation = Mortal(3, SessionStore(tmp_path), rounds=3)
        federation.run()
        assert len(list((tmp_path / "sessions").iterdir())) == 1

    @pytest.mark.parametrize("what", ["changed", "missing", "empty"])
    def test_a_damaged_model_is_named(self, tmp_path: Path, what: str) -> None:
        federation = Mortal(3, SessionStore(tmp_path))
        [path] = (tmp_path / "sessions").iterdir()
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        if what == "missing":
            path.unlink()
        else:
            path.write_bytes(bytes(data) if what == "changed" else b"")
        with pytest.raises(InvalidInput, match=r"store is damaged .* from the same backup"):
            federation.store.unfinished()

    def test_no_secret_shows(self, tmp_path: Path) -> None:
        federation = Mortal(3, SessionStore(tmp_path))
        stored = federation.store.unfinished()
        assert stored is not None
        assert federation.seeds[0].hex() not in repr(stored)
        assert repr(federation.seeds[0]) not in repr(stored)
        assert (tmp_path / "sessions.sqlite").stat().st_mode & 0o077 == 0
        assert (tmp_path / "sessions").stat().st_mode & 0o077 == 0


class TestLinesThatACrashKeptOut:
    """A model is durable before its line is, and shares leave before anybody knows that no sum will come."""

    def lines(self, actions: list) -> list[tuple[str, int]]:
        return [(one.type, one.body["round"]) for one in actions if isinstance(one, client_actions.Log)]

    def test_of_a_verified_sum(self) -> None:
        federation = Federation(5, rounds=1)
        federation.run()
        party = federation.parties["clinic-1"]
        written = federation.logs["clinic-1"].bodies("verified_sum")
        identity = federation.identities["clinic-1"]
        again = OwnModel(federation.configuration, identity, party.past)
        [line, said] = again.restate()
        assert (line.type, line.body) == ("verified_sum", written[0])
        assert isinstance(said, client_actions.Send)
        assert self.lines(again.restate()) == [], "once"
        noted = replace(party.past, noted=frozenset({("verified_sum", 1, 1)}))
        assert self.lines(OwnModel(federation.configuration, identity, noted).restate()) == []

    def test_of_a_sum_that_has_not_come(self) -> None:
        federation = Federation(5, rounds=1)
        federation.run()
        [opening] = federation.parties["clinic-1"].past.openings
        identity = federation.identities["clinic-1"]
        lost = PastRounds(openings=(opening,), newest=(1, 1))
        again = OwnModel(federation.configuration, identity, lost)
        assert self.lines(again.restate()) == [("unresolved", 1)]
        assert again.restate() == again.note_lost(opening.context) == [], "once"
        noted = replace(lost, noted=frozenset({("unresolved", 1, 1)}))
        assert OwnModel(federation.configuration, identity, noted).restate() == []

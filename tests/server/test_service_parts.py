"""The parts of the service: when a session begins, status and figures, who gets a finished model."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fedapt_crypto import domain_keys
from fedapt_crypto.errors import InvalidInput, Unavailable
from fedapt_secure.cli.work.server_model import write_bundle
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.log.heads import RoundRecord
from fedapt_secure.protocol import messages as m
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.session import SessionConfiguration
from fedapt_secure.protocol.stated import SumStatement
from fedapt_server.archive import finished
from fedapt_server.archive.starting import new_configuration, reason_to_wait
from fedapt_server.archive.store import SessionStore
from fedapt_server.metrics import Metrics
from fedapt_server.ports.health_port import LOOPBACK, HealthPort
from fedapt_server.refusal import Refusal
from fedapt_server.status import Doing, Status
from tests.protocol.federation import Federation
from tests.support.offices import Office

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROUND = {"round": 2, "attempt": 1, "phase": "advertise", "participants": ["clinic-1", "clinic-2"]}
ENDED = ROUND | {"status": "completed", "bytes_up": 10, "bytes_down": 20}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def plan_of(office: Office, **changes: object) -> SessionPlan:
    path = office.folder.path / "session.yaml"
    plan = build(SessionPlan, read_yaml(path), source="session.yaml")
    return plan.model_copy(update={"domains": ("ink", "chalk"), **changes})


class TestStarting:
    def test_what_is_missing_is_said(self, office: Office) -> None:
        plan = plan_of(office)
        assert "no session.yaml" in str(reason_to_wait(None, None, None, again=False))
        assert "0 institutions are on the roster, a session needs 3" in str(
            reason_to_wait(plan, None, None, again=False)
        )
        for number in (1, 2):
            office.enrol(f"clinic-{number}")
        roster = office.folder.roster()
        assert "2 institutions are on the roster" in str(reason_to_wait(plan, roster, None, again=False))
        office.enrol("clinic-3", "chalk")
        roster = office.folder.roster()
        assert reason_to_wait(plan, roster, None, again=False) is None
        assert "--new-session" in str(reason_to_wait(plan, roster, plan, again=False))
        assert reason_to_wait(plan, roster, plan, again=True) is None
        assert reason_to_wait(plan_of(office, rounds=3), roster, plan, again=False) is None

    def test_one_institution_a_domain_needs_domains(self, office: Office) -> None:
        sampled = plan_of(office, participation="one-per-domain", domains=("ink", "chalk", "print"))
        for number, domain in enumerate(("ink", "chalk", "ink"), start=1):
            office.enrol(f"clinic-{number}", domain)
        roster = office.folder.roster()
        said = str(reason_to_wait(sampled, roster, None, again=False))
        assert (
            "institutions of 2 domains are enrolled, a session with one institution a domain needs 3" in said
        )
        with pytest.raises(InvalidInput, match="set participation to all"):
            new_configuration(sampled, roster, None)
        office.enrol("clinic-4", "print")
        roster = office.folder.roster()
        assert reason_to_wait(sampled, roster, None, again=False) is None
        assert new_configuration(sampled, roster, None)[0].cohort_size == 3

    def test_a_session_is_made_of_plan_and_roster(self, office: Office) -> None:
        for number in (1, 2, 3):
            office.enrol(f"clinic-{number}", "ink" if number < 3 else "chalk")
        roster = office.folder.roster()
        configuration, seeds = new_configuration(plan_of(office), roster, None)
        assert configuration.roster == roster
        assert len(seeds) == 2
        assert configuration.key_commitments == tuple(
            domain_keys.commitment(seed, configuration.session, index) for index, seed in enumerate(seeds)
        )
        assert new_configuration(plan_of(office), roster, None)[0].session != configuration.session
        with pytest.raises(InvalidInput, match="list all of them under 'domains'"):
            new_configuration(plan_of(office, domains=("ink",)), roster, None)

    def test_messages_that_the_coordinator_does_not_take_are_no_session(self, office: Office) -> None:
        for number in (1, 2, 3):
            office.enrol(f"clinic-{number}", "ink")
        roster = office.folder.roster()
        towers = {"method": "fedavg", "differential_privacy": False, "expected": None}
        large = plan_of(office, **towers, tower_values=87_849_216)
        with pytest.raises(InvalidInput) as refused:
            new_configuration(large, roster, None)
        needed = int(re.findall(r"set it to (\d+) or more", str(refused.value))[0])
        assert 4 * 87_849_216 < needed < 5 * 87_849_216
        assert "have every institution set max_message_bytes in its policy likewise" in str(refused.value)
        assert new_configuration(large, roster, None, needed)[0].needed_message_bytes == needed
        with pytest.raises(InvalidInput, match=r"max_message_bytes in server\.yaml takes"):
            new_configuration(large, roster, None, needed - 1)
        larger = plan_of(office, **towers, tower_values=1 << 28)
        with pytest.raises(InvalidInput, match="and 511 MiB are possible: choose a smaller model"):
            new_configuration(larger, roster, None, 512 << 20)


class TestFinishedModel:
    def begun(self, office: Office, **changes: object) -> tuple[SessionStore, SessionConfiguration]:
        for number in (1, 2, 3):
            office.enrol(f"clinic-{number}")
        store = SessionStore(office.folder.path)
        plan = plan_of(office, **changes)
        stored = store.create(*new_configuration(plan, office.folder.roster(), None))
        return store, stored.configuration

    def ended(self, store: SessionStore, configuration: SessionConfiguration, rounds: int = 1) -> None:
        stored = store.unfinished()
        assert stored is not None
        records = tuple(
            RoundRecord(round=n, attempt=1, status="completed", context=bytes(32), transcript=bytes(32))
            for n in range(1, rounds + 1)
        )
        progress = stored.progress
        statement = SumStatement(
            session=configuration.session,
            configuration_hash=configuration.hash,
            round=max(rounds, 1),
            attempt=1,
            transcript=bytes(32),
            sum_hash=bytes(32),
            sum_tag=bytes(8),
            model_before=bytes(32),
            model_after=progress.model_id,
        )
        stated = {"stated": statement if rounds else None, "statements": {}}
        store.keep(configuration.session, replace(progress, records=records, ended=True, **stated))

    def test_a_session_without_a_round_has_none_and_hides_no_earlier_one(self, office: Office) -> None:
        store, first = self.begun(office)
        self.ended(store, first)
        second, _ = new_configuration(first.plan, office.folder.roster(), None)
        store.create(second, tuple(bytes(32) for _ in second.key_commitments))
        self.ended(store, second, rounds=0)
        identity = office.folder.identity()
        asked = finished.answer(
            store.find(second.session), m.ModelRequest(name="clinic-1", session=second.session), identity
        )
        assert asked == m.NoModel(reason="no_round_completed")
        assert store.finished().configuration.session == second.session
        last = store.with_model()
        assert last is not None
        assert last.configuration.session == first.session

    def test_members_of_that_session_get_it_once_it_is_over(self, office: Office) -> None:
        store, configuration = self.begun(office)
        identity = office.folder.identity()
        ask = m.ModelRequest(name="clinic-2", session=configuration.session)
        early = finished.answer(store.find(configuration.session), ask, identity)
        assert isinstance(early, m.NoModel), "no key but its own before the end"
        self.ended(store, configuration)
        answer = finished.answer(store.finished(), ask, identity)
        assert isinstance(answer, m.FinishedModel)
        assert answer.configuration == configuration.to_bytes()
        assert m.SessionEnd.from_bytes(answer.end).key_seeds == store.finished().key_seeds
        stranger = finished.answer(store.finished(), m.ModelRequest(name="clinic-9"), identity)
        assert isinstance(stranger, m.NoModel)
        assert isinstance(finished.answer(None, ask, identity), m.NoModel)

    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            ({}, "bundle_for_coordinator: false"),
            ({"secure_aggregation": "ckks", "bundle_for_coordinator": True}, "(CKKS)"),
        ],
    )
    def test_a_coordinator_that_is_not_to_have_the_bundle_makes_none(
        self, office: Office, tmp_path: Path, plan: dict[str, object], said: str
    ) -> None:
        store, configuration = self.begun(office, **plan)
        with pytest.raises(InvalidInput, match="no such session that has ended"):
            write_bundle(office.folder.path, configuration.session.hex(), tmp_path / "bundle")
        self.ended(store, configuration)
        with pytest.raises(InvalidInput) as caught:
            write_bundle(office.folder.path, None, tmp_path / "bundle")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "bundle").exists()

    def test_a_blind_coordinator_has_none(self, office: Office) -> None:
        store, configuration = self.begun(office, secure_aggregation="ckks")
        self.ended(store, configuration)
        answer = finished.answer(store.finished(), m.ModelRequest(name="clinic-1"), office.folder.identity())
        assert isinstance(answer, m.NoModel)
        assert answer.reason == "never_known"


class TestStatus:
    def test_it_follows_the_log(self) -> None:
        status = Status()
        assert status.snapshot().state == "waiting"
        federation = Federation(3, rounds=5)
        status.take_up(federation.configuration, federation.coordinator.progress, NOW)
        assert (status.snapshot().state, status.snapshot().round) == ("gathering", None)
        assert status.snapshot().rounds == 5
        status.joined("clinic-1", NOW)
        status.note("round_started", ROUND, NOW)
        assert status.snapshot().doing["clinic-1"].what == "training"
        status.note("phase", {"round": 2, "phase": "share"}, NOW)
        assert status.snapshot().doing["clinic-1"].what == "aggregating"
        now = status.snapshot()
        assert (now.state, now.round, now.phase, now.connected) == ("round", 2, "share", ("clinic-1",))
        status.note("round_ended", ENDED, NOW)
        status.note("round_ended", ENDED | {"status": "aborted"}, NOW)
        status.gone("clinic-1", NOW)
        now = status.snapshot()
        assert (now.completed, now.aborted, now.phase, now.connected) == (1, 1, None, ())
        assert now.fields()["last_seen"] == {"clinic-1": "2026-11-23T12:00:00+00:00"}
        status.note("closing", {}, NOW)
        assert status.snapshot().state == "closing"
        status.note("session_ended", {}, NOW)
        assert status.snapshot().state == "ended"

    def test_what_it_shows_after_a_restart_is_what_happened(self) -> None:
        """After a restart it said `round 103 of None`, and counted completed rounds from nothing."""
        federation = Federation(3, rounds=200)
        records = tuple(
            RoundRecord(
                round=number,
                attempt=1,
                status="aborted" if number % 50 == 0 else "completed",
                context=bytes(32),
                transcript=None,
            )
            for number in range(1, 104)
        )
        progress = replace(federation.coordinator.progress, records=records, number=103, attempt=1)
        status = Status()
        minute = timedelta(minutes=1)
        # The night between two of the ends is not the usual time of a round.
        ends = [NOW - 10 * minute * 60, NOW - 4 * minute, NOW - 3 * minute, NOW - 2 * minute, NOW - minute]
        status.take_up(federation.configuration, progress, NOW, ends)
        now = status.snapshot()
        assert (now.round, now.rounds, now.completed, now.aborted) == (103, 200, 101, 2)
        assert now.ends == (NOW + 96 * minute).isoformat(timespec="seconds")
        assert {one.what for one in now.doing.values()} == {"away"}

    def test_what_institutions_are_doing(self) -> None:
        federation, status = Federation(3), Status()
        status.take_up(federation.configuration, federation.coordinator.progress, NOW)
        status.note("connected", {"name": "clinic-1"}, NOW)
        later = NOW + timedelta(minutes=5)
        status.says("clinic-1", "approval", 0, NOW)
        assert status.snapshot().doing["clinic-1"].what == "waits for its people's approval"
        status.says("clinic-1", "encoding", 10, NOW)
        status.says("clinic-1", "encoding", 40, later)
        doing = status.snapshot().doing["clinic-1"]
        assert (doing.what, doing.percent, doing.since) == ("encoding images", 40, NOW)
        status.note("left", {"name": "clinic-2", "reason": "no_space"}, NOW)
        status.note("disconnected", {"name": "clinic-2"}, later)
        assert status.snapshot().doing["clinic-2"] == Doing("out", NOW, reason="no_space")
        status.note("waiting_for_return", {"names": ["clinic-2"]}, NOW)
        assert status.snapshot().state == "returning"
        status.note("ready", {"name": "clinic-2"}, later)
        assert status.snapshot().state == "gathering"
        assert status.snapshot().fields()["doing"]["clinic-2"]["what"] == "ready"


class TestHealthPort:
    def get(self, port: int, path: str, method: str = "GET") -> tuple[int, str]:
        connection = HTTPConnection(LOOPBACK, port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def test_health_and_figures(self) -> None:
        status, metrics = Status(), Metrics()
        port = HealthPort(0, status.snapshot, metrics.text)
        try:
            metrics.note("round_started", ROUND, 10.0)
            metrics.note("round_ended", ENDED, 12.0)
            metrics.note("refused", {}, 13.0)
            metrics.refused(Refusal.TOO_SLOW)
            metrics.connected(3)
            assert self.get(port.port, "/healthz")[0] == 503, "it has not begun to serve"
            status.serving = True
            assert self.get(port.port, "/healthz")[0] == 200
            status.failed = True
            assert self.get(port.port, "/healthz")[0] == 503
            code, text = self.get(port.port, "/metrics")
            assert code == 200
            for line in (
                'fedapt_rounds_total{status="completed"} 1.0',
                'fedapt_rounds_total{status="aborted"} 0.0',
                "fedapt_round_duration_seconds_sum 2.0",
                'fedapt_protocol_bytes_total{direction="up"} 10.0',
                'fedapt_connections_refused_total{reason="too_slow"} 1.0',
                "fedapt_connected_institutions 3.0",
                "fedapt_messages_refused_total 1.0",
            ):
                assert line in text.splitlines()
            assert self.get(port.port, "/other")[0] == 404
            assert self.get(port.port, "/healthz", "POST")[0] == 405
            with pytest.raises(Unavailable, match="change health_port"):
                HealthPort(port.port, status.snapshot, metrics.text)
        finally:
            port.close()

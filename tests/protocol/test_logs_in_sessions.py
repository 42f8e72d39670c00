"""Logs in whole sessions: heads witnessed by all, a record that all sign, and rollbacks that are refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_client.session.requirements import Requirements
from fedapt_client.session.states import State as ClientState
from fedapt_crypto.errors import ContextMismatch, RollbackDetected, VerificationFailed
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.secagg import registry
from fedapt_crypto.secagg.scheme import Phase
from fedapt_secure.log.heads import (
    RoundRecord,
    WitnessedHead,
    check_countersigned,
    read_closed,
    read_witnessed,
    sign_head,
    transcript_digest,
    witnessed_body,
)
from fedapt_secure.log.line import LogHead
from fedapt_secure.protocol import messages as m
from tests.protocol.federation import Federation
from tests.protocol.memory_log import MemoryLog
from tests.support.examples import examples

ALL = registry.PHASES[registry.MASKING]


def witnessed_by(log: MemoryLog) -> list[WitnessedHead]:
    return [head for body in log.bodies("witnessed") for head in read_witnessed(body)[0]]


def assert_honest(federation: Federation) -> None:
    """What holds of all logs of an honest session, however it went."""
    roster, logs = federation.roster, federation.logs
    for log in logs.values():
        for body in log.bodies("witnessed"):
            heads, mark = read_witnessed(body)
            for head in heads:
                head.check(roster)
                assert logs[head.signed.party].entries[head.signed.seq].hash == head.signed.hash
            if mark is not None:
                signed = tuple(head.signed for head in heads)
                check_countersigned(roster, federation.configuration.session, body["round"], signed, mark)
    closed = [body for log in logs.values() for body in log.bodies("session_closed")]
    assert all(body == closed[0] for body in closed)
    [_] = logs[COORDINATOR].bodies("session_closed")
    statement, signatures, missing = read_closed(closed[0])
    assert {entry.party for entry in signatures} | set(missing) == logs.keys()
    for entry in signatures:
        statement.check(roster, entry.party, entry.signature)
    records = [
        RoundRecord(
            round=body["round"],
            attempt=body["attempt"],
            status=body["status"],
            context=bytes.fromhex(body["context"]),
            transcript=bytes.fromhex(body["transcript"]) if body["transcript"] else None,
        )
        for body in logs[COORDINATOR].bodies("round_ended")
    ]
    assert statement.transcript == transcript_digest(records)
    by_place = {(record.round, record.attempt): record for record in records}
    for name in roster.names:
        for body in logs[name].bodies("round_ended"):
            record = by_place[body["round"], body["attempt"]]
            assert (body["status"], body["context"]) == (record.status, record.context.hex())
            if body["transcript"] is not None:
                assert body["transcript"] == record.transcript.hex()
            if record.status == "completed":
                assert body["transcript"] is not None


@pytest.mark.parametrize("scheme", registry.PHASES)
def test_everyone_witnesses_everyone(scheme: str) -> None:
    requirements = None
    if scheme == registry.NONE:
        requirements = Requirements(differential_privacy=True, aggregation=(scheme,), minimum_participants=2)
    federation = Federation(4, rounds=2, secure_aggregation=scheme, requirements=requirements)
    federation.run()
    assert_honest(federation)
    everyone = {*federation.roster.names, COORDINATOR}
    for name in federation.roster.names:
        seen = {(head.round, head.signed.party) for head in witnessed_by(federation.logs[name])}
        assert seen == {(number, one) for number in (1, 2, 3) for one in everyone}
        assert federation.parties[name].machine.state is ClientState.ENDED
        assert federation.parties[name].refused == []
    seen = {(head.round, head.signed.party) for head in witnessed_by(federation.logs[COORDINATOR])}
    assert seen == {(number, one) for number in range(4) for one in federation.roster.names}


@pytest.mark.parametrize("name", ["clinic-1", COORDINATOR])
def test_a_head_covers_everything_that_was_logged_before(name: str) -> None:
    federation = Federation(3, rounds=1)
    federation.run()
    types = [entry.type for entry in federation.logs[name].entries]
    holder = "clinic-2" if name == COORDINATOR else COORDINATOR
    heads = {h.round: h.signed.seq for h in witnessed_by(federation.logs[holder]) if h.signed.party == name}
    if name == COORDINATOR:
        assert types[: heads[1] + 1][-2:] == ["round_ended", "witnessed"]
        assert types[: heads[2] + 1][-2:] == ["witnessed", "session_closed"]
    else:
        assert types[heads[1]] == "round_joined"
        assert "round_ended" in types[: heads[2] + 1]
        assert types[heads[2] + 1 :] == ["witnessed", "session_closed"]


@settings(max_examples=examples(8, 25), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"clinic-{i}" for i in range(1, 6)]),
        st.sets(st.tuples(st.integers(1, 3), st.sampled_from(ALL)), max_size=3),
    ),
    st.sets(st.sampled_from([f"clinic-{i}" for i in range(1, 6)]), max_size=2),
)
def test_whoever_vanishes_or_restarts_whenever(
    vanish: dict[str, set[tuple[int, Phase]]], restarts: set[str]
) -> None:
    federation = Federation(5)
    for name, moments in vanish.items():
        federation.parties[name].vanish_at = set(moments)
        federation.parties[name].restarts = name in restarts
    federation.run()
    assert_honest(federation)
    for party in federation.parties.values():
        unresolved = {"UnresolvedExecution", "quit: UnresolvedExecution"}  # twice too few to unmask
        assert {*party.refused} <= {"UnexpectedMessage", "TooFewParticipants", "ContextMismatch", *unresolved}
        assert party.machine.state is ClientState.ENDED


class TestClosing:
    def test_who_is_not_there_is_listed_as_missing(self) -> None:
        federation = Federation(5)
        connect = federation.connect
        federation.connect = lambda name: None if name == "clinic-5" else connect(name)
        federation.run()
        assert_honest(federation)
        [body] = federation.logs["clinic-1"].bodies("session_closed")
        assert body["missing"] == ["clinic-5"]

    def test_one_whose_budget_is_spent_takes_the_model_and_signs(self) -> None:
        federation = Federation(5)
        federation.parties["clinic-2"].budget_rounds = 1
        federation.run()
        assert_honest(federation)
        [body] = federation.logs["clinic-2"].bodies("session_closed")
        assert body["missing"] == []
        assert federation.parties["clinic-2"].concluded is not None
        assert federation.parties["clinic-2"].machine.state is ClientState.ENDED

    @pytest.mark.parametrize("again", [True, False])
    def test_one_whose_connection_breaks_after_signing(self, again: bool) -> None:
        """It comes back and signs again, without another evaluation, or its first signature counts."""
        federation = Federation(4, rounds=1)
        deliver, broken = federation._deliver, []

        def deliver_and_break(name: str, data: bytes) -> None:
            deliver(name, data)
            if b"session end" in data and name == "clinic-2" and not broken:
                broken.append(federation.parties[name].concluded)
                federation.parties[name].concluded = None
                federation.disconnect(name)
                if again:
                    federation._to_reconnect.append(name)

        federation._deliver = deliver_and_break
        federation._to_institutions.clear()
        hold = federation.parties["clinic-4"].machine
        conclude = hold.concluded
        late: list[object] = []
        if again:
            # The others' signatures come after it is back, so that the session is still open then.
            hold.concluded = lambda bundle: late.append(bundle) or []
        run_out = federation.coordinator.timeout

        def timeout() -> list:
            if late:
                return federation._institution(federation.parties["clinic-4"], conclude(late.pop())) or []
            return run_out()

        federation.coordinator.timeout = timeout
        federation.run()
        assert_honest(federation)
        assert broken[0] is not None
        assert federation.parties["clinic-2"].concluded is None, "not evaluated twice"
        [body] = federation.logs[COORDINATOR].bodies("session_closed")
        assert body["missing"] == []
        assert len(federation.logs["clinic-2"].bodies("session_closed")) == again

    def test_who_does_not_sign_in_time_is_missing_and_nobody_waits_for_it(self) -> None:
        federation = Federation(4, rounds=1)
        machine = federation.parties["clinic-3"].machine
        machine.concluded = lambda bundle: setattr(machine, "_state", ClientState.CLOSING) or []
        federation.run()
        [body] = federation.logs[COORDINATOR].bodies("session_closed")
        assert body["missing"] == ["clinic-3"]
        assert federation.ended
        assert federation.logs["clinic-1"].bodies("session_closed") == [body]

    def test_a_signature_on_something_else_does_not_count(self) -> None:
        federation = Federation(4, rounds=1)
        closing = federation.parties["clinic-3"].machine._closing
        sign = closing.sign

        def sign_another(identity):
            right = closing.statement
            closing.statement = right.model_copy(update={"model": bytes(32)})
            try:
                return sign(identity)
            finally:
                closing.statement = right

        closing.sign = sign_another
        federation.run()
        [body] = federation.logs[COORDINATOR].bodies("session_closed")
        assert body["missing"] == ["clinic-3"]
        assert federation.entries("refused")[0]["error"] == "VerificationFailed"

    @pytest.mark.parametrize(
        "change", [{"transcript": bytes(32)}, {"status": "aborted"}, {"context": bytes(32)}, {"attempt": 2}]
    )
    def test_another_account_of_a_round_is_not_signed(self, change: dict) -> None:
        federation = Federation(4, rounds=2)
        finish = federation.coordinator._close

        def close() -> list:
            first, *others = federation.coordinator.progress.records
            federation.coordinator._keep(records=(first.model_copy(update=change), *others))
            return finish()

        federation.coordinator._close = close
        federation.run()
        [body] = federation.logs[COORDINATOR].bodies("session_closed")
        assert body["missing"] == list(federation.roster.names)
        for party in federation.parties.values():
            assert party.refused == ["ContextMismatch", "quit: ContextMismatch"]
            assert party.concluded is None

    @pytest.mark.parametrize("what", ["missing", "signatures", "statement", "heads", "countersignature"])
    def test_a_record_that_does_not_hold_is_not_kept(self, what: str) -> None:
        def tamper(name: str, data: bytes) -> bytes:
            if name != "clinic-1" or b"session closed" not in data:
                return data
            closed = m.SessionClosed.from_bytes(data)
            other = closed.statement.model_copy(update={"model": bytes(32)})
            changes = {
                "missing": ("clinic-2",),
                "signatures": closed.signatures[:-1],
                "statement": other,
                "heads": closed.heads[:-1],
                "countersignature": bytes(64),
            }
            return closed.model_copy(update={what: changes[what]}).to_bytes()

        federation = Federation(3, rounds=1)
        federation.tamper = tamper
        kept = what in ("heads", "countersignature")
        with contextlib.suppress(ContextMismatch, VerificationFailed):
            federation.run()
        log = federation.logs["clinic-1"]
        assert len(log.bodies("session_closed")) == kept, "signatures hold, only the heads do not"
        assert 2 not in {body["round"] for body in log.bodies("witnessed")}


class TestRollback:
    """Two sessions of the same parties; in between, somebody's log goes back."""

    def two(self, n: int = 3) -> tuple[Federation, Federation]:
        """A session that is over, and the next one with the same keys and logs."""
        first = Federation(n, rounds=1)
        first.run()
        second = first.next_session(bytes(range(1, 17)))
        return first, second

    def cut(self, log: MemoryLog, lines: int) -> None:
        del log.entries[-lines:]
        del log.lines[-lines:]

    def test_honest_parties_go_on(self) -> None:
        _, second = self.two()
        second.run()
        assert second.ended
        assert [body["status"] for body in second.entries("round_ended")] == ["completed"]
        assert not second.entries("refused")

    def test_an_institution_that_went_back_refuses_by_itself(self) -> None:
        _, second = self.two()
        self.cut(second.logs["clinic-2"], 5)
        with pytest.raises(RollbackDetected, match="clinic-2"):
            second.run()

    def test_a_coordinator_that_went_back_stops(self) -> None:
        _, second = self.two()
        self.cut(second.logs[COORDINATOR], 5)
        second = second.next_session(bytes(range(2, 18)))
        with pytest.raises(RollbackDetected, match="coordinator lacks line"):
            second.run()

    def test_institutions_leave_a_coordinator_that_went_back_and_goes_on(self) -> None:
        _, second = self.two()
        self.cut(second.logs[COORDINATOR], 5)
        second = second.next_session(bytes(range(2, 18)))
        second.logs[COORDINATOR].check_holds = lambda heads: None
        second.run()
        assert not second.entries("round_started")
        for party in second.parties.values():
            assert party.refused == ["RolledBackLog", "quit: RolledBackLog"]
        for body in second.entries("left"):
            assert body["reason"] == "your_log_behind"

    def test_a_coordinator_whose_log_forked_learns_it_from_what_institutions_bring(self) -> None:
        _, second = self.two()
        log = second.logs[COORDINATOR]
        self.cut(log, 5)
        for _ in range(9):
            log.write("other", {})
        second = second.next_session(bytes(range(2, 18)))
        with pytest.raises(RollbackDetected, match="coordinator lacks line"):
            second.run()

    def test_both_went_back_and_a_third_one_knows(self) -> None:
        """The coordinator and clinic-2 put old copies back; clinic-1 holds heads of both."""
        first = Federation(3, rounds=1)
        old = {name: list(first.logs[name].entries) for name in first.logs}
        first.run()
        second = first.next_session(bytes(range(1, 17)))
        for name in (COORDINATOR, "clinic-2"):
            second.logs[name].entries[:] = old[name]
            for _ in range(60):
                second.logs[name].write("other", {"history": 1})
        second = second.next_session(bytes(range(2, 18)))
        second.logs[COORDINATOR].check_holds = lambda heads: None  # a coordinator that would go on
        with pytest.raises(RollbackDetected, match="clinic-2"):
            second.run()

    def test_an_institution_that_hides_it_is_left_out(self) -> None:
        """Its software does not refuse; the coordinator and others see that its head is behind."""
        _, second = self.two(5)
        self.cut(second.logs["clinic-2"], 5)
        second.logs["clinic-2"].check_holds = lambda heads: None
        second.run()
        assert second.entries("left")[0]["name"] == "clinic-2"
        assert second.entries("refused")[0]["error"] == "RolledBackLog"
        [body] = second.entries("round_ended")
        assert "clinic-2" not in body["participants"]

    def test_one_that_hides_it_from_a_coordinator_that_cannot_know(self) -> None:
        """The coordinator's log is new; institutions that accept later bring the head that tells."""
        _, second = self.two(5)
        self.cut(second.logs["clinic-2"], 5)
        second.logs["clinic-2"].check_holds = lambda heads: None
        fresh = MemoryLog(COORDINATOR, second.coordinator_identity, id=bytes(16))
        fresh.check_holds = lambda heads: None
        second.logs = second.logs | {COORDINATOR: fresh}
        second = second.next_session(bytes(range(2, 18)))
        second.parties = {"clinic-2": second.parties["clinic-2"]} | second.parties
        second.run()
        assert [body["name"] for body in second.entries("left")] == ["clinic-2"]
        [refused] = second.entries("refused")
        assert refused["error"] == "RolledBackLog"
        assert "though others hold line" in refused["detail"]
        [body] = second.entries("round_ended")
        assert "clinic-2" not in body["participants"]

    def test_an_old_log_that_is_replayed_whole(self) -> None:
        first, second = self.two()
        old = MemoryLog("clinic-1", first.identities["clinic-1"])
        second.logs["clinic-1"] = old
        with pytest.raises(RollbackDetected, match="clinic-1"):
            second.run()


class TestWitnessing:
    """Within a session."""

    def test_a_first_payload_without_a_head_is_refused(self) -> None:
        federation = Federation(5, rounds=1)
        machine = federation.parties["clinic-3"].machine
        machine._witness.first_of_round = lambda configuration, message, head: message
        federation.run()
        [body] = federation.entries("round_ended")
        assert body["dropped"] == ["clinic-3"]
        assert federation.entries("refused")[0]["error"] == "ContextMismatch"

    @pytest.mark.parametrize("number", [0, 2])
    def test_a_head_that_was_signed_for_another_round_is_refused(self, number: int) -> None:
        federation = Federation(5, rounds=1)
        witness = federation.parties["clinic-3"].machine._witness

        def another(configuration, message, head):
            signed = sign_head(witness._identity, "clinic-3", configuration.session, number, head)
            return message.model_copy(update={"head": signed})

        witness.first_of_round = another
        federation.run()
        assert federation.entries("round_ended")[0]["dropped"] == ["clinic-3"]
        assert federation.entries("refused")[0]["error"] == "VerificationFailed"

    def test_a_log_that_goes_back_between_rounds_is_left_out(self) -> None:
        federation = Federation(5, rounds=2)
        witness = federation.parties["clinic-3"].machine._witness
        first = witness.first_of_round

        def behind(configuration, message, head):
            if message.round == 2:
                head = LogHead(head.log, 1, bytes(32))
            return first(configuration, message, head)

        witness.first_of_round = behind
        federation.run()
        assert federation.entries("round_ended")[1]["dropped"] == ["clinic-3"]
        assert federation.entries("refused")[0]["error"] == "RolledBackLog"

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ("another own head", "VerificationFailed"),
            ("another countersignature", "VerificationFailed"),
            ("no head of the coordinator", "ContextMismatch"),
            ("an older own head", "ContextMismatch"),
        ],
    )
    def test_what_does_not_hold_at_a_rounds_end(self, change: str, error: str) -> None:
        federation = Federation(3, rounds=2)
        session = federation.configuration.session

        def tamper(name: str, data: bytes) -> bytes:
            if name != "clinic-1" or b"round end" not in data:
                return data
            end = m.RoundEnd.from_bytes(data)
            heads = end.heads
            if change == "another own head":
                heads = tuple(h.model_copy(update={"seq": h.seq + 1}) for h in heads)
            if change == "no head of the coordinator":
                heads = heads[:-1]
            if change == "an older own head":
                own = heads[0]
                older = LogHead(own.log, own.seq - 1, bytes(32))
                identity = federation.identities["clinic-1"]
                heads = (sign_head(identity, "clinic-1", session, end.round, older), *heads[1:])
            mark = federation.coordinator_identity.sign(
                "witnessed heads",
                session,
                end.round,
                tuple((h.party, h.log, h.seq, h.hash, h.signature) for h in heads),
            )
            if change == "another countersignature":
                mark = bytes(64)
            return end.model_copy(update={"heads": heads, "countersignature": mark}).to_bytes()

        federation.tamper = tamper
        federation.run()
        assert federation.parties["clinic-1"].refused[:2] == [error, error]
        assert federation.parties["clinic-2"].refused == []
        rounds = {body["round"] for body in federation.logs["clinic-1"].bodies("witnessed")}
        assert rounds == {3}
        assert [body["status"] for body in federation.entries("round_ended")] == ["completed"] * 2

    @pytest.mark.parametrize("seq", [3, 500])
    def test_a_fork_is_kept_as_evidence(self, seq: int) -> None:
        """clinic-2 has signed a line that its log does not have; clinic-1 knows, and brings it."""
        federation = Federation(3, rounds=1)
        session, log = bytes(16), federation.logs["clinic-2"]
        for _ in range(10):
            log.write("phase", {})
        head = LogHead(log.id, seq, bytes(32))
        signed = sign_head(federation.identities["clinic-2"], "clinic-2", session, 1, head)
        federation.logs["clinic-1"].write("witnessed", witnessed_body(session, 1, [signed]))
        federation = federation.next_session(bytes(range(1, 17)))
        with pytest.raises(RollbackDetected, match=f"clinic-2 lacks line {seq}"):
            federation.run()
        if seq == 500:
            assert signed in [one.signed for one in witnessed_by(federation.logs[COORDINATOR])]

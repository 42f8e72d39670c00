"""What parties sign about logs: it holds, it decodes strictly, and nothing about it can be exchanged."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput, MalformedMessage, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_crypto.roster import COORDINATOR
from fedapt_crypto.seal import PUBLIC_KEY_BYTES
from fedapt_secure.log.heads import (
    CloseSignature,
    CloseStatement,
    RoundRecord,
    SignedHead,
    WitnessedHead,
    check_countersigned,
    closed_body,
    countersign,
    pack_rounds,
    read_closed,
    read_witnessed,
    sign_head,
    transcript_digest,
    unpack_rounds,
    witnessed_body,
)
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.reader import segments
from fedapt_secure.log.witness import MAX_LOGS, highest_heads
from tests.audit.logs import open_log, write
from tests.support.rosters import roster_of

SESSION = bytes(range(16))
COORDINATOR_IDENTITY = Identity.from_private_bytes(b"c" * 32)
IDENTITIES = {f"clinic-{i}": Identity.from_private_bytes(bytes([i]) * 32) for i in (1, 2, 3)}
ROSTER = roster_of(
    COORDINATOR_IDENTITY.public_key,
    [(name, one, bytes([i]) * PUBLIC_KEY_BYTES, 0) for i, (name, one) in enumerate(IDENTITIES.items())],
)


def head(name: str = "clinic-1", *, log: int = 1, seq: int = 5, round_number: int = 2) -> SignedHead:
    identity = IDENTITIES.get(name, COORDINATOR_IDENTITY)
    value = LogHead(bytes([log]) * 16, seq, bytes([seq % 256]) * 32)
    return sign_head(identity, name, SESSION, round_number, value)


STATEMENT = CloseStatement(
    session=SESSION, configuration=b"c" * 32, model=b"m" * 32, completed_rounds=3, transcript=b"t" * 32
)


class TestSignedHead:
    def test_holds(self) -> None:
        for name in (*IDENTITIES, COORDINATOR):
            head(name).check(ROSTER, SESSION, 2)
            WitnessedHead(session=SESSION, round=2, signed=head(name)).check(ROSTER)

    @pytest.mark.parametrize(
        "change",
        [
            {"party": "clinic-2"},
            {"party": COORDINATOR},
            {"party": "clinic-9"},
            {"log": bytes(16)},
            {"seq": 6},
            {"hash": bytes(32)},
            {"signature": bytes(64)},
        ],
    )
    def test_nothing_in_it_can_be_exchanged(self, change: dict) -> None:
        with pytest.raises(VerificationFailed):
            head().model_copy(update=change).check(ROSTER, SESSION, 2)

    @pytest.mark.parametrize(("session", "number"), [(bytes(16), 2), (SESSION, 3), (SESSION, 0)])
    def test_it_is_for_one_round_of_one_session(self, session: bytes, number: int) -> None:
        with pytest.raises(VerificationFailed):
            head().check(ROSTER, session, number)

    @given(st.binary(max_size=300))
    def test_rubbish_does_not_decode(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage):
            SignedHead.from_bytes(data)

    def test_bounds(self) -> None:
        fields = head().model_dump()
        for change in ({"seq": -1}, {"seq": 10**18}, {"log": bytes(15)}, {"party": "a/b"}, {"seq": True}):
            with pytest.raises(ValueError):
                SignedHead(**(fields | change))


class TestCountersigned:
    heads = (head("clinic-1"), head("clinic-2"), head(COORDINATOR))

    def signed(self, heads: tuple[SignedHead, ...], identity: Identity = COORDINATOR_IDENTITY) -> bytes:
        return countersign(identity, SESSION, 2, heads)

    def test_holds(self) -> None:
        check_countersigned(ROSTER, SESSION, 2, self.heads, self.signed(self.heads))
        check_countersigned(ROSTER, SESSION, 2, (), self.signed(()))

    def test_another_selection_order_or_round_does_not(self) -> None:
        mark = self.signed(self.heads)
        for other in (self.heads[:2], self.heads[::-1], (*self.heads[:2], head(COORDINATOR, seq=6))):
            with pytest.raises(VerificationFailed):
                check_countersigned(ROSTER, SESSION, 2, other, mark)
        with pytest.raises(VerificationFailed):
            check_countersigned(ROSTER, SESSION, 3, self.heads, mark)

    def test_an_institution_cannot_countersign(self) -> None:
        mark = self.signed(self.heads, IDENTITIES["clinic-1"])
        with pytest.raises(VerificationFailed, match="witnessed heads"):
            check_countersigned(ROSTER, SESSION, 2, self.heads, mark)

    def test_every_head_is_checked_and_a_party_has_one(self) -> None:
        bad = (head("clinic-1"), head("clinic-2", round_number=1))
        with pytest.raises(VerificationFailed, match="clinic-2"):
            check_countersigned(ROSTER, SESSION, 2, bad, self.signed(bad))
        twice = (head("clinic-1"), head("clinic-1", seq=6))
        with pytest.raises(VerificationFailed, match="twice"):
            check_countersigned(ROSTER, SESSION, 2, twice, self.signed(twice))


class TestClosing:
    def test_holds_for_its_signer_only(self) -> None:
        for name, identity in {**IDENTITIES, COORDINATOR: COORDINATOR_IDENTITY}.items():
            signature = STATEMENT.sign(identity)
            STATEMENT.check(ROSTER, name, signature)
            for other in {*IDENTITIES, COORDINATOR, "nobody"} - {name}:
                with pytest.raises(VerificationFailed):
                    STATEMENT.check(ROSTER, other, signature)

    @pytest.mark.parametrize("field", ["session", "configuration", "model", "transcript"])
    def test_every_field_counts(self, field: str) -> None:
        signature = STATEMENT.sign(COORDINATOR_IDENTITY)
        size = len(getattr(STATEMENT, field))
        for change in ({field: bytes(size)}, {"completed_rounds": 2}):
            with pytest.raises(VerificationFailed):
                STATEMENT.model_copy(update=change).check(ROSTER, COORDINATOR, signature)

    def test_the_transcript_of_all_rounds(self) -> None:
        rounds = [
            RoundRecord(round=i, attempt=1, status=status, context=bytes([i]) * 32, transcript=transcript)
            for i, status, transcript in [(1, "completed", b"t" * 32), (2, "aborted", None)]
        ]
        assert transcript_digest([]) == bytes(32)
        digests = {transcript_digest(rounds[:stop]) for stop in range(3)} | {transcript_digest(rounds[::-1])}
        for change in (
            {"round": 3},
            {"attempt": 2},
            {"status": "completed"},
            {"context": bytes(32)},
            {"transcript": bytes(32)},
        ):
            digests.add(transcript_digest([rounds[0], rounds[1].model_copy(update=change)]))
        assert len(digests) == 9


class TestPackedRounds:
    RECORDS = st.lists(
        st.builds(
            RoundRecord,
            round=st.integers(1, 2**31),
            attempt=st.integers(1, 2**31),
            status=st.sampled_from(["completed", "aborted"]),
            context=st.binary(min_size=32, max_size=32),
            transcript=st.none() | st.binary(min_size=32, max_size=32),
        ),
        max_size=5,
    )

    @given(RECORDS)
    def test_round_trip(self, records: list[RoundRecord]) -> None:
        data = pack_rounds(records)
        assert len(data) == 74 * len(records)
        assert tuple(unpack_rounds(data)) == tuple(records)

    @given(st.binary(max_size=300))
    def test_rubbish_is_refused_or_has_one_spelling(self, data: bytes) -> None:
        try:
            records = unpack_rounds(data)
        except MalformedMessage:
            return
        assert pack_rounds(records) == data

    def test_more_rounds_than_a_message_has_items(self) -> None:
        one = RoundRecord(round=1, attempt=1, status="aborted", context=bytes(32), transcript=None)
        assert len(unpack_rounds(pack_rounds([one] * 10_000))) == 10_000

    def test_other_spellings_are_refused(self) -> None:
        data = pack_rounds(
            [RoundRecord(round=1, attempt=1, status="aborted", context=bytes(32), transcript=None)]
        )
        for position, byte in ((3, 0), (8, 2), (9, 2), (-1, 1)):
            other = bytearray(data)
            other[position] = byte
            with pytest.raises(MalformedMessage):
                unpack_rounds(bytes(other))
        with pytest.raises(MalformedMessage):
            unpack_rounds(data[:-1])


class TestBodies:
    """In log lines: hexadecimal, read back strictly."""

    def test_witnessed(self) -> None:
        heads = (head("clinic-1"), head(COORDINATOR))
        for mark in (None, bytes(64)):
            body = json.loads(json.dumps(witnessed_body(SESSION, 2, heads, mark)))
            found, countersignature = read_witnessed(body)
            assert [one.signed for one in found] == list(heads)
            assert {(one.session, one.round) for one in found} == {(SESSION, 2)}
            assert countersignature == mark

    def test_closed(self) -> None:
        signatures = (CloseSignature(party="clinic-1", signature=bytes(64)),)
        body = json.loads(json.dumps(closed_body(STATEMENT, signatures, ("clinic-2",))))
        assert read_closed(body) == (STATEMENT, signatures, ("clinic-2",))

    @pytest.mark.parametrize(
        "change",
        [
            {"session": "00"},
            {"session": None},
            {"round": -1},
            {"round": True},
            {"round": "1"},
            {"heads": None},
            {"heads": [{}]},
            {"heads": "abc"},
            {"more": 1},
            {"countersignature": 7},
            {"session": (SESSION.hex()).upper().replace("0", "A")},
        ],
    )
    def test_what_is_no_witnessed_line(self, change: dict) -> None:
        with pytest.raises(InvalidInput):
            read_witnessed(witnessed_body(SESSION, 2, [head()]) | change)

    @pytest.mark.parametrize(
        "change",
        [
            {"signatures": {"clinic-1": "00"}},
            {"signatures": []},
            {"missing": None},
            {"model": "xx"},
            {"completed_rounds": 1.0},
            {"more": 1},
        ],
    )
    def test_what_is_no_closed_line(self, change: dict) -> None:
        with pytest.raises(InvalidInput):
            read_closed(closed_body(STATEMENT, (), ()) | change)


class TestHighest:
    """What our own log has seen of the others, found in its lines."""

    def test_the_highest_of_each_log_of_each_party(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        writer = open_log(path, segment_bytes=3000)
        seen = [
            (1, head("clinic-2", seq=5, round_number=1)),
            (1, head("clinic-3", seq=9, round_number=1)),
            (2, head("clinic-2", seq=8)),
            (2, head("clinic-2", log=7, seq=1)),
            (3, head("clinic-2", seq=7, round_number=3)),
        ]
        for number, one in seen:
            writer.write("phase", {"filler": "x" * 700})
            writer.write("witnessed", witnessed_body(SESSION, number, [one, head(COORDINATOR)]))
        writer.write("note", {"type": "witnessed", "heads": "none"})
        writer.close()
        assert len(segments(path)) > 1
        found = highest_heads(segments(path))
        assert {(one.signed.party, one.signed.log[0], one.signed.seq, one.round) for one in found} == {
            ("clinic-2", 1, 8, 2),
            ("clinic-2", 7, 1, 2),
            ("clinic-3", 1, 9, 1),
            (COORDINATOR, 1, 5, 3),
        }

    def test_a_new_log_and_no_log(self, tmp_path: Path) -> None:
        write(tmp_path / "log.jsonl", "a")
        assert highest_heads(segments(tmp_path / "log.jsonl")) == ()
        assert highest_heads(segments(tmp_path / "none.jsonl")) == ()

    def test_so_many_logs_of_one_party(self, tmp_path: Path) -> None:
        writer = open_log(tmp_path / "log.jsonl")
        for log in range(1, 20):
            writer.write("witnessed", witnessed_body(SESSION, 2, [head(log=log)]))
        writer.close()
        found = highest_heads(segments(tmp_path / "log.jsonl"))
        assert [one.signed.log[0] for one in found] == list(range(20 - MAX_LOGS, 20))

    def test_a_line_that_holds_no_heads(self, tmp_path: Path) -> None:
        writer = open_log(tmp_path / "log.jsonl")
        writer.write("witnessed", {"heads": [{}]})
        writer.close()
        with pytest.raises(InvalidInput, match="witnessed"):
            highest_heads(segments(tmp_path / "log.jsonl"))

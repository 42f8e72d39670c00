"""What is known of the others' logs: the highest counts, going back and forking are seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import RolledBackLog, VerificationFailed
from fedapt_crypto.identity import Identity
from fedapt_secure.log.heads import WitnessedHead, sign_head
from fedapt_secure.log.line import LogHead
from fedapt_secure.log.witness import MAX_LOGS
from fedapt_secure.protocol.headbook import HeadBook
from tests.log.test_heads import IDENTITIES, ROSTER, SESSION, head


def witnessed(name: str = "clinic-1", *, round_number: int = 2, **fields: int) -> WitnessedHead:
    return WitnessedHead(
        session=SESSION, round=round_number, signed=head(name, round_number=round_number, **fields)
    )


def forked(seq: int) -> WitnessedHead:
    other = LogHead(bytes([1]) * 16, seq, b"other history".ljust(32))
    signed = sign_head(IDENTITIES["clinic-1"], "clinic-1", SESSION, 2, other)
    return WitnessedHead(session=SESSION, round=2, signed=signed)


@given(st.lists(st.tuples(st.sampled_from(["clinic-1", "clinic-2"]), st.integers(1, 3), st.integers(0, 9))))
def test_it_holds_the_highest_of_each_log(added: list[tuple[str, int, int]]) -> None:
    book, highest = HeadBook(ROSTER), {}
    for name, log, seq in added:
        one = witnessed(name, log=log, seq=seq)
        known = highest.get((name, log), -1)
        assert book.is_known(one) == (seq <= known)
        assert book.add(one) == (seq > known)
        highest[name, log] = max(known, seq)
    for name in ("clinic-1", "clinic-2"):
        held = {(one.signed.log[0], one.signed.seq) for one in book.held(name)}
        assert held == {(log, seq) for (owner, log), seq in highest.items() if owner == name}
    assert set(book.of_others("clinic-1")) == set(book.held("clinic-2"))


def test_two_lines_in_one_place() -> None:
    book = HeadBook(ROSTER)
    book.add(witnessed(seq=5))
    assert not book.is_known(forked(5))
    with pytest.raises(RolledBackLog, match="^clinic-1: signed two different lines 5"):
        book.add(forked(5))
    with pytest.raises(RolledBackLog, match="line 5 of it before"):
        book.check_forward("clinic-1", forked(5).signed.head)
    book.check_forward("clinic-1", forked(6).signed.head)


def test_a_present_head_must_not_be_behind() -> None:
    book = HeadBook(ROSTER)
    assert book.advance(SESSION, 2, head(seq=5)) == witnessed(seq=5)
    book.advance(SESSION, 2, head(seq=5))
    book.advance(SESSION, 2, head(seq=8))
    book.advance(SESSION, 2, head(seq=1, log=2))
    with pytest.raises(RolledBackLog, match="cut, rolled back or rewritten") as caught:
        book.advance(SESSION, 2, head(seq=7))
    assert caught.value.peer == "clinic-1"
    with pytest.raises(VerificationFailed):
        book.advance(SESSION, 3, head(seq=9))


def test_it_begins_with_heads_that_verify_under_the_present_roster() -> None:
    former = sign_head(Identity.generate(), "clinic-1", SESSION, 2, LogHead(bytes(16), 50, bytes(32)))
    heads = [
        WitnessedHead(session=SESSION, round=2, signed=former),
        witnessed("clinic-2", seq=3),
        witnessed(seq=5),
        forked(5),
    ]
    book = HeadBook.of_earlier_sessions(ROSTER, heads)
    assert book.held("clinic-1") == (heads[2],)
    assert book.held("clinic-2") == (heads[1],)
    assert book.held("clinic-3") == ()


def test_so_many_logs_of_a_party() -> None:
    book = HeadBook(ROSTER)
    for log in range(1, 12):
        book.add(witnessed(log=log))
    assert [one.signed.log[0] for one in book.held("clinic-1")] == list(range(12 - MAX_LOGS, 12))

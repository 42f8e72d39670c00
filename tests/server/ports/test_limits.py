"""What one connection, one address and everybody together may take: counted with a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_secure.protocol.messages import MAX_FRAME_BYTES
from fedapt_server.ports.admission_limits import MAX_ADDRESSES, WINDOW_S, Arrivals
from fedapt_server.ports.lobby import HEADER_BYTES, MAX_HELLO_BYTES, Hello, Lobby, first_record
from fedapt_server.ports.traffic import (
    MAX_FRAMES_AT_ONCE,
    MAX_FRAMES_PER_S,
    MAX_REFUSED_AT_ONCE,
    MIN_BYTES_PER_S,
    PATIENCE_S,
    STILL_S,
    TokenBucket,
    Traffic,
    UnsentBytes,
    send_timeout_s,
)
from tests.support.attacks import CLIENT_HELLO_START, client_hello


class TestFirstRecord:
    def test_a_real_hello_at_every_length(self) -> None:
        hello = client_hello()
        for end in range(len(hello)):
            assert first_record(hello[:end]) is Hello.PARTIAL
        assert first_record(hello) is Hello.COMPLETE
        assert first_record(hello + b"more") is Hello.COMPLETE

    @pytest.mark.parametrize(
        "data", [b"G", b"GET / HTTP/1.1\r\n", bytes(5), b"\x16\x02\x00\x00\x05", b"\x16\x03\x01\x00\x00"]
    )
    def test_what_is_no_tls(self, data: bytes) -> None:
        assert first_record(data) is Hello.NOT_TLS

    def test_a_record_larger_than_there_are(self) -> None:
        too_large = (MAX_HELLO_BYTES + 1).to_bytes(2, "big")
        assert first_record(b"\x16\x03\x01" + too_large) is Hello.NOT_TLS
        assert first_record(CLIENT_HELLO_START) is Hello.PARTIAL
        assert len(CLIENT_HELLO_START) > HEADER_BYTES


class TestLobby:
    def test_who_waits_longest_makes_room(self) -> None:
        lobby: Lobby[str] = Lobby(waiting=10, waiting_per_address=3)
        assert [lobby.enter(f"g{n}", "a", float(n)) for n in range(5)] == [[], [], [], ["g0"], ["g1"]]
        assert len(lobby) == 3

    def test_a_crowd_pushes_out_its_own(self) -> None:
        lobby: Lobby[str] = Lobby(waiting=4, waiting_per_address=3)
        lobby.enter("quiet", "b", 0.0)
        for number in range(3):
            lobby.enter(f"crowd-{number}", "a", 1.0)
        assert lobby.enter("new", "c", 2.0) == ["crowd-0"]

    def test_handshakes_are_few_for_all_and_for_one_address(self) -> None:
        lobby: Lobby[str] = Lobby(shaking=3, shaking_per_address=2)
        for guest, address in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")):
            lobby.enter(guest, address, 0.0)
            lobby.hello(guest)
        assert [lobby.next(1.0) for _ in range(4)] == ["a1", "a2", "b1", None]
        lobby.leave("b1")
        assert lobby.next(1.0) == "b2"
        lobby.leave("a1")
        assert lobby.next(1.0) == "a3"

    def test_who_has_not_said_hello_is_not_next(self) -> None:
        lobby: Lobby[str] = Lobby()
        lobby.enter("silent", "a", 0.0)
        lobby.hello("nobody")
        assert lobby.next(1.0) is None

    def test_time_is_over(self) -> None:
        lobby: Lobby[str] = Lobby(timeout_s=10, hurry_s=2, shaking=1)
        for guest in ("first", "second", "silent"):
            lobby.enter(guest, "a", 0.0)
        lobby.hello("first")
        assert lobby.next(0.0) == "first"
        assert lobby.overdue(5.0) == [], "nobody waits for its place"
        lobby.hello("second")
        assert lobby.overdue(1.0) == []
        assert lobby.overdue(5.0) == ["first"]
        assert set(lobby.overdue(11.0)) == {"first", "second", "silent"}

    @given(st.lists(st.tuples(st.sampled_from("ehnlo"), st.integers(0, 15), st.sampled_from("abc"))))
    def test_never_more_than_there_are_places(self, moves: list[tuple[str, int, str]]) -> None:
        lobby: Lobby[int] = Lobby(waiting=6, waiting_per_address=3, shaking=3, shaking_per_address=2)
        here: dict[int, str] = {}
        for time, (move, guest, address) in enumerate(moves):
            if move == "e" and guest not in here:
                for gone in lobby.enter(guest, address, float(time)):
                    del here[gone]
                here[guest] = address
            elif move == "h":
                lobby.hello(guest)
            elif move == "n":
                lobby.next(float(time))
            elif move == "l":
                lobby.leave(guest)
                here.pop(guest, None)
            else:
                assert set(lobby.overdue(float(time))) <= here.keys()
            assert len(lobby) == len(here) <= 9
            assert max([list(here.values()).count(each) for each in "abc"]) <= 5
        for guest in list(here):
            lobby.leave(guest)
        assert not len(lobby)
        assert not lobby._waiting.by_address
        assert not lobby._shaking.by_address
        assert not lobby._ready


class TestArrivals:
    def test_so_many_a_minute(self) -> None:
        arrivals = Arrivals(per_window=2)
        assert [arrivals.admit("a", 0.0) for _ in range(3)] == [True, True, False]
        assert arrivals.admit("b", 0.0)
        assert arrivals.admit("a", WINDOW_S + 1)

    def test_memory_is_bounded(self) -> None:
        arrivals = Arrivals()
        for number in range(MAX_ADDRESSES + 10):
            arrivals.admit(str(number), 0.0)
        assert len(arrivals._recent) == MAX_ADDRESSES


class TestTraffic:
    def test_a_bucket_fills_again_and_no_further(self) -> None:
        bucket = TokenBucket(per_s=2, burst=3)
        assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
        assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
        assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]

    def test_frames_at_a_rate(self) -> None:
        traffic = Traffic()
        taken = [traffic.frame(0.0, data=True, final=True) for _ in range(MAX_FRAMES_AT_ONCE + 1)]
        assert taken == [True] * MAX_FRAMES_AT_ONCE + [False]
        assert traffic.frame(1 / MAX_FRAMES_PER_S, data=False, final=True)

    def test_messages_that_do_not_hold(self) -> None:
        traffic = Traffic()
        assert [traffic.refused(0.0) for _ in range(MAX_REFUSED_AT_ONCE + 1)].count(False) == 1

    def test_silence_is_no_offence(self) -> None:
        traffic = Traffic()
        assert not traffic.too_slow(1e9)
        traffic.received(10, 0.0)
        traffic.frame(0.0, data=True, final=True)
        assert not traffic.too_slow(1e9)

    def test_a_drip_ends(self) -> None:
        traffic = Traffic()
        traffic.received(8, 0.0)
        assert not traffic.too_slow(PATIENCE_S)
        traffic.received(8, PATIENCE_S)
        assert traffic.too_slow(PATIENCE_S + 0.1)

    def test_a_slow_line_is_good_enough(self) -> None:
        traffic = Traffic()
        for second in range(300):
            traffic.received(int(2 * MIN_BYTES_PER_S), float(second))
            assert not traffic.too_slow(second + 0.5)

    def test_the_largest_message_has_its_time_on_the_slowest_line(self) -> None:
        traffic, seconds = Traffic(), int(MAX_FRAME_BYTES / MIN_BYTES_PER_S)
        for second in range(0, seconds, 10):
            traffic.received(int(10 * MIN_BYTES_PER_S) + 1, float(second))
            assert not traffic.too_slow(second + 9.9)
        assert send_timeout_s(MAX_FRAME_BYTES) > seconds

    def test_what_stands_still_after_a_fast_start_ends(self) -> None:
        """Or the first megabytes would buy an hour in which they lie in memory."""
        traffic = Traffic()
        traffic.received(50 << 20, 0.0)
        assert not traffic.too_slow(STILL_S)
        assert traffic.too_slow(STILL_S + 0.1)
        traffic.stalled(STILL_S)
        assert not traffic.too_slow(STILL_S + PATIENCE_S)

    def test_fragments_and_pings_within_a_message_do_not_begin_it_anew(self) -> None:
        traffic = Traffic()
        for second in range(20):
            traffic.received(8, float(second))
            traffic.frame(float(second), data=True, final=False)
            traffic.frame(float(second), data=False, final=True)
        assert traffic.too_slow(20.0)
        traffic.frame(20.0, data=True, final=True)
        assert not traffic.too_slow(1e9)

    def test_our_own_delay_is_not_held_against_it(self) -> None:
        traffic = Traffic()
        traffic.received(8, 0.0)
        traffic.stalled(100.0)
        assert not traffic.too_slow(100.0 + PATIENCE_S)
        assert traffic.too_slow(100.0 + PATIENCE_S + 0.1)

    def test_what_is_not_read_is_bounded(self) -> None:
        unsent = UnsentBytes(limit=100)
        assert unsent.add(150), "one message always"
        assert not unsent.add(1)
        unsent.sent(150)
        assert unsent.add(60)
        assert not unsent.add(60)
        assert unsent.waiting == 60
        assert send_timeout_s(64 << 20) > 60

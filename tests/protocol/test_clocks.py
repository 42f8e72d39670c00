"""Whose clock is wrong: every table of times, and what must hold whatever the times are."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.certificates import CertificateFacts
from fedapt_crypto.pki import CLOCK_SKEW
from fedapt_secure.protocol.clocks import (
    LONGEST_PAUSE,
    Sign,
    Suspect,
    Times,
    brought,
    doubt,
    of_coordinator,
    own_certificate,
    span,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENTS = st.integers(-800, 800).map(lambda hours: NOW + timedelta(hours=hours))


def certificate(begins: float, ends: float) -> CertificateFacts:
    """One that is valid from so many days to so many days after `NOW`."""
    return CertificateFacts("x", "x CA", 1, NOW + begins * DAY, NOW + ends * DAY, b"", b"")


OWN = certificate(-10, 80)


def times(
    theirs: float | None = None, last: float | None = None, own: CertificateFacts | None = OWN
) -> Times:
    at = [None if days is None else NOW + days * DAY for days in (theirs, last)]
    return Times(NOW, at[0], at[1], own)


class TestDoubt:
    @pytest.mark.parametrize(
        ("ago", "said"),
        [
            (timedelta(), None),
            (LONGEST_PAUSE, None),
            (-CLOCK_SKEW, None),
            (400 * DAY, "400 days after the log's last line"),
            (-400 * DAY, "400 days before the log's last line"),
            (-timedelta(minutes=7), "7 minutes before the log's last line"),
        ],
    )
    def test_against_the_last_line(self, ago: timedelta, said: str | None) -> None:
        why = doubt(NOW, [Sign("the log's last line", NOW - ago)])
        assert why is None if said is None else said in why

    def test_nothing_known_is_no_doubt(self) -> None:
        assert doubt(NOW, []) is None

    def test_a_process_that_has_run_on_is_no_pause(self) -> None:
        long_ago = [Sign("the log's last line", NOW - 90 * DAY)]
        assert doubt(NOW, long_ago) is not None
        assert doubt(NOW, long_ago, ran_until=NOW - timedelta(seconds=2)) is None
        assert "what it said a moment ago" in doubt(NOW + 400 * DAY, long_ago, ran_until=NOW)

    @given(st.lists(MOMENTS, min_size=1), MOMENTS)
    def test_what_is_believed_lies_between_the_newest_sign_and_a_pause(self, signs, now) -> None:
        newest = max(signs)
        believed = doubt(now, [Sign("it", when) for when in signs]) is None
        assert believed == (newest - CLOCK_SKEW <= now <= newest + LONGEST_PAUSE)


class TestSuspect:
    @pytest.mark.parametrize(
        ("known", "suspect"),
        [
            (times(0), Suspect.NOBODY),
            (times(0, last=400), Suspect.NOBODY),  # both agree: it was wrong when it wrote that
            (times(), Suspect.UNKNOWN),
            (times(last=400), Suspect.OURS),
            (times(-400, last=-400, own=certificate(-410, -320)), Suspect.OURS),  # ours is ahead
            (times(-400, last=0, own=certificate(-410, -320)), Suspect.OURS),  # and has run on
            (times(400, last=400, own=certificate(390, 480)), Suspect.OURS),  # ours is behind
            (times(400, last=-1), Suspect.THEIRS),  # theirs is ahead
            (times(-400, last=-1), Suspect.THEIRS),  # theirs is behind
            (times(5, last=-1), Suspect.ONE_OF_BOTH),
            (times(-5, last=-1), Suspect.ONE_OF_BOTH),
            (times(50, last=-1), Suspect.THEIRS),
            (times(-1, last=-50, own=None), Suspect.OURS),
            (times(2, own=None), Suspect.ONE_OF_BOTH),
        ],
    )
    def test_by_table(self, known: Times, suspect: Suspect) -> None:
        assert known.suspect is suspect

    @given(st.none() | MOMENTS, st.none() | MOMENTS, st.none() | st.just(OWN))
    def test_advice_names_a_clock_unless_both_agree(self, theirs, last, own) -> None:
        known = Times(NOW, theirs, last, own)
        said = known.advice()
        assert (said is None) == (known.suspect in (Suspect.NOBODY, Suspect.UNKNOWN))
        if said is not None:
            assert "\n" not in said
            assert "2026-11-29 12:00 UTC" in said

    def test_a_clock_ahead_is_held_against_everything(self) -> None:
        said = times(-400, last=-400, own=certificate(-410, -320)).advice()
        assert "400 days after the coordinator's clock (2025-10-25 12:00 UTC)" in said
        assert "400 days after its own log's last line" in said
        assert "timedatectl set-ntp true" in said


class TestSentences:
    @pytest.mark.parametrize(
        ("presented", "known", "said"),
        [
            (
                certificate(395, 490),
                times(0),
                "valid only from 2027-12-29 12:00 UTC on, and it is 2026-11-29 12:00 UTC here and there: its"
                " clock was wrong when the certificate was made: ask its operator to run 'fedapt-secure"
                " server renew --clock-is-right'",
            ),
            (
                certificate(395, 490),
                times(400, last=-1),
                "the coordinator's clock is wrong: it says 2028-01-03",
            ),
            (certificate(395, 490), times(last=-1), "24 hours after its own log's"),
            (certificate(395, 490), times(last=400), "this machine's clock is wrong"),
            (
                certificate(-490, -395),
                times(-400, last=-400, own=certificate(-410, -320)),
                "clock is wrong: it says 2026-11-29 12:00 UTC, 400 days after the coordinator's",
            ),
            (certificate(-90, -1), times(0), "here and there: ask its operator to run 'fedapt-secure server"),
            (certificate(-90, -1), times(), "if that is the time, ask its operator"),
        ],
    )
    def test_of_the_coordinator_s_certificate(self, presented, known, said: str) -> None:
        assert said in of_coordinator(presented, known)

    def test_the_own_one_and_one_that_came(self) -> None:
        over = certificate(-410, -320)
        assert "this machine's clock is wrong" in own_certificate(over, times(-400, last=-400, own=over))
        assert "run 'fedapt-secure client csr'" in own_certificate(over, times(0, own=over))
        assert "timedatectl" not in own_certificate(over, times(0, own=over))
        assert "if not, put it right" in own_certificate(over, times(last=-2, own=over))
        late = certificate(400, 490)
        assert "was not installed; the coordinator's clock is wrong" in brought(late, times(400, last=-1))
        assert "then ask again" in brought(late, times())

    @given(st.integers(-500, 500), st.integers(1, 200), st.none() | MOMENTS, st.none() | MOMENTS)
    def test_something_is_said_exactly_where_it_is_not_valid(self, begins, days, theirs, last) -> None:
        about = certificate(begins, begins + days)
        known = Times(NOW, theirs, last, about)
        for sentence in (of_coordinator, own_certificate, brought):
            said = sentence(about, known)
            assert (said is None) == about.valid(NOW)
            assert said is None or "\n" not in said


@pytest.mark.parametrize(
    ("apart", "said"),
    [(0, "0 s"), (119, "119 s"), (-120, "2 minutes"), (7199, "120 minutes"), (86400 * 2, "2 days")],
)
def test_spans(apart: float, said: str) -> None:
    assert span(timedelta(seconds=apart)) == said

"""Who is let in: once by a link, then by what the browser keeps; and nothing grows."""

import pytest

from fedapt_secure.web.access import (
    IDLE_S,
    LINK_S,
    MAX_LINKS,
    MAX_VISITS,
    WRONG_AT_ONCE,
    Doors,
    Role,
    TooMany,
    hashed,
    new_secret,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def doors(clock: Clock) -> Doors:
    return Doors(clock)


def link(doors: Doors, role: Role = Role.DECIDES) -> str:
    secret = new_secret()
    doors.expect(hashed(secret), role)
    return secret


def test_a_link_works_once(doors: Doors) -> None:
    secret = link(doors)
    kept = doors.enter(secret)
    assert kept is not None
    assert kept != secret
    assert doors.enter(secret) is None
    visit = doors.visit(kept)
    assert visit is not None
    assert visit.role is Role.DECIDES
    assert visit.token not in repr(visit)


def test_roles_are_those_of_the_link(doors: Doors) -> None:
    for role in Role:
        visit = doors.visit(doors.enter(link(doors, role)))
        assert visit is not None
        assert visit.role is role


def test_a_link_waits_a_quarter_of_an_hour(doors: Doors, clock: Clock) -> None:
    early, late = link(doors), link(doors)
    clock.now += LINK_S
    assert doors.enter(early) is not None
    clock.now += 0.1
    assert doors.enter(late) is None


def test_strangers_have_no_visit(doors: Doors) -> None:
    assert doors.visit(None) is None
    assert doors.visit("") is None
    assert doors.visit(new_secret()) is None
    assert doors.enter("ä\udcff") is None


def test_wrong_links_are_slowed_down_and_right_ones_wait_with_them(doors: Doors, clock: Clock) -> None:
    right = link(doors)
    for _ in range(WRONG_AT_ONCE):
        assert doors.enter(new_secret()) is None
    with pytest.raises(TooMany):
        doors.enter(right)
    clock.now += 10.1
    assert doors.enter(right) is not None


def test_who_was_away_for_long_or_has_left_is_a_stranger(doors: Doors, clock: Clock) -> None:
    stays, goes, leaves = (doors.enter(link(doors)) for _ in range(3))
    doors.leave(leaves)
    assert doors.visit(leaves) is None
    clock.now += IDLE_S
    assert doors.visit(stays) is not None
    clock.now += 1
    assert doors.visit(goes) is None
    assert doors.visit(stays) is not None
    doors.leave(None)


def test_nothing_grows(doors: Doors, clock: Clock) -> None:
    """A day of links and of a page that asks every second."""
    first = link(doors)
    for _ in range(MAX_LINKS):
        link(doors)
    assert doors.enter(first) is None
    kept = doors.enter(link(doors))
    for second in range(0, 86_400, 30):
        clock.now += 30
        assert doors.visit(kept) is not None
        if second % 3600 == 0:
            doors.enter(link(doors))
    assert len(doors._visits) <= MAX_VISITS
    assert len(doors._links) <= MAX_LINKS
    for _ in range(MAX_VISITS - 1):
        doors.enter(link(doors))
        clock.now += 1
        assert doors.visit(kept) is not None  # who was here last stays
    assert len(doors._visits) == MAX_VISITS

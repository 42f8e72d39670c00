"""What a federation on one machine needs more of, the more institutions share it."""

import resource

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.simulate.engines import patience


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The limit of open files as this process would see it; the real one is left alone."""
    held = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: held["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, wanted: held.update(now=wanted))
    return held


def test_a_few_institutions_leave_the_limit_alone(limits: dict[str, tuple[int, int]]) -> None:
    patience.allow_file_handles(5)
    assert limits["now"] == (1024, 4096)


def test_many_raise_the_soft_limit_as_far_as_they_need(limits: dict[str, tuple[int, int]]) -> None:
    patience.allow_file_handles(400)
    assert limits["now"] == (256 + 8 * 400, 4096)


@pytest.mark.parametrize("hard", [4096, 300, 10])
def test_a_hard_limit_that_is_too_low_ends_in_one_line_that_says_what_to_do(
    limits: dict[str, tuple[int, int]], hard: int
) -> None:
    limits["now"] = (10, hard)
    with pytest.raises(InvalidInput, match="ulimit -Hn 8256") as refused:
        patience.allow_file_handles(1000)
    possible = max(0, (hard - 256) // 8)
    assert f"--clients {possible} or fewer" in str(refused.value)
    assert limits["now"] == (10, hard)
    if possible:
        patience.allow_file_handles(possible)  # what it offers is true


def test_no_limit_is_enough(limits: dict[str, tuple[int, int]]) -> None:
    limits["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    patience.allow_file_handles(100_000)
    limits["now"] = (1024, resource.RLIM_INFINITY)
    patience.allow_file_handles(1000)
    assert limits["now"] == (8256, resource.RLIM_INFINITY)


def test_patience_grows_with_the_institutions_and_never_falls_below_that_for_a_few() -> None:
    for timeout in (
        patience.round_timeout_s,
        patience.phase_timeout_s,
        patience.gather_timeout_s,
        patience.answer_within_s,
        patience.retry_for_s,
        patience.close_retry_s,
    ):
        assert timeout(5) == timeout(10) > 0
        assert timeout(2000) == pytest.approx(2 * timeout(1000))
        assert timeout(1000) > timeout(10)
    assert patience.max_connections(5) == 1024
    assert patience.max_connections(1000) == 2000

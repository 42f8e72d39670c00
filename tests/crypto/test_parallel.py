"""Threads change when something is computed, never what."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto import parallel
from fedapt_crypto.masks import RANGE_VALUES, apply_masks
from fedapt_crypto.parallel import over_ranges, ranges, run_all


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(parallel, "threads", lambda: request.param)
    return request.param


@given(st.integers(0, 1000), st.integers(1, 300))
def test_ranges_cover_every_position_once(length: int, step: int) -> None:
    found = ranges(length, step)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(length))
    assert all(stop - start == step for start, stop in found[:-1])


def test_results_are_in_the_order_of_the_calls(threads: int) -> None:
    for count in (0, 1, 2, 3, 50):
        assert run_all([lambda i=i: i * i for i in range(count)]) == [i * i for i in range(count)]
    assert over_ranges(10, 4, lambda start, stop: (start, stop)) == [(0, 4), (4, 8), (8, 10)]


def test_the_first_failure_is_raised_when_all_have_ended(threads: int) -> None:
    ended = []

    def call(i: int) -> None:
        try:
            if i in (3, 7):
                raise KeyError(i)
        finally:
            ended.append(i)

    with pytest.raises(KeyError, match="3"):
        run_all([lambda i=i: call(i) for i in range(9 if threads > 1 else 4)])
    assert 3 in ended
    assert threads == 1 or sorted(ended) == list(range(9))


def test_calls_may_themselves_use_threads(threads: int) -> None:
    inner = lambda: sum(run_all([lambda i=i: i for i in range(5)]))
    assert run_all([inner] * 20) == [10] * 20


def test_several_threads_at_once_share_the_pool(threads: int) -> None:
    found = []
    callers = [
        threading.Thread(target=lambda: found.append(over_ranges(100, 3, lambda a, b: b - a)))
        for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert [sum(result) for result in found] == [100] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    run_all([threading.get_ident] * 8)  # this process has its pool
    child = os.fork()
    if not child:
        try:
            right = run_all([lambda i=i: i for i in range(50)]) == list(range(50))
        except BaseException:
            right = False
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_masks_are_the_same_whoever_computes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, size = [(bytes([i]) * 32, 1 - 2 * (i % 2)) for i in range(3)], 3 * RANGE_VALUES + 5
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(parallel, "threads", lambda count=count: count)
        vector = np.arange(size, dtype=np.uint32)
        apply_masks(vector, keys)
        found.append(vector)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])

"""How long training took does not show in when an update leaves, whoever was sampled."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedapt_client.training.answer_time import LEAST_S, OF_TIMEOUT, SLACK, AnswerTime
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.sampling import most_sampled, poisson_batch
from fedapt_secure.learning.batches.units import Units

PERSONS, IMAGES, OF_ONE = 60, 5, 3000
STEPS, RATE, AN_IMAGE_S = 2, 0.5, 1e-3


def left_after(answer: AnswerTime, took_s: float) -> float:
    return took_s + answer.wait_s(took_s)[0]


class TestTime:
    @given(st.floats(0, 100), st.lists(st.floats(0, 150), max_size=20))
    def test_who_is_in_time_leaves_at_one_time(self, most_s: float, rounds: list[float]) -> None:
        answer = AnswerTime(most_s, 1e6)
        limit = SLACK * most_s + LEAST_S
        for took in (one for one in rounds if one <= limit):
            assert left_after(answer, took) == pytest.approx(limit)
            assert answer.seconds == limit

    @given(st.floats(0.01, 10), st.lists(st.floats(0, 1000), min_size=1, max_size=30))
    def test_a_time_that_was_too_short_is_doubled_until_it_is_not(
        self, most_s: float, rounds: list[float]
    ) -> None:
        answer = AnswerTime(most_s, 1e9)
        first, before = answer.seconds, answer.seconds
        for took in rounds:
            wait, stretched = answer.wait_s(took)
            assert wait >= 0
            assert took + wait == pytest.approx(answer.seconds)
            assert stretched == (answer.seconds > before)
            assert float(np.log2(answer.seconds / first)).is_integer()
            before = answer.seconds

    def test_nobody_waits_beyond_what_the_coordinator_waits_for(self) -> None:
        answer = AnswerTime(1.0, 2.0)
        assert answer.in_time
        assert answer.wait_s(0.5) == (pytest.approx(SLACK * 1.0 + LEAST_S - 0.5), False)
        assert answer.wait_s(1.7) == (pytest.approx(OF_TIMEOUT * 2.0 - 1.7), True)
        assert answer.wait_s(1.9) == (0.0, False)
        assert not AnswerTime(3.0, 2.0).in_time


class TestLargestBatch:
    @given(st.integers(0, 5000), st.floats(0.001, 1.0))
    def test_no_sample_has_more(self, count: int, rate: float) -> None:
        most = most_sampled(count, rate)
        assert 0 <= most <= count
        assert len(poisson_batch(Keystream(bytes(32)), count, rate)) <= most
        assert rate < 1 or most == count

    def test_it_is_near_what_is_expected_where_there_are_many(self) -> None:
        assert 1_000 < most_sampled(100_000, 0.01) < 1_400

    def test_the_largest_units_are_in_it(self) -> None:
        units = Units.persons(["a", "b", "b", "c", "c", "c", "d"])
        batch = units.largest_batch(2)
        assert sorted(batch.records.tolist()) == [1, 2, 3, 4, 5]
        assert sorted(batch.sizes.tolist()) == [2, 3]


def test_who_was_sampled_does_not_show_in_the_time() -> None:
    """Sixty persons, one of whom has 3,000 images; a step takes as long as it has images."""
    subjects = [f"person-{number}" for number in range(PERSONS) for _ in range(IMAGES)]
    units = Units.persons(subjects + ["person-0"] * OF_ONE)
    keystream = Keystream(bytes(range(32)))
    largest = len(units.largest_batch(most_sampled(len(units), RATE)))
    answer = AnswerTime(STEPS * largest * AN_IMAGE_S, 600.0)
    sampled, took, left = [], [], []
    for _ in range(200):
        steps = [poisson_batch(keystream, len(units), RATE) for _ in range(STEPS)]
        sampled.append(sum(0 in chosen for chosen in steps))
        took.append(sum(len(units.batch(chosen)) for chosen in steps) * AN_IMAGE_S)
        left.append(left_after(answer, took[-1]))
    was_in = torch.tensor(sampled, dtype=torch.float64)
    training = torch.corrcoef(torch.stack([was_in, torch.tensor(took, dtype=torch.float64)]))[0, 1]
    assert training > 0.95  # what there is to hide
    assert left == pytest.approx([answer.seconds] * len(left))

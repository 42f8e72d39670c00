import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.noise import gaussian, poisson_batch


def stream(number: int = 0) -> Keystream:
    return Keystream(bytes([number]) * 32)


def test_gaussian_values_have_the_moments_and_tails_of_a_normal():
    values = gaussian(stream(), (1000, 400)).ravel()
    count = len(values)
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / count) ** 0.5
    for bound, share in ((1.0, 0.317311), (2.0, 0.045500), (3.0, 0.002700)):
        assert abs((np.abs(values) > bound).mean() - share) < 5 * (share / count) ** 0.5
    pairs = values.reshape(-1, 2)
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 5 / len(pairs) ** 0.5
    assert abs((pairs[:, 0] ** 2 * pairs[:, 1] ** 2).mean() - 1) < 5 * (8 / len(pairs)) ** 0.5


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5)])
def test_gaussian_gives_any_shape_and_never_the_same_twice(shape):
    keystream = stream()
    first, second = gaussian(keystream, shape), gaussian(keystream, shape)
    assert first.shape == shape
    assert first.dtype == np.float64
    if first.size:
        assert not np.equal(first, second).any()
        assert np.array_equal(first, gaussian(stream(), shape))


class _Extreme:
    """A keystream of one word over and over."""

    def __init__(self, word: int) -> None:
        self.word = word

    def uniform_words(self, count: int):
        return np.full(count, self.word, np.uint64)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_gaussian_is_finite_at_the_ends_of_the_uniform_range(word):
    values = gaussian(_Extreme(word), (4,))
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 8.6


def test_sampling_includes_each_record_at_the_rate_and_independently():
    keystream, count, rounds, rate = stream(), 200, 2000, 0.3
    drawn = np.zeros((rounds, count))
    for number in range(rounds):
        drawn[number, poisson_batch(keystream, count, rate).numpy()] = 1
    deviation = (rate * (1 - rate) / rounds) ** 0.5
    assert np.abs(drawn.mean(0) - rate).max() < 5 * deviation
    # Independent: the batch size varies as a binomial's, it is not fixed.
    assert abs(drawn.sum(1).var() - count * rate * (1 - rate)) < 0.2 * count * rate * (1 - rate)
    neighbours = np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]
    assert abs(neighbours) < 5 / rounds**0.5


@given(count=st.integers(0, 300), rate=st.floats(1e-6, 1.0))
def test_a_batch_is_a_set_of_records_in_order(count, rate):
    batch = poisson_batch(stream(1), count, rate)
    assert batch.dtype == torch.int64
    assert torch.equal(batch, batch.unique())
    assert len(batch) == 0 or (batch[0] >= 0 and batch[-1] < count)


def test_the_rate_one_takes_every_record_and_other_rates_are_checked():
    assert torch.equal(poisson_batch(stream(), 9, 1.0), torch.arange(9))
    assert len(poisson_batch(stream(), 1000, 1 - 1e-16)) >= 999
    for rate in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(InvalidInput, match="sample rate"):
            poisson_batch(stream(), 9, rate)

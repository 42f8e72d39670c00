import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader, TensorDataset

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.sampling import (
    KeystreamUniformSampler,
    ShuffledBatches,
    poisson_batch,
    steps_of_passes,
)


def stream(number: int = 0) -> Keystream:
    return Keystream(bytes([number]) * 32)


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


def sampler(count=200, rate=0.3, steps=50, number=5):
    return KeystreamUniformSampler(num_samples=count, sample_rate=rate, steps=steps, keystream=stream(number))


def test_batch_sizes_of_the_sampler_are_binomial_and_each_record_is_as_likely():
    one = sampler(steps=5000)
    assert len(one) == 5000
    batches = list(one)
    sizes = np.array([len(batch) for batch in batches])
    assert sizes.min() < 45
    assert sizes.max() > 75, "not a fixed size"
    edges = np.array([0, *range(50, 71, 2), 201])  # cells of at least 50 expected batches
    expected = np.diff(stats.binom(200, 0.3).cdf(edges - 1)) * 5000
    found = np.histogram(sizes, edges)[0]
    assert stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue > 0.01
    drawn = torch.bincount(torch.cat(batches), minlength=200).numpy()
    statistic = ((drawn - 1500.0) ** 2 / (5000 * 0.3 * 0.7)).sum()
    assert 0.005 < stats.chi2(200).cdf(statistic) < 0.995


def test_the_sampler_goes_on_in_the_stream_and_repeats_only_under_the_same_key():
    one = sampler(steps=3)
    first, second = ([tuple(batch.tolist()) for batch in one] for _ in range(2))
    assert not set(first) & set(second)
    assert first == [tuple(batch.tolist()) for batch in sampler(steps=3)]
    fresh = [KeystreamUniformSampler(num_samples=200, sample_rate=0.5, steps=1) for _ in range(2)]
    assert not torch.equal(*(next(iter(one)) for one in fresh))


def test_the_sampler_serves_a_data_loader():
    data = TensorDataset(torch.arange(200.0))
    loaded = [values for (values,) in DataLoader(data, batch_sampler=sampler(steps=4))]
    for values, batch in zip(loaded, sampler(steps=4), strict=True):
        assert torch.equal(values, batch.float())


def test_torch_s_generator_plays_no_role():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(sampler())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"rate": 0.0}, {"rate": 1.1}, {"steps": 0}, {"count": -1}])
def test_an_impossible_sampler_is_refused(change):
    with pytest.raises(InvalidInput):
        sampler(**change)


@given(
    count=st.integers(0, 50),
    size=st.integers(1, 60),
    passes=st.integers(1, 3),
    key=st.binary(min_size=32, max_size=32),
)
def test_a_pass_in_batches_sees_every_record_once(count: int, size: int, passes: int, key: bytes) -> None:
    steps = steps_of_passes(count, size, passes)
    batches = list(ShuffledBatches(num_samples=count, batch_size=size, steps=steps, keystream=Keystream(key)))
    assert len(batches) == steps
    a_pass = max(1, -(-count // size))
    for first in range(0, steps, a_pass):
        seen = torch.cat(batches[first : first + a_pass])
        assert sorted(seen.tolist()) == list(range(count))
        assert all(len(batch) == size for batch in batches[first : first + a_pass - 1])


def test_passes_have_orders_of_their_own() -> None:
    batches = ShuffledBatches(num_samples=40, batch_size=40, steps=2, keystream=Keystream(bytes(32)))
    first, second = batches
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(40))


@pytest.mark.parametrize(("count", "size", "steps"), [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_what_no_batches_can_be_made_of(count: int, size: int, steps: int) -> None:
    with pytest.raises(InvalidInput, match="at least one step"):
        ShuffledBatches(num_samples=count, batch_size=size, steps=steps, keystream=Keystream(bytes(32)))

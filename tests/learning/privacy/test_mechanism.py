"""The noise on the grid: what is released, how large the noise is, and what one record can move."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from scipy import stats

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.privacy import mechanism as module
from fedapt_secure.learning.privacy.mechanism import KeystreamDPOptimizer, Mechanism
from fedapt_secure.learning.privacy.noise import gaussian

SHAPES = ((6, 5), (3, 5))
D = 45


def make(sigma=0.0, norm=1.0, key=0, divisor=1.0, shapes=SHAPES):
    """Return an optimizer over parameters of these shapes and the parameters."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    optimizer = KeystreamDPOptimizer(
        torch.optim.SGD(parameters, lr=0.0),
        mechanism=Mechanism(sigma, norm),
        divisor=divisor,
        keystream=Keystream(bytes([key]) * 32),
    )
    return optimizer, parameters


def release(optimizer, parameters, chunks):
    """Return the released sum, flat float64, for chunks of per-sample gradients (B, d)."""
    for number, chunk in enumerate(chunks):
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, chunk.split(sizes, dim=1), strict=True):
            parameter.grad_sample = part.reshape(-1, *parameter.shape)
        optimizer.signal_skip_step(number < len(chunks) - 1)
        optimizer.pre_step()
        if number < len(chunks) - 1:
            optimizer.zero_grad()
    released = torch.cat([parameter.summed_grad.flatten() for parameter in parameters])
    optimizer.zero_grad()
    return released.numpy()


def reference(gradients, norm):
    """Exact clipped sum on the grid, in Python integers and fractions of float64 via math.fsum."""
    gamma, limit = norm * 2.0**-20, norm * (1 - 2.0**-12)
    clipped = []
    for row in gradients.double().tolist():
        size = math.sqrt(math.fsum(x * x for x in row)) if all(map(math.isfinite, row)) else math.inf
        factor = 0.0 if not math.isfinite(size) else min(1.0, limit / size) if size else 1.0
        clipped.append([factor * x if factor else 0.0 for x in row])
    sums = [math.fsum(column) for column in zip(*clipped, strict=True)] if clipped else [0.0] * D
    return np.array([round(value / gamma) for value in sums])


@st.composite
def gradients(draw, least=0):
    count = draw(st.integers(least, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    values = torch.randn(count, D, generator=generator) * draw(st.sampled_from([1e-20, 1e-3, 0.1, 1.0, 1e15]))
    if count and draw(st.booleans()):
        broken = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
        values[draw(st.integers(0, count - 1)), draw(st.integers(0, D - 1))] = broken
    return values


def test_it_is_an_opacus_optimizer():
    assert issubclass(KeystreamDPOptimizer, DPOptimizer)


@settings(deadline=None, max_examples=100)
@given(values=gradients(), norm=st.sampled_from([0.25, 1.0, 8.0]), chunk=st.integers(1, 12))
def test_without_noise_the_release_is_the_slow_clipped_sum_on_the_grid(values, norm, chunk):
    optimizer, parameters = make(norm=norm)
    for _ in range(2):  # a second step starts from nothing
        found = release(optimizer, parameters, values.split(chunk)) / (norm * 2.0**-20)
        assert np.array_equal(found, np.rint(found))
        assert np.abs(found - reference(values, norm)).max() <= 1  # a half rounds either way


@settings(deadline=None, max_examples=100)
@given(
    values=gradients(),
    norm=st.sampled_from([2.0**-3, 1.0, 4.0]),
    sigma=st.floats(0.3, 30),
    key=st.integers(0, 255),
)
def test_every_released_value_lies_on_the_grid_and_is_the_sum_plus_rounded_noise(values, norm, sigma, key):
    gamma = norm * 2.0**-20
    noisy = release(*make(sigma, norm, key), [values]) / gamma
    assert np.array_equal(noisy, np.rint(noisy))
    quiet = release(*make(0.0, norm), [values]) / gamma
    stream = Keystream(bytes([key]) * 32)
    normal = np.concatenate([gaussian(stream, shape).ravel() for shape in SHAPES])
    delta = norm + gamma * math.sqrt(D)
    assert np.array_equal(noisy - quiet, np.rint(sigma * delta / gamma * normal))


def test_a_clipping_norm_that_is_no_power_of_two_is_on_its_grid_too():
    noisy = release(*make(2.0, 0.7), [torch.randn(4, D, generator=torch.Generator().manual_seed(0))])
    steps = noisy / Mechanism(2.0, 0.7).grid
    assert np.abs(steps - np.rint(steps)).max() < 1e-8  # one float64 rounding of a number below 2³⁰
    assert np.array_equal(np.rint(steps) * Mechanism(2.0, 0.7).grid, noisy)


@pytest.mark.parametrize("values", [1, 45, 960, 10**6])
def test_the_sensitivity_is_the_clipping_norm_and_one_grid_step_a_value(values):
    mechanism = Mechanism(1.5, 0.5)
    assert mechanism.grid == 0.5 * 2.0**-20
    assert mechanism.clipping_norm == 0.5 * (1 - 2.0**-12)
    assert mechanism.sensitivity(values) == 0.5 + 0.5 * 2.0**-20 * math.sqrt(values)
    assert mechanism.noise_std(values) == 1.5 * mechanism.sensitivity(values)


def test_the_noise_is_scaled_by_that_sensitivity_and_not_by_the_clipping_norm(monkeypatch):
    """With d = 10⁶ the two differ by a thousandth, which constant draws show exactly."""
    monkeypatch.setattr(module, "gaussian", lambda _, shape: np.full(shape, 1.0))
    released = release(*make(3.0, 1.0, shapes=((1000, 1000),)), [torch.zeros(0, 10**6)])
    expected = round(3.0 * (1 + 2.0**-20 * 1000) * 2**20)
    assert expected - 3 * 2**20 == 3000
    assert set(released * 2**20) == {expected}


@settings(deadline=None, max_examples=150)
@given(values=gradients(least=1), norm=st.sampled_from([0.25, 1.0, 8.0]), data=st.data())
def test_one_record_moves_the_sum_by_at_most_the_sensitivity(values, norm, data):
    """Neighbours: the record counts as zero, its place in the batch stays."""
    index = data.draw(st.integers(0, len(values) - 1))
    without = values.clone()
    without[index] = 0
    moved = release(*make(norm=norm), [values]) - release(*make(norm=norm), [without])
    assert np.linalg.norm(moved) <= Mechanism(0.0, norm).sensitivity(D)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_noise_is_normal_with_the_planned_deviation(count):
    shapes = ((400, 256), (10, 256))
    d = 410 * 256
    values = torch.randn(count, d, generator=torch.Generator().manual_seed(1))
    noisy, quiet = (release(*make(sigma, 0.5, 7, shapes=shapes), [values]) for sigma in (2.0, 0.0))
    noise = (noisy - quiet) / (2.0 * (0.5 + 0.5 * 2.0**-20 * math.sqrt(d)))
    assert abs(noise.mean()) < 5 / d**0.5
    assert abs(noise.var() - 1) < 5 * (2 / d) ** 0.5
    assert abs((noise**3).mean()) < 5 * (15 / d) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / d) ** 0.5
    assert stats.kstest(noise, "norm").pvalue > 0.01
    for lag in (1, 2, 256):
        assert abs((noise[lag:] * noise[:-lag]).mean()) < 5 / d**0.5


def test_noise_does_not_depend_on_the_records():
    values = torch.randn(5, D, generator=torch.Generator().manual_seed(2))
    drawn = [
        release(*make(2.0, 1.0, 9), [part]) - release(*make(0.0, 1.0), [part])
        for part in (values, values[:0], values * math.nan)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], drawn[2])


def test_a_sample_with_a_broken_value_counts_as_zero_as_a_whole():
    values = torch.randn(4, D, generator=torch.Generator().manual_seed(3))
    broken = values.clone()
    broken[2, -1] = math.nan  # in the second head; the first head's part goes as well
    values[2] = 0
    assert np.array_equal(release(*make(), [broken]), release(*make(), [values]))


def test_the_sum_of_the_largest_chunk_stays_far_within_the_slack():
    """Same-signed and cancelling gradients, at the size limit of a chunk: error against exact sums."""
    generator = torch.Generator().manual_seed(4)
    count = module.MAX_CHUNK_RECORDS
    for values in (
        torch.rand(count, D, generator=generator),
        torch.randn(count, D, generator=generator)
        * 10.0 ** torch.randint(-8, 8, (count, 1), generator=generator),
    ):
        optimizer, parameters = make()
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, values.split(sizes, dim=1), strict=True):
            parameter.grad_sample = part.reshape(-1, *parameter.shape)
        optimizer.clip_and_accumulate()
        found = torch.cat([parameter.summed_grad.flatten() for parameter in parameters]).numpy()
        rows = values.double().numpy()
        limit = optimizer._mechanism.clipping_norm
        factors = limit / np.maximum(np.sqrt((rows.astype(np.longdouble) ** 2).sum(1)), limit)
        exact = (rows * factors[:, None]).astype(np.longdouble).sum(0)
        assert np.linalg.norm(found - exact) < 2.0**-18 * 2.0**-12


@pytest.mark.parametrize(("chunk", "batch"), [(4, 100), (100, 7)])
def test_more_records_than_the_bound_allows_are_refused(chunk, batch, monkeypatch):
    monkeypatch.setattr(module, "MAX_CHUNK_RECORDS", chunk)
    monkeypatch.setattr(module, "MAX_BATCH_RECORDS", batch)
    optimizer, parameters = make()
    with pytest.raises(InvalidInput, match="a batch holds at most"):
        release(optimizer, parameters, [torch.zeros(4, D), torch.zeros(5, D)])


def test_the_batch_bound_counts_one_step_only(monkeypatch):
    monkeypatch.setattr(module, "MAX_BATCH_RECORDS", 7)
    optimizer, parameters = make()
    for _ in range(3):
        release(optimizer, parameters, [torch.zeros(4, D), torch.zeros(3, D)])


def test_the_stated_error_bound_leaves_room():
    chunk, batch = module.MAX_CHUNK_RECORDS, module.MAX_BATCH_RECORDS
    error = (chunk + batch / chunk + 3) * 2.0**-53 * batch
    assert 2 * error < 2.0**-16
    assert 2 * error + D * 2.0**-53 < module.CLIPPING_SLACK


def test_the_divisor_comes_after_the_noise():
    optimizer, parameters = make(2.0, 1.0, 3, divisor=135.0)
    for parameter in parameters:
        parameter.grad_sample = torch.zeros(0, *parameter.shape)
    optimizer.pre_step()
    for parameter in parameters:
        assert parameter.grad.dtype == torch.float32
        assert torch.equal(parameter.grad, (parameter.summed_grad / 135.0).float())


def test_the_largest_noise_fits_the_integers():
    optimizer, parameters = make(module.MAX_NOISE_MULTIPLIER, 1.0)
    optimizer._keystream = SimpleNamespace(uniform_words=lambda count: np.zeros(count, np.uint64))
    released = release(optimizer, parameters, [torch.zeros(0, D)]) * 2**20
    assert np.abs(released).max() > 2**43
    assert np.array_equal(released, np.rint(released))
    assert np.abs(released).max() < 2**45

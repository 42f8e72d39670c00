"""Gradients kept as factors release what gradients written out do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from torch import nn

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.privacy.mechanism import KeystreamDPOptimizer, Mechanism
from fedapt_secure.learning.privacy.record_gradients import (
    FactoredLinear,
    factored_parameters,
    values_a_record,
)

OUTPUTS, DOMAINS, INPUTS = 7, 3, 5
SHAPES = ((OUTPUTS, INPUTS), (DOMAINS, INPUTS))


@st.composite
def factors(draw, least=0):
    """Return, for each of two layers, errors (B, M) and features (B, D), float32; some of them broken."""
    count = draw(st.integers(least, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-25, 1e-3, 1.0, 1e12]))
    layers = [
        (
            torch.randn(count, outputs, generator=generator),
            scale * torch.randn(count, inputs, generator=generator),
        )
        for outputs, inputs in SHAPES
    ]
    if count:
        values = layers[draw(st.integers(0, 1))][draw(st.integers(0, 1))]
        place = draw(st.integers(0, count - 1)), draw(st.integers(0, 2))
        values[place] = draw(st.sampled_from([0.0, math.nan, math.inf, -math.inf]))
        if draw(st.booleans()):  # an error of zero does not heal a broken feature
            layers[0][0][draw(st.integers(0, count - 1))] = 0.0
    return layers


def release(layers, mechanism, *, factored, chunk, sizes=None):
    """Return the released sum, flat float64, of records in chunks."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    optimizer = KeystreamDPOptimizer(
        torch.optim.SGD(parameters, lr=0.0),
        mechanism=mechanism,
        divisor=1.0,
        keystream=Keystream(bytes(32)),
        factored=parameters if factored else (),
    )
    if sizes is not None:
        optimizer.begin(sizes)
    rows = torch.split(torch.arange(len(layers[0][0])), chunk)
    for number, some in enumerate(rows):
        for parameter, (errors, features) in zip(parameters, layers, strict=True):
            one, other = errors[some], features[some]
            parameter.grad_sample = (
                torch.cat([one, other], dim=1)
                if factored
                else one.double()[:, :, None] * other.double()[:, None, :]
            )
        optimizer.signal_skip_step(number < len(rows) - 1)
        optimizer.pre_step()
        if number < len(rows) - 1:
            optimizer.zero_grad()
    return torch.cat([parameter.summed_grad.flatten() for parameter in parameters]).numpy()


@settings(deadline=None, max_examples=100)
@given(
    layers=factors(),
    norm=st.sampled_from([0.25, 1.0, 8.0]),
    sigma=st.sampled_from([0.0, 1.5]),
    chunk=st.integers(1, 12),
)
def test_the_release_is_that_of_gradients_written_out(layers, norm, sigma, chunk):
    """Before the grid the sums differ by less than 2⁻¹⁸ of a step; so at most in how a half is rounded."""
    mechanism = Mechanism(sigma, norm)
    kept = release(layers, mechanism, factored=True, chunk=chunk) / mechanism.grid
    written = release(layers, mechanism, factored=False, chunk=chunk) / mechanism.grid
    assert np.array_equal(kept, np.rint(kept))
    assert np.abs(kept - written).max() <= 1
    bound = 2 * (12 + 12 + 3 + len(kept) + 8) * 2.0**-53 * 12 * 2**20  # in steps: see `mechanism`
    assert bound < 2.0**-18


@settings(deadline=None, max_examples=100)
@given(layers=factors(least=1), norm=st.sampled_from([0.25, 1.0, 8.0]), data=st.data())
def test_one_record_moves_the_sum_by_at_most_the_sensitivity(layers, norm, data):
    """Neighbours: the record counts as zero, its place in the batch stays."""
    index = data.draw(st.integers(0, len(layers[0][0]) - 1))
    without = [tuple(one.clone() for one in pair) for pair in layers]
    for pair in without:
        for one in pair:
            one[index] = 0
    mechanism = Mechanism(0.0, norm)
    moved = release(layers, mechanism, factored=True, chunk=5)
    moved = moved - release(without, mechanism, factored=True, chunk=5)
    assert np.linalg.norm(moved) <= mechanism.sensitivity(len(moved))


@settings(deadline=None, max_examples=60)
@given(layers=factors(least=4), chunk=st.integers(1, 12))
def test_persons_of_several_records_are_written_out_and_summed_before_clipping(layers, chunk):
    count = len(layers[0][0])
    sizes = torch.tensor([3] + [1] * (count - 3))
    mechanism = Mechanism(0.0, 1.0)
    kept, written = (
        release(layers, mechanism, factored=factored, chunk=chunk, sizes=sizes) for factored in (True, False)
    )
    assert np.array_equal(kept, written)


def test_the_sum_of_many_records_stays_within_the_stated_bound():
    """Same-signed values, the worst for rounding: against exact sums of exact products."""
    generator = torch.Generator().manual_seed(0)
    count, mechanism = 4096, Mechanism(0.0, 1.0)
    layers = [
        (torch.rand(count, outputs, generator=generator), torch.rand(count, inputs, generator=generator))
        for outputs, inputs in SHAPES
    ]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    optimizer = KeystreamDPOptimizer(
        torch.optim.SGD(parameters, lr=0.0),
        mechanism=mechanism,
        divisor=1.0,
        keystream=Keystream(bytes(32)),
        factored=parameters,
    )
    for parameter, pair in zip(parameters, layers, strict=True):
        parameter.grad_sample = torch.cat(pair, dim=1)
    optimizer.clip_and_accumulate()
    found = np.concatenate([parameter.summed_grad.numpy().ravel() for parameter in parameters])
    rows = np.concatenate(
        [
            (one.numpy().astype(np.longdouble)[:, :, None] * other.numpy()[:, None, :]).reshape(count, -1)
            for one, other in layers
        ],
        axis=1,
    )
    limit = mechanism.clipping_norm
    weights = limit / np.maximum(np.sqrt((rows**2).sum(1)), limit)
    exact = (weights[:, None] * rows).sum(0)
    assert np.linalg.norm((found - exact).astype(float)) <= (count + 1 + 3) * 2.0**-53 * count


@pytest.mark.parametrize("inputs", [1, 5])
def test_opacus_finds_the_factors_of_what_it_finds_for_a_plain_layer(inputs):
    generator = torch.Generator().manual_seed(1)
    plain, factored = nn.Linear(inputs, OUTPUTS, bias=False), FactoredLinear(inputs, OUTPUTS)
    factored.load_state_dict(plain.state_dict())
    features = torch.randn(9, inputs, generator=generator)
    labels = torch.randint(OUTPUTS, (9,), generator=generator)
    for layer in (plain, factored):
        wrapped = GradSampleModule(layer, loss_reduction="sum")
        logits = wrapped(features.clone().requires_grad_())
        nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    errors, kept = factored.weight.grad_sample.split([OUTPUTS, inputs], dim=1)
    assert torch.equal(kept, features)
    assert torch.equal(errors[:, :, None] * kept[:, None, :], plain.weight.grad_sample)


@pytest.mark.parametrize("shape", [(4, 2, INPUTS), (4, INPUTS)])
def test_a_layer_whose_gradient_is_no_outer_product_is_refused(shape):
    wrapped = GradSampleModule(FactoredLinear(INPUTS, INPUTS), loss_reduction="sum")
    once = wrapped(torch.randn(shape, requires_grad=True))
    with pytest.raises(ValueError, match="one row a record"):
        (wrapped(once) if len(shape) == 2 else once).sum().backward()


def test_factors_take_less_than_what_they_stand_for():
    module = nn.Sequential(FactoredLinear(768, 345), nn.Linear(345, 2))
    assert [one.shape for one in factored_parameters(module)] == [(345, 768)]
    assert values_a_record(module, whole=True) == 345 * 768 + 2 * 345 + 2
    assert values_a_record(module, whole=False) == 345 + 768 + 2 * 345 + 2

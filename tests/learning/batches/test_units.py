"""Units of privacy: which records are sampled together, and sums that are clipped once for each person."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch, Units
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import KeystreamDPOptimizer, Mechanism
from fedapt_secure.learning.privacy.unit_sums import UnitSums
from fedapt_secure.privacy.unit import IMAGE, PERSON

SHAPES = ((4, 3), (2, 3))
D = 18
names = st.lists(st.sampled_from("abcdefgh"), max_size=30)


def persons_by_loop(subjects, chosen):
    order = list(dict.fromkeys(subjects))
    groups = [[n for n, one in enumerate(subjects) if one == order[number]] for number in chosen]
    return [n for group in groups for n in group], [len(group) for group in groups]


@given(subjects=names, data=st.data())
def test_a_batch_holds_all_records_of_the_chosen_persons_and_no_other(subjects, data):
    units = Units.persons(subjects)
    assert units.kind == PERSON
    assert len(units) == len(set(subjects))
    chosen = sorted(data.draw(st.sets(st.integers(0, max(0, len(units) - 1)), max_size=len(units))))
    batch = units.batch(torch.tensor(chosen, dtype=torch.int64))
    assert (batch.records.tolist(), batch.sizes.tolist()) == persons_by_loop(subjects, chosen)
    assert len(batch) == int(batch.sizes.sum())


@given(count=st.integers(0, 20), data=st.data())
def test_images_are_a_unit_each(count, data):
    units = Units.images(count)
    assert units.kind == IMAGE
    chosen = torch.tensor(
        sorted(data.draw(st.sets(st.integers(0, max(0, count - 1)), max_size=count))), dtype=torch.int64
    )
    batch = units.batch(chosen)
    assert torch.equal(batch.records, chosen)
    assert batch.sizes.tolist() == [1] * len(chosen)


@st.composite
def persons(draw, least=0):
    """Return gradients (B, D) and how many records each person has; some persons have very many."""
    sizes = draw(st.lists(st.sampled_from([1, 1, 2, 3, 7, 40]), min_size=least, max_size=8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    rows = sum(sizes)
    values = torch.randn(rows, D, generator=generator)
    values *= 10.0 ** torch.randint(-6, 7, (rows, 1), generator=generator)
    values *= draw(st.sampled_from([1e-12, 1e-3, 1.0, 1e15]))
    for _ in range(draw(st.integers(0, 2)) if rows else 0):
        broken = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
        values[draw(st.integers(0, rows - 1)), draw(st.integers(0, D - 1))] = broken
    return values, torch.tensor(sizes, dtype=torch.int64)


def make(norm=1.0, sigma=0.0, shapes=SHAPES):
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    optimizer = KeystreamDPOptimizer(
        torch.optim.SGD(parameters, lr=0.0),
        mechanism=Mechanism(sigma, norm),
        divisor=1.0,
        keystream=Keystream(bytes(32)),
    )
    return optimizer, parameters


def release(optimizer, parameters, values, sizes, chunk):
    """Return the released sum, flat float64."""
    optimizer.begin(sizes)
    chunks = values.split(chunk)
    for number, part in enumerate(chunks):
        split = part.split([parameter.numel() for parameter in parameters], dim=1)
        for parameter, own in zip(parameters, split, strict=True):
            parameter.grad_sample = own.reshape(-1, *parameter.shape)
        optimizer.signal_skip_step(number < len(chunks) - 1)
        optimizer.pre_step()
        if number < len(chunks) - 1:
            optimizer.zero_grad()
    released = torch.cat([parameter.summed_grad.flatten() for parameter in parameters])
    optimizer.zero_grad()
    return released.numpy()


def by_loop(values, sizes, norm):
    """The slow truth: person by person, exact sums in float64 by math.fsum, clipped once."""
    limit, totals, start = norm * (1 - 2.0**-12), [[] for _ in range(D)], 0
    for size in sizes.tolist():
        own = [row for row in values[start : start + size].double().tolist() if all(map(math.isfinite, row))]
        start += size
        summed = [math.fsum(column) for column in zip(*own, strict=True)] if own else [0.0] * D
        length = math.sqrt(math.fsum(x * x for x in summed))
        for total, value in zip(totals, summed, strict=True):
            total.append(value * min(1.0, limit / length) if length else 0.0)
    return np.array([math.fsum(total) for total in totals])


@settings(deadline=None, max_examples=60)
@given(problem=persons(), norm=st.sampled_from([0.25, 1.0, 8.0]), chunk=st.integers(1, 70))
def test_the_release_is_the_slow_sum_of_persons_clipped_once(problem, norm, chunk):
    values, sizes = problem
    optimizer, parameters = make(norm)
    for _ in range(2):  # a second step starts from nothing
        found = release(optimizer, parameters, values, sizes, chunk)
        assert np.abs(found - by_loop(values, sizes, norm)).max() <= Mechanism(0.0, norm).grid


@settings(deadline=None, max_examples=60)
@given(problem=persons(least=1), norm=st.sampled_from([0.25, 1.0, 8.0]), data=st.data())
def test_one_person_moves_the_sum_by_at_most_the_sensitivity(problem, norm, data):
    """Neighbours: all of one person's records count as zero, or are any others; the person stays in place."""
    values, sizes = problem
    person, chunk = data.draw(st.integers(0, len(sizes) - 1)), data.draw(st.integers(1, 70))
    start = int(sizes[:person].sum())
    without = values.clone()
    without[start : start + int(sizes[person])] = 0
    moved = release(*make(norm), values, sizes, chunk) - release(*make(norm), without, sizes, chunk)
    assert np.linalg.norm(moved) <= Mechanism(0.0, norm).sensitivity(D)


@settings(deadline=None, max_examples=60)
@given(problem=persons(least=1), data=st.data())
def test_another_persons_images_change_no_bit_of_a_sum(problem, data):
    values, sizes = problem
    values = values.double().nan_to_num(0.0, 0.0, 0.0)
    person, chunk = data.draw(st.integers(0, len(sizes) - 1)), data.draw(st.integers(1, 70))
    start = int(sizes[:person].sum())
    other = values.clone()
    other[start : start + int(sizes[person])] = 1e30

    def sums(rows):
        adding = UnitSums(sizes)
        parts = [adding.add([part])[0] for part in rows.split(chunk)]
        adding.finish()
        return torch.cat(parts)

    kept = torch.arange(len(sizes)) != person
    assert torch.equal(sums(values)[kept], sums(other)[kept])
    assert not torch.equal(sums(values)[~kept], sums(other)[~kept])


def test_one_person_moves_the_sum_of_images_further_than_that():
    """What the two units are about: three images of one person, clipped one by one, move it three times."""
    values, sizes = torch.full((3, D), 9.0), torch.tensor([3])
    by_person = np.linalg.norm(release(*make(), values, sizes, 2))
    by_image = np.linalg.norm(release(*make(), values, torch.ones(3, dtype=torch.int64), 2))
    assert by_person == pytest.approx(1.0, abs=1e-3)
    assert by_image == pytest.approx(3.0, abs=1e-3)


def test_one_image_can_turn_a_persons_sum_round():
    """Why a guarantee per person does not give the one per image at the same ε."""
    values, sizes = torch.full((2, D), 9.0), torch.tensor([2])
    other = values.clone()
    other[1] = -99.0
    moved = release(*make(), values, sizes, 2) - release(*make(), other, sizes, 2)
    assert np.linalg.norm(moved) == pytest.approx(2.0, abs=1e-3)


def test_a_broken_image_takes_none_of_its_persons_others_away():
    values, sizes = torch.full((3, D), 0.01), torch.tensor([3])
    broken = values.clone()
    broken[1, 4] = math.nan
    values[1] = 0
    assert np.array_equal(release(*make(), broken, sizes, 3), release(*make(), values, sizes, 3))


@pytest.mark.parametrize(("rows", "what"), [(3, "fewer"), (5, "more")])
def test_records_that_do_not_fill_the_units_are_a_mistake(rows, what):
    with pytest.raises(ValueError, match=what):
        release(*make(), torch.zeros(rows, D), torch.tensor([1, 3]), 2)


def test_an_empty_step_of_persons_has_full_noise():
    empty = release(*make(sigma=2.0), torch.zeros(0, D), torch.zeros(0, dtype=torch.int64), 1)
    drawn = release(*make(sigma=2.0), torch.zeros(5, D), torch.tensor([2, 3]), 2)
    assert np.array_equal(empty, drawn)
    assert np.linalg.norm(empty) > 1


def grown_bytes(work) -> int:
    """Return by how much memory grows at most while something is done."""
    Path("/proc/self/clear_refs").write_text("5")  # the mark of the highest use starts from here

    def highest():
        line = next(one for one in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in one)
        return int(line.split()[1]) * 1024

    before = highest()
    work()
    return highest() - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' account of memory")
@pytest.mark.parametrize("sizes", [[6000], [300] * 20, [1, 599] * 10, [1] * 6000])
def test_memory_is_that_of_a_chunk_however_many_images_a_person_has(sizes):
    chunk_bytes, classes, size = 24 << 20, 32, 512
    gradient = TextFeatureGradient(
        classes=classes,
        domains=0,
        feature_size=size,
        divisor=1.0,
        mechanism=Mechanism(1.0, 1.0),
        chunk_bytes=chunk_bytes,
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6000, size, generator=generator)
    labels = torch.randint(classes, (6000,), generator=generator)
    weights = torch.randn(classes, size, generator=generator)
    batch = Batch(torch.arange(6000), torch.tensor(sizes))
    at_once = 6000 * classes * size * 4
    few = Examples(features[:9], labels[:9])
    gradient(weights, None, features[:9], features[:9], few, 0, Batch.of_images(torch.arange(9)))
    examples = Examples(features, labels)
    grown = grown_bytes(lambda: gradient(weights, None, features, features, examples, 0, batch))
    assert at_once > 12 * chunk_bytes
    assert grown < 4 * chunk_bytes

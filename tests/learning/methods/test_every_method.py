"""What every method must keep, whatever it trains: one suite for all of them."""

import dataclasses

import numpy as np
import pytest
import torch

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import ClassifierParts, Task, TrainingData, cosine_logits
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.mechanism import Mechanism
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.methods import METHODS, ZERO_SHOT
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

CLASS_NAMES = ("cat", "fire_truck", "sea anemone")
PRIVATE = [name for name, facts in METHODS.items() if facts.never_private is None and name != ZERO_SHOT]
COUNT, RATE = 12, 0.5
LOSSES = ({}, {"loss_temperature": 4.0, "domain_loss_weight": 0.3})
SETTINGS = TrainingSettings(declared_records=COUNT, private=False, sample_rate=RATE, local_steps=1)


def shape_for(method: str) -> ParameterShape:
    return ParameterShape(3, 4, 64, 64, 2, class_specific=method != "cocoop", method=method)


def some_data() -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (COUNT,), generator=generator)
    centres = torch.randn(3, 64, generator=generator) * 3
    return TrainingData(centres[labels] + torch.randn(COUNT, 64, generator=generator), labels)


def some_parameters(method: str) -> dict[str, torch.Tensor]:
    """Return values away from the start, where some gradients are zero."""
    shape = shape_for(method)
    moved = np.random.default_rng(1).normal(0, 0.05, shape.size).astype(np.float32)
    parts = unflatten(shape, initial_parameters(shape, 0) + moved)
    return {name: torch.from_numpy(values).requires_grad_() for name, values in parts.items()}


class WithMechanism(TrainingSettings):
    """Settings that clip and, unlike real ones, need not add noise."""

    @property
    def mechanism(self) -> Mechanism:
        return Mechanism(0.0, self.max_grad_norm)


@pytest.fixture
def task(tiny):
    def make(method: str, settings: TrainingSettings = SETTINGS) -> Task:
        key = torch.from_numpy(np.random.default_rng(3).random((4, 64), np.float32))
        shape = shape_for(method)
        return Task(tiny, CLASS_NAMES, shape, "a photo of a {}", key, 1, settings, Keystream(bytes(32)))

    return make


def joined(gradients) -> torch.Tensor:
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


@pytest.mark.parametrize("method", PRIVATE)
def test_a_batch_is_the_sum_of_its_records(task, method):
    objective, parameters = method_of(method).objective(task(method), some_data()), some_parameters(method)
    batch = torch.tensor([1, 4, 5, 9])
    alone = sum(joined(objective.gradients(parameters, Batch.of_images(one[None]))) for one in batch)
    together = joined(objective.gradients(parameters, Batch.of_images(batch)))
    assert together.norm() > 1e-4
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert not joined(objective.gradients(parameters, Batch.of_images(batch[:0]))).any()


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("method", PRIVATE)
def test_no_record_moves_a_private_sum_further_than_its_bound(task, method, losses):
    """Without noise the private sum is that of clipped records; prompts clip before the text tower."""
    clip, fields = 1e-3, dataclasses.asdict(SETTINGS) | {"private": True, "noise_multiplier": 1.0} | losses
    settings = WithMechanism(**fields | {"max_grad_norm": clip})
    objective, parameters = (
        method_of(method).objective(task(method, settings), some_data()),
        some_parameters(method),
    )
    seen = []
    gradient = objective._sum if hasattr(objective, "_sum") else objective._gradient._sum
    original = gradient._taken
    gradient._taken = lambda divisor: seen.append(original(divisor)) or seen[-1]
    batch = torch.arange(5)
    objective.gradients(parameters, Batch.of_images(batch))
    objective.gradients(parameters, Batch.of_images(batch[1:]))
    with_it, without = (joined(one) * COUNT * RATE for one in seen)
    # The grid of the mechanism rounds each value by at most half a step.
    slack = Mechanism(0.0, clip).grid * len(with_it) ** 0.5
    assert 0 < (with_it - without).norm() <= clip + slack
    assert with_it.norm() <= 5 * clip + slack


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("method", PRIVATE)
def test_a_person_counts_once_however_many_images(task, method, losses):
    """With one person's images in place of the five above, all of them together move the sum by C at most."""
    clip, fields = 1e-3, dataclasses.asdict(SETTINGS) | {"private": True, "noise_multiplier": 1.0} | losses
    settings = WithMechanism(**fields | {"max_grad_norm": clip})
    data, parameters = some_data(), some_parameters(method)
    objective = method_of(method).objective(task(method, settings), data)
    gradient = objective._sum if hasattr(objective, "_sum") else objective._gradient._sum
    seen = []
    original = gradient._taken
    gradient._taken = lambda divisor: seen.append(original(divisor)) or seen[-1]
    subjects = ("ada",) * 5 + ("bea", "cem", "bea")
    units = dataclasses.replace(data, subjects=subjects).units(private=True)
    objective.gradients(parameters, units.batch(torch.arange(3)))
    objective.gradients(parameters, units.batch(torch.arange(1, 3)))
    objective.gradients(parameters, units.batch(torch.arange(1)))
    everybody, without, alone = (joined(one) * COUNT * RATE for one in seen)
    slack = Mechanism(0.0, clip).grid * len(alone) ** 0.5
    for moved in (everybody - without, alone):
        assert 0.9 * clip < moved.norm() <= clip + slack
    assert without.norm() <= 2 * clip + slack


@pytest.mark.parametrize("method", PRIVATE)
def test_subjects_change_nothing_without_privacy(task, method):
    start, data = initial_parameters(shape_for(method), 0), some_data()
    named = dataclasses.replace(data, subjects=tuple("aaabbbcccddd"))
    first, second = (LocalTrainer(task(method), one).train(start) for one in (data, named))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", PRIVATE)
def test_it_learns_and_classifies(task, tiny, method):
    data, shape = some_data(), shape_for(method)
    settings = dataclasses.replace(SETTINGS, local_steps=40, sample_rate=1.0, learning_rate=0.5)
    start = initial_parameters(shape, 0)

    def right_answers(parameters):
        parts = {name: torch.from_numpy(values) for name, values in unflatten(shape, parameters).items()}
        keys = torch.from_numpy(np.random.default_rng(3).random((2, 4, 64), np.float32))
        made = ClassifierParts(tiny, CLASS_NAMES, shape, "a photo of a {}", parts, keys, 0.01)
        model = method_of(method).classifier(made)
        logits = model.predict(data.features)
        assert logits.shape == (COUNT, 3)
        assert model.predict(data.features[:0]).shape == (0, 3)
        assert (model.routing(data.features) is None) == (not METHODS[method].uses_keys)
        return int((logits.argmax(1) == data.labels).sum())

    local = start + LocalTrainer(task(method, settings), data).train(start)
    assert right_answers(local) > right_answers(start)


def test_zero_shot_trains_nothing_and_answers_as_clip_does(task, tiny):
    data, shape = some_data(), shape_for(ZERO_SHOT)
    assert shape.size == 0
    with pytest.raises(InvalidInput, match="trains nothing"):
        method_of(ZERO_SHOT).objective(task(ZERO_SHOT), data)
    for template in ("a photo of a {}", "imagenet-7"):
        parts = ClassifierParts(tiny, CLASS_NAMES, shape, template, {}, torch.zeros(0, 4, 64), 0.01)
        model = method_of(ZERO_SHOT).classifier(parts)
        plain = cosine_logits(tiny, data.features, zero_shot_text(tiny, CLASS_NAMES, template))
        torch.testing.assert_close(model.predict(data.features), plain)
        assert model.routing(data.features) is None


@pytest.mark.parametrize("method", PRIVATE)
def test_the_proximal_term_holds_values_to_the_start(task, method):
    start, data = initial_parameters(shape_for(method), 0), some_data()
    sizes = [
        np.linalg.norm(
            LocalTrainer(
                task(
                    method,
                    dataclasses.replace(SETTINGS, local_steps=20, learning_rate=0.1, proximal_weight=weight),
                ),
                data,
            ).train(start)
        )
        for weight in (0.0, 1.0)
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("clip", [1e-3, 0.02, 10.0])
@pytest.mark.parametrize("method", ["cocoop", "fedclip"])
def test_each_record_is_clipped_over_all_tensors_together(task, method, clip):
    """The slow truth: every record in a batch of its own, clipped by hand, added up; a broken one is zero."""
    fields = dataclasses.asdict(SETTINGS) | {"private": True, "noise_multiplier": 1.0, "max_grad_norm": clip}
    data, parameters, batch = some_data(), some_parameters(method), torch.tensor([0, 2, 3, 7, 8])
    data.features[7, 5] = float("nan")
    plain = method_of(method).objective(task(method), data)
    alone = [joined(plain.gradients(parameters, Batch.of_images(one[None]))) * COUNT * RATE for one in batch]
    limit = clip * (1 - 2**-12)
    expected = sum(one * min(1.0, limit / float(one.norm())) for one in alone if one.isfinite().all())
    private = method_of(method).objective(task(method, WithMechanism(**fields)), data)
    found = joined(private.gradients(parameters, Batch.of_images(batch))) * COUNT * RATE
    assert sum(bool(one.isfinite().all()) for one in alone) == 4
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=2 * Mechanism(0.0, clip).grid)

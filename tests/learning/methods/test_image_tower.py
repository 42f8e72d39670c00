"""FedAvg and FedProx: gradients of the whole image tower, against a copy of it that is really changed."""

import copy
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.fixed_point import FixedPoint
from fedapt_crypto.keystream import Keystream
from fedapt_secure.config.simulate import SimulateSettings
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.evaluation.scores import evaluate, own_features
from fedapt_secure.learning.methods import image_tower
from fedapt_secure.learning.methods.base import ClassifierParts, Task, TrainingData
from fedapt_secure.learning.methods.image_tower import CHANGE
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.methods import METHODS
from fedapt_secure.protocol.parameters import ParameterShape

CLASS_NAMES, TEMPLATE = ("cat", "fire_truck", "sea anemone"), "a photo of a {}"
COUNT = 7
SETTINGS = TrainingSettings(
    declared_records=COUNT, private=False, sample_rate=1.0, local_steps=3, learning_rate=1e-3
)


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """A ResNet tower, with batch normalisation."""
    folder = tmp_path_factory.mktemp("convolutional")
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision_cfg = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    model_cfg = {"embed_dim": 24, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg}))
    return load_backbone(f"local-dir:{folder}", RANDOM)


@pytest.fixture(params=["small", "convolutional"])
def backbone(request):
    return request.getfixturevalue(request.param)


def image_size(backbone):
    size = backbone._model.visual.image_size
    return size[0] if isinstance(size, tuple) else size


def shape_for(backbone, method="fedavg"):
    sizes = (len(CLASS_NAMES), 4, backbone.text_width, backbone.feature_size, 2)
    return ParameterShape(*sizes, method=method, tower_values=backbone.image_tower_values)


def some_images(backbone, count=COUNT, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = image_size(backbone)
    return torch.randn(count, 3, side, side, generator=generator), torch.randint(
        3, (count,), generator=generator
    )


def some_change(backbone, size=0.01):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(0, size, backbone.image_tower_values).astype(np.float32))


def task_for(backbone, settings=SETTINGS, shape=None):
    shape = shape or shape_for(backbone)
    key = torch.zeros(shape.key)
    return Task(backbone, CLASS_NAMES, shape, TEMPLATE, key, 0, settings, Keystream(bytes(32)))


def data_for(backbone, images, labels):
    return TrainingData(
        torch.zeros(len(labels), backbone.feature_size), labels, lambda numbers: images[numbers]
    )


def changed_copy(backbone, change):
    """Return the tower with the change really added to its weights."""
    tower, start = copy.deepcopy(backbone._model.visual), 0
    for parameter in tower.parameters():
        parameter.data += change[start : start + parameter.numel()].view_as(parameter)
        parameter.requires_grad_()
        start += parameter.numel()
    return tower


@pytest.mark.parametrize("at_once", [2, 100])
def test_the_gradient_is_that_of_a_really_changed_tower(backbone, monkeypatch, at_once):
    monkeypatch.setattr(image_tower, "_IMAGES_AT_ONCE", at_once)
    (images, labels), change = some_images(backbone), some_change(backbone)
    batch = torch.tensor([0, 2, 3, 4, 6])
    tower = changed_copy(backbone, change)
    unit = F.normalize(tower(images[batch]), dim=-1)
    text = zero_shot_text(backbone, CLASS_NAMES, TEMPLATE)
    loss = F.cross_entropy(backbone.logit_scale * unit @ text.T, labels[batch], reduction="sum") / COUNT
    expected = torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(tower.parameters()))])

    objective = method_of("fedavg").objective(task_for(backbone), data_for(backbone, images, labels))
    parameters = {CHANGE: change.clone().requires_grad_()}
    found = objective.gradients(parameters, Batch.of_images(batch))[CHANGE]
    assert expected.norm() > 1e-3
    # Convolutions and sums in chunks round in another order.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert not objective.gradients(parameters, Batch.of_images(batch[:0]))[CHANGE].any()


def test_a_gradient_takes_the_memory_of_a_few_towers(backbone):
    """A slice of the change for each weight would cost a gradient as long as all of it for each."""
    change, sizes = some_change(backbone).requires_grad_(), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            sizes.extend(one.numel() for one in tree_leaves(result) if isinstance(one, torch.Tensor))
            return result

    features = backbone.encode_images_changed(change, some_images(backbone)[0][:1])
    with Watch():
        torch.autograd.grad(features.sum(), change)
    assert sizes.count(change.numel()) < 5


def test_statistics_of_batch_normalisation_stay_frozen(convolutional):
    before = copy.deepcopy(convolutional._model.state_dict())
    assert any("running_mean" in name for name in before)
    images, labels = some_images(convolutional)
    start = np.zeros(shape_for(convolutional).size, np.float32)
    update = LocalTrainer(task_for(convolutional), data_for(convolutional, images, labels)).train(start)
    assert np.abs(update).max() > 1e-6
    after = convolutional._model.state_dict()
    assert all(torch.equal(after[name], values) for name, values in before.items())


@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_it_learns_and_the_classifier_uses_what_was_learnt(small, method):
    images, labels = some_images(small)
    shape = shape_for(small, method)
    settings = dataclasses.replace(SETTINGS, local_steps=150, learning_rate=1e-2, proximal_weight=0.01)
    data = data_for(small, images, labels)
    change = LocalTrainer(task_for(small, settings, shape), data).train(np.zeros(shape.size, np.float32))

    def model(values):
        parts = ClassifierParts(
            small, CLASS_NAMES, shape, TEMPLATE, {CHANGE: torch.from_numpy(values)}, torch.zeros(0), 0.01
        )
        return method_of(method).classifier(parts)

    tuned, untuned = model(change), model(np.zeros_like(change))
    frozen = small.encode_images(images)
    torch.testing.assert_close(untuned.encode_images(images), frozen)
    assert tuned.changes_image_tower
    own = own_features(tuned, data.pixels, COUNT)
    assert own_features(tuned, data.pixels, 0).shape == (0, small.feature_size)
    zero_shot = zero_shot_text(small, CLASS_NAMES, TEMPLATE)
    scores = evaluate(tuned, zero_shot, frozen, labels, {0}, own)
    untuned_scores = evaluate(untuned, zero_shot, frozen, labels, {0})
    assert scores.tuned_correct > untuned_scores.tuned_correct
    assert scores.zero_shot_correct == untuned_scores.zero_shot_correct == untuned_scores.tuned_correct


def test_what_cannot_be_trained_is_refused_before_any_step(small, convolutional):
    images, labels = some_images(small)
    data = data_for(small, images, labels)
    private = dataclasses.replace(SETTINGS, private=True, noise_multiplier=1.0)
    with pytest.raises(InvalidInput, match="fedavg cannot be trained under differential privacy"):
        LocalTrainer(task_for(small, private), data)
    with pytest.raises(InvalidInput, match="fedavg trains the image tower and needs the images"):
        LocalTrainer(task_for(small), TrainingData(data.features, labels))
    other = dataclasses.replace(shape_for(small), tower_values=small.image_tower_values + 1)
    with pytest.raises(InvalidInput, match=f"of {other.tower_values} values, that of"):
        LocalTrainer(task_for(small, shape=other), data)
    assert convolutional.image_tower_values != small.image_tower_values


@pytest.mark.parametrize("institutions", [5, 64])
def test_secure_sums_resolve_the_small_changes_of_a_tower(small, institutions):
    """At the default clip one set of bits serves prompts and towers: no smaller one is needed."""
    images, labels = some_images(small)
    settings = dataclasses.replace(SETTINGS, learning_rate=METHODS["fedavg"].learning_rate)
    trainer = LocalTrainer(task_for(small, settings), data_for(small, images, labels))
    update = trainer.train(np.zeros(shape_for(small).size, np.float32)).astype(np.float64)
    encoding = FixedPoint(institutions, SimulateSettings().update_clip)
    words, clipped = encoding.encode(update)
    assert clipped == 0
    assert 0 < np.linalg.norm(encoding.decode(words) - update) < 1e-2 * np.linalg.norm(update)


def test_threads_that_share_a_backbone_do_not_see_each_others_weights(backbone):
    before = backbone.encode_images(pixels := torch.rand(2, 3, image_size(backbone), image_size(backbone)))
    rng = np.random.default_rng(5)
    sizes = [(backbone.image_tower_values,)] * 4
    changes = [torch.from_numpy(rng.normal(0, 0.05, size).astype(np.float32)) for size in sizes]
    alone = [backbone.encode_images_changed(change, pixels) for change in changes]
    with ThreadPoolExecutor(len(changes)) as pool:
        for _ in range(25):
            together = list(pool.map(lambda change: backbone.encode_images_changed(change, pixels), changes))
            assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert torch.equal(backbone.encode_images(pixels), before)

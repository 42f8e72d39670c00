from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.fedapt import modulate
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters

CLASS_NAMES = ("cat", "fire_truck", "sea anemone")


def shape_for(class_specific=True):
    return ParameterShape(
        classes=3, context_tokens=4, text_width=64, feature_size=64, domains=2, class_specific=class_specific
    )


def some_key(seed=0):
    return np.random.default_rng(seed).random((4, 64), np.float32)


def some_records(count=20):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (count,), generator=generator)
    return torch.randn(count, 64, generator=generator) * 5, labels


PLAIN = TrainingSettings(declared_records=20, private=False)
PRIVATE = TrainingSettings(declared_records=20, noise_multiplier=1.0)


@pytest.fixture
def trainer(tiny):
    def make(settings=PLAIN, shape=None, keystream=None, **changes):
        features, labels = some_records()
        data = {"features": features, "labels": labels, "subjects": None}
        data |= {name: changes.pop(name) for name in tuple(changes) if name in data}
        arguments = {
            "backbone": tiny,
            "class_names": CLASS_NAMES,
            "shape": shape or shape_for(),
            "template": "a photo of a {}",
            "key": torch.from_numpy(some_key()),
            "domain_index": 1,
            "settings": settings,
            "keystream": keystream or Keystream.from_operating_system(),
        }
        return LocalTrainer(Task(**(arguments | changes)), TrainingData(**data))

    return make


@pytest.mark.parametrize("class_specific", [True, False])
def test_without_privacy_it_is_momentum_descent_on_the_whole_loss(tiny, trainer, class_specific):
    """Gradients through V are those of autograd through everything, up to the logit scale."""
    shape = shape_for(class_specific)
    settings = TrainingSettings(
        declared_records=20,
        private=False,
        local_steps=3,
        sample_rate=1.0,
        learning_rate=0.2,
        weight_decay=0.01,
    )
    start = initial_parameters(shape, 1)
    found = trainer(settings, shape).train(start)

    features, labels = some_records()
    unit = F.normalize(features, dim=-1)
    text = PromptedText(tiny, CLASS_NAMES, 4, class_specific)
    cut = int(np.prod(shape.meta_prompt))
    prompt = torch.from_numpy(start[:cut].reshape(shape.meta_prompt).copy()).requires_grad_()
    network = torch.from_numpy(start[cut:].reshape(2, 64).copy()).requires_grad_()
    velocity = [torch.zeros_like(prompt), torch.zeros_like(network)]
    for _ in range(3):
        logits = (
            tiny.logit_scale * unit @ text.encode(modulate(prompt, torch.from_numpy(some_key()))[None])[0].T
        )
        class_loss = F.cross_entropy(logits, labels) / tiny.logit_scale
        domain_loss = F.cross_entropy(features @ network.T, torch.ones_like(labels))
        gradients = torch.autograd.grad(class_loss + domain_loss, (prompt, network))
        with torch.no_grad():
            for index, (value, gradient) in enumerate(zip((prompt, network), gradients, strict=True)):
                velocity[index] = 0.9 * velocity[index] + gradient + 0.01 * value
                value.sub_(0.2 * velocity[index])
    expected = np.concatenate([one.detach().numpy().ravel() for one in (prompt, network)]) - start
    assert found.dtype == np.float32
    assert found.shape == (shape.size,)
    assert np.abs(expected[:cut]).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_each_round_starts_without_momentum_and_changes_nothing_it_was_given(trainer):
    start = initial_parameters(shape_for(), 1)
    before = start.copy()
    one = trainer(TrainingSettings(declared_records=20, private=False, sample_rate=1.0))
    first = one.train(start)
    one.train(start + first)
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(one.train(start), first)


def test_private_updates_differ_each_time_and_repeat_under_one_keystream(trainer):
    start = initial_parameters(shape_for(), 1)
    assert not np.array_equal(trainer(PRIVATE).train(start), trainer(PRIVATE).train(start))
    first, second = (trainer(PRIVATE, keystream=Keystream(bytes(32))).train(start) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_more_noise_moves_the_parameters_more(trainer):
    start = initial_parameters(shape_for(), 1)
    sizes = []
    for sigma in (0.01, 10.0):
        settings = TrainingSettings(declared_records=20, noise_multiplier=sigma)
        sizes.append(np.linalg.norm(trainer(settings).train(start)))
    assert sizes[1] > 10 * sizes[0]


def test_private_training_looks_at_unit_features_only(trainer):
    start = initial_parameters(shape_for(), 1)
    features, labels = some_records()
    updates = [
        trainer(PRIVATE, keystream=Keystream(bytes(32)), features=scaled, labels=labels).train(start)
        for scaled in (features, features * 4)  # a power of two: normalising gives the same floats
    ]
    np.testing.assert_array_equal(*updates)


def test_privacy_per_person_samples_persons(trainer):
    """All images but one are one person's: all of them are in a batch, or none."""
    count = len(some_records()[1])
    one = trainer(
        TrainingSettings(declared_records=2, noise_multiplier=1e-3, local_steps=30, learning_rate=1e-3),
        keystream=Keystream(bytes(32)),
        subjects=("ada",) * (count - 1) + ("bea",),
    )
    sizes = []
    objective = one._objective
    original = objective.gradients
    objective.gradients = lambda present, batch: sizes.append(len(batch)) or original(present, batch)
    one.train(initial_parameters(shape_for(), 1))
    assert set(sizes) == {0, 1, count - 1, count}


def test_subjects_that_do_not_fit_are_refused(trainer):
    with pytest.raises(InvalidInput, match="subjects and labels"):
        trainer(PRIVATE, subjects=("ada",))


def test_a_broken_feature_does_not_show(trainer):
    start = initial_parameters(shape_for(), 1)
    features, labels = some_records()
    features[3] = float("nan")
    assert np.isfinite(trainer(PRIVATE, features=features, labels=labels).train(start)).all()


def test_training_fits_the_records(trainer, tiny):
    features, labels = some_records()
    shape, start = shape_for(), initial_parameters(shape_for(), 1)
    settings = TrainingSettings(declared_records=20, private=False, local_steps=60, sample_rate=1.0)
    local = start + trainer(settings).train(start)
    text = PromptedText(tiny, CLASS_NAMES, 4)
    unit = F.normalize(features, dim=-1)

    def right_answers(parameters):
        cut = int(np.prod(shape.meta_prompt))
        prompt = torch.from_numpy(parameters[:cut].reshape(shape.meta_prompt))
        with torch.no_grad():
            found = text.encode(modulate(prompt, torch.from_numpy(some_key()))[None])[0]
        return int(((unit @ found.T).argmax(1) == labels).sum())

    assert right_answers(local) >= right_answers(start) + 5


def test_divergence_is_said_and_not_sent(trainer):
    settings = TrainingSettings(declared_records=20, private=False, learning_rate=1e38)
    with pytest.raises(RunFailed, match="lower the learning rate"):
        trainer(settings).train(initial_parameters(shape_for(), 1))


class _Untouchable:
    """A stand-in for the gradient that must not be reached."""

    def gradients(self, *_):
        raise AssertionError("features were used")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5])
def test_bad_parameters_are_refused_before_a_feature_is_used(trainer, bad):
    one = trainer(PRIVATE)
    one._objective = _Untouchable()
    start = initial_parameters(shape_for(), 1)
    start[7] = bad
    with pytest.raises(InvalidInput, match="not finite or out of range"):
        one.train(start)
    with pytest.raises(InvalidInput, match="values where"):
        one.train(start[:-1])


@pytest.mark.parametrize("value", [-1.0, -1e-7, 1.0, np.nan, np.inf])
def test_keys_outside_the_unit_interval_are_refused(trainer, value):
    key = torch.from_numpy(some_key())
    key[0, 0] = value
    with pytest.raises(InvalidInput, match=r"outside \[0, 1\)"):
        trainer(key=key)


def test_parts_that_do_not_fit_are_refused(trainer, small):
    _, labels = some_records()
    cases = {
        "domain key has shape": {"key": torch.from_numpy(some_key()[:2])},
        "do not fit the model": {"backbone": small},
        "for 3 classes, not 2": {"class_names": CLASS_NAMES[:2]},
        "no domain 2 among 2": {"domain_index": 2},
        "features and labels": {"labels": labels[:-1]},
        "outside the classes": {"labels": labels + 1},
    }
    for message, changes in cases.items():
        with pytest.raises(InvalidInput, match=message):
            trainer(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"declared_records": 0},
        {"noise_multiplier": None},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"private": False},
        {"local_steps": 0},
        {"sample_rate": 0.0},
        {"sample_rate": 1.5},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"max_grad_norm": 0.0},
        {"weight_decay": -1.0},
        {"proximal_weight": -1.0},
    ],
)
def test_unusable_settings_are_refused(changes):
    with pytest.raises(InvalidInput):
        TrainingSettings(**({"declared_records": 20, "noise_multiplier": 1.0} | changes))


class TestSchedule:
    """The learning rate falls with the session's steps, whichever round they are in."""

    def test_it_goes_from_the_whole_to_nothing_over_all_rounds(self):
        settings = TrainingSettings(
            declared_records=20,
            private=False,
            rounds=3,
            local_steps=2,
            learning_rate=6.0,
            learning_rate_schedule="linear",
        )
        rates = [settings.rate(number, step) for number in (1, 2, 3) for step in (0, 1)]
        assert rates == pytest.approx([5.5, 4.5, 3.5, 2.5, 1.5, 0.5])
        constant = replace(settings, learning_rate_schedule="constant")
        assert {constant.rate(number, 1) for number in (1, 2, 3)} == {6.0}

    def test_a_round_takes_the_rate_of_its_place(self, trainer):
        """Without momentum a step is its rate times a gradient: in the last round a fifth of the first's."""
        settings = TrainingSettings(
            declared_records=20,
            private=False,
            sample_rate=1.0,
            rounds=3,
            local_steps=1,
            momentum=0.0,
            learning_rate_schedule="linear",
        )
        start = initial_parameters(shape_for(), 1)
        first, last = (trainer(settings).train(start, number) for number in (1, 3))
        np.testing.assert_allclose(last, first / 5, atol=1e-6)

    @pytest.mark.parametrize("number", [0, 4])
    def test_a_round_that_is_none_is_refused(self, trainer, number):
        settings = replace(PLAIN, rounds=3)
        with pytest.raises(InvalidInput, match=f"there is no round {number} among 3"):
            trainer(settings).train(initial_parameters(shape_for(), 1), number)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_temperature_softens_the_loss_and_keeps_the_size_of_gradients(trainer, tiny, temperature):
    """One step without momentum: -η times the gradient of τ·CE(logits / τ) over the logit scale."""
    settings = TrainingSettings(
        declared_records=20,
        private=False,
        local_steps=1,
        sample_rate=1.0,
        learning_rate=0.2,
        momentum=0.0,
        loss_temperature=temperature,
    )
    shape = shape_for()
    start = initial_parameters(shape, 1)
    found = trainer(settings, shape).train(start)
    features, labels = some_records()
    prompt = torch.from_numpy(start[: 3 * 4 * 64].reshape(shape.meta_prompt).copy()).requires_grad_()
    texts = PromptedText(tiny, CLASS_NAMES, 4, True).encode(
        modulate(prompt, torch.from_numpy(some_key()))[None]
    )
    logits = tiny.logit_scale * F.normalize(features, dim=-1) @ texts[0].T
    loss = temperature * F.cross_entropy(logits / temperature, labels) / tiny.logit_scale
    (gradient,) = torch.autograd.grad(loss, prompt)
    np.testing.assert_allclose(found[: prompt.numel()], -0.2 * gradient.numpy().ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 0}, "at least one round"),
        ({"loss_temperature": 0.0}, "temperature of the loss"),
        ({"domain_loss_weight": -1.0}, "weight of the routing loss"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InvalidInput, match=said):
        replace(PLAIN, **changes)

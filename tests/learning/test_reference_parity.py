"""FedAPT against the reference's formulas, written down slowly and plainly from the paper.

Su et al., "Federated Adaptive Prompt Tuning for Multi-Domain Collaborative Learning", AAAI 2024, section 4,
and its code. Nothing of ours is used for the expected values but the frozen CLIP itself: prompts are whole
77-token sequences, one sample at a time, gradients by autograd through everything, in double precision.
"""

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import NO_LABEL
from fedapt_secure.learning.batches.sampling import ShuffledBatches
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.data.reading.augmentation import Views
from fedapt_secure.learning.methods.base import ClassifierParts, Task, TrainingData
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.training.consistency import Bank, Consistent
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.learning.training.pseudo_labels import PseudoLabelled, pseudo_labels
from fedapt_secure.protocol.methods import FEDAPT
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

NAMES = ("cat", "fire_truck", "sea anemone", "axe")
SPOKEN = ("cat.", "fire truck.", "sea anemone.", "axe.")
N_CTX, TAU = 3, 0.01
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, STEPS = 0.01, 0.9, 1e-5, 2
TOLERANCE = 1e-5
TEMPLATE, WORDS_ALONE, CONFIDENCE = "a photo of {}.", None, 0.5


@dataclass
class Institution:
    """Its records, its key and its domain."""

    features: torch.Tensor
    labels: torch.Tensor
    key: torch.Tensor
    domain: int


class Reference:
    """The formulas, on a double-precision copy of the CLIP."""

    def __init__(self, backbone):
        self.clip = copy.deepcopy(backbone._model).double()
        self.tokens = backbone.tokenize(list(SPOKEN))
        self.words = backbone.tokenize(["a photo of"])[0, 1 : 1 + N_CTX]
        self.scale = self.clip.logit_scale.exp().double()

    def text_feature(self, prompt, index):
        """T of one class' prompt (n_ctx, W): start, prompt, class name, end, padding; unit norm."""
        sequence = self.clip.token_embedding(self.tokens[index])  # (77, W)
        if prompt is WORDS_ALONE:
            prompt = self.clip.token_embedding(self.words)
        sequence = torch.cat([sequence[:1], prompt, sequence[1:-N_CTX]])
        hidden = sequence + self.clip.positional_embedding
        hidden = self.clip.transformer(hidden[None], attn_mask=self.clip.attn_mask)[0]
        end = int(self.tokens[index].argmax()) + N_CTX
        found = self.clip.ln_final(hidden)[end] @ self.clip.text_projection
        return found / found.norm()

    def logits(self, feature, prompts):
        """exp(logit_scale) · f̂ · T(prompts)ᵀ of one sample, (M,)."""
        texts = torch.stack([self.text_feature(prompt, index) for index, prompt in enumerate(prompts)])
        return self.scale * texts @ (feature / feature.norm())

    def losses(self, meta_prompt, network, one):
        """Both cross-entropies, mean over the institution's records."""
        prompts = meta_prompt + meta_prompt * one.key
        class_loss = domain_loss = torch.zeros((), dtype=torch.float64)
        for feature, label in zip(one.features.double(), one.labels, strict=True):
            logits, scores = self.logits(feature, prompts), network @ feature
            class_loss = class_loss - torch.log_softmax(logits, 0)[label]
            domain_loss = domain_loss - torch.log_softmax(scores, 0)[one.domain]
        return class_loss / len(one.labels), domain_loss / len(one.labels)

    def zero_shot(self, feature):
        """Probabilities of one plain view under hand-written prompts, (M,)."""
        texts = torch.stack([self.text_feature(WORDS_ALONE, index) for index in range(len(NAMES))])
        return torch.softmax(self.scale * texts @ (feature / feature.norm()), 0)

    def pseudo_label_losses(self, meta_prompt, network, one, seen, batch):
        """First stage: augmented views towards what zero-shot CLIP is sure of; mean over all, sure or not."""
        prompts = meta_prompt + meta_prompt * one.key
        class_loss = domain_loss = torch.zeros((), dtype=torch.float64)
        for number in batch:
            sure, answer = self.zero_shot(one.features[number].double()).max(0)
            view = seen[number].double()
            if sure > CONFIDENCE:
                class_loss = class_loss - torch.log_softmax(self.logits(view, prompts), 0)[answer]
            domain_loss = domain_loss - torch.log_softmax(network @ view, 0)[one.domain]
        return class_loss / len(batch), domain_loss / len(batch)

    def sure_losses(self, meta_prompt, network, one, seen, batch):
        """First stage as the reference code writes it: the mean is over the images that are sure alone."""
        prompts = meta_prompt + meta_prompt * one.key
        views = [seen[number].double() for number in batch]
        said = [self.zero_shot(one.features[number].double()).max(0) for number in batch]
        logits = torch.stack([self.logits(view, prompts) for view in views])
        kept = torch.where(torch.stack([sure for sure, _ in said]) > CONFIDENCE)
        answers = torch.stack([answer for _, answer in said])
        class_loss = torch.nn.functional.cross_entropy(logits[kept], answers[kept])
        scores = torch.stack([network @ view for view in views])
        return class_loss, torch.nn.functional.cross_entropy(scores, torch.full((len(batch),), one.domain))

    def consistency_losses(self, meta_prompt, network, one, seen, batch, bank, loss):
        """Second stage; `bank` (N, M) is refreshed in place. The reference code takes the logarithm of the
        softmax of what is a probability already."""
        prompts = meta_prompt + meta_prompt * one.key
        plain = [one.features[number].double() for number in batch]
        said = {number: bank[number].clone() for number in batch}
        present = [torch.softmax(self.logits(feature, prompts), 0) for feature in plain]
        for number, probabilities in zip(batch, present, strict=True):
            bank[number] = probabilities.detach()
        class_loss = domain_loss = torch.zeros((), dtype=torch.float64)
        for place, number in enumerate(batch):
            augmented = self.logits(seen[number].double(), prompts)
            if loss == "reference":
                augmented = torch.softmax(augmented, 0)
            augmented = torch.log_softmax(augmented, 0)
            class_loss = class_loss - (said[number] * augmented).sum()
            units = [feature.double() / feature.double().norm() for feature in one.features]
            others = [other for other in range(len(units)) if other != number]
            nearest = sorted(others, key=lambda other: -float(units[other] @ units[number]))[:5]
            for neighbour in nearest:
                class_loss = class_loss + torch.nn.functional.kl_div(
                    present[place], bank[neighbour], reduction="sum"
                )
            for other, probabilities in enumerate(present):
                if other != place:
                    class_loss = class_loss + 0.5 * present[place] @ probabilities
            domain_loss = domain_loss - torch.log_softmax(network @ plain[place], 0)[one.domain]
        return class_loss / len(batch), domain_loss / len(batch)

    def train(self, meta_prompt, network, one, units):
        """SGD with momentum and weight decay on both losses; the class loss in units of the text features,
        or as the paper has it."""
        scale = self.scale if units == "text-features" else 1.0
        values = [meta_prompt.clone().requires_grad_(), network.clone().requires_grad_()]
        velocity = [torch.zeros_like(value) for value in values]
        for _ in range(STEPS):
            class_loss, domain_loss = self.losses(*values, one)
            gradients = torch.autograd.grad(class_loss / scale + domain_loss, values)
            with torch.no_grad():
                for number, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
                    velocity[number] = MOMENTUM * velocity[number] + gradient + WEIGHT_DECAY * value
                    value.sub_(LEARNING_RATE * velocity[number])
        return [value.detach() for value in values]

    def predict(self, meta_prompt, network, keys, feature):
        """Server-side inference of one sample: its own prompt from its weights over the keys."""
        scores = network @ feature
        mean = sum(scores) / len(scores)
        deviation = (sum((score - mean) ** 2 for score in scores) / (len(scores) - 1)) ** 0.5
        weights = torch.softmax((scores - mean) / deviation / TAU, 0)
        mixed = sum(weight * key for weight, key in zip(weights, keys, strict=True))
        return self.logits(feature, meta_prompt + meta_prompt * mixed), weights


@pytest.fixture(scope="module")
def reference(small):
    return Reference(small)


def shape_for(backbone, domains):
    return ParameterShape(len(NAMES), N_CTX, backbone.text_width, backbone.feature_size, domains, True)


def federation(shape, seed, records=5):
    """Institutions, one a domain, and first parameters that lie where training gets to."""
    generator = torch.Generator().manual_seed(seed)
    found = [
        Institution(
            torch.randn(records, shape.feature_size, generator=generator) * 2,
            torch.randint(len(NAMES), (records,), generator=generator),
            torch.rand(shape.key, generator=generator),
            domain,
        )
        for domain in range(shape.domains)
    ]
    rng = np.random.default_rng(seed)
    vector = initial_parameters(shape, seed) + rng.normal(0, 0.1, shape.size).astype(np.float32)
    return found, vector


def as_double(shape, vector):
    parts = unflatten(shape, vector)
    return [torch.from_numpy(parts[name]).double() for name in ("meta_prompt", "adaptive_network")]


def task_for(backbone, shape, one, steps, units="text-features"):
    training = TrainingSettings(
        declared_records=len(one.labels),
        private=False,
        local_steps=steps,
        sample_rate=1.0,
        learning_rate=LEARNING_RATE,
        gradient_units=units,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
    )
    keystream = Keystream(bytes(32))
    return Task(backbone, NAMES, shape, "a {}", one.key, one.domain, training, keystream)


def classifier_for(backbone, shape, vector, keys, temperature=TAU):
    parts = {name: torch.from_numpy(values) for name, values in unflatten(shape, vector).items()}
    made = ClassifierParts(backbone, NAMES, shape, "a {}", parts, keys, temperature)
    return method_of(FEDAPT).classifier(made)


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, atol=TOLERANCE, rtol=TOLERANCE)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(2, 4))
def test_gradients_are_those_of_both_losses(small, reference, seed, domains):
    shape = shape_for(small, domains)
    found_in, vector = federation(shape, seed)
    for one in found_in:
        values = [value.requires_grad_() for value in as_double(shape, vector)]
        class_loss, domain_loss = reference.losses(*values, one)
        assert class_loss > 0.1
        assert domain_loss > 0.01
        expected = torch.autograd.grad(class_loss / reference.scale + domain_loss, values)

        task = task_for(small, shape, one, 1)
        objective = method_of(FEDAPT).objective(task, TrainingData(one.features, one.labels))
        parameters = {
            name: torch.from_numpy(part).requires_grad_() for name, part in unflatten(shape, vector).items()
        }
        found = objective.gradients(parameters, Batch.of_images(torch.arange(len(one.labels))))
        close(found["meta_prompt"], expected[0])
        close(found["adaptive_network"], expected[1])
        assert expected[0].abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("units", ["text-features", "loss"])
def test_a_round_of_several_institutions_ends_at_the_same_model(small, reference, units):
    """With ``loss`` a round at the paper's learning rate, momentum and weight decay is the paper's round."""
    shape = shape_for(small, 3)
    institutions, vector = federation(shape, 7)
    trained = [reference.train(*as_double(shape, vector), one, units) for one in institutions]
    expected = [sum(parts) / len(parts) for parts in zip(*trained, strict=True)]  # the uniform mean
    updates = [
        LocalTrainer(task_for(small, shape, one, STEPS, units), TrainingData(one.features, one.labels)).train(
            vector
        )
        for one in institutions
    ]
    found = as_double(shape, vector + np.mean(updates, axis=0))
    for one, other, start in zip(found, expected, as_double(shape, vector), strict=True):
        close(one, other)
        assert (other - start).abs().max() > 20 * TOLERANCE


@pytest.mark.parametrize("contrast", [1.0, 0.0])
def test_inference_gives_each_sample_its_own_prompt(small, reference, contrast):
    """With no contrast between the network's rows samples mix several keys, else they choose one."""
    shape = shape_for(small, 3)
    institutions, vector = federation(shape, 11)
    network = unflatten(shape, vector)["adaptive_network"]
    if contrast == 0.0:  # the first two rows almost agree: their keys are mixed
        network[1] = network[0] * (1 + 1e-4)
        vector = np.concatenate([vector[: -network.size], network.ravel()])
    keys = torch.stack([one.key for one in institutions])
    model = classifier_for(small, shape, vector, keys)
    features = torch.cat([one.features for one in institutions])
    answers = [
        reference.predict(*as_double(shape, vector), keys.double(), feature.double()) for feature in features
    ]
    expected = torch.stack([logits for logits, _ in answers])
    mixed = sum(float(weights.max()) < 0.999 for _, weights in answers)
    assert (mixed > 3) == (contrast == 0.0)
    for found in (model.predict(features), model.predict_plain(features)):
        close(found / reference.scale, expected / reference.scale)
        assert torch.equal(found.argmax(1), expected.argmax(1))


def test_logits_of_one_institution(small, reference):
    shape = shape_for(small, 2)
    (one, _), vector = federation(shape, 3)
    meta_prompt = as_double(shape, vector)[0]
    expected = torch.stack(
        [reference.logits(feature.double(), meta_prompt * (1 + one.key)) for feature in one.features]
    )
    model = classifier_for(small, shape, vector, torch.stack([one.key, one.key]))
    close(model.predict(one.features) / reference.scale, expected / reference.scale)
    assert expected.std() > 0.1


def unlabelled(seed, backbone, records=9):
    """One institution of records that zero-shot CLIP is partly sure of, and another view of each."""
    shape = shape_for(backbone, 3)
    institutions, vector = federation(shape, seed, records)
    seen = institutions[1].features + torch.randn(records, shape.feature_size) * 0.5
    parameters = {
        name: torch.from_numpy(part).requires_grad_() for name, part in unflatten(shape, vector).items()
    }
    return institutions[1], seen, parameters, [value.requires_grad_() for value in as_double(shape, vector)]


def matches(found, losses, values, scale):
    expected = torch.autograd.grad(losses[0] / scale + losses[1], values)
    close(found["meta_prompt"], expected[0])
    close(found["adaptive_network"], expected[1])
    assert expected[0].abs().max() > 20 * TOLERANCE


@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_pseudo_labels(small, reference, seed):
    torch.manual_seed(seed)
    one, seen, parameters, values = unlabelled(seed, small)
    labels = pseudo_labels(small, NAMES, TEMPLATE, one.features, CONFIDENCE)
    assert 0 < int((labels == NO_LABEL).sum()) < len(labels)
    data = PseudoLabelled(one.features, labels, views=Views([seen]))
    task = task_for(small, shape_for(small, 3), one, 1)
    found = (
        method_of(FEDAPT)
        .objective(task, data)
        .gradients(parameters, Batch.of_images(torch.arange(len(labels))))
    )
    losses = reference.pseudo_label_losses(*values, one, seen, range(len(labels)))
    matches(found, losses, values, reference.scale)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_pseudo_labels_with_the_mean_over_the_sure(small, reference, seed):
    torch.manual_seed(seed)
    one, seen, parameters, values = unlabelled(seed, small)
    labels = pseudo_labels(small, NAMES, TEMPLATE, one.features, CONFIDENCE)
    data = PseudoLabelled(one.features, labels, views=Views([seen]), classes=len(NAMES))
    assert data.couples_records
    sure = [number for number in range(9) if labels[number] != NO_LABEL]
    batch = [*sure, *(number for number in range(9) if number not in sure)][: len(sure) + 2]
    assert 0 < len(sure) < len(batch)
    alone = dataclasses.replace(one, labels=torch.zeros(len(batch)))
    task = task_for(small, shape_for(small, 3), alone, 1)
    objective = method_of(FEDAPT).objective(task, data)
    found = objective.gradients(parameters, Batch.of_images(torch.tensor(batch)))
    matches(found, reference.sure_losses(*values, one, seen, batch), values, reference.scale)


def test_where_nobody_is_sure_only_the_domain_is_learned(small):
    one, seen, parameters, _ = unlabelled(0, small)
    nobody = torch.full((9,), NO_LABEL)
    data = PseudoLabelled(one.features, nobody, views=Views([seen]), classes=len(NAMES))
    objective = method_of(FEDAPT).objective(task_for(small, shape_for(small, 3), one, 1), data)
    found = objective.gradients(parameters, Batch.of_images(torch.arange(9)))
    assert not found["meta_prompt"].any()
    assert found["adaptive_network"].any()


def test_a_round_of_passes_in_batches_is_the_reference_s_epoch(small, reference):
    """Every record once, in batches of one size with a smaller last one, each step a mean over its batch."""
    shape, size = shape_for(small, 2), 4
    (one, _), vector = federation(shape, 5, records=10)
    epoch = dataclasses.replace(
        task_for(small, shape, one, 3, "loss").settings, batch_size=size, sample_rate=0.25
    )
    task = dataclasses.replace(task_for(small, shape, one, 3, "loss"), settings=epoch)
    batches = ShuffledBatches(num_samples=10, batch_size=size, steps=3, keystream=Keystream(bytes(32)))
    orders = list(batches)
    assert [len(order) for order in orders] == [4, 4, 2]
    values = [value.requires_grad_() for value in as_double(shape, vector)]
    optimizer = torch.optim.SGD(values, lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    for order in orders:
        some = dataclasses.replace(one, features=one.features[order], labels=one.labels[order])
        optimizer.zero_grad()
        sum(reference.losses(*values, some)).backward()
        optimizer.step()
    found = LocalTrainer(task, TrainingData(one.features, one.labels)).train(vector)
    for mine, theirs, start in zip(
        as_double(shape, vector + found), values, as_double(shape, vector), strict=True
    ):
        close(mine, theirs.detach())
        assert (theirs.detach() - start).abs().max() > 20 * TOLERANCE


@pytest.mark.parametrize("loss", ["plain", "reference"])
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_consistency_over_several_batches(small, reference, seed, loss):
    torch.manual_seed(seed)
    one, seen, parameters, values = unlabelled(seed, small)
    views, bank = Views([seen, seen + 0.3]), Bank(one.features)
    data = Consistent(one.features, torch.full((9,), NO_LABEL), bank=bank, views=views, loss=loss)
    prompts = values[0] + values[0] * one.key
    with torch.no_grad():
        expected_bank = torch.stack(
            [torch.softmax(reference.logits(feature.double(), prompts), 0) for feature in one.features]
        )
    for number, batch in enumerate(([0, 2, 3, 5], [8, 1, 2, 4], [5, 0])):
        alone = dataclasses.replace(one, labels=torch.zeros(len(batch)))  # whose count divides
        task = task_for(small, shape_for(small, 3), alone, 1)
        objective = method_of(FEDAPT).objective(task, data)
        found = objective.gradients(parameters, Batch.of_images(torch.tensor(batch)))
        view = seen if number % 2 == 0 else seen + 0.3
        losses = reference.consistency_losses(*values, one, view, batch, expected_bank, loss)
        matches(found, losses, values, reference.scale)
        close(bank.probabilities(lambda _: None), expected_bank)
        with torch.no_grad():  # another model before the next batch: the bank remembers this one
            step = torch.randn_like(values[0]) * 0.05
            values[0].add_(step)
            parameters["meta_prompt"].add_(step.float())

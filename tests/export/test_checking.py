"""The comparison: what it lets pass, and what it does not."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import RunFailed
from fedapt_secure.export.checking import Checked, compare, made_images
from fedapt_secure.learning.clip.backbone import load_backbone
from tests.export.conftest import make_bundle


def classifier(method="fedapt", **options):
    return make_bundle(method, **options).model_on(load_backbone())


def right(model):
    """Return what answers as ours does."""

    def answer(images, pixels):
        features = model.encode_images(pixels)
        found = {"logits": model.predict(features)}
        if model.routing(features) is not None:
            found |= {"domain": model.routing(features), "domain_weights": model.weights(features)}
        return found

    return answer


def wrong(model, change):
    """Return what answers as ours does, but for a change."""

    def answer(images, pixels):
        found = {name: values.clone() for name, values in right(model)(images, pixels).items()}
        change(found)
        return found

    return answer


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture(scope="module")
def images(model):
    return made_images(model)


def test_ours_is_right(model, images) -> None:
    found = compare(model, images, right(model), given=0)
    assert (found.images, found.given, found.largest, found.ties) == (len(images), 0, 0.0, 0)
    assert found.between >= 1


def test_images_between_keys_are_sought(model, images) -> None:
    features = model.encode_images(torch.stack([model.backbone.preprocess(one) for one in images]))
    assert (model.weights(features).max(dim=1).values < 1 - 1e-6).any()
    assert len(set(model.routing(features).tolist())) > 1
    assert len({image.size for image in images}) > 5


def shift_a_logit(found):
    found["logits"][0, 0] += 3e-4 * found["logits"].abs().max()


def another_domain(found):
    found["domain"][0] = (found["domain"][0] + 1) % 5


def other_weights(found):
    found["domain_weights"][0] = found["domain_weights"][0].roll(1)


def other_probabilities(found):
    found["probabilities"] = found["logits"].softmax(dim=1).roll(1, dims=1)


def fewer_classes(found):
    found["logits"] = found["logits"][:, 1:]


def not_numbers(found):
    found["logits"][0] = torch.nan


@pytest.mark.parametrize(
    "change",
    [shift_a_logit, another_domain, other_weights, other_probabilities, fewer_classes, not_numbers],
    ids=lambda one: one.__name__,
)
def test_what_is_wrong_is_found(change, model, images) -> None:
    with pytest.raises(RunFailed):
        compare(model, images, wrong(model, change), given=0)


def test_rounding_passes(model, images) -> None:
    def a_little(found):
        found["logits"] += 5e-5 * found["logits"].abs().max()

    assert compare(model, images, wrong(model, a_little), given=0).largest == pytest.approx(5e-5, rel=0.1)


def test_a_label_that_a_hair_decides_may_be_another(images) -> None:
    model = classifier("linear-probe")
    model._text_features[1] = model._text_features[0] * (1 + 1e-7)
    model._text_features[2:] = -model._text_features[0]

    def swap(found):
        found["logits"][:, :2] = found["logits"][:, :2].flip(1)

    compare(model, images, wrong(model, swap), given=0)


def tied(model):
    """Return the model with two keys' vectors that nearly agree: every image routed to them is at a tie."""
    network = model.adaptive_network.clone()
    network[1] = network[0] * (1 + 1e-6)
    network[2:] = -network[0]
    return dataclasses.replace(model, adaptive_network=network)


def test_at_a_tie_either_key_may_answer_and_is_counted() -> None:
    model = tied(classifier(keys=3))
    images = made_images(model)[:4]

    def the_other(found):
        found["domain"] = torch.where(found["domain"] < 2, 1 - found["domain"], found["domain"])
        found["domain_weights"] = found["domain_weights"][:, [1, 0, 2]]
        features = model.encode_images(torch.stack([model.backbone.preprocess(one) for one in images]))
        found["logits"] = torch.cat(
            [
                model.own_logits(feature[None], weight[None])
                for feature, weight in zip(features, found["domain_weights"], strict=True)
            ]
        )

    assert compare(model, images, wrong(model, the_other), given=0).ties > 0

    def and_another_answer(found):
        the_other(found)
        found["logits"] = found["logits"].roll(1, dims=1)

    with pytest.raises(RunFailed):
        compare(model, images, wrong(model, and_another_answer), given=0)


def test_between_keys_the_logits_are_those_of_the_weights(model, images) -> None:
    features = model.encode_images(torch.stack([model.backbone.preprocess(one) for one in images]))
    row = int((model.weights(features).max(dim=1).values < 1 - 1e-6).nonzero()[0])

    def own(found, weights):
        found["domain_weights"][row] = weights
        found["logits"][row] = model.own_logits(features[row : row + 1], weights[None])[0]

    exact = model.weights(features)[row]
    nearly = exact + 5e-5 * torch.eye(5)[exact.argmax()] - 5e-5 * torch.eye(5)[exact.topk(2).indices[1]]
    compare(model, images, wrong(model, lambda found: own(found, nearly)), given=0)
    other = exact.roll(1)
    with pytest.raises(RunFailed):
        compare(model, images, wrong(model, lambda found: own(found, other)), given=0)


def test_counts_add_up() -> None:
    one, other = Checked(3, 0, 1e-6, 1, 0), Checked(4, 4, 1e-5, 2, 1)
    assert one + other == Checked(7, 4, 1e-5, 3, 1)
    assert (Checked(1, 0, 0.0, None, None) + Checked(1, 1, 0.0, None, None)).between is None


def test_one_key_alone_is_never_between(images) -> None:
    model = classifier(keys=1)
    found = compare(model, images, right(model), given=3)
    assert (found.between, found.ties, found.given) == (0, 0, 3)


def test_two_keys_are_never_mixed() -> None:
    model = classifier(keys=2)
    blank = [Image.fromarray(np.full((40, 40, 3), value, np.uint8)) for value in range(0, 256, 5)]
    assert compare(model, blank, right(model), given=0).between == 0

"""The prior weight of every method: nothing at 0, the untuned CLIP at 1, in between as the formula says."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import Classifier
from fedapt_secure.learning.methods.fedapt import FedAptModel
from fedapt_secure.learning.methods.prior import Prior
from fedapt_secure.protocol.methods import METHODS
from tests.export.conftest import make_bundle

KEEPING = [name for name, facts in METHODS.items() if facts.keeps_prior]
FEATURES = torch.randn(40, 64, generator=torch.Generator().manual_seed(3))


def model(method: str, weight: float) -> Classifier:
    return dataclasses.replace(make_bundle(method), prior_weight=weight).model_on(load_backbone())


def untuned_logits() -> torch.Tensor:
    bundle, backbone = make_bundle(), load_backbone()
    texts = zero_shot_text(backbone, bundle.class_names, bundle.zero_shot_template)
    return backbone.logit_scale * F.normalize(FEATURES, dim=-1) @ texts.T


@pytest.mark.parametrize("method", KEEPING)
def test_at_one_it_is_the_untuned_model(method: str) -> None:
    found = model(method, 1.0).predict(FEATURES)
    if method == "linear-probe":  # its weights have a size of their own
        size = make_bundle(method).parameters["classifier"]
        found = found / float(np.sqrt((size**2).sum(axis=1).mean()))
    torch.testing.assert_close(found, untuned_logits(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", KEEPING)
def test_between_it_lies_between(method: str) -> None:
    """Nearer to the untuned model the more of it is kept."""
    untuned = model(method, 1.0).predict(FEATURES)
    away = [
        float((model(method, weight).predict(FEATURES) - untuned).norm()) for weight in (0.0, 0.25, 0.5, 0.75)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] > 0


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_every_image_alone_gets_the_same_answer(weight: float) -> None:
    """FedAPT encodes once a key; the slow reference, a prompt an image, mixes in the same way."""
    kept = model("fedapt", weight)
    assert isinstance(kept, FedAptModel)
    torch.testing.assert_close(kept.predict(FEATURES), kept.predict_plain(FEATURES), atol=1e-4, rtol=1e-4)
    between = torch.full((len(FEATURES), len(kept.keys)), 1 / len(kept.keys))
    mixed, plain = kept.own_logits(FEATURES, between), model("fedapt", 0.0)
    assert isinstance(plain, FedAptModel)
    assert torch.equal(mixed, plain.own_logits(FEATURES, between)) is (weight == 0)


def test_routing_knows_nothing_of_it() -> None:
    routed = [model("fedapt", weight).routing(FEATURES) for weight in (0.0, 0.5, 1.0)]
    assert routed[0] is not None
    assert all(torch.equal(routed[0], one) for one in routed[1:])  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_text_features_stay_of_unit_norm_on_the_way_between(weight: float, seed: int) -> None:
    tuned, untuned = F.normalize(torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)
    found = Prior(untuned, weight).mixed(tuned)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    direction = (1 - weight) * tuned + weight * untuned
    torch.testing.assert_close(found, direction / direction.norm(dim=-1, keepdim=True))


def test_a_probe_keeps_its_size() -> None:
    weights = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)) * 50
    untuned = F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(2)), dim=-1)
    found = Prior(untuned, 1.0).mixed_weights(weights)
    assert float(found.square().sum(-1).mean()) == pytest.approx(
        float(weights.square().sum(-1).mean()), rel=1e-5
    )
    assert torch.equal(Prior(untuned, 0.0).mixed_weights(weights), weights)

"""Towers in bfloat16: how far from float32, and what never is in bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import Mechanism

CLASS_NAMES = ("cat", "fire_truck", "sea anemone")
ROUNDING = 2.0**-8  # of one number in bfloat16


@pytest.fixture(scope="module")
def reduced():
    return load_backbone(precision="bfloat16")


def distance(found, expected):
    return float(((found - expected).norm() / expected.norm()).detach())


def test_precisions_are_models_of_their_own(tiny, reduced):
    assert reduced is not tiny
    assert reduced is load_backbone(precision="bfloat16")
    assert (tiny.precision, reduced.precision) == ("float32", "bfloat16")
    assert reduced.weight_hash == tiny.weight_hash
    assert reduced.logit_scale == tiny.logit_scale


def test_image_features_are_near_those_of_float32(tiny, reduced):
    pixels = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(pixels, tiny.preprocess(Image.new("RGB", (9, 9))).shape[1:])
    found, expected = reduced.encode_images(pixels), tiny.encode_images(pixels)
    assert found.dtype == torch.float32
    assert 0 < distance(found, expected) < 4 * ROUNDING


@pytest.mark.parametrize("class_specific", [True, False])
def test_text_features_and_their_gradient_are_near_those_of_float32(tiny, reduced, class_specific):
    generator = torch.Generator().manual_seed(1)
    shape = (1, len(CLASS_NAMES), 4, 64) if class_specific else (1, 4, 64)
    contexts = 0.02 * torch.randn(shape, generator=generator)
    weights = torch.randn(1, len(CLASS_NAMES), 64, generator=generator)
    found = {}
    for backbone in (tiny, reduced):
        inputs = contexts.clone().requires_grad_()
        features = PromptedText(backbone, CLASS_NAMES, 4, class_specific).encode(inputs)
        assert features.dtype == torch.float32
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(1, 3))
        found[backbone.precision] = features, *torch.autograd.grad(features, inputs, weights)
    (features, gradient), (full_features, full_gradient) = found["bfloat16"], found["float32"]
    assert gradient.dtype == torch.float32
    assert 0 < distance(features, full_features) < 4 * ROUNDING
    assert 0 < distance(gradient, full_gradient) < 8 * ROUNDING


def test_hand_written_prompts_too(tiny, reduced):
    tokens = tiny.tokenize(["a photo of a cat", "a photo of a dog"])
    found, expected = reduced.encode_text(tokens), tiny.encode_text(tokens)
    assert found.dtype == torch.float32
    assert 0 < distance(found, expected) < 4 * ROUNDING


def test_a_changed_tower_stays_in_float32(tiny, reduced):
    """Updates are far smaller than what bfloat16 can tell apart."""
    change = torch.full((tiny.image_tower_values,), 1e-5)
    pixels = torch.rand(2, *tiny.preprocess(Image.new("RGB", (9, 9))).shape)
    with torch.autocast("cpu", torch.bfloat16):
        found = reduced.encode_images_changed(change, pixels)
    torch.testing.assert_close(found, tiny.encode_images_changed(change, pixels))


@pytest.mark.parametrize("private", [True, False])
def test_the_mechanism_never_computes_in_bfloat16(private):
    generator = torch.Generator().manual_seed(2)
    weights, network = torch.randn(3, 8, generator=generator), torch.randn(2, 8, generator=generator)
    features, labels = torch.randn(9, 8, generator=generator), torch.randint(3, (9,), generator=generator)

    def gradient():
        make = TextFeatureGradient(
            classes=3,
            domains=2,
            feature_size=8,
            divisor=1.0,
            mechanism=Mechanism(1.0, 0.5) if private else None,
            keystream=Keystream(bytes(32)),
        )
        batch = Batch.of_images(torch.arange(len(labels)))
        return make(weights, network, features, features, Examples(features, labels), 1, batch)

    expected = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_features_of_another_precision_are_never_taken_from_the_cache(tmp_path, tiny, reduced):
    for number in range(5):
        place = tmp_path / "images" / f"class-{number % 2}" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 30 + number).convert("RGB").save(place)
    records = read_records(tmp_path / "images").records
    full, other = (load_features(records, one, tmp_path / "cache").features for one in (tiny, reduced))
    assert not torch.equal(full, other)
    assert len(list((tmp_path / "cache").glob("*/about.json"))) == 2
    for backbone, features in ((tiny, full), (reduced, other)):
        encoded = []
        again = load_features(
            records, backbone, tmp_path / "cache", lambda done, _, to=encoded: to.append(done)
        )
        assert torch.equal(again.features, features)
        assert encoded == [5], "nothing is encoded anew"

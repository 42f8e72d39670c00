"""The same answers on a GPU as on the CPU; where there is none, all of it is skipped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.keystream import Keystream
from fedapt_secure.cli.app import run
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.clip.device import CPU, resident, resolve_device, resolve_precision, sent
from fedapt_secure.learning.clip.feeding import Feed
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import read_records
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import Mechanism
from fedapt_secure.learning.training.local import LocalTrainer
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
CLASS_NAMES = ("cat", "fire_truck", "sea anemone")
BOUNDS = {"float32": 2e-5, "bfloat16": 3e-2}


@pytest.fixture(scope="module")
def gpu():
    return resolve_device("cuda")


@pytest.fixture(params=["float32", "bfloat16"])
def on_gpu(request, gpu):
    return load_backbone(device=gpu, precision=resolve_precision(request.param, gpu))


def distance(found, expected):
    return float(((found.cpu() - expected).norm() / expected.norm()).detach())


def test_auto_is_the_gpu_in_bfloat16(gpu):
    assert resolve_device("auto") == gpu
    wanted = "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float32"
    assert resolve_precision("auto", gpu) == wanted


def test_what_a_bundle_carries_is_the_same(tiny, on_gpu):
    assert on_gpu.logit_scale == tiny.logit_scale
    assert on_gpu.weight_hash == tiny.weight_hash


def test_image_and_text_features(tiny, on_gpu):
    pixels = torch.rand(40, *tiny.preprocess(Image.new("RGB", (9, 9))).shape)
    assert distance(on_gpu.encode_images(pixels), tiny.encode_images(pixels)) < BOUNDS[on_gpu.precision]
    tokens = tiny.tokenize(CLASS_NAMES)
    found = on_gpu.encode_text(on_gpu.tokenize(CLASS_NAMES))
    assert distance(found, tiny.encode_text(tokens)) < BOUNDS[on_gpu.precision]


@pytest.mark.parametrize("class_specific", [True, False])
def test_prompt_gradients(tiny, on_gpu, class_specific):
    generator = torch.Generator().manual_seed(0)
    contexts = 0.02 * torch.randn((1, 3, 4, 64) if class_specific else (1, 4, 64), generator=generator)
    weights = torch.randn(1, 3, 64, generator=generator)
    found = []
    for backbone in (on_gpu, tiny):
        inputs = contexts.to(backbone.device).requires_grad_()
        features = PromptedText(backbone, CLASS_NAMES, 4, class_specific).encode(inputs)
        found += torch.autograd.grad(features, inputs, weights.to(backbone.device))
    assert distance(*found) < 2 * BOUNDS[on_gpu.precision]


def private_gradient(device, sigma):
    generator = torch.Generator().manual_seed(1)
    weights, network = torch.randn(65, 64, generator=generator), torch.randn(3, 64, generator=generator)
    features, labels = (
        torch.randn(500, 64, generator=generator),
        torch.randint(65, (500,), generator=generator),
    )
    features[3, 5] = torch.nan  # one that must count as zero
    gradient = TextFeatureGradient(
        classes=65,
        domains=3,
        feature_size=64,
        divisor=1.0,
        mechanism=Mechanism(sigma, 1.0),
        keystream=Keystream(bytes(32)),
        device=device,
        chunk_bytes=100 * 12 * 68 * 64,
    )
    placed = [one.to(device) for one in (weights, network, features, features)]
    examples = Examples(placed[-1], labels.to(device))
    # Persons of one to nine images: their gradients are added up before they are clipped.
    sizes = torch.tensor([1 + n % 9 for n in range(100)] + [1] * 4)
    parts = gradient(*placed, examples, 1, Batch(torch.arange(500), sizes))
    return torch.cat([one.flatten() for one in parts])


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_the_private_sum_is_that_of_the_cpu(gpu, sigma):
    found, expected = private_gradient(gpu, sigma), private_gradient(CPU, sigma)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3 if sigma else 1e-4, rtol=1e-4)
    again = private_gradient(gpu, sigma)
    assert torch.equal(found, again), "the sensitivity bound rests on records not moving each other's bits"


def test_one_record_more_moves_no_other_records_gradient(gpu):
    """Of batches of one shape: the premise of the sensitivity bound."""
    generator = torch.Generator().manual_seed(2)
    weights, features = torch.randn(345, 512, generator=generator), torch.randn(256, 512, generator=generator)
    other = features.clone()
    other[17] = torch.randn(512, generator=generator)
    one, two = ((some.to(gpu) @ weights.to(gpu).T).cpu() for some in (features, other))
    rows = torch.arange(256) != 17
    assert torch.equal(one[rows], two[rows])


def test_training_without_privacy_is_that_of_the_cpu(tiny, on_gpu):
    shape = ParameterShape(
        classes=3, context_tokens=4, text_width=64, feature_size=64, domains=2, class_specific=True
    )
    generator = torch.Generator().manual_seed(3)
    features, labels = (
        torch.randn(40, 64, generator=generator) * 5,
        torch.randint(3, (40,), generator=generator),
    )
    start, changes = initial_parameters(shape, 0), []
    for backbone in (on_gpu, tiny):
        task = Task(
            backbone=backbone,
            class_names=CLASS_NAMES,
            shape=shape,
            template="a photo of a {}",
            key=torch.full((4, 64), 0.5, device=backbone.device),
            domain_index=1,
            settings=TrainingSettings(declared_records=40, private=False, learning_rate=0.1),
            keystream=Keystream(bytes(32)),
        )
        data = TrainingData(resident(features, backbone.device), labels)
        changes.append(torch.from_numpy(LocalTrainer(task, data).train(start)))
    assert distance(*changes) < 4 * BOUNDS[on_gpu.precision]


def test_feeding_from_pinned_memory_changes_nothing(tiny, on_gpu):
    shape = tiny.preprocess(Image.new("RGB", (9, 9))).shape
    batches = [(n, [torch.rand(shape) for _ in range(size)]) for n, size in enumerate((8, 3, 0, 8, 8, 1))]
    feed = Feed(on_gpu.encode_images, on_gpu.device, on_gpu.feature_size)
    for (tag, found), (number, pixels) in zip(feed(batches), batches, strict=True):
        assert tag == number
        assert found.device == CPU
        if pixels:
            assert torch.equal(found, on_gpu.encode_images(torch.stack(pixels)).cpu())


def test_features_of_files(tmp_path, tiny, on_gpu):
    rng = np.random.default_rng(0)
    for number in range(300):
        place = tmp_path / "images" / f"class-{number % 2}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).save(place)
    records = read_records(tmp_path / "images").records
    found, expected = (load_features(records, one, tmp_path / "cache").features for one in (on_gpu, tiny))
    assert distance(found, expected) < BOUNDS[on_gpu.precision]
    assert torch.equal(load_features(records, on_gpu, tmp_path / "cache").features, found)


def test_values_are_sent_whole(gpu):
    values = torch.arange(1 << 20)
    assert torch.equal(sent(values, gpu).cpu(), values)
    assert resident(values, gpu).device.type == "cuda"
    assert resident(values, gpu, free_bytes=values.nbytes) is values


def test_a_large_model(gpu):
    one, other = (load_backbone("ViT-B-32", RANDOM, gpu, precision) for precision in ("float32", "bfloat16"))
    pixels = torch.randn(8, 3, 224, 224)
    assert distance(other.encode_images(pixels), one.encode_images(pixels).cpu()) < BOUNDS["bfloat16"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_whole_simulation(tmp_path: Path, precision):
    out = tmp_path / precision
    assert run(["simulate", "--out", str(out), "--device", "cuda", "--precision", precision]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["device"], summary["precision"]) == ("cuda", precision)
    assert summary["accuracy"]["fedapt"]["mean"] > summary["accuracy"]["zero_shot"]["mean"]
    assert run(["audit", str(out)]) == 0

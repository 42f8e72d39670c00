"""What a prediction costs beyond the image tower: routed prompts against one prompt a sample.

``python benchmarks/inference.py``: ViT-B-32 with random weights, batches of 64; contenders take
turns, medians. ``--bundle FILE --images FOLDER`` instead counts how many images of a real model need a
prompt of their own.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.fedapt import FedAptModel, routing_weights
from fedapt_secure.learning.text import PromptedText

BATCH, KEYS, CONTEXT_TOKENS, TURNS = 64, 6, 16, 7
CLASSES = (10, 345)
PLAIN_SAMPLES = {10: 4, 345: 1}
ONE_HOT = 1 - 1e-6


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make_model(backbone: Backbone, classes: int, features: torch.Tensor) -> FedAptModel:
    """Return a model whose adaptive network tells these images apart clearly, as a trained one does."""
    generator = torch.Generator().manual_seed(classes)
    width, size = backbone.text_width, backbone.feature_size
    while True:
        network = torch.randn(KEYS, size, generator=generator)
        if bool((routing_weights(features, network).max(1).values >= ONE_HOT).all()):
            break
    return FedAptModel(
        PromptedText(backbone, [f"thing {number}" for number in range(classes)], CONTEXT_TOKENS),
        0.02 * torch.randn(classes, CONTEXT_TOKENS, width, generator=generator),
        network,
        torch.rand(KEYS, CONTEXT_TOKENS, width, generator=generator),
    )


def measure(backbone: Backbone, classes: int, pixels: torch.Tensor) -> dict[str, float]:
    model = make_model(backbone, classes, backbone.encode_images(pixels))
    first = timed(lambda: model.routed_text)
    tower, routed, further = [], [], []
    for turn in range(TURNS):
        pair = [
            (tower, lambda: backbone.encode_images(pixels)),
            (routed, lambda: model.predict(backbone.encode_images(pixels))),
        ]
        for times, work in pair if turn % 2 else reversed(pair):
            times.append(timed(work))
        features = backbone.encode_images(pixels)
        further.append(timed(lambda features=features: model.predict(features)))
    some = backbone.encode_images(pixels[: PLAIN_SAMPLES[classes]])
    plain = timed(lambda: model.predict_plain(some)) / len(some)
    return {
        "classes": classes,
        "image_tower_ms": 1000 * median(tower) / BATCH,
        "routed_ms": 1000 * median(routed) / BATCH,
        "further_ms": 1000 * median(further) / BATCH,
        "own_prompt_ms": 1000 * (plain + median(tower) / BATCH),
        "routed_prompts_once_s": first,
        "ratio": median(b / a for a, b in zip(tower, routed, strict=True)),
    }


def count_own_prompts(bundle: Path, images: Path) -> None:
    model = load_model(bundle)
    assert isinstance(model.classifier, FedAptModel)
    features = model.features(sorted(images.glob("**/*.png")))
    weights = routing_weights(features, model.classifier.adaptive_network, model.bundle.temperature)
    own = int((weights.max(1).values < ONE_HOT).sum())
    print(f"{own} of {len(features)} images need a prompt of their own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bundle is not None:
        count_own_prompts(options.bundle, options.images)
        return
    backbone = load_backbone("ViT-B-32", RANDOM)
    pixels = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = [measure(backbone, classes, pixels) for classes in CLASSES]
    for one in found:
        print({name: round(value, 3) for name, value in one.items()})
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""What a prediction costs: routed prompts, against one prompt a sample and against the image tower alone.

    python -m benchmarks.learning.inference --json results.json
    python -m benchmarks.learning.inference --bundle RUN/model.safetensors --images RUN/parties

ViT-B-32 with random weights, batches of 32, contenders in turns. ``--bundle`` instead counts how many images
of a real model need a prompt of their own.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Result, Spread, Table, Target, figure, in_turns, ratios, run, timed
from benchmarks.learning.federated_loop import Trial, institutions, tuned
from benchmarks.learning.problems import backbone_for, check_equal, image_pixels
from benchmarks.learning.reference_way import ReferenceText, reference_images
from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.fedapt import FedAptModel, routing_weights

KEYS, CONTEXT_TOKENS = 6, 16
ONE_HOT = 1 - 1e-6
BEYOND_TOWER = 1.1
IMAGE, OUR_IMAGE, PROMPT = 4.41, 4.12, 2.98
"""10⁹ multiplications in ViT-B/32: an image, an image whose last layer is for the class token alone, and a
prompt of 77 tokens."""


@dataclass(frozen=True)
class Case:
    """Some classes; ``plain_samples`` get a prompt of their own, ``aim`` is how much faster ours is to be."""

    classes: int
    batch: int
    turns: int
    plain_samples: int
    aim: float | None = None


CASES = (Case(10, 32, 5, 2, 10.0), Case(345, 32, 5, 1, 300.0))
QUICK = (Case(3, 4, 1, 2),)


def make_model(backbone: Backbone, classes: int, context_tokens: int, features: Tensor) -> FedAptModel:
    """Return a model whose adaptive network tells these images apart clearly, as a trained one does."""
    generator = torch.Generator().manual_seed(classes)
    width, size = backbone.text_width, backbone.feature_size
    while True:
        network = torch.randn(KEYS, size, generator=generator)
        if bool((routing_weights(features, network).max(1).values >= ONE_HOT).all()):
            break
    return FedAptModel(
        PromptedText(backbone, [f"thing {number}" for number in range(classes)], context_tokens),
        0.02 * torch.randn(classes, context_tokens, width, generator=generator),
        network,
        torch.rand(KEYS, context_tokens, width, generator=generator),
    )


def reference_way(model: FedAptModel) -> Callable[[Tensor], Tensor]:
    """Return what gives logits (B, M) of pixels (B, 3, H, W) with each image's own prompts of 77 tokens."""
    backbone = model.backbone
    text = ReferenceText(backbone, model.text.class_names, model.text.context_tokens)

    @torch.no_grad()
    def answer(pixels: Tensor) -> Tensor:
        features = reference_images(backbone, pixels)
        weights = routing_weights(features, model.adaptive_network)
        rows = []
        for feature, own in zip(features, weights, strict=True):  # all at once would not fit into memory
            key = torch.einsum("k,knw->nw", own, model.keys)
            texts = text(model.meta_prompt * (1 + key))  # (M, D)
            rows.append(backbone.logit_scale * texts @ F.normalize(feature, dim=-1))
        return torch.stack(rows)

    return answer


def measure(quick: bool) -> Result:
    """Measure what a prediction costs."""
    backbone = backbone_for(quick)
    result = Result(
        "inference",
        "Inference",
        f"{'Tiny CLIP' if quick else 'ViT-B/32'} with random weights, all cores, {KEYS} keys,"
        f" {CONTEXT_TOKENS} context tokens, batches of 32 images. The reference's way encodes every class"
        " anew for every image, 77 tokens a prompt. Logits of both were compared first. Milliseconds an"
        " image: median (least to most).",
    )
    columns = [
        "classes",
        "image tower alone",
        "routed",
        "of the tower",
        "a prompt of its own",
        "times",
        "once, s",
    ]
    table = Table("", columns)
    for case in QUICK if quick else CASES:
        found = measure_case(case, backbone, 4 if quick else CONTEXT_TOKENS)
        result.raw[f"{case.classes} classes"] = found
        an_image = 1000 / case.batch
        beyond = ratios(found["routed"], found["tower"])
        routed = statistics.median(found["routed"]) / case.batch
        times = Spread.of([one / case.plain_samples / routed for one in found["plain"]])
        table.rows.append(
            [
                f"{case.classes}",
                Spread.of(found["tower"]).text(an_image),
                Spread.of(found["routed"]).text(an_image),
                beyond.text(),
                Spread.of(found["plain"]).text(1000 / case.plain_samples),
                times.text(),
                figure(found["routed_prompts_once_s"]),
            ]
        )
        if case.aim is None:
            continue
        result.targets += [
            Target(
                f"{case.classes} classes, against a prompt of its own for each image",
                case.aim,
                times.median,
                why_missed=(
                    "what is left of ours is the image tower, which the reference needs as well; both towers"
                    " run at the processor's rate for matrix products, and counting operations"
                    f" this model's ratio is {(IMAGE + case.classes * PROMPT) / OUR_IMAGE:.3g}"
                ),
            ),
            Target(
                f"{case.classes} classes, routed over the image tower alone",
                BEYOND_TOWER,
                beyond.median,
                at_most=True,
            ),
        ]
    result.tables.append(table)
    result.tables.append(own_prompts(result, quick))
    return result


def measure_case(case: Case, backbone: Backbone, context_tokens: int) -> dict:
    pixels = image_pixels(backbone, case.batch)
    model = make_model(backbone, case.classes, context_tokens, backbone.encode_images(pixels))
    once = timed(lambda: model.routed_text)
    some, plain = pixels[: case.plain_samples], reference_way(model)
    routed = model.predict(backbone.encode_images(some))
    difference = check_equal(routed, plain(some), f"{case.classes} classes")
    turns = in_turns(
        {
            "tower": lambda: backbone.encode_images(pixels),
            "routed": lambda: model.predict(backbone.encode_images(pixels)),
            "plain": lambda: plain(some),
        },
        case.turns if case.classes < 100 else max(2, case.turns // 2),
        warm_up=False,
    )
    more = in_turns(
        {
            "tower": lambda: backbone.encode_images(pixels),
            "routed": lambda: model.predict(backbone.encode_images(pixels)),
        },
        case.turns if case.classes < 100 else max(2, case.turns // 2),
    )
    both = {name: turns[name] + more.get(name, []) for name in turns}
    return {**both, "routed_prompts_once_s": once, "difference": difference}


def own_prompts(result: Result, quick: bool) -> Table:
    """Count the images of trained models that need a prompt of their own."""
    columns = ["trained on", "test images", "with a prompt of their own", "share"]
    table = Table("Models that were really trained (tiny CLIP, five institutions, one seed):", columns)
    cases = [("digits", 8.0), ("digits", None), ("digits-flipped", 8.0)]
    for dataset, epsilon in cases[: 1 if quick else None]:
        trial = Trial(dataset=dataset, epsilon=epsilon, rounds=1 if quick else 15, sample_rate=0.5)
        model = tuned(trial)
        features = torch.cat([one.test[0] for one in institutions(dataset, trial.seed)[1]])
        weights = routing_weights(features, model.adaptive_network, model.temperature)
        own = int((weights.max(1).values < ONE_HOT).sum())
        title = dataset + (", no privacy" if epsilon is None else f", ε = {epsilon:g}")
        result.raw[f"own prompts, {title}"] = {"own": own, "images": len(features)}
        table.rows.append([title, f"{len(features)}", f"{own}", f"{own / len(features):.1%}"])
    return table


def count_own_prompts(bundle: Path, images: Path) -> None:
    """Print how many images of a real model need a prompt of their own."""
    model = load_model(bundle)
    assert isinstance(model.classifier, FedAptModel)
    features = model.features(sorted(images.glob("**/*.png")))
    weights = routing_weights(features, model.classifier.adaptive_network, model.bundle.temperature)
    own = int((weights.max(1).values < ONE_HOT).sum())
    print(f"{own} of {len(features)} images need a prompt of their own")


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--images", type=Path)
    options, rest = parser.parse_known_args()
    if options.bundle is not None:
        count_own_prompts(options.bundle, options.images)
        return
    run(measure, rest)


if __name__ == "__main__":
    sys.exit(main())

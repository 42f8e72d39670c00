"""A training step: ours against the reference's way, which computes images and 77 tokens anew in every step.

python -m benchmarks.learning.training_step --json results.json
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Result, Spread, Table, Target, in_turns, ratios, run
from benchmarks.learning.problems import DOMAIN, Problem, backbone_for, check_equal, image_pixels, problem
from benchmarks.learning.reference_way import ReferenceText, both_losses, reference_images
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import Backbone

Gradients = tuple[Tensor, Tensor]
LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Case:
    """One size; ``aim`` is how many times faster ours should be."""

    classes: int
    batch: int
    turns: int
    aim: float | None
    shared: bool = False

    @property
    def title(self) -> str:
        context = "one context for all" if self.shared else "a context each"
        return f"{self.classes} classes, {context}, batch {self.batch}"


CASES = (
    Case(10, 32, 5, 6.0),
    Case(10, 256, 2, 20.0),
    Case(65, 32, 3, 6.0),
    Case(65, 256, 2, 20.0),
    Case(65, 32, 2, None, shared=True),
)
QUICK = (Case(3, 4, 1, None), Case(3, 4, 1, None, shared=True))
TEXT_BOUND = (
    "bound by the text tower, whose passes over all classes are left in both steps: all that can be saved is"
    " padding and the images. One context for all classes saves more (last row)"
)


def our_step(made: Problem) -> Callable[[], Gradients]:
    """Cached features, prompts cut at their end, gradient through the class weights."""
    objective = made.objective(noise_multiplier=None)
    parameters = {
        "meta_prompt": made.meta_prompt.clone().requires_grad_(),
        "adaptive_network": made.network.clone().requires_grad_(),
    }
    optimizer = torch.optim.SGD(parameters.values(), lr=0.0, momentum=0.9, weight_decay=1e-5)
    batch = Batch.of_images(torch.arange(len(made.labels)))

    def step() -> Gradients:
        found = objective.gradients(parameters, batch)
        for name, tensor in parameters.items():
            tensor.grad = found[name]
        optimizer.step()
        return found["meta_prompt"], found["adaptive_network"]

    return step


def reference_step(made: Problem, pixels: Tensor) -> Callable[[], Gradients]:
    """Images through the image tower, whole prompts through the text tower, autograd through all of it."""
    backbone, count = made.backbone, len(made.labels)
    text = ReferenceText(backbone, made.class_names, len(made.key))
    context = made.meta_prompt.clone().requires_grad_()
    network = made.network.clone().requires_grad_()
    optimizer = torch.optim.SGD([context, network], lr=0.0, momentum=0.9, weight_decay=1e-5)

    def step() -> Gradients:
        optimizer.zero_grad()
        features = reference_images(backbone, pixels)  # frozen: no reference keeps a graph of it
        each = (context * (1 + made.key)).expand(len(made.class_names), *context.shape[-2:])
        logits = backbone.logit_scale * F.normalize(features, dim=-1) @ text(each).T
        loss = both_losses(logits, features @ network.T, made.labels, DOMAIN, backbone.logit_scale) / count
        torch.autograd.backward(loss)
        optimizer.step()
        return context.grad.clone(), network.grad.clone()

    return step


def measure(quick: bool) -> Result:
    """Measure a training step against the reference's way of taking it."""
    backbone = backbone_for(quick)
    result = Result(
        "training_step",
        "A training step",
        f"{'Tiny CLIP' if quick else 'ViT-B/32'} with random weights, all cores, 24 context tokens, 6"
        " domains. Ours: features encoded once beforehand, prompts cut at their end. The reference's way: the"
        " image tower at every step, 77 tokens a prompt. Both gradients were the same. Seconds a step:"
        " median (least to most).",
    )
    table = Table("", ["step", "ours s", "reference s", "times", "gradients differ by", "encoding once s"])
    for case in QUICK if quick else CASES:
        result.raw[case.title] = found = measure_case(case, backbone, 8 if quick else 24)
        times = ratios(found["reference"], found["ours"])
        table.rows.append(
            [
                case.title,
                Spread.of(found["ours"]).text(),
                Spread.of(found["reference"]).text(),
                times.text(),
                f"{found['difference']:.0e}",
                f"{found['encoding_once_s']:.2f}",
            ]
        )
        if case.aim is not None:
            result.targets.append(Target(case.title, case.aim, times.median, why_missed=TEXT_BOUND))
    result.tables.append(table)
    return result


def measure_case(case: Case, backbone: Backbone, context_tokens: int) -> dict[str, Any]:
    made = problem(backbone, case.classes, case.batch, context_tokens, shared=case.shared)
    pixels = image_pixels(backbone, case.batch)
    encoding = in_turns(
        {"encode": lambda: made.features.copy_(backbone.encode_images(pixels))}, 1, warm_up=case.batch < 64
    )
    ours, reference = our_step(made), reference_step(made, pixels)
    found: dict[str, Gradients] = {}
    contenders = {
        "ours": lambda: found.update(ours=ours()),
        "reference": lambda: found.update(reference=reference()),
    }
    # A large batch takes the reference half a minute: what it computed last is compared then.
    seconds = in_turns(contenders, case.turns, warm_up=case.batch < 64)
    difference = max(check_equal(*pair, case.title) for pair in zip(*found.values(), strict=True))
    return {**seconds, "difference": difference, "encoding_once_s": encoding["encode"][0]}


if __name__ == "__main__":
    run(measure)

"""Is what the device computes right? Features, gradients and a private sum against float64 on the CPU."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.device.bench import Bench
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.learning.clip.device import CPU, Precision
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import Mechanism

IMAGES = 4
CLASSES = 6
RECORDS = 64
BOUNDS = {
    # relative error in norm: float32 keeps 2⁻²⁴, bfloat16 2⁻⁹ a rounding; towers of 12 and 24 layers add up
    "float32": {"image features": 1e-4, "text features": 1e-4, "prompt gradient": 5e-4},
    "bfloat16": {"image features": 3e-2, "text features": 3e-2, "prompt gradient": 6e-2},
}
SIZE, DOMAINS = 512, 6
UNIT_ROUNDOFF = 2.0**-24


def private_bound(largest_logit: float) -> float:
    """Return a bound on the relative error of a clipped sum, from the arithmetic.

    Norms and sums are float64 and add nothing to speak of; what is float32 is a record's error e: logits are
    inner products of D terms, off by at most D·u·‖w‖‖f‖ (Higham 2002, section 3.1), which moves softmax by
    at most twice that, relatively, and its own exponentials and quotient by about (|logit| + 8)·u. Rounding
    errors of that kind do not conspire: (D·u)^½ in place of D·u holds with all but no probability (Higham and
    Mary 2019), with a factor of 8 taken here for both.

    Args:
        largest_logit: Bound on ‖w‖‖f‖, and so on logits.
    """
    return (2 * 8 * SIZE**0.5 * largest_logit + 2 * largest_logit + 8) * UNIT_ROUNDOFF


def check(bench: Bench) -> None:
    """Compare both precisions with float64, part by part."""
    for model in bench.size.models:
        with bench.guarded(f"exactness {model}"):
            _check_towers(bench, model)
    for classes in bench.size.classes:
        with bench.guarded(f"exactness of a private sum, {classes} classes"):
            _check_private(bench, classes)


def _check_towers(bench: Bench, model: str) -> None:
    reference = load_backbone(model, bench.size.models[model])  # on the CPU, in float32
    side = reference.text_tower.module.visual.image_size[0]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(IMAGES, 3, side, side, generator=generator)
    names = [f"thing {number}" for number in range(CLASSES)]
    contexts = 0.02 * torch.randn(
        1, CLASSES, bench.size.context_tokens, reference.text_width, generator=generator
    )
    weights = torch.randn(1, CLASSES, reference.feature_size, generator=generator)
    exact = _exact(reference, pixels, names, contexts, weights)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        backbone = bench.backbone(model, precision)
        inputs = contexts.to(bench.device).requires_grad_()
        features = PromptedText(backbone, names, bench.size.context_tokens).encode(inputs)
        found = {
            "image features": backbone.encode_images(pixels),
            "text features": features,
            "prompt gradient": torch.autograd.grad(features, inputs, weights.to(bench.device))[0],
        }
        for what, values in found.items():
            error, bound = _distance(values, exact[what]), BOUNDS[precision][what]
            bench.add(
                "exactness",
                what=f"{model}: {what}",
                precision=precision,
                error=error,
                bound=bound,
                passed=error < bound,
            )


def _exact(
    backbone: Backbone, pixels: Tensor, names: list[str], contexts: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """Return the same in float64, through open_clip's own text tower at full length."""
    clip = copy.deepcopy(backbone.text_tower.module).double()
    tokens = backbone.tokenize([f"{name}." for name in names])
    inputs = contexts[0].double().requires_grad_()
    with torch.no_grad():
        image = clip.encode_image(pixels.double())
        embedded = clip.token_embedding(tokens)
    count = inputs.shape[1]
    hidden = torch.cat([embedded[:, :1], inputs, embedded[:, 1 : embedded.shape[1] - count]], dim=1)
    hidden = clip.transformer(hidden + clip.positional_embedding, attn_mask=clip.attn_mask.double())
    ends = tokens.argmax(dim=1) + count
    pooled = clip.ln_final(hidden)[torch.arange(len(names)), ends] @ clip.text_projection
    text = F.normalize(pooled, dim=-1)[None]
    (gradient,) = torch.autograd.grad(text, inputs, weights.double())
    return {"image features": image, "text features": text, "prompt gradient": gradient[None]}


def _check_private(bench: Bench, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    weights, network = (
        10 * torch.randn(n, SIZE, generator=generator) / SIZE**0.5 for n in (classes, DOMAINS)
    )
    features = F.normalize(torch.randn(RECORDS, SIZE, generator=generator), dim=-1)
    labels = torch.randint(classes, (RECORDS,), generator=generator)
    gradient = TextFeatureGradient(
        classes=classes,
        domains=DOMAINS,
        feature_size=SIZE,
        divisor=1.0,
        mechanism=Mechanism(0.0, 0.5),
        device=bench.device,
    )
    placed = [one.to(bench.device) for one in (weights, network, features, features)]
    examples = Examples(placed[-1], labels.to(bench.device))
    parts = gradient(*placed, examples, 1, Batch.of_images(torch.arange(RECORDS)))
    found = torch.cat([one.flatten() for one in parts if one is not None])
    error = _distance(found, _exact_private(weights, network, features, labels))
    bound = private_bound(float(max(one.norm(dim=1).max() for one in (weights, network))))
    bench.add(
        "exactness",
        what=f"private sum without noise, {classes} classes",
        precision="float32, sums in float64",
        error=error,
        bound=bound,
        passed=error < bound,
    )


def _exact_private(weights: Tensor, network: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Return the clipped sum in closed form: each gradient is the outer product of error and feature."""
    features = features.to(CPU).double()
    parts, squares = [], torch.zeros(len(features), dtype=torch.float64)
    for layer, wanted in ((weights, labels), (network, torch.ones_like(labels))):
        logits = features @ layer.double().T
        errors = logits.softmax(dim=1) - F.one_hot(wanted, len(layer))
        squares += errors.square().sum(dim=1) * features.square().sum(dim=1)
        parts.append(errors)
    limit = Mechanism(0.0, 0.5).clipping_norm
    factors = (limit / squares.sqrt()).clamp(max=1.0)
    return torch.cat([((factors[:, None] * errors).T @ features).flatten() for errors in parts])


def _distance(found: Tensor, exact: Tensor) -> float:
    found, exact = found.detach().to(CPU).double(), exact.detach().double()
    return float((found - exact).norm() / exact.norm())

"""Made-up institutions of given sizes on a CLIP with random weights: time depends on no value."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.clip.backbone import RANDOM, Backbone, load_backbone
from fedapt_secure.learning.methods.base import Objective, Task, TrainingData
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.protocol.parameters import ParameterShape

DOMAINS = 6
DOMAIN = 2


@dataclass(frozen=True)
class Problem:
    """One institution's records and present parameters.

    Attributes:
        meta_prompt: P, (M, n_ctx, W), or (n_ctx, W) where it is shared. network: Q, (K, D).
        key: (n_ctx, W). features: (B, D), not normalised. labels: (B,).
    """

    backbone: Backbone
    class_names: tuple[str, ...]
    meta_prompt: Tensor
    network: Tensor
    key: Tensor
    features: Tensor
    labels: Tensor

    def objective(self, noise_multiplier: float | None, max_grad_norm: float = 1.0) -> Objective:
        """Return our gradient on all records; private where there is a noise multiplier."""
        context = self.meta_prompt.shape
        shape = ParameterShape(
            classes=len(self.class_names),
            context_tokens=context[-2],
            text_width=context[-1],
            feature_size=self.backbone.feature_size,
            domains=DOMAINS,
            class_specific=len(context) == 3,
        )
        settings = TrainingSettings(
            declared_records=len(self.labels),
            private=noise_multiplier is not None,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            sample_rate=1.0,
        )
        task = Task(
            self.backbone,
            self.class_names,
            shape,
            "a photo of a {}",
            self.key,
            DOMAIN,
            settings,
            Keystream.from_operating_system(),
        )
        return method_of(shape.method).objective(task, TrainingData(self.features, self.labels))


def problem(
    backbone: Backbone, classes: int, records: int, context_tokens: int, *, shared: bool = False
) -> Problem:
    """Draw a problem; names are two words long, as in DomainNet."""
    generator = torch.Generator().manual_seed(classes * 1000 + records)
    width, size = backbone.text_width, backbone.feature_size
    context = (context_tokens, width) if shared else (classes, context_tokens, width)
    return Problem(
        backbone,
        tuple(f"thing {number}" for number in range(classes)),
        0.02 * torch.randn(context, generator=generator),
        0.1 * torch.randn(DOMAINS, size, generator=generator),
        torch.rand(context_tokens, width, generator=generator),
        torch.randn(records, size, generator=generator),
        torch.randint(classes, (records,), generator=generator),
    )


def backbone_for(quick: bool) -> Backbone:
    """Return ViT-B/32 with random weights on all cores, or the tiny CLIP where it is only about working."""
    torch.set_num_threads(1 if quick else len(os.sched_getaffinity(0)))
    return load_backbone("tiny", RANDOM) if quick else load_backbone("ViT-B-32", RANDOM)


def image_pixels(backbone: Backbone, count: int) -> Tensor:
    """Return pixels (count, 3, H, W) of the size that the image tower takes."""
    size = backbone._model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over that of the expected."""
    return float((found - expected).norm() / expected.norm())


def check_equal(found: Tensor, expected: Tensor, what: str, bound: float = 1e-3) -> float:
    """Refuse to time two things that do not compute the same; returns how far apart they are.

    Raises:
        SystemExit: If they differ by more than float32 explains.
    """
    difference = relative_difference(found, expected)
    if not difference <= bound:  # also for NaN
        raise SystemExit(f"{what}: ours and the alternative differ by {difference:.2g}: not measuring this")
    return difference

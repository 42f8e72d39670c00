"""The prior weight: how far a finished model goes back from what was tuned to what the untuned CLIP says.

Under DP the noise of training ends up in what was tuned. The hand-written prompt has none, so the finished
model takes w of it and 1 - w of what was tuned: of text features, class by class and key by key, and unit
norm again; for FedCLIP of adapted and plain image features; for the linear probe of its weights. In the space
of weights Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3, do the same.

It costs no privacy. The mixture is computed from the released parameters, the public CLIP and a weight that
follows from public figures (`fedapt_secure.privacy.prior_weight`): post-processing (Dwork and Roth 2014,
proposition 2.1). No image, label or count of them has a say in it, and whoever holds a model can take another
weight at any time. M classes, D joint embedding.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import ClassifierParts


@dataclass(frozen=True)
class Prior:
    """What a hand-written prompt says of the classes, and how much it counts.

    Attributes:
        text_features: Of the hand-written prompt, unit-norm, (M, D).
        weight: w, in [0, 1].
    """

    text_features: Tensor
    weight: float

    def mixed(self, tuned: Tensor) -> Tensor:
        """Return unit-norm text features (..., M, D) between tuned ones (..., M, D), unit-norm, and these."""
        prior = self.text_features.to(tuned.device)
        return F.normalize((1 - self.weight) * tuned + self.weight * prior, dim=-1)

    def mixed_weights(self, tuned: Tensor) -> Tensor:
        """Return a probe's weights (M, D) between its own (M, D), of any size, and these at the same size."""
        size = tuned.square().sum(dim=-1).mean().sqrt()
        return (1 - self.weight) * tuned + self.weight * size * self.text_features.to(tuned.device)


def prior_of(parts: ClassifierParts) -> Prior | None:
    """Return what a classifier keeps of the hand-written prompt; ``None`` where it is nothing at all."""
    if not parts.prior_weight:
        return None
    return Prior(zero_shot_text(parts.backbone, parts.class_names, parts.template), parts.prior_weight)


def mixed(prior: Prior | None, tuned: Tensor) -> Tensor:
    """Return tuned text features (..., M, D) with what is kept of the hand-written prompt, if anything."""
    return tuned if prior is None else prior.mixed(tuned)

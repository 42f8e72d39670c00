"""Linear probe: one vector a class on the unit-norm image feature, no text at all.

The usual probe of a frozen encoder (Radford et al. 2021, section 3.2), trained by SGD like the other methods.
"""

import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.methods.base import (
    Classifier,
    ClassifierParts,
    FixedText,
    Method,
    Objective,
    Task,
    Tensors,
    TrainingData,
)
from fedapt_secure.learning.methods.prior import prior_of
from fedapt_secure.learning.privacy.dp import TextFeatureGradient


class LinearProbe(Method):
    """Class vectors W, used as text features would be: logits are logit_scale · f̂ · Wᵀ."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of the class cross-entropy."""
        return _ProbeObjective(task, data)

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model."""
        weights: Tensor = parts.parameters["classifier"].to(parts.backbone.device)
        prior = prior_of(parts)
        return FixedText(parts, weights if prior is None else prior.mixed_weights(weights))


class _ProbeObjective(Objective):
    def __init__(self, task: Task, data: TrainingData) -> None:
        self._task = task
        self._data = data
        self._gradient = TextFeatureGradient(
            classes=task.shape.classes,
            domains=0,
            feature_size=task.shape.feature_size,
            divisor=task.divisor,
            mechanism=task.settings.mechanism,
            keystream=task.keystream,
            device=task.backbone.device,
            loss_temperature=task.settings.loss_temperature,
        )

    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        device = self._task.backbone.device
        weights = self._task.backbone.logit_scale * parameters["classifier"].detach()
        examples = self._data.examples(
            batch.records, lambda seen: F.normalize(seen.to(device).float(), dim=-1) @ weights.T
        )
        features = F.normalize(examples.features.to(device).float(), dim=-1)
        # As for prompts, the gradient with respect to logit_scale · W serves as that of W.
        domain = self._task.domain_index
        found, _ = self._gradient(weights, None, features, features, examples, domain, batch)
        return {"classifier": self._task.unit * found}

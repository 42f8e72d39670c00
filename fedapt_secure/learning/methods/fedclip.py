"""FedCLIP: an attention-like adapter on the image features, the text left as it is.

Lu et al., "FedCLIP: Fast Generalization and Personalization for CLIP in Federated Learning", 2023, section 3.
There the loss contrasts the images of a batch with each other's texts; that couples samples, so no bound
for one image would hold. Here it is the cross-entropy over all classes, image by image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import (
    Classifier,
    ClassifierParts,
    Method,
    Objective,
    Task,
    Tensors,
    TrainingData,
    cosine_logits,
)
from fedapt_secure.learning.privacy.dp import SummedGradient

_NAMES = {
    "inner.weight": "adapter_in",
    "inner.bias": "adapter_in_bias",
    "outer.weight": "adapter_out",
    "outer.bias": "adapter_out_bias",
}


class Adapter(nn.Module):
    """Attention over an image feature: softmax(W₂ tanh(W₁ f + b₁) + b₂) ⊙ f."""

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        # Made without values: each use copies its own in.
        with torch.device("meta"):
            self.inner = nn.Linear(feature_size, feature_size)
            self.outer = nn.Linear(feature_size, feature_size)
        self.to_empty(device="cpu")

    def forward(self, features: Tensor) -> Tensor:
        """Return adapted features (B, D) of unit-norm features (B, D); their length does not matter."""
        attention: Tensor = self.outer(torch.tanh(self.inner(features))).softmax(dim=1)
        return attention * features


class FedClip(Method):
    """The adapter alone is trained; classes are told apart by a hand-written prompt."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of the class cross-entropy."""
        return _AdapterObjective(task, data)

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model."""
        return AdaptedFeatures(parts)


class AdaptedFeatures(Classifier):
    """Classifies adapted image features by their cosine with the text features of a hand-written prompt.

    With a prior weight the adapter's answer is mixed with the feature as it is: towards the identity.
    """

    def __init__(self, parts: ClassifierParts) -> None:
        super().__init__(parts.backbone)
        self._text_features = zero_shot_text(parts.backbone, parts.class_names, parts.template)
        adapter = Adapter(parts.shape.feature_size)
        adapter.load_state_dict({inside: parts.parameters[name] for inside, name in _NAMES.items()})
        self._adapter = adapter.to(parts.backbone.device).requires_grad_(False)
        self._prior_weight = parts.prior_weight

    @property
    def adapter(self) -> Adapter:
        """What image features go through before they are compared."""
        return self._adapter

    @property
    def prior_weight(self) -> float:
        """w, in [0, 1]: how much of the feature as it is, of unit norm, is added to the adapted one."""
        return self._prior_weight

    @property
    def text_features(self) -> Tensor:
        """Unit-norm, (M, D), on the backbone's device."""
        return self._text_features

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return logits (B, M) of features (B, D)."""
        unit = F.normalize(features.to(self.backbone.device).float(), dim=-1)
        adapted = self._adapter(unit)
        if self._prior_weight:
            adapted = (1 - self._prior_weight) * F.normalize(adapted, dim=-1) + self._prior_weight * unit
        return cosine_logits(self.backbone, adapted, self._text_features)


class _AdapterObjective(Objective):
    def __init__(self, task: Task, data: TrainingData) -> None:
        self._task = task
        self._data = data
        self._text_features = zero_shot_text(task.backbone, task.class_names, task.template)
        self._sum = SummedGradient(
            Adapter(task.shape.feature_size),
            divisor=task.divisor,
            mechanism=task.settings.mechanism,
            keystream=task.keystream,
            device=task.backbone.device,
        )

    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        backbone = self._task.backbone
        inside = {name: parameters[outside].detach() for name, outside in _NAMES.items()}
        examples = self._data.examples(batch.records, lambda seen: self._logits(inside, seen))
        features = F.normalize(examples.features.to(backbone.device).float(), dim=-1)

        def loss(adapter: Any, rows: Tensor) -> Tensor:
            adapted = adapter(features[rows].requires_grad_())
            logits = cosine_logits(backbone, adapted, self._text_features)
            return self._task.class_loss(examples, logits, rows)

        found = self._sum(inside, loss, len(examples), batch)
        return {outside: found[name] for name, outside in _NAMES.items()}

    @torch.no_grad()
    def _logits(self, inside: Tensors, features: Tensor) -> Tensor:
        backbone = self._task.backbone
        adapter = Adapter(backbone.feature_size).to(backbone.device)
        adapter.load_state_dict(inside)
        unit = F.normalize(features.to(backbone.device).float(), dim=-1)
        return cosine_logits(backbone, adapter(unit), self._text_features)

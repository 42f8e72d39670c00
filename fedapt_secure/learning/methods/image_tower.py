"""FedAvg and FedProx: all weights of the image tower are trained, the text is left as it is.

FedAvg: McMahan et al. 2017, algorithm 1. FedProx: Li et al. 2020, algorithm 2; its proximal term is in
`training`. What travels is the change from the frozen CLIP's weights, so weight decay pulls towards those.
Statistics of batch normalisation stay frozen: averages of them are not averages of models.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.text import zero_shot_text
from fedapt_secure.learning.methods.base import (
    Classifier,
    ClassifierParts,
    FixedText,
    Method,
    Objective,
    Task,
    Tensors,
    TrainingData,
    cosine_logits,
)
from fedapt_secure.protocol.parameters import ParameterShape

CHANGE: Final = "image_tower_change"
_IMAGES_AT_ONCE: Final = 32  # bounds activations: about 2 GiB on ViT-B-32


class ImageTower(Method):
    """The change of the image tower's weights is trained; classes are told apart by a hand-written prompt."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of the class cross-entropy; never private.

        Raises:
            InvalidInput: If privacy is asked for, there are no images, or the tower has another size.
        """
        return _TowerObjective(task, data)

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model; raises `InvalidInput` if the tower has another size."""
        return ChangedTower(parts)


class ChangedTower(FixedText):
    """Classifies features of the changed image tower by their cosine with a hand-written prompt's."""

    def __init__(self, parts: ClassifierParts) -> None:
        _check_size(parts.backbone, parts.shape)
        super().__init__(parts, zero_shot_text(parts.backbone, parts.class_names, parts.template))
        self._change = parts.parameters[CHANGE].to(parts.backbone.device, torch.float32)

    @property
    def change(self) -> Tensor:
        """What is added to the image tower's weights, flat, in the order of its parameters."""
        return self._change

    @property
    def changes_image_tower(self) -> bool:
        """Always."""
        return True

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the features (B, D), not normalised, that `predict` expects, of pixels (B, 3, H, W)."""
        chunks = torch.split(pixels, _IMAGES_AT_ONCE)
        return torch.cat([self.backbone.encode_images_changed(self._change, some) for some in chunks])


class _TowerObjective(Objective):
    def __init__(self, task: Task, data: TrainingData) -> None:
        _check_size(task.backbone, task.shape)
        if task.settings.private:
            raise InvalidInput(f"the method {task.shape.method} cannot be trained under differential privacy")
        self._task = task
        self._labels = data.labels
        self._pixels = data.images(task.shape.method)
        self._text_features = zero_shot_text(task.backbone, task.class_names, task.template)

    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        change, backbone = parameters[CHANGE], self._task.backbone
        total = torch.zeros_like(change)
        for numbers in torch.split(batch.records, _IMAGES_AT_ONCE) if len(batch) else ():
            with torch.enable_grad():
                features = backbone.encode_images_changed(change, self._pixels(numbers))
                logits = cosine_logits(backbone, features, self._text_features)
                labels = self._labels[numbers].to(backbone.device)
                loss = F.cross_entropy(logits, labels, reduction="sum")
            total += torch.autograd.grad(loss, change)[0]
        return {CHANGE: total / self._task.divisor}


def _check_size(backbone: Backbone, shape: ParameterShape) -> None:
    if shape.tower_values != backbone.image_tower_values:
        raise InvalidInput(
            f"the model is for an image tower of {shape.tower_values} values, that of {backbone.name} has"
            f" {backbone.image_tower_values}"
        )

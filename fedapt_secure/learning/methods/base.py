"""What a method is: a gradient on an institution's records, and a classifier made of its tensors.

The loop around it (sampling, optimizer, rounds) is the same for all, see `training`; names and sizes of the
tensors are in `fedapt_secure.protocol.methods`. B records, M classes, K domains, D joint embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_crypto.keystream import Keystream
from fedapt_secure.config.gradient_units import LOSS
from fedapt_secure.config.key_use import AS_IN_THE_PAPER, KeyUse
from fedapt_secure.learning.batches.examples import Examples, Model
from fedapt_secure.learning.batches.units import Batch, Units
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.device import sent
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.privacy.unit import PERSON, unit_of
from fedapt_secure.protocol.parameters import ParameterShape

Tensors = Mapping[str, Tensor]
"""A method's tensors by name, as `ParameterShape.parts` lists them."""
Pixels = Callable[[Tensor], Tensor]
"""Gives the preprocessed images (B, 3, H, W) of record numbers (B,)."""


@dataclass(frozen=True)
class TrainingData:
    """One institution's training records.

    Attributes:
        features: Image features, (N, D), not normalised; a memory map, or already on the device.
        labels: Class indices, int64, (N,), or `NO_LABEL`.
        pixels: The images themselves, for methods that train the image tower.
        subjects: Whose image each record is, (N,), where the data says so; then privacy is per person.
    """

    features: Tensor
    labels: Tensor
    pixels: Pixels | None = None
    subjects: tuple[str, ...] | None = field(default=None, repr=False)

    def units(self, *, private: bool) -> Units:
        """Return what is sampled as a whole: persons where privacy counts them, else images."""
        if self.subjects is not None and unit_of(has_subjects=True, private=private) == PERSON:
            return Units.persons(self.subjects)
        return Units.images(len(self.labels))

    @property
    def couples_records(self) -> bool:
        """Whether a record's targets follow from other records too, so that it cannot be private."""
        return False

    def examples(self, batch: Tensor, model: Model) -> Examples:
        """Return what a step learns from.

        Args:
            batch: Record numbers, (B,).
            model: The present model, for settings in which it decides on its own targets.
        """
        del model
        return Examples(
            self.features[sent(batch, self.features.device)], self.labels[sent(batch, self.labels.device)]
        )

    def images(self, method: str) -> Pixels:
        """Return the images; raises `InvalidInput` where only features are at hand."""
        if self.pixels is None:
            raise InvalidInput(f"{method} trains the image tower and needs the images, not their features")
        return self.pixels


@dataclass(frozen=True)
class Task:
    """What one institution learns in a session.

    Attributes:
        backbone: The frozen CLIP.
        class_names: M names.
        shape: Sizes of the trained tensors.
        template: Hand-written prompt, for methods that leave the text as it is.
        key: The institution's domain key, (n_ctx, W).
        domain_index: Index of its domain's key, below K: what the adaptive network is to answer.
        settings: How it trains.
        keystream: Source of sampling and noise.
        key_use: What keys do to the meta prompt.
    """

    backbone: Backbone
    class_names: tuple[str, ...]
    shape: ParameterShape
    template: str
    key: Tensor
    domain_index: int
    settings: TrainingSettings
    keystream: Keystream
    key_use: KeyUse = AS_IN_THE_PAPER

    @property
    def divisor(self) -> float:
        """q·N̂: what sums of gradients are divided by, public."""
        return self.settings.sample_rate * self.settings.declared_records

    def class_loss(self, examples: Examples, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the class losses of some rows, added up, at the temperature of the settings.

        Args:
            examples: What is learned from.
            logits: Class logits of these rows, (B, M).
            rows: Which, (B,).
        """
        return examples.tempered_class_loss(logits, rows, self.settings.loss_temperature)

    @property
    def unit(self) -> float:
        """What a gradient in units of the text features is multiplied by, after clipping and noise."""
        return self.backbone.logit_scale if self.settings.gradient_units == LOSS else 1.0


class Objective(ABC):
    """The gradient of a method's loss on one institution's records, private where the task says so."""

    @abstractmethod
    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        """Return the gradient for each tensor: clipped by unit, summed over the batch, noised, over q·N̂.

        Args:
            parameters: The present values.
            batch: The records, with what of them is one unit of privacy; may be empty.
        """


@dataclass(frozen=True)
class ClassifierParts:
    """What a classifier is made of.

    Attributes:
        backbone: The frozen CLIP.
        class_names: M names.
        shape: Sizes of the trained tensors.
        template: Hand-written prompt.
        parameters: The trained tensors.
        keys: Domain keys, (K, n_ctx, W); empty where the method uses none.
        temperature: τ of the routing softmax.
        prior_weight: w, in [0, 1]: how much of the untuned CLIP the model keeps, see `methods.prior`.
        key_use: What keys do to the meta prompt.
    """

    backbone: Backbone
    class_names: tuple[str, ...]
    shape: ParameterShape
    template: str
    parameters: Tensors
    keys: Tensor
    temperature: float
    prior_weight: float = 0.0
    key_use: KeyUse = AS_IN_THE_PAPER


class Classifier(ABC):
    """A finished model: image features in, class logits out."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    @property
    def backbone(self) -> Backbone:
        """The frozen CLIP it belongs to."""
        return self._backbone

    @property
    def changes_image_tower(self) -> bool:
        """Whether features must come from `encode_images`, because the backbone's own do not serve."""
        return False

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the features (B, D), not normalised, that `predict` expects, of pixels (B, 3, H, W)."""
        return self.backbone.encode_images(pixels)

    @abstractmethod
    def predict(self, features: Tensor) -> Tensor:
        """Return logits (B, M), on the backbone's device, of features (B, D)."""

    def routing(self, features: Tensor) -> Tensor | None:
        """Return the domain index (B,) whose knowledge is used; ``None`` where a method knows no domains."""
        del features
        return None


class FixedText(Classifier):
    """Classifies by the cosine with text features that are the same for all images.

    Args:
        parts: What it is made of.
        text_features: Unit-norm, (M, D).
    """

    def __init__(self, parts: ClassifierParts, text_features: Tensor) -> None:
        super().__init__(parts.backbone)
        self._text_features = text_features

    @property
    def text_features(self) -> Tensor:
        """What image features are compared with, (M, D), on the backbone's device."""
        return self._text_features

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return logits (B, M) of features (B, D)."""
        return cosine_logits(self.backbone, features, self._text_features)


class Method(ABC):
    """One method. Without state: everything is in the task and the tensors."""

    @abstractmethod
    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient on an institution's records."""

    @abstractmethod
    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the finished model."""


def cosine_logits(backbone: Backbone, features: Tensor, text_features: Tensor) -> Tensor:
    """Return logits (B, M) of features (B, D) and unit-norm text features (M, D)."""
    placed = features.to(backbone.device, torch.float32)
    return backbone.logit_scale * F.normalize(placed, dim=-1) @ text_features.T

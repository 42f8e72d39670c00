"""One institution's training between two rounds: a few steps on cached features, then the difference.

The images never come here, only their features; and what leaves is the difference of the parameters,
never a loss, a batch size or a clipping statistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedapt_crypto.errors import InvalidInput, RunFailed
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.backbone import Backbone
from fedapt_secure.learning.dp import TextFeatureGradient
from fedapt_secure.learning.fedapt import modulate
from fedapt_secure.learning.mechanism import MAX_BATCH_RECORDS, Mechanism
from fedapt_secure.learning.sampling import KeystreamUniformSampler
from fedapt_secure.learning.text import PromptedText
from fedapt_secure.protocol.parameters import ParameterShape, Vector, check_vector, flatten, unflatten

DEFAULT_LOCAL_STEPS: Final = 4
DEFAULT_SAMPLE_RATE: Final = 0.5
DEFAULT_LEARNING_RATE: Final = 0.5
DEFAULT_MOMENTUM: Final = 0.9
DEFAULT_MAX_GRAD_NORM: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an institution trains; all of it is public.

    Attributes:
        declared_records: N̂, the public record count; sums of gradients are divided by q·N̂.
        private: Whether gradients are clipped and noise is added.
        noise_multiplier: σ; required where ``private``, absent otherwise.
        local_steps: Steps between two rounds.
        sample_rate: q of Poisson sampling, in (0, 1].
        learning_rate: Step size, for the gradient in units of the text features.
        momentum: Of SGD, in [0, 1); starts anew each round.
        max_grad_norm: C, bound on one record's gradient.
        weight_decay: L2 penalty on the parameters.
    """

    declared_records: int
    private: bool = True
    noise_multiplier: float | None = None
    local_steps: int = DEFAULT_LOCAL_STEPS
    sample_rate: float = DEFAULT_SAMPLE_RATE
    learning_rate: float = DEFAULT_LEARNING_RATE
    momentum: float = DEFAULT_MOMENTUM
    max_grad_norm: float = DEFAULT_MAX_GRAD_NORM
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        sigma = self.noise_multiplier
        checks = {
            "the declared record count must be at least 1": self.declared_records >= 1,
            "private training needs a positive noise multiplier": not self.private or (sigma or 0.0) > 0,
            "training without privacy takes no noise multiplier": self.private or sigma is None,
            "at least one local step is needed": self.local_steps >= 1,
            "the sample rate must lie in (0, 1]": 0 < self.sample_rate <= 1,
            "the learning rate must be a positive number": 0 < self.learning_rate < float("inf"),
            "the momentum must lie in [0, 1)": 0 <= self.momentum < 1,
            "the clipping norm must be a positive number": 0 < self.max_grad_norm < float("inf"),
            "the weight decay must not be negative": 0 <= self.weight_decay < float("inf"),
        }
        for rule, holds in checks.items():
            if not holds:
                raise InvalidInput(rule)

    @property
    def mechanism(self) -> Mechanism | None:
        """Clipping and noise of a step; ``None`` without privacy."""
        if self.noise_multiplier is None:
            return None
        return Mechanism(self.noise_multiplier, self.max_grad_norm)


class LocalTrainer:
    """Trains one institution's copy of the parameters.

    Args:
        backbone: The frozen CLIP.
        class_names: M names.
        shape: Sizes of the parameters; must fit the backbone and the classes.
        key: The institution's domain key, (n_ctx, W), values in [0, 1).
        domain_index: Index of the institution's domain, below K.
        features: Image features of the training records, (N, D), not normalised.
        labels: Class indices, (N,).
        settings: How to train.
        keystream: Source of sampling and noise; a fresh one from the operating system by default.

    Raises:
        InvalidInput: If sizes do not fit, or the key holds values outside [0, 1).
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        shape: ParameterShape,
        key: NDArray[np.float32],
        domain_index: int,
        features: Tensor,
        labels: Tensor,
        settings: TrainingSettings,
        keystream: Keystream | None = None,
    ) -> None:
        check_key(shape, key)
        _check_sizes(backbone, class_names, shape, domain_index, features, labels)
        self._shape = shape
        self._settings = settings
        self._domain_index = domain_index
        self._device = backbone.device
        self._logit_scale = backbone.logit_scale
        keystream = keystream or Keystream.from_operating_system()
        self._sampler = KeystreamUniformSampler(
            num_samples=len(labels),
            sample_rate=settings.sample_rate,
            steps=settings.local_steps,
            keystream=keystream,
        )
        self._text = PromptedText(backbone, class_names, shape.context_tokens, shape.class_specific)
        self._key = torch.from_numpy(key.copy()).to(self._device)
        self._labels = labels.to(self._device, torch.int64)
        features = features.to(self._device, torch.float32)
        self._class_features = F.normalize(features, dim=-1)
        # Without privacy Q reads the feature as it is, as in the paper. With it, both heads read unit-norm
        # features: lengths differ between images, and clipping would drown the class gradient.
        self._domain_features = self._class_features if settings.private else features
        self._gradient = TextFeatureGradient(
            classes=shape.classes,
            domains=shape.domains,
            feature_size=shape.feature_size,
            divisor=settings.sample_rate * settings.declared_records,
            mechanism=settings.mechanism,
            keystream=keystream,
            device=self._device,
        )

    def train(self, parameters: Vector) -> Vector:
        """Return how ``local_steps`` steps change the parameters.

        Args:
            parameters: The round's shared parameters, flat.

        Returns:
            Local minus shared parameters, flat float32.

        Raises:
            InvalidInput: If the parameters have another length, or are not finite or out of range. No
                feature has been used then.
            RunFailed: If training diverged. Whether it does follows from the noisy gradients alone.
        """
        check_vector(self._shape, parameters)
        meta_prompt, adaptive_network = (
            torch.from_numpy(part).to(self._device) for part in unflatten(self._shape, parameters)
        )
        meta_prompt.requires_grad_()
        adaptive_network.requires_grad_()
        settings = self._settings
        optimizer = torch.optim.SGD(
            [meta_prompt, adaptive_network],
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        for batch in self._sampler:
            meta_prompt.grad, adaptive_network.grad = self._gradients(
                meta_prompt, adaptive_network, batch.to(self._device)
            )
            optimizer.step()
        local = flatten(meta_prompt.detach().cpu().numpy(), adaptive_network.detach().cpu().numpy())
        if not np.isfinite(local).all():
            raise RunFailed("training diverged: lower the learning rate, or allow more epsilon")
        return local - parameters

    def _gradients(
        self, meta_prompt: Tensor, adaptive_network: Tensor, batch: Tensor
    ) -> tuple[Tensor, Tensor]:
        contexts = modulate(meta_prompt, self._key).unsqueeze(0)
        text_features = self._text.encode(contexts)[0]  # (M, D)
        class_weights = (self._logit_scale * text_features).detach()
        class_gradient, domain_gradient = self._gradient(
            class_weights,
            adaptive_network.detach(),
            self._class_features[batch],
            self._domain_features[batch],
            self._labels[batch],
            self._domain_index,
        )
        # The gradient of V serves as that of T = V / logit_scale, so one learning rate fits every model.
        (prompt_gradient,) = torch.autograd.grad(text_features, meta_prompt, class_gradient)
        return prompt_gradient, domain_gradient


def check_key(shape: ParameterShape, key: NDArray[np.float32]) -> None:
    """Refuse a domain key that the agreed expansion of a seed cannot give.

    Raises:
        InvalidInput: If the shape is wrong or a value lies outside [0, 1). A key of -1, say, would make
            the institution's update empty and so single out the others.
    """
    if key.shape != shape.key or key.dtype != np.float32:
        raise InvalidInput(f"the domain key has shape {key.shape} where float32 {shape.key} is expected")
    if not ((key >= 0) & (key < 1)).all():  # false for NaN as well
        raise InvalidInput("the domain key holds values outside [0, 1); not used")


def _check_sizes(
    backbone: Backbone,
    class_names: Sequence[str],
    shape: ParameterShape,
    domain_index: int,
    features: Tensor,
    labels: Tensor,
) -> None:
    if (shape.text_width, shape.feature_size) != (backbone.text_width, backbone.feature_size):
        raise InvalidInput(f"the parameters do not fit the model {backbone.name}")
    if shape.classes != len(class_names):
        raise InvalidInput(f"the parameters are for {shape.classes} classes, not {len(class_names)}")
    if not 0 <= domain_index < shape.domains:
        raise InvalidInput(f"there is no domain {domain_index} among {shape.domains}")
    if len(labels) > MAX_BATCH_RECORDS:
        raise InvalidInput(f"{len(labels)} training records are more than the {MAX_BATCH_RECORDS} possible")
    if features.shape != (len(labels), shape.feature_size):
        raise InvalidInput("features and labels do not fit each other")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < shape.classes:
        raise InvalidInput("a label lies outside the classes")

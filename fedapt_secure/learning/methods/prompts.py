"""FedAPT and PromptFL: a learned context before the class name, with and without domain keys.

FedAPT: Su et al., AAAI 2024. PromptFL: Guo et al., IEEE TMC 2023; the context is CoOp's (Zhou et al. 2022a).
The gradient goes through the class weights V = logit_scale · T(P), see `fedapt_secure.learning.privacy.dp`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.graphs import replayed
from fedapt_secure.learning.clip.text import PromptedText
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
from fedapt_secure.learning.methods.fedapt import FedAptModel, key_values, modulate
from fedapt_secure.learning.methods.prior import mixed, prior_of
from fedapt_secure.learning.privacy.dp import TextFeatureGradient


def _text(source: Task | ClassifierParts) -> PromptedText:
    shape = source.shape
    return PromptedText(source.backbone, source.class_names, shape.context_tokens, shape.class_specific)


class FedApt(Method):
    """A meta prompt that the institution's frozen key modulates, and a network that finds the domain."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of both cross-entropies: of the classes and of the domain."""
        return _PromptObjective(task, data, prompt="meta_prompt", network="adaptive_network")

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model that chooses a key for each image."""
        return FedAptModel(
            text=_text(parts),
            meta_prompt=parts.parameters["meta_prompt"],
            adaptive_network=parts.parameters["adaptive_network"],
            keys=parts.keys,
            temperature=parts.temperature,
            prior=prior_of(parts),
            key_use=parts.key_use,
        )


class PromptFl(Method):
    """One learned context for every domain."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of the class cross-entropy."""
        return _PromptObjective(task, data, prompt="context", network=None)

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model whose prompts are the same for all images."""
        text = _text(parts)
        with torch.no_grad():
            context = parts.parameters["context"].to(parts.backbone.device, torch.float32)
            return FixedText(parts, mixed(prior_of(parts), text.encode(context.unsqueeze(0))[0]))


class _PromptObjective(Objective):
    def __init__(self, task: Task, data: TrainingData, *, prompt: str, network: str | None) -> None:
        self._task = task
        self._data = data
        self._prompt = prompt
        self._network = network
        self._text = _text(task)
        self._key = key_values(task.key, task.key_use.values)
        shape = task.shape
        self._gradient = TextFeatureGradient(
            classes=shape.classes,
            domains=shape.domains if network is not None else 0,
            feature_size=shape.feature_size,
            divisor=task.divisor,
            mechanism=task.settings.mechanism,
            keystream=task.keystream,
            device=task.backbone.device,
            loss_temperature=task.settings.loss_temperature,
            domain_weight=task.settings.domain_loss_weight,
        )

    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        context = parameters[self._prompt]
        with torch.enable_grad():
            modulated = context
            if self._network is not None:
                modulated = modulate(context, self._key, self._task.key_use.fusion)
            prompts = modulated.unsqueeze(0)
        with replayed(self._text, prompts) as encode:
            with torch.enable_grad():
                text_features = encode(prompts)[0]  # (M, D)
            class_gradient, domain_gradient = self._towards(text_features.detach(), parameters, batch)
            # The gradient of V serves as that of T = V / logit_scale, so one learning rate fits every model;
            # the loss's own is logit_scale times that.
            (prompt_gradient,) = torch.autograd.grad(text_features, context, self._task.unit * class_gradient)
        found = {self._prompt: prompt_gradient}
        if self._network is not None and domain_gradient is not None:
            found[self._network] = domain_gradient
        return found

    def _towards(
        self, text_features: Tensor, parameters: Tensors, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients for V, (M, D), and for Q, (K, D)."""
        task = self._task
        examples = self._data.examples(
            batch.records, lambda seen: cosine_logits(task.backbone, seen, text_features)
        )
        features = examples.features.to(task.backbone.device, torch.float32)
        unit = F.normalize(features, dim=-1)
        network = None if self._network is None else parameters[self._network].detach()
        return self._gradient(
            task.backbone.logit_scale * text_features,
            network,
            unit,
            # Without privacy Q reads the feature as it is, as in the paper. With it, both heads read
            # unit-norm features: lengths differ between images, and clipping would drown the class gradient.
            unit if task.settings.private else features,
            examples,
            task.domain_index,
            batch,
        )

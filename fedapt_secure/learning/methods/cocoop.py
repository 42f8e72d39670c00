"""CoCoOp: a shared context that a small network shifts for each image.

Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022, section 3.2. Every image
has a prompt of its own, so every image costs M text encodings, in training and afterwards.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.base import (
    Classifier,
    ClassifierParts,
    Method,
    Objective,
    Task,
    Tensors,
    TrainingData,
)
from fedapt_secure.learning.methods.prior import Prior, mixed, prior_of
from fedapt_secure.learning.privacy.dp import SummedGradient
from fedapt_secure.protocol.parameters import ParameterShape

_PROMPTS_AT_ONCE: Final = 512  # bounds the text tower's activations
_NAMES: Final = {
    "context.weight": "context",
    "inner.weight": "meta_net_in",
    "inner.bias": "meta_net_in_bias",
    "outer.weight": "meta_net_out",
    "outer.bias": "meta_net_out_bias",
}


class MetaNet(nn.Module):
    """Context of each image: v + W₂ relu(W₁ f̂ + b₁) + b₂, the same shift for all its tokens."""

    def __init__(self, shape: ParameterShape, hidden: int) -> None:
        super().__init__()
        self._context = (shape.context_tokens, shape.text_width)
        with torch.device("meta"):  # each use copies its own values in
            # A linear layer that reads a 1: Opacus knows the gradient of a single record's use of it.
            self.context = nn.Linear(1, shape.context_tokens * shape.text_width, bias=False)
            self.inner = nn.Linear(shape.feature_size, hidden)
            self.outer = nn.Linear(hidden, shape.text_width)
        self.to_empty(device="cpu")

    def forward(self, features: Tensor) -> Tensor:
        """Return contexts (B, n_ctx, W) of unit-norm features (B, D)."""
        # Opacus' hooks warn when a layer's input asks for no gradient.
        ones = features.new_ones(len(features), 1).requires_grad_(features.requires_grad)
        shift: Tensor = self.outer(torch.relu(self.inner(features)))  # (B, W)
        context: Tensor = self.context(ones).view(-1, *self._context)
        return context + shift.unsqueeze(1)


class CoCoOp(Method):
    """The shared context and the network that shifts it are trained."""

    def objective(self, task: Task, data: TrainingData) -> Objective:
        """Return the gradient of the class cross-entropy."""
        return _MetaNetObjective(task, data)

    def classifier(self, parts: ClassifierParts) -> Classifier:
        """Return the model."""
        return OwnPrompts(parts)


class OwnPrompts(Classifier):
    """Classifies each image by prompts made for it."""

    def __init__(self, parts: ClassifierParts) -> None:
        super().__init__(parts.backbone)
        self._text = _text(parts)
        self._prior = prior_of(parts)
        values = {inside: parts.parameters[name] for inside, name in _NAMES.items()}
        self._net = _net(parts.shape)
        self._net.load_state_dict(_inside(parts.shape, values))
        self._net.to(parts.backbone.device).requires_grad_(False)

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return logits (B, M) of features (B, D)."""
        unit = F.normalize(features.to(self.backbone.device).float(), dim=-1)
        return _all_logits(self._text, self._net, unit, self._prior)

    def own_logits(self, features: Tensor) -> Tensor:
        """Return the logits (B, M) of features (B, D), all rows at once: what a tracer can follow."""
        unit = F.normalize(features.to(self.backbone.device).float(), dim=-1)
        return _logits(self._text, self._net(unit), unit, self._prior)


def _text(source: Task | ClassifierParts) -> PromptedText:
    return PromptedText(
        source.backbone, source.class_names, source.shape.context_tokens, class_specific=False
    )


def _net(shape: ParameterShape) -> MetaNet:
    hidden = next(part.shape[0] for part in shape.parts if part.name == "meta_net_in")
    return MetaNet(shape, hidden)


def _inside(shape: ParameterShape, values: Tensors) -> dict[str, Tensor]:
    """Return the tensors as the module holds them: the context is a column there."""
    column = values["context.weight"].reshape(shape.context_tokens * shape.text_width, 1)
    return {**values, "context.weight": column}


def _logits(text: PromptedText, contexts: Tensor, unit: Tensor, prior: Prior | None = None) -> Tensor:
    """Return logits (B, M) from contexts (B, n_ctx, W) and unit-norm features (B, D)."""
    cosines = (mixed(prior, text.encode(contexts)) @ unit.unsqueeze(-1)).squeeze(-1)
    return text.backbone.logit_scale * cosines


def _all_logits(text: PromptedText, net: nn.Module, unit: Tensor, prior: Prior | None = None) -> Tensor:
    """Return logits (B, M) of unit-norm features (B, D), some at a time."""
    classes = len(text.class_names)
    parts = [
        _logits(text, net(some), some, prior)
        for some in torch.split(unit, max(1, _PROMPTS_AT_ONCE // classes))
    ]
    return torch.cat(parts) if len(unit) else unit.new_empty(0, classes)


class _MetaNetObjective(Objective):
    def __init__(self, task: Task, data: TrainingData) -> None:
        self._task = task
        self._data = data
        self._text = _text(task)
        self._sum = SummedGradient(
            _net(task.shape),
            divisor=task.divisor,
            mechanism=task.settings.mechanism,
            keystream=task.keystream,
            device=task.backbone.device,
            max_rows=max(1, _PROMPTS_AT_ONCE // len(task.class_names)),
        )

    def gradients(self, parameters: Tensors, batch: Batch) -> Tensors:
        task = self._task
        inside = _inside(task.shape, {name: parameters[outside].detach() for name, outside in _NAMES.items()})
        examples = self._data.examples(batch.records, lambda seen: self._present_logits(inside, seen))
        unit = F.normalize(examples.features.to(task.backbone.device).float(), dim=-1)

        def loss(net: Any, rows: Tensor) -> Tensor:
            contexts = net(unit[rows].requires_grad_())
            logits = _logits(self._text, contexts, unit[rows])
            # In units of the text features, as for the other prompts: one learning rate fits every model.
            return task.class_loss(examples, logits, rows) / task.backbone.logit_scale

        found = self._sum(inside, loss, len(examples), batch)
        return {
            outside: task.unit * found[name].reshape(parameters[outside].shape)
            for name, outside in _NAMES.items()
        }

    @torch.no_grad()
    def _present_logits(self, inside: Tensors, features: Tensor) -> Tensor:
        backbone = self._task.backbone
        net = _net(self._task.shape).to(backbone.device)
        net.load_state_dict(inside)
        unit = F.normalize(features.to(backbone.device).float(), dim=-1)
        return _all_logits(self._text, net, unit)

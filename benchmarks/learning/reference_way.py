"""The alternatives, as their users run them: the reference's prompts and per-sample gradients of a prompt.

The FedAPT reference code, like CoOp's, which it builds on, sends all 77 positions of every prompt through
the text tower, the images through the image tower at every step, and at inference gives each image its own
prompt. Written from the paper and from what those programs do; no line of theirs.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from opacus.grad_sample import register_grad_sampler
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedapt_secure.learning.clip.backbone import Backbone


@torch.no_grad()
def reference_images(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Return image features (B, D) by open_clip's image tower, every layer at every position."""
    features: Tensor = backbone.text_tower.module.encode_image(pixels)
    return features


class ReferenceText:
    """Prompts through open_clip's text tower, with nothing left out.

    Args:
        backbone: The frozen CLIP.
        class_names: M names.
        context_tokens: n_ctx.
        cut_at_eot: Grant it our first speed-up as well: end at the longest prompt's end-of-text token.
    """

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], context_tokens: int, *, cut_at_eot: bool = False
    ) -> None:
        self.clip: Any = backbone.text_tower.module
        places = " ".join(["X"] * context_tokens)
        tokens = backbone.tokenize([f"{places} {name}." for name in class_names])  # (M, 77)
        self.end = tokens.argmax(dim=1)
        self.length = int(self.end.max()) + 1 if cut_at_eot else tokens.shape[1]
        with torch.no_grad():
            embedded = self.clip.token_embedding(tokens[:, : self.length])
        self.prefix, self.suffix = embedded[:, :1], embedded[:, 1 + context_tokens :]

    def __call__(self, contexts: Tensor) -> Tensor:
        """Return unit-norm text features (..., M, D) of contexts (..., M, n_ctx, W)."""
        sets = contexts.shape[:-3]
        wide = (*sets, -1, -1, -1)
        prompts = torch.cat([self.prefix.expand(wide), contexts, self.suffix.expand(wide)], dim=-2)
        hidden = prompts.flatten(0, -3) + self.clip.positional_embedding[: self.length]  # (R·M, L, W)
        hidden = self.clip.transformer(hidden, attn_mask=self.clip.attn_mask[: self.length, : self.length])
        hidden = self.clip.ln_final(hidden)
        ends = self.end.repeat(len(hidden) // len(self.end))
        # gather, not advanced indexing: the same values, and torch.func can map over it.
        at_end = hidden.gather(1, ends.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])).squeeze(1)
        features = F.normalize(at_end @ self.clip.text_projection, dim=-1)
        return features.view(*sets, len(self.end), features.shape[-1])


class ExpandedPrompt(nn.Module):
    """P ⊙ (1 + k) once a sample: so a parameter without an input gets per-sample gradients in Opacus."""

    def __init__(self, meta_prompt: Tensor, key: Tensor) -> None:
        super().__init__()
        self.context = nn.Parameter(meta_prompt.clone())
        self.factor = 1 + key

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, M, n_ctx, W) for features (B, D), of which only the number counts."""
        return (self.context * self.factor).expand(len(features), *self.context.shape)


@register_grad_sampler(ExpandedPrompt)
def _expanded_prompt_gradients(
    layer: ExpandedPrompt, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    del activations
    return {layer.context: backprops * layer.factor}


class ExpandedModel(nn.Module):
    """The whole model in Opacus' form: a prompt set a sample, and the adaptive network."""

    def __init__(
        self, text: ReferenceText, scale: float, meta_prompt: Tensor, key: Tensor, network: Tensor
    ) -> None:
        super().__init__()
        self.prompt = ExpandedPrompt(meta_prompt, key)
        self.domains = nn.Linear(network.shape[1], network.shape[0], bias=False)
        self.domains.weight.data.copy_(network)
        self._text, self._scale = text, scale

    def forward(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (B, M) and domain logits (B, K) of unit-norm features (B, D)."""
        # Detached: the hook of a module fires with its input's gradient, and this one depends on no input.
        texts = self._text(self.prompt(unit.detach()))  # (B, M, D)
        return self._scale * torch.einsum("bd,bmd->bm", unit, texts), self.domains(unit)


def both_losses(
    class_logits: Tensor, domain_logits: Tensor, labels: Tensor, domain: int, scale: float
) -> Tensor:
    """Return both cross-entropies summed over samples, the class loss in units of the text features."""
    domains = torch.full_like(labels, domain)
    class_loss = F.cross_entropy(class_logits, labels, reduction="sum") / scale
    return class_loss + F.cross_entropy(domain_logits, domains, reduction="sum")


class OpacusStep:
    """Per-sample gradients through expanded prompts with stock Opacus, some samples at a time.

    Args:
        model: The expanded model.
        noise_multiplier, max_grad_norm: Of DP-SGD.
        at_once: Samples in one physical batch, as Opacus' ``BatchMemoryManager`` has them: memory allows no
            more.
    """

    def __init__(
        self, model: ExpandedModel, noise_multiplier: float, max_grad_norm: float, at_once: int, scale: float
    ) -> None:
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        warnings.filterwarnings("ignore", message="Secure RNG turned off")
        self._module = GradSampleModule(model, loss_reduction="sum")
        self._optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), lr=0.0),
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._model, self._at_once, self._scale = model, at_once, scale

    def __call__(self, unit: Tensor, labels: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Return the noisy sums of the clipped gradients of P and Q."""
        chunks = torch.split(torch.arange(len(labels)), self._at_once)
        for number, chunk in enumerate(chunks):
            some = unit[chunk].clone().requires_grad_()  # without it Opacus' hooks warn
            torch.autograd.backward(both_losses(*self._module(some), labels[chunk], domain, self._scale))
            self._optimizer.signal_skip_step(number < len(chunks) - 1)
            self._optimizer.pre_step()
            if number < len(chunks) - 1:
                self._optimizer.zero_grad()
        found = self._model.prompt.context.grad.clone(), self._model.domains.weight.grad.clone()
        self._optimizer.zero_grad()
        return found


class VmapStep:
    """Per-sample gradients with ``torch.func``: one forward pass of the text, the backward pass mapped."""

    def __init__(
        self,
        text: ReferenceText,
        key: Tensor,
        noise_multiplier: float,
        max_grad_norm: float,
        at_once: int,
        scale: float,
    ) -> None:
        self._text, self._key, self._scale, self._at_once = text, key, scale, at_once
        self._noise, self._limit = noise_multiplier, max_grad_norm

    def __call__(
        self, meta_prompt: Tensor, network: Tensor, unit: Tensor, labels: Tensor, domain: int
    ) -> tuple[Tensor, Tensor]:
        """Return the noisy sums of the clipped gradients of P and Q."""

        def loss(context: Tensor, rows: Tensor, feature: Tensor, label: Tensor) -> Tensor:
            texts = self._text(context * (1 + self._key))
            logits, scores = self._scale * texts @ feature, rows @ feature
            return both_losses(logits[None], scores[None], label[None], domain, self._scale)

        each = torch.func.vmap(
            torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0), chunk_size=self._at_once
        )
        with sdpa_kernel(SDPBackend.MATH):  # the backward pass of the others is not mapped, but repeated
            gradients = each(meta_prompt, network, unit, labels)
        return clipped_sum(gradients, self._noise, self._limit)


def clipped_sum(
    gradients: Sequence[Tensor], noise_multiplier: float, max_grad_norm: float
) -> tuple[Tensor, Tensor]:
    """Clip per-sample gradients (B, ...) jointly, add them up, and add Gaussian noise (Abadi et al. 2016)."""
    norms = torch.stack([one.flatten(1).norm(dim=1) for one in gradients]).norm(dim=0)
    factors = (max_grad_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
    first, second = (
        torch.einsum("b,b...->...", factors, one)
        + noise_multiplier * max_grad_norm * torch.randn(one.shape[1:])
        for one in gradients
    )
    return first, second

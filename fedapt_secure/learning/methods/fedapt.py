"""FedAPT's model: a meta prompt, modulated by the domain keys that the adaptive network chooses.

Su et al., "Federated Adaptive Prompt Tuning for Multi-Domain Collaborative Learning", AAAI 2024,
section 4. B samples, M classes, K keys, D joint embedding, W text width.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.config.key_use import ADD, AS_IN_THE_PAPER, MULTIPLY, UNIFORM, KeyFusion, KeyUse, KeyValues
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.base import Classifier, cosine_logits
from fedapt_secure.learning.methods.prior import Prior, mixed
from fedapt_secure.protocol.methods import PROMPT_STD

TEMPERATURE: Final = 0.01
"""τ of the routing softmax (FedAPT, reference code)."""
ONE_HOT: Final = 1.0 - 1e-6
"""A weight from which on the other keys change nothing that float32 can show."""
_PROMPTS_AT_ONCE: Final = 512  # bounds the text tower's activations: about 1 GiB on ViT-B-32


_HALF_A_STEP: Final = 2.0**-25  # keys lie on a grid of 2**-24 that begins at 0, which no normal value is of


def key_values(keys: Tensor, values: KeyValues = UNIFORM) -> Tensor:
    """Return what the numbers of keys stand for.

    Args:
        keys: U[0, 1), any sizes.
        values: See `KeyValues`.
    """
    if values == UNIFORM:
        return keys
    if values == "signed":
        return 2 * keys - 1
    normal = math.sqrt(2) * torch.erfinv(2 * (keys.double() + _HALF_A_STEP) - 1)
    return (normal if values == "normal" else PROMPT_STD * normal).to(keys.dtype)


def modulate(meta_prompt: Tensor, key: Tensor, fusion: KeyFusion = MULTIPLY) -> Tensor:
    """Return P + P ⊙ k, or P + k.

    Args:
        meta_prompt: P, (M, n_ctx, W) or (n_ctx, W).
        key: k, (..., n_ctx, W): what `key_values` returns.
        fusion: Which of the two.

    Returns:
        Contexts, (..., M, n_ctx, W) or (..., n_ctx, W).
    """
    aligned = key.unsqueeze(-3) if meta_prompt.ndim == 3 else key
    return meta_prompt + (aligned if fusion == ADD else meta_prompt * aligned)


def routing_weights(features: Tensor, adaptive_network: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return each sample's weights over the domain keys.

    Args:
        features: Image features, (B, D); their length does not matter.
        adaptive_network: Q, (K, D).
        temperature: τ; small values choose one key.

    Returns:
        Weights, (B, K), each row adding up to 1; uniform where Q tells no key from another.
    """
    scores = features @ adaptive_network.T  # (B, K)
    centred = scores - scores.mean(dim=1, keepdim=True)
    if scores.shape[1] == 1:
        return torch.ones_like(scores)
    spread = centred.square().sum(dim=1, keepdim=True).div(scores.shape[1] - 1).sqrt()
    standardised = torch.where(spread > 0, centred / spread, torch.zeros_like(centred))
    return (standardised / temperature).softmax(dim=1)


@dataclass(frozen=True)
class FedAptModel(Classifier):
    """A tuned model that classifies image features.

    Attributes:
        text: Encoder of the prompts; brings the classes and the backbone.
        meta_prompt: P, (M, n_ctx, W) or (n_ctx, W).
        adaptive_network: Q, (K, D).
        keys: Domain keys, (K, n_ctx, W).
        temperature: τ of the routing softmax.
        prior: What is kept of the hand-written prompt; ``None`` for nothing, as in the paper.
        key_use: What keys do to the meta prompt.
    """

    text: PromptedText
    meta_prompt: Tensor
    adaptive_network: Tensor
    keys: Tensor
    temperature: float = TEMPERATURE
    prior: Prior | None = None
    key_use: KeyUse = AS_IN_THE_PAPER

    @property
    def backbone(self) -> Backbone:
        """The frozen CLIP it belongs to."""
        return self.text.backbone

    @cached_property
    def routed_text(self) -> Tensor:
        """Text features (K, M, D) that each key stands for: encoded once, whatever the images."""
        with torch.no_grad():
            return self._encode(self._key_values)

    @cached_property
    def _key_values(self) -> Tensor:
        return key_values(self._placed(self.keys), self.key_use.values)

    def routing(self, features: Tensor) -> Tensor:
        """Return the domain index (B,) that each sample of features (B, D) is routed to."""
        return self.weights(features).argmax(dim=1)

    def weights(self, features: Tensor) -> Tensor:
        """Return the weights (B, K) of the keys for each sample of features (B, D)."""
        return routing_weights(self._placed(features), self._placed(self.adaptive_network), self.temperature)

    def own_logits(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return the logits (B, M) of samples with a prompt of their own each, all at once.

        Args:
            features: Image features, (B, D).
            weights: Their weights over the keys, (B, K).
        """
        keys = torch.einsum("bk,knw->bnw", weights, self._key_values)
        contexts = modulate(self._placed(self.meta_prompt), keys, self.key_use.fusion)
        text_features = mixed(self.prior, self.text.encode(contexts))
        return self._logits(self._placed(features), text_features)

    @torch.no_grad()
    def predict_without_routing(self, features: Tensor) -> Tensor:
        """Return logits (B, M) with one prompt for all samples (B, D), of every key in equal shares.

        What is left where nothing recognises domains: for ablations.
        """
        mean_key = self._key_values.mean(dim=0, keepdim=True)
        return cosine_logits(self.backbone, self._placed(features), self._encode(mean_key)[0])

    @torch.no_grad()
    def predict_knowing_domains(self, features: Tensor, own_keys: Collection[int]) -> Tensor:
        """Return logits (B, M) of samples (B, D) of one domain whose keys are known: for ablations.

        Args:
            features: Image features.
            own_keys: Which keys serve the domain, one at least; the network chooses among these alone.
        """
        own = sorted(own_keys)
        known = replace(self, keys=self.keys[own], adaptive_network=self.adaptive_network[own])
        known.__dict__["routed_text"] = self.routed_text[own]  # encoded already
        return known.predict(features)

    @torch.no_grad()
    def predict_plain(self, features: Tensor) -> Tensor:
        """Return logits with one prompt a sample, as the paper says it: the slow reference.

        Args:
            features: Image features, (B, D).

        Returns:
            Logits, (B, M), on the backbone's device.
        """
        features = self._placed(features)
        return self._with_own_prompts(features, self.weights(features))

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """Return the logits of `predict_plain`, encoding one set of prompts a key wherever that suffices.

        With τ = 0.01 nearly all weights are one-hot to float precision; only the other samples need a
        prompt of their own.

        Args:
            features: Image features, (B, D).

        Returns:
            Logits, (B, M), on the backbone's device.
        """
        features = self._placed(features)
        weights = self.weights(features)  # (B, K)
        confidence, chosen = weights.max(dim=1)
        mixed = confidence < ONE_HOT
        logits = features.new_empty(len(features), len(self.text.class_names))
        for index, text_features in enumerate(self.routed_text):  # (M, D) a key
            routed_here = chosen == index
            logits[routed_here] = cosine_logits(self.backbone, features[routed_here], text_features)
        if mixed.any():
            logits[mixed] = self._with_own_prompts(features[mixed], weights[mixed])
        return logits

    def _with_own_prompts(self, features: Tensor, weights: Tensor) -> Tensor:
        rows = max(1, _PROMPTS_AT_ONCE // len(self.text.class_names))
        parts = [
            self.own_logits(some, some_weights)
            for some, some_weights in zip(
                torch.split(features, rows), torch.split(weights, rows), strict=True
            )
        ]
        return torch.cat(parts) if parts else features.new_empty(0, len(self.text.class_names))

    def _encode(self, keys: Tensor) -> Tensor:
        """Return text features (R, M, D) of the prompts under keys (R, n_ctx, W), some at a time."""
        rows = max(1, _PROMPTS_AT_ONCE // len(self.text.class_names))
        meta_prompt = self._placed(self.meta_prompt)
        fusion = self.key_use.fusion
        parts = [self.text.encode(modulate(meta_prompt, some, fusion)) for some in torch.split(keys, rows)]
        return mixed(self.prior, torch.cat(parts))

    def _logits(self, features: Tensor, text_features: Tensor) -> Tensor:
        """Return (B, M) from features (B, D) and each sample's own text features (B, M, D)."""
        cosines = (text_features @ F.normalize(features, dim=-1).unsqueeze(-1)).squeeze(-1)
        return self.text.backbone.logit_scale * cosines

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.text.backbone.device, torch.float32)

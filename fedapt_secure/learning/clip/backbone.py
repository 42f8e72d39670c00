"""The frozen CLIP: one loading path for the shipped tiny model and for every other open_clip model."""

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.model_identity import Activation, ModelIdentity
from fedapt_secure.learning.clip.device import CPU, FULL, Precision, in_precision, resolve_precision
from fedapt_secure.learning.clip.identity import identity_of
from fedapt_secure.learning.clip.image_tower import image_tower_of, with_the_same_weights
from fedapt_secure.learning.clip.loading import RANDOM, TINY, Loaded, load
from fedapt_secure.learning.clip.prompt_tokens import PromptTokens
from fedapt_secure.learning.clip.text_tower import TextTower, text_tower_of

__all__ = ["RANDOM", "TINY", "Backbone", "choose_precision", "load_backbone"]

_loaded: dict[tuple[str, str | None, str, str, Activation | None], "Backbone"] = {}
_loading = threading.Lock()


class Backbone:
    """A frozen CLIP on one device. Shared by the whole process, so nothing in it may be changed.

    Attributes:
        name: Name of the model.
        pretrained: Tag, file or ``"random"``; ``None`` where the name says it.
        device: Where the weights lie.
        precision: What both towers compute in while they are frozen.
        text_tower: The text tower, for prompts that are token embeddings.
        prompt_tokens: How its tokenizer lays out a prompt.
        feature_size: D, size of the joint embedding.
        logit_scale: Factor between cosine similarities and logits (already exponentiated).
        logit_bias: What SigLIP's logits have added to them, the same for all classes, so that a softmax over
            classes does not see it; ``None`` where the model has none.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None,
        loaded: Loaded,
        device: torch.device,
        precision: Precision = FULL,
    ) -> None:
        self.name = name
        self.pretrained = pretrained
        self.device = device
        self.precision = precision
        model = loaded.model
        # Before the weights move: a bundle carries it, and a GPU's last bit of an exponential is another.
        self.logit_scale = float(np.float32(math.exp(float(model.logit_scale.detach().reshape(-1)[0]))))
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias.detach().reshape(-1)[0])
        self._model = model.to(device).float().eval().requires_grad_(False)
        self._transform, self._tokenizer = loaded.transform, loaded.tokenizer
        self._configuration = loaded.configuration
        try:
            self.prompt_tokens = PromptTokens(self._tokenizer)
        except InvalidInput as error:
            raise InvalidInput(f"prompts cannot be tuned on {name}: {error}") from None
        self.text_tower: TextTower = text_tower_of(self._model, name, self.tokenize(["a"]))
        self._image_tower = image_tower_of(self._model)
        self.feature_size = int(self.encode_text(self.tokenize(["a"])).shape[1])

    @property
    def text_width(self) -> int:
        """W, width of a token embedding."""
        return self.text_tower.text_width

    @property
    def context_length(self) -> int:
        """Longest prompt in tokens, start and end included."""
        return self.text_tower.context_length

    @cached_property
    def weight_hash(self) -> str:
        """SHA-256 (hex) over the sorted names, types, shapes and bytes of all weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            values = np.ascontiguousarray(tensor.cpu().numpy())
            digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
            digest.update(values.data)
        return digest.hexdigest()

    @cached_property
    def identity(self) -> ModelIdentity:
        """What its features follow from besides the weights."""
        return identity_of(self._model, self._configuration, self._tokenizer)

    @property
    def model_hash(self) -> str:
        """SHA-256 (hex) over all that its features follow from, weights included."""
        return self.identity.hash_with(self.weight_hash)

    @cached_property
    def preprocess_hash(self) -> str:
        """SHA-256 (hex) of the description of the image preprocessing."""
        described = json.dumps(self._model.visual.preprocess_cfg, sort_keys=True, default=str)
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def image_tower_values(self) -> int:
        """Number of trainable values of the image tower."""
        return sum(parameter.numel() for parameter in self._model.visual.parameters())

    @cached_property
    def parameter_count(self) -> int:
        """Number of values of the whole model."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def encode_images_changed(self, change: Tensor, pixels: Tensor) -> Tensor:
        """Return the image features (B, D) of an image tower whose weights are changed; differentiable.

        Always in float32: bfloat16 would round small changes of a weight away.

        Args:
            change: What is added to the tower's weights, flat, in the order of its parameters.
            pixels: Preprocessed images, (B, 3, H, W).
        """
        # functional_call puts the weights into the module it is given while it runs, and institutions that
        # train in threads of one process share this backbone: each call has a module of its own.
        tower = with_the_same_weights(self._image_tower)
        named = dict(tower.named_parameters())
        # Split at once: the gradient of each slice of its own would be as long as the whole change.
        parts = torch.split(change, [parameter.numel() for parameter in named.values()])
        changed = {
            name: parameter + part.view_as(parameter).to(parameter)
            for (name, parameter), part in zip(named.items(), parts, strict=True)
        }
        with in_precision(FULL, self.device):
            features: Tensor = torch.func.functional_call(tower, changed, (pixels.to(self.device),))
        return features.float()

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the pixels (3, H, W) that the image tower expects."""
        pixels: Tensor = self._transform(image)
        return pixels

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the image features (B, D), float32 and not normalised, of pixels (B, 3, H, W)."""
        with in_precision(self.precision, self.device):
            features: Tensor = self._image_tower(pixels.to(self.device, non_blocking=True))
        return features.float()

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token numbers (len(texts), context_length), on the backbone's device."""
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens.to(self.device)

    @torch.no_grad()
    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return text features (B, D), float32, not normalised, of token numbers (B, context_length)."""
        with in_precision(self.precision, self.device):
            features: Tensor = self._model.encode_text(tokens, normalize=False)
        return features.float()


def load_backbone(
    model: str = TINY,
    pretrained: str | None = None,
    device: torch.device | None = None,
    precision: Precision = FULL,
    activation: Activation | None = None,
) -> Backbone:
    """Return a frozen CLIP; the same object for the same arguments.

    Args:
        model: ``"tiny"`` for the shipped model, or any name open_clip knows.
        pretrained: A tag such as ``"openai"``, a local checkpoint file, or ``"random"``. ``None`` is for
            models whose name says where their weights are (``tiny``, ``local-dir:``, ``hf-hub:``).
        device: Where to put it; the CPU by default.
        precision: What its towers compute in; see `resolve_precision`.
        activation: Of open_clip's own towers, for weights that nobody knows; by default what is known of
            them, or what the model's configuration says.

    Raises:
        InvalidInput: If there is no such model, no weights are named, they or a library cannot be had, or the
            model's text tower is of a kind that prompts cannot be tuned on.
    """
    device = device or CPU
    key = (model, pretrained, str(device), precision, activation)
    with _loading:
        if key not in _loaded:
            _loaded[key] = Backbone(model, pretrained, load(model, pretrained, activation), device, precision)
        return _loaded[key]


def choose_precision(wish: str, device: torch.device, model: str) -> Precision:
    """Return the precision for a model: as `resolve_precision`, but ``auto`` leaves the tiny one in float32.

    It is too small to gain anything (docs/gpu.md).

    Args:
        wish: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        device: Where it computes.
        model: Its name.

    Raises:
        InvalidInput: If ``wish`` is none of them, or the GPU has no bfloat16.
    """
    return FULL if wish == "auto" and model == TINY else resolve_precision(wish, device)

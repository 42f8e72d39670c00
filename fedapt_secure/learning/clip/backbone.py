"""The frozen CLIP: one loading path for the shipped tiny model and for every other open_clip model."""

import difflib
import hashlib
import json
import math
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.clip.device import (
    CPU,
    FULL,
    Precision,
    in_precision,
    resolve_precision,
    without_tf32,
)
from fedapt_secure.learning.clip.hub import offline_if_unreachable, quiet_loading
from fedapt_secure.learning.clip.image_tower import image_tower_of, with_the_same_weights
from fedapt_secure.learning.clip.text_tower import TextTower, text_tower_of

TINY: Final = "tiny"
"""Name of the model that ships with the package."""
RANDOM: Final = "random"
"""Value of ``pretrained`` for untrained weights under a fixed seed: for tests and timing."""

_TINY_FOLDER: Final = Path(__file__).parents[1] / "tiny_clip"
_RANDOM_WEIGHTS_SEED: Final = 0
_SCHEMES: Final = ("local-dir:", "hf-hub:")  # names of this kind say themselves where their weights are

_loaded: dict[tuple[str, str | None, str, str], "Backbone"] = {}
_loading = threading.Lock()


class Backbone:
    """A frozen CLIP on one device. Shared by the whole process, so nothing in it may be changed.

    Attributes:
        name: Name of the model.
        pretrained: Tag, file or ``"random"``; ``None`` where the name says it.
        device: Where the weights lie.
        precision: What both towers compute in while they are frozen.
        text_tower: The text tower, for prompts that are token embeddings.
        feature_size: D, size of the joint embedding.
        logit_scale: Factor between cosine similarities and logits (already exponentiated).
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None,
        model: Any,
        transform: Any,
        tokenizer: Any,
        device: torch.device,
        precision: Precision = FULL,
    ) -> None:
        self.name = name
        self.pretrained = pretrained
        self.device = device
        self.precision = precision
        # Before the weights move: a bundle carries it, and a GPU's last bit of an exponential is another.
        self.logit_scale = float(np.float32(math.exp(float(model.logit_scale.detach().reshape(-1)[0]))))
        self._model = model.to(device).float().eval().requires_grad_(False)
        self._transform = transform
        self._tokenizer = tokenizer
        self.text_tower: TextTower = text_tower_of(self._model, name)
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
        tower, start, changed = with_the_same_weights(self._image_tower), 0, {}
        for name, parameter in tower.named_parameters():
            part = change[start : start + parameter.numel()].view_as(parameter)
            changed[name], start = parameter + part.to(parameter), start + parameter.numel()
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
            features: Tensor = self._model.encode_text(tokens)
        return features.float()


def load_backbone(
    model: str = TINY,
    pretrained: str | None = None,
    device: torch.device | None = None,
    precision: Precision = FULL,
) -> Backbone:
    """Return a frozen CLIP; the same object for the same arguments.

    Args:
        model: ``"tiny"`` for the shipped model, or any name open_clip knows.
        pretrained: A tag such as ``"openai"``, a local checkpoint file, or ``"random"``. ``None`` is for
            models whose name says where their weights are (``tiny``, ``local-dir:``, ``hf-hub:``).
        device: Where to put it; the CPU by default.
        precision: What its towers compute in; see `resolve_precision`.

    Raises:
        InvalidInput: If there is no such model, no weights are named, they cannot be had, or the model's
            text tower is of a kind that prompts cannot be tuned on.
    """
    device = device or CPU
    key = (model, pretrained, str(device), precision)
    with _loading:
        if key not in _loaded:
            _loaded[key] = _load(model, pretrained, device, precision)
        return _loaded[key]


def _load(model: str, pretrained: str | None, device: torch.device, precision: Precision) -> Backbone:
    _check_name(model, pretrained)
    without_tf32()
    source = f"local-dir:{_TINY_FOLDER}" if model == TINY else model
    is_random = pretrained == RANDOM
    with quiet_loading(), offline_if_unreachable(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        try:
            clip, _, transform = open_clip.create_model_and_transforms(
                source,
                pretrained=None if is_random or source.startswith(_SCHEMES) else pretrained,
                load_weights=not is_random,
                require_pretrained=not is_random,
                force_quick_gelu=_needs_quick_gelu(model, pretrained),
                pretrained_text=False,
            )
            tokenizer = open_clip.get_tokenizer(source)
        except Exception as error:
            # open_clip, the hub client and torch.load fail in many ways; the user needs one line about it.
            raise InvalidInput(_cannot_load(model, pretrained, error)) from error
    return Backbone(model, pretrained, clip, transform, tokenizer, device, precision)


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


def _check_name(model: str, pretrained: str | None) -> None:
    if model == TINY:
        if pretrained not in {None, RANDOM}:
            raise InvalidInput("the tiny model ships with its weights; leave pretrained out")
        return
    if model.startswith(_SCHEMES):
        return
    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, [TINY, *known], n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InvalidInput(f"there is no model {model}{hint}")
    if pretrained is None:
        tags = open_clip.list_pretrained_tags_by_model(model)
        offer = f"one of {', '.join(tags)}, or a checkpoint file" if tags else "a checkpoint file"
        raise InvalidInput(f"name the weights of {model} with pretrained: {offer}")


def _needs_quick_gelu(model: str, pretrained: str | None) -> bool:
    # Some tags were trained with another activation than the configuration of that name says; open_clip
    # only warns about it, and the model would be silently worse.
    if pretrained is None or model == TINY or model.startswith(_SCHEMES):
        return False
    described = open_clip.get_pretrained_cfg(model, pretrained) or {}
    return bool(described.get("quick_gelu", False))


def _cannot_load(model: str, pretrained: str | None, error: Exception) -> str:
    weights = "" if pretrained is None else f" with the weights {pretrained}"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"cannot load the model {model}{weights}: {reason[:200]} (without a network, give a local"
        " checkpoint file as pretrained, or use the tiny model)"
    )

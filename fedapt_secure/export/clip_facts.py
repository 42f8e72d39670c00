"""What an export says of the CLIP: preprocessing, how open_clip builds it, its prompts as token numbers.

The one place of this room that looks inside a `Backbone`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import RANDOM, TINY, Backbone
from fedapt_secure.learning.clip.class_names import spoken_names
from fedapt_secure.learning.clip.image_tower import with_the_same_weights

CLIP_FOLDER: Final = "clip"
"""Beside the script, the shipped CLIP: no one else has it."""
HUB: Final = "hf-hub:"
_LOCAL: Final = "local-dir:"
_QUICK: Final = "QuickGELU"  # open_clip's class for it, in all of its towers
_TAG: Final = re.compile(r"\w[\w-]*", re.ASCII)


def preprocess_settings(backbone: Backbone) -> dict[str, Any]:
    """Return size (H, W), mean, std, interpolation, resize mode and fill of a CLIP's preprocessing.

    Raises:
        InvalidInput: If they are of a kind that cannot be described here.
    """
    found: Mapping[str, Any] = backbone._model.visual.preprocess_cfg
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    resize = found["resize_mode"] or "shortest"
    if found["mode"] != "RGB" or resize not in {"shortest", "longest", "squash"}:
        raise InvalidInput(f"the preprocessing of {backbone.name} is of a kind that is not known here")
    return {
        "size": [int(height), int(width)],
        "mean": _three(found["mean"]),
        "std": _three(found["std"]),
        "interpolation": "bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        "resize_mode": resize,
        "fill_color": int(found["fill_color"]),
    }


def _three(values: Any) -> list[float]:
    return [float(values)] * 3 if isinstance(values, int | float) else [float(one) for one in values]


def changed_tower(backbone: Backbone, change: Tensor) -> nn.Module:
    """Return the image tower of a CLIP with changed weights.

    Args:
        backbone: The CLIP; stays as it is.
        change: What is added to the tower's weights, flat, in the order of its parameters.
    """
    tower: nn.Module = with_the_same_weights(backbone._image_tower)
    start = 0
    for name, parameter in list(tower.named_parameters()):
        part = change[start : start + parameter.numel()].view_as(parameter)
        holder, _, last = name.rpartition(".")
        changed = nn.Parameter(parameter.detach() + part, requires_grad=False)
        setattr(tower.get_submodule(holder), last, changed)
        start += parameter.numel()
    return tower.eval()


def open_clip_arguments(bundle: Bundle, backbone: Backbone) -> dict[str, Any]:
    """Return the arguments with which open_clip alone builds the CLIP of a bundle.

    ``model_name`` is `CLIP_FOLDER` with its scheme for the shipped one, which has to lie beside the script.
    Weights of a file or a folder of this machine are left out: whoever uses the script names them.

    Args:
        bundle: What the CLIP was named there.
        backbone: The CLIP.
    """
    if bundle.model == TINY:
        arguments: dict[str, Any] = {"model_name": f"{_LOCAL}{CLIP_FOLDER}"}
    elif bundle.model.startswith(HUB):
        arguments = {"model_name": bundle.model}
    elif bundle.model.startswith(_LOCAL):
        return {"model_name": None}
    else:
        arguments = {"model_name": bundle.model, "pretrained": known_tag(bundle), "pretrained_text": False}
        arguments["force_quick_gelu"] = any(type(one).__name__ == _QUICK for one in backbone._model.modules())
    if bundle.pretrained == RANDOM:
        arguments |= {"load_weights": False, "require_pretrained": False}
    return arguments


def known_tag(bundle: Bundle) -> str | None:
    """Return the tag of a bundle's weights, where it names one and not a file of somebody's machine."""
    named = bundle.pretrained
    if named is None or named == RANDOM or not _TAG.fullmatch(named) or Path(named).exists():
        return None
    return named


def model_said(bundle: Bundle) -> str:
    """Return what to call a bundle's CLIP: its name, or the last part of a folder's path."""
    return _last(bundle.model) if bundle.model.startswith(_LOCAL) else bundle.model


def weights_said(bundle: Bundle) -> str | None:
    """Return what to call a bundle's weights: the tag, or the last part of a file's path."""
    return None if bundle.pretrained is None else _last(bundle.pretrained)


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def prompt_tokens(bundle: Bundle, backbone: Backbone) -> tuple[Tensor, int]:
    """Return the prompts of a bundle's classes, with a place for each vector of the context.

    What stands at those places does not matter: their embeddings are replaced. It is no token that ends or
    fills a prompt.

    Returns:
        Token numbers, (M, context length), and the place of the context's first vector.
    """
    tokens = backbone.tokenize([f"{name}." for name in spoken_names(bundle.class_names)]).cpu()
    starts = backbone.tokenize(["a", "zebra"])[:, 0]
    start = int(starts[0] == starts[1])
    count = bundle.shape.context_tokens
    places = tokens[:, start : start + 1].expand(-1, count)
    kept = tokens.shape[1] - count
    return torch.cat([tokens[:, :start], places, tokens[:, start:kept]], dim=1), start

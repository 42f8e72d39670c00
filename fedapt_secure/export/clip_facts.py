"""What an export says of the CLIP: preprocessing, how open_clip builds it, its prompts as token numbers.

The one place of this room that looks inside a `Backbone`.
"""

import re
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.model_identity import QUICK_GELU
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import RANDOM, TINY, Backbone
from fedapt_secure.learning.clip.class_names import spoken_names
from fedapt_secure.learning.clip.image_tower import with_the_same_weights
from fedapt_secure.learning.clip.prompt_tokens import as_tokens

CLIP_FOLDER: Final = "clip"
"""Beside the script, the shipped CLIP: no one else has it."""
HUB: Final = "hf-hub:"
_LOCAL: Final = "local-dir:"
_TAG: Final = re.compile(r"\w[\w-]*", re.ASCII)


def preprocess_settings(backbone: Backbone) -> dict[str, Any]:
    """Return size (H, W), mean, std, interpolation, resize mode and fill of a CLIP's preprocessing.

    Raises:
        InvalidInput: If they are of a kind that cannot be described here.
    """
    found = backbone.identity
    if found.resize_mode not in {"shortest", "longest", "squash"}:
        raise InvalidInput(f"the preprocessing of {backbone.name} is of a kind that is not known here")
    return {
        "size": list(found.image_size),
        "mean": list(found.mean),
        "std": list(found.std),
        "interpolation": "bilinear" if found.interpolation == "bilinear" else "bicubic",
        "resize_mode": found.resize_mode,
        "fill_color": found.fill,
    }


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
        identity = backbone.identity  # a file says nothing of it, and open_clip would take what is usual
        arguments |= {"image_mean": identity.mean, "image_std": identity.std}
        arguments |= {
            "image_interpolation": identity.interpolation,
            "image_resize_mode": identity.resize_mode,
        }
        arguments["force_quick_gelu"] = backbone.identity.activation == QUICK_GELU
    if bundle.pretrained == RANDOM:
        arguments |= {"load_weights": False, "require_pretrained": False}
    return arguments


def own_text_model(backbone: Backbone) -> dict[str, Any]:
    """Return what tells open_clip where a folder has the text model that it would ask the hub for.

    Nothing where the text tower is open_clip's own.
    """
    text_cfg = dict(backbone._configuration["text_cfg"])
    return {"text_cfg": text_cfg} if text_cfg.get("hf_model_name") else {}


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
    count = bundle.shape.context_tokens
    rows = [backbone.prompt_tokens.prompt(f"{name}.", count) for name in spoken_names(bundle.class_names)]
    return as_tokens(rows), backbone.prompt_tokens.start

"""What a loaded CLIP's features follow from besides its weights, as a session compares it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transform import PreprocessCfg
from open_clip.transformer import QuickGELU

from fedapt_secure.config.model_identity import GELU, QUICK_GELU, Activation, ModelIdentity
from fedapt_secure.learning.clip.tokenizers import tokenizer_hash

# Where things were taken from, what counts for training alone, and what the tokenizer's own hash covers.
_TOWER_ONLY: Final = frozenset(
    {
        "hf_model_name",
        "hf_model_pretrained",
        "hf_tokenizer_name",
        "output_tokens",
        "patch_dropout",
        "timm_drop",
        "timm_drop_path",
        "timm_model_pretrained",
        "tokenizer_kwargs",
        "tokenizer_mode",
    }
)
_HUB_ONLY: Final = frozenset(
    {
        "architectures",
        "dtype",
        "gradient_checkpointing",
        "name_or_path",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def identity_of(model: Any, configuration: Mapping[str, Any], tokenizer: Any) -> ModelIdentity:
    """Return the identity of a model that open_clip has made.

    Args:
        model: The model; its image tower says how images are prepared.
        configuration: open_clip's configuration of it, with ``embed_dim``, ``vision_cfg`` and ``text_cfg``.
        tokenizer: Its tokenizer.
    """
    prepared = PreprocessCfg(**model.visual.preprocess_cfg)
    height, width = prepared.size if isinstance(prepared.size, tuple | list) else (prepared.size,) * 2
    red, green, blue = (float(one) for one in prepared.mean)
    spread = tuple(float(one) for one in prepared.std)
    return ModelIdentity(
        architecture=_architecture_hash(model, configuration),
        activation=_activation(model),
        tokenizer=tokenizer_hash(tokenizer),
        image_size=(height, width),
        mean=(red, green, blue),
        std=(spread[0], spread[1], spread[2]),
        interpolation=prepared.interpolation,
        resize_mode=prepared.resize_mode,
        fill=prepared.fill_color,
    )


def _activation(model: Any) -> Activation:
    return QUICK_GELU if any(isinstance(part, QuickGELU) for part in model.modules()) else GELU


def _architecture_hash(model: Any, configuration: Mapping[str, Any]) -> str:
    """Return the SHA-256, hexadecimal, of the settings of both towers, defaults written out."""
    vision = asdict(CLIPVisionCfg(**configuration["vision_cfg"]))
    text = asdict(CLIPTextCfg(**configuration["text_cfg"]))
    described: dict[str, Any] = {
        "kind": type(model).__name__,
        "embed_dim": configuration["embed_dim"],
        "vision": {name: value for name, value in vision.items() if name not in _TOWER_ONLY},
        "text": {name: value for name, value in text.items() if name not in _TOWER_ONLY},
    }
    hub = getattr(getattr(model, "text", None), "config", None)  # of a text tower from transformers
    if hub is not None:
        described["hub"] = {
            name: value
            for name, value in hub.to_diff_dict().items()
            if name not in _HUB_ONLY and not name.startswith("_")
        }
    spelled = json.dumps(described, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(spelled.encode()).hexdigest()

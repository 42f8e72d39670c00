"""What is known of the weights in a checkpoint file: their activation, and how images are prepared.

A file says neither, and the features of the wrong one are silently worse. What open_clip knows of published
weights
decides: the configuration that was published beside the file; the folder that the hub's client keeps it in;
or the file's hash, which is a part of the address it is published at. Where nothing of that is there, what
all published weights of the model have in common counts, and what they differ in is said.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import open_clip

from fedapt_secure.config.model_identity import GELU, QUICK_GELU, Activation

CONFIGURATION: Final = "open_clip_config.json"
_PREPARATION: Final = ("mean", "std", "interpolation", "resize_mode")
_HASH_IN_ADDRESS: Final = re.compile(r"(?:/([0-9a-f]{64})/[^/]*|-([0-9a-f]{8})\.(?:pt|bin|safetensors))$")


@dataclass(frozen=True)
class Known:
    """What is known of weights.

    Attributes:
        activation: Theirs; ``None`` where weights of both kinds have the model's name.
        certain: Whether these very weights are known; otherwise it is what all of that name have.
        preparation: Those of mean, std, interpolation and resize_mode that are known; others are
            open_clip's default.
        unknown: Names of those that published weights of the model's name differ in.
    """

    activation: Activation | None
    certain: bool
    preparation: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def of_file(model: str, file: Path, configured: Activation) -> Known:
    """Return what is known of a checkpoint file's weights.

    Args:
        model: Name of the model, as open_clip has it.
        file: The checkpoint.
        configured: Activation in the configuration of that name.
    """
    beside = _told_beside(file)
    if beside is not None:
        return beside
    tags = [
        open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)
    ]
    for tag in tags:
        if _is_published_as(file, tag):
            return Known(_activation(tag, configured), certain=True, preparation=_some(tag))
    activations = {_activation(tag, configured) for tag in tags} | {configured}
    preparations = [_some(tag) for tag in tags]
    common = {
        name: preparations[0][name] for name in _PREPARATION if preparations and _agree(preparations, name)
    }
    return Known(
        activations.pop() if len(activations) == 1 else None,
        configured == QUICK_GELU,  # the name itself says it
        {name: value for name, value in common.items() if value is not None},
        tuple(name for name in _PREPARATION if preparations and name not in common),
    )


def _activation(weights: Mapping[str, Any], configured: Activation) -> Activation:
    return QUICK_GELU if weights.get("quick_gelu") else configured


def _some(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: weights.get(name) for name in _PREPARATION}


def _agree(preparations: Iterable[Mapping[str, Any]], name: str) -> bool:
    return len({str(one[name]) for one in preparations}) == 1


def _told_beside(file: Path) -> Known | None:
    """Return what a configuration in the file's folder says, as the hub's folders have one."""
    try:
        described = json.loads((file.parent / CONFIGURATION).read_text(encoding="utf-8"))
        activation = QUICK_GELU if described["model_cfg"].get("quick_gelu") else GELU
        preparation = described.get("preprocess_cfg", {})
        some = {name: preparation[name] for name in _PREPARATION if name in preparation}
        return Known(activation, certain=True, preparation=some)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _is_published_as(file: Path, weights: Mapping[str, Any]) -> bool:
    repository = str(weights.get("hf_hub", "")).strip("/")
    if repository and f"models--{repository.replace('/', '--')}" in file.absolute().parts:
        return True
    found = _HASH_IN_ADDRESS.search(str(weights.get("url", "")))
    if found is None:
        return False
    return _sha256(str(file), file.stat().st_mtime_ns).startswith(found[1] or found[2])


@lru_cache(maxsize=16)
def _sha256(path: str, changed: int) -> str:
    """Return a file's SHA-256, hexadecimal; taken again when the file's time (ns) has changed."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

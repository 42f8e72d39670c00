"""A finished model as text features and a script that needs open_clip alone.

The CLIP itself is not in it: open_clip loads it. The script is the same for all models of a kind; what is
a model's own lies beside it in `ABOUT` (JSON) and `TUNED` (safetensors), so that no name is ever code.
"""

import json
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.export.apart import run_apart
from fedapt_secure.export.clip_facts import (
    CLIP_FOLDER,
    open_clip_arguments,
    prompt_tokens,
)
from fedapt_secure.export.graphs import DOMAIN, LOGITS, WEIGHTS
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import TINY
from fedapt_secure.learning.methods.base import Classifier, FixedText
from fedapt_secure.learning.methods.fedapt import FedAptModel
from fedapt_secure.learning.methods.fedclip import AdaptedFeatures
from fedapt_secure.learning.methods.image_tower import CHANGE, ChangedTower

ABOUT: Final = "model.json"
TUNED: Final = "tuned.safetensors"
SCRIPT: Final = "predict.py"
_CLIP_FILES: Final = ("open_clip_config.json", "open_clip_model.safetensors")
_TINY_PACKAGE: Final = "fedapt_secure.learning.tiny_clip"
_IMAGES_A_CALL: Final = 256
_OWN_PROMPTS: Final = (
    "with CoCoOp every image has text features of its own, so there are none to take elsewhere: export it"
    " --to onnx or --to torchscript, which hold the text tower"
)


def write_open_clip(folder: Path, classifier: Classifier, bundle: Bundle, digest: str) -> list[str]:
    """Write text features, what routing needs, and the script.

    Args:
        folder: Where to.
        classifier: The model, on the CPU.
        bundle: The same as a bundle.
        digest: SHA-256 of the bundle's file, hexadecimal.

    Returns:
        The names of the files.

    Raises:
        InvalidInput: If the method has no text features that serve for several images.
    """
    tensors, facts = _tuned(classifier, bundle)
    about = {
        "open_clip": open_clip_arguments(bundle, classifier.backbone),
        "classes": list(bundle.class_names),
        "logit_scale": bundle.logit_scale,
        "method": bundle.shape.method,
        "bundle_sha256": digest,
        "weight_hash": bundle.weight_hash,
        "prior_weight": bundle.prior_weight,
        **facts,
    }
    save_file({name: one.contiguous().clone() for name, one in tensors.items()}, folder / TUNED)
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="ascii")
    kind = "keys" if isinstance(classifier, FedAptModel) else "fixed"
    script = resources.files("fedapt_secure.export").joinpath(f"predict_{kind}.txt")
    (folder / SCRIPT).write_bytes(script.read_bytes())
    return [ABOUT, TUNED, SCRIPT, *_own_clip(folder, bundle)]


def _own_clip(folder: Path, bundle: Bundle) -> list[str]:
    """Put the shipped CLIP beside the script: open_clip has every other one."""
    if bundle.model != TINY:
        return []
    (folder / CLIP_FOLDER).mkdir()
    for name in _CLIP_FILES:
        content = resources.files(_TINY_PACKAGE).joinpath(name).read_bytes()
        (folder / CLIP_FOLDER / name).write_bytes(content)
    return [f"{CLIP_FOLDER}/{name}" for name in _CLIP_FILES]


def _tuned(classifier: Classifier, bundle: Bundle) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors that the script reads, and what else it has to know."""
    match classifier:
        case FedAptModel():
            tokens, start = prompt_tokens(bundle, classifier.backbone)
            tensors = {
                "text_features": classifier.routed_text,
                "adaptive_network": classifier.adaptive_network,
                "keys": classifier.keys,
                "prompt": classifier.meta_prompt,
                "tokens": tokens,
            }
            if classifier.prior is not None:
                tensors["untuned_text_features"] = classifier.prior.text_features
            facts = {
                "domains": list(bundle.key_names),
                "temperature": bundle.temperature,
                "context_start": start,
            }
            return tensors, facts
        case AdaptedFeatures():
            adapter = {name: torch.from_numpy(values) for name, values in bundle.parameters.items()}
            return {"text_features": classifier.text_features, **adapter}, {}
        case ChangedTower():
            return {"text_features": classifier.text_features, CHANGE: classifier.change}, {}
        case FixedText():
            return {"text_features": classifier.text_features}, {}
    raise InvalidInput(_OWN_PROMPTS)


def run_script(folder: Path, images: Sequence[Image.Image], given: dict[str, Any]) -> dict[str, Tensor]:
    """Return what the script answers in a fresh process, by the outputs' names.

    Args:
        folder: Where it lies.
        images: RGB.
        given: Arguments for open_clip that the folder leaves to its user.

    Raises:
        RunFailed: If that process fails.
    """
    about = folder / ABOUT
    left = about.read_bytes()
    fields = json.loads(left)
    fields["open_clip"] |= given
    about.write_text(json.dumps(fields), encoding="ascii")
    try:
        rows = [
            row
            for start in range(0, len(images), _IMAGES_A_CALL)
            for row in _rows(folder / SCRIPT, images[start : start + _IMAGES_A_CALL])
        ]
    finally:
        about.write_bytes(left)
    found = {LOGITS: torch.tensor([row["logits"] for row in rows])}
    if "domain_index" in rows[0]:
        found[DOMAIN] = torch.tensor([row["domain_index"] for row in rows])
        found[WEIGHTS] = torch.tensor([row["domain_weights"] for row in rows])
    return found


def _rows(script: Path, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{number}.png" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            image.save(path)
        answer = run_apart("the script", [script, *paths])
    return [json.loads(line) for line in answer.splitlines()]

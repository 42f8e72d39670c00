"""Bundles of every method on the shipped CLIP, with values away from the start."""

from pathlib import Path

import numpy as np
import pytest

from fedapt_secure.learning.bundle import Bundle, write_bundle
from fedapt_secure.learning.clip.backbone import Backbone, load_backbone
from fedapt_secure.protocol.methods import METHODS
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

CLASSES = ("zero", "one", "two", "three")
KEYS = 5


def make_bundle(method: str = "fedapt", *, keys: int = KEYS, classes: tuple[str, ...] = CLASSES,
                backbone: Backbone | None = None, class_specific: bool = True) -> Bundle:  # fmt: skip
    backbone = backbone or load_backbone()
    rng = np.random.default_rng(5)
    trains_tower = method in ("fedavg", "fedprox")
    shape = ParameterShape(
        classes=len(classes),
        context_tokens=3,
        text_width=backbone.text_width,
        feature_size=backbone.feature_size,
        domains=keys,
        class_specific=class_specific and method != "cocoop",
        method=method,
        tower_values=backbone.image_tower_values if trains_tower else 0,
    )
    moved = rng.normal(0, 5e-4 if trains_tower else 0.03, shape.size).astype(np.float32)
    uses_keys = METHODS[method].uses_keys
    return Bundle(
        shape=shape,
        parameters=unflatten(shape, initial_parameters(shape, 1) + moved),
        keys=rng.random((keys, *shape.key), np.float32) if uses_keys else None,
        class_names=classes,
        domains=tuple(f"place {number}" for number in range(keys)),
        key_domains=tuple((number,) for number in range(keys)),
        zero_shot_template="a photo of the digit {}.",
        model=backbone.name,
        pretrained=backbone.pretrained,
        weight_hash=backbone.weight_hash,
        model_identity=backbone.identity,
        logit_scale=backbone.logit_scale,
        temperature=0.01,
        prior_weight=0.3 if METHODS[method].keeps_prior else 0.0,
    )


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    write_bundle(path, make_bundle())
    return path

"""A model file on the shipped CLIP, and digits in two domains; weights are random, so answers vary."""

import numpy as np
import pytest

from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.bundle import Bundle, write_bundle
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.dealing import deal_dataset
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

DOMAINS = ("ink", "chalk")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return the dealt data, its folder holding ``domain/class/image``."""
    root = tmp_path_factory.mktemp("digits")
    names = iter(DOMAINS)
    return root, deal_dataset("digits", 2, 0, None, lambda _: root / next(names))


def make_bundle(dataset, method):
    backbone = load_backbone()
    shape = ParameterShape(10, 4, 64, 64, 2, method=method)
    parameters = unflatten(shape, initial_parameters(shape, 1))
    if "adaptive_network" in parameters:
        parameters["adaptive_network"] *= 50
    uses_keys = method == "fedapt"
    return Bundle(
        shape=shape,
        parameters=parameters,
        keys=np.random.default_rng(0).random((2, 4, 64), np.float32) if uses_keys else None,
        class_names=dataset.class_names,
        domains=DOMAINS,
        key_domains=((0,), (1,)),
        zero_shot_template=dataset.zero_shot_template,
        model=backbone.name,
        pretrained=backbone.pretrained,
        weight_hash=backbone.weight_hash,
        model_identity=backbone.identity,
        logit_scale=backbone.logit_scale,
        temperature=0.01,
    )


@pytest.fixture(scope="session")
def bundle_file(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    write_bundle(path, make_bundle(digits[1], "fedapt"))
    return path


@pytest.fixture(scope="session")
def promptfl_file(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("promptfl") / "model.safetensors"
    write_bundle(path, make_bundle(digits[1], "promptfl"))
    return path


@pytest.fixture(scope="session")
def model(bundle_file):
    return load_model(bundle_file, device="cpu", batch_size=8)


@pytest.fixture(scope="session")
def images(digits):
    """Twenty files of both domains."""
    root, _ = digits
    return [path for domain in DOMAINS for path in sorted((root / domain).glob("*/*.png"))[:400:40]]

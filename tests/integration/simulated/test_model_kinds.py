"""Three institutions tune a prompt on every kind of text tower, under privacy and masking, and use it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedapt_secure.cli.app import run
from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.bundle import read_bundle
from tests.support.hub_models import KINDS, make_model

pytestmark = pytest.mark.integration
IN_THE_GATE = ("last",)
"""A tower that sees all tokens; one of transformers is exported in the gate (tests/export)."""


@pytest.mark.parametrize(
    "kind", [kind if kind in IN_THE_GATE else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_whole_federation(simulate, kind: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    name = make_model(folder, kind)
    few = ("--rounds", "1", "--local-steps", "1", "--clients", "3", "--context-tokens", "4")
    done = simulate("--model", name, "--pretrained", "random", "--dp-epsilon", "8", *few)
    assert done.status == 0
    assert [one["status"] for one in done.summary["rounds"]] == ["completed"]
    assert all(0 < spent["epsilon_spent"] <= 8 for spent in done.summary["privacy"].values())
    capsys.readouterr()
    run(["audit", str(done.folder), "--json", "--trust", str(done.folder / "roster.json")])
    assert json.loads(capsys.readouterr().out)["verdict"] == "VERIFIED"

    bundle = read_bundle(done.folder / "model.safetensors")
    assert bundle.model == name
    assert bundle.model_identity is not None
    assert (bundle.logit_bias is not None) == (kind == "last")
    model = load_model(done.folder / "model.safetensors", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 20, 3), np.uint8)
    for prediction in model.predict([Image.fromarray(one) for one in pixels]):
        assert prediction.label in bundle.class_names
